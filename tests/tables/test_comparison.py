"""The joint comparison: figures of the latest revision, and what a control says of a learned policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import clocked

from bench.accuracy.detection import key_frame
from bench.accuracy.pooled import pooled_interval
from bench.accuracy.segmentation import counts
from bench.records import Cost, Figure, Record, Store, read_record
from bench.tables.blocks import blocks
from bench.tables.comparison import CONTROLS, accuracies, compare, frames
from bench.tables.timings import timings

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

    records = map(read_record, sorted((published().parent / "measured").glob("*.json")))
    return next(record for record in records if record.identity.profile == "digits")


def test_a_control_that_only_some_seeds_have_is_of_those(tmp_path: Path, template: Record) -> None:
    for seed in range(3):
        table = samples(0.8, 0.4, seed)
        without = table.drop(columns=["control.random.clip_1", "control.random.cost"])
        store(tmp_path, template, table if seed else without, seed)
    (block,) = blocks([("here", tmp_path)])
    (line,) = compare(block, 8)
    (control,) = (control for control in line.controls if control.name == CONTROLS["random"])
    assert (line.seeds, control.seeds, control.reason) == (3, 2, "2 of at least 3 seeds; scored on 2 of 3 seeds")


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
    assert scored.gain is not None and scored.right is not None
    assert list(line.accuracies) == ["clip-1", "video-1"] and scored.of == "clip-1"
    assert scored.right.value == pytest.approx(100 * control, abs=4)
    assert scored.gain.value == pytest.approx(80 - 100 * control, abs=6)
    assert scored.cost == pytest.approx(84 / 80) and scored.verdict == verdict
    assert (missing.verdict, missing.reason, missing.gain) == ("not run", "why", None)


@pytest.mark.parametrize(
    ("control", "cost", "verdict"),
    [
        (0.4, 0.94, "inconclusive"),
        (0.4, 0.96, "holds"),
        (0.4, 1.5, "holds"),
        (0.98, 0.5, "does not hold"),
        (0.98, 1.04, "does not hold"),
        (0.98, 1.06, "inconclusive"),
    ],
)
def test_who_is_better_at_a_higher_cost_alone_is_not_called_better(
    tmp_path: Path, template: Record, control: float, cost: float, verdict: str
) -> None:
    """Costs are those of the clips that both were scored on; the others are dearer."""
    for seed in range(3):
        table = samples(0.8, control, seed)
        scored = table["control.random.cost"].notna()
        told = {"cost": np.where(scored, 80, 200), "control.random.cost": np.where(scored, 80 * cost, np.nan)}
        store(tmp_path, template, table.assign(**told), seed)
    (block,) = blocks([("here", tmp_path)])
    found = compare(block, 8)[0].controls[0]
    assert found.cost == pytest.approx(cost) and found.verdict == verdict
    assert found.reason == (f"the control costs {cost:.2f} times as much" if verdict == "inconclusive" else "")


@pytest.mark.parametrize(("decided", "verdict"), [(np.uint8, "holds"), (np.float32, "inconclusive")])
def test_a_gain_over_forced_gates_of_single_elements_says_nothing(
    tmp_path: Path, template: Record, decided: type[np.generic], verdict: str
) -> None:
    """Of options the number is stored, of masks the share that is open."""
    for seed in range(3):
        table = samples(0.9, 0.2, seed)
        store(tmp_path, template, table.assign(**{"decision.a": (1 + np.arange(len(table)) % 2).astype(decided)}), seed)
    (block,) = blocks([("here", tmp_path)])
    scored = compare(block, 8)[0].controls[0]
    assert scored.verdict == verdict and ("never met in training" in scored.reason) == (verdict == "inconclusive")


@pytest.mark.parametrize(
    ("opened", "verdict"),
    [((0b01, 0b10), "holds"), ((0b11, 0b10), "holds"), ((0b11, 0b01), "inconclusive"), ((0b10, 0b10), "inconclusive")],
)
def test_where_all_clips_compute_the_same_no_gain_is_one_of_decisions(
    tmp_path: Path, template: Record, opened: tuple[int, int], verdict: str
) -> None:
    """The dearest open option, bit 0 the dearest of all, says what is computed, whatever is open beside it."""
    for seed in range(3):
        table = samples(0.9, 0.2, seed)
        decided = np.array(opened, np.uint8)[np.arange(len(table)) % 2]
        store(tmp_path, template, table.assign(**{"decision.a": decided}), seed)
    (block,) = blocks([("here", tmp_path)])
    scored = compare(block, 8)[0].controls[0]
    assert scored.verdict == verdict and ("computes the same" in scored.reason) == (verdict == "inconclusive")


def test_a_gain_over_all_gates_on_is_one_whatever_is_decided(tmp_path: Path, template: Record) -> None:
    for seed in range(3):
        table = samples(0.9, 0.2, seed).rename(columns=lambda name: name.replace("random", "all"))
        store(tmp_path, template, table.assign(**{"decision.a": np.uint8(1)}), seed)
    (block,) = blocks([("here", tmp_path)])
    control = compare(block, 8)[0].controls[0]
    assert (control.name, control.verdict, control.reason) == ("all gates on", "holds", "")


def test_one_network_that_decides_the_same_for_all_clips_does_not_speak_for_the_others(
    tmp_path: Path, template: Record
) -> None:
    for seed in range(3):
        table = samples(0.9, 0.2, seed)
        decided = (1 + np.arange(len(table)) % (1 + seed)).astype(np.uint8)
        store(tmp_path, template, table.assign(**{"decision.a": decided}), seed)
    (block,) = blocks([("here", tmp_path)])
    assert compare(block, 8)[0].controls[0].verdict == "holds"


def test_a_line_of_an_older_revision_says_which(tmp_path: Path, template: Record) -> None:
    store(tmp_path, template, samples(0.8, 0.4, 0), 0, revision=1)
    other = template.identity.model_copy(update={"setting": "other"})
    store(tmp_path, template.model_copy(update={"identity": other}), samples(0.8, 0.4, 1), 0, revision=2)
    names = {line.name.partition("x")[2] for block in blocks([("here", tmp_path)]) for line in compare(block, 8)}
    assert len(names) == 2 and {name[-12:] for name in names if "revision" in name} == {", revision 1"}


ONE = {"options": {}, "frames": 8, "seed": 0, "method_revision": 1, "profile": "p", "dataset": "digits", "size": 32}


@pytest.mark.parametrize(
    ("method", "protocol", "other", "found", "unit", "against"),
    [
        ("vared/x", {}, {"b": "x"}, (120, 1.2), "clips/s", "x"),
        ("exits", {"unit": "clip"}, {"b_policy": "all"}, (120, 1.2), "clips/s", "itself with all gates on"),
        ("pattern", {"unit": "video", "clips": 4}, {}, (100, None), "videos/s", "a copy of itself"),
        ("x", {}, {"a": "vared/x"}, (100, None), "clips/s", ""),
        ("exits", {}, {"b": "another"}, None, "clips/s", ""),
    ],
)
def test_a_line_says_what_was_timed_against_what(
    tmp_path: Path,
    template: Record,
    method: str,
    protocol: dict[str, object],
    other: dict[str, str],
    found: tuple[float, float | None] | None,
    unit: str,
    against: str,
) -> None:
    identity = template.identity.model_copy(update={**ONE, "method": method, "dataset_revision": 1})
    changed = {"identity": identity, "protocol": protocol, "cost": Cost(average=9, maximum=9, minimum=9)}
    Store(tmp_path).write(template.model_copy(update=changed), samples(0.5, 0.5, 0))
    clocked.store(tmp_path, clocked.timing(1.2, **{"a": method, "b": method, "a_options": {}, **other}))
    (block,) = blocks([("here", tmp_path)])
    (line,) = compare(block, 8, timings([("here", tmp_path)]))
    assert (line.unit, line.against) == (unit, against)
    told = [(one.found.value, one.ratio and one.ratio.value) for one in line.speeds]
    assert told == ([pytest.approx(found)] if found else []) and bool(line.why_not) == (found is None)


def test_few_seeds_conclude_nothing(tmp_path: Path, template: Record) -> None:
    store(tmp_path, template, samples(0.9, 0.1, 0), 0)
    (block,) = blocks([("here", tmp_path)])
    control = compare(block, 8)[0].controls[0]
    assert control.verdict == "too few seeds, within" and "1 of at least 3 seeds" in control.reason


def key_frames(seed: int) -> pd.DataFrame:
    """Thirty key frames of ten videos, their box found or not; under a control never."""
    right = np.random.default_rng(seed).random(30) < 0.7
    rows = [
        {"index": i, "group": str(i // 3), "cost": 80, "first_box": float(ok), "control.random.first_box": 0.0}
        | {"control.random.cost": 80.0}
        | key_frame([[*([0, 0, 10, 10] if ok else [50, 50, 60, 60]), 0.9, 1, i % 2]], [[0, 0, 10, 10, i % 2]])
        for i, ok in enumerate(right)
    ]
    return pd.DataFrame(rows)


def images(seed: int) -> pd.DataFrame:
    """Thirty images of ten scenes, of which one was not scored as a whole."""
    draw = np.random.default_rng(seed)
    rows = [
        {"index": i, "group": str(i // 3), "cost": 80, "crop_pixels": 0.5, "control.random.crop_pixels": 0.25}
        | {"control.random.cost": 80.0}
        | (counts(draw.integers(0, 2, (4, 4)), draw.integers(-1, 2, (4, 4)), 2) if i else {})
        for i in range(30)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("make", "names", "of"),
    [
        (key_frames, ("mAP", "recall", "classification"), "first box"),
        (images, ("mIoU", "pixel-accuracy"), "pixels of the centre crop"),
    ],
)
def test_boxes_and_masks_are_compared_by_their_own_figures(tmp_path: Path, template: Record, make, names, of) -> None:
    tables = [make(seed) for seed in range(3)]
    for seed, table in enumerate(tables):
        figures = {name: Figure(value=pooled_interval(name, [table.dropna()]).value) for name in names}
        identity = template.identity.model_copy(update={"method": "vared/x", "frames": 8, "seed": seed})
        changed = {"identity": identity, "status": "done", "figures": figures, "parameters": 7, "protocol": {}}
        changed |= {"cost": Cost(average=80e9, maximum=80, minimum=80), "missing": {}, "executed": {}}
        Store(tmp_path).write(template.model_copy(update=changed), table)
    (block,) = blocks([("here", tmp_path)])
    assert accuracies(block) == names
    (line,) = compare(block, 8)
    expected = {name: pooled_interval(name, [table.dropna() for table in tables]) for name in names}
    assert list(line.accuracies) == list(names)
    for name, found in line.accuracies.items():
        assert found == pytest.approx([100 * part for part in expected[name]])
    (control,) = line.controls
    assert control.of == of and control.gain is not None and control.gain.value > 0 and control.verdict == "holds"
