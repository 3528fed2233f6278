"""The joint comparison: figures of the latest revision, and what a control says of a learned policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.records import Cost, Figure, Record, Store, read_record
from bench.tables.comparison import compare, frames
from bench.tables.runs import blocks

VIDEOS = 400


def samples(learned: float, control: float, seed: int) -> pd.DataFrame:
    """Videos of which a share is right; only the first half was scored under the control."""
    draw = np.random.default_rng(seed)
    half = np.arange(VIDEOS) < VIDEOS // 2
    return pd.DataFrame(
        {
            "index": np.arange(VIDEOS),
            "group": [str(row) for row in range(VIDEOS)],
            "clip_1": (draw.random(VIDEOS) < learned).astype(np.float32),
            "cost": np.full(VIDEOS, 80),
            "control.random.clip_1": np.where(half, draw.random(VIDEOS) < control, np.nan),
            "control.random.cost": np.where(half, 84.0, np.nan),
        }
    )


def store(folder: Path, template: Record, table: pd.DataFrame, seed: int, revision: int = 1) -> None:
    identity = template.identity.model_copy(
        update={"method": "vared/x", "frames": 8, "seed": seed, "method_revision": revision}
    )
    figures = {"clip-1": Figure(value=float(table["clip_1"].mean()))}
    changed = {"identity": identity, "status": "done", "figures": figures, "parameters": 7}
    changed |= {"cost": Cost(average=80e9, maximum=90 * 10**9, minimum=70 * 10**9)}
    changed |= {"executed": {"executed": 150, "accounted": 100}, "missing": {"control.shuffled": "why"}}
    Store(folder).write(template.model_copy(update=changed), table)


@pytest.fixture
def template() -> Record:
    from bench.tables.paths import published

    return read_record(next((published().parent / "measured").glob("*.json")))


@pytest.mark.parametrize(("control", "verdict"), [(0.4, "holds"), (0.8, "inconclusive"), (0.98, "does not hold")])
def test_a_policy_is_held_against_its_control_on_the_same_clips(
    tmp_path: Path, template: Record, control: float, verdict: str
) -> None:
    for seed in range(3):
        store(tmp_path, template, samples(0.8, control, seed), seed)
    store(tmp_path, template, samples(0.1, 0.9, 9), 0, revision=0)
    (block,) = blocks([("here", tmp_path)])
    assert frames(block) == [8]
    (line,) = compare(block, 8)
    assert (line.seeds, line.parameters, line.executed) == (3, 7, 1.5)
    assert line.gflops == pytest.approx((80 / 1e9, 90.0, 70.0))
    scored, missing = line.controls
    assert scored.gain is not None and scored.clip_1 is not None
    assert scored.clip_1.value == pytest.approx(100 * control, abs=4)
    assert scored.gain.value == pytest.approx(80 - 100 * control, abs=6)
    assert scored.cost == pytest.approx(84 / 80) and scored.verdict == verdict
    assert (missing.verdict, missing.reason, missing.gain) == ("not run", "why", None)


def test_few_seeds_conclude_nothing(tmp_path: Path, template: Record) -> None:
    store(tmp_path, template, samples(0.9, 0.1, 0), 0)
    (block,) = blocks([("here", tmp_path)])
    control = compare(block, 8)[0].controls[0]
    assert control.verdict == "inconclusive" and "1 of at least 3 seeds" in control.reason
