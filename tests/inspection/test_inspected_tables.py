"""Cells and claims that inspections and stored decisions fill: closed forms, and reasons where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspection.inspected import OTHER, UNIT, store_inspection
from tables.conftest import write  # noqa: F401  # the fixture

from bench.accuracy.intervals import DRAWS
from bench.inspection.store import standard
from bench.records import Figure, Record
from bench.tables.analysis import class_range, class_spread, layer_spread, motion, reduction
from bench.tables.blocks import blocks
from bench.tables.folds import Folded
from bench.tables.join import Joined, join
from bench.tables.runs import NotMeasuredError, Run
from bench.tables.schema import load
from bench.tables.verdicts import STATISTICS

Write = Callable[..., Record]
RECORDS = "runs"
NUMBERS = np.arange(40)


@pytest.fixture
def static(write: Write, tmp_path: Path) -> Callable[..., None]:  # noqa: F811
    """Stores runs of one network with their inspections, one a seed."""

    def store(method: str = "r2plus1d_18", seeds: int = 3, known: bool = True, **columns: Any) -> None:
        true = {"attribute.motion": NUMBERS / 40} if known else {}
        for seed in range(seeds):
            record = write({"target": NUMBERS % 4} | true, method=method, seed=seed)
            filled = {"temporal.RP": 0.6, "channel.RP": 0.4, "temporal.CC": 0.7, "estimated.motion": 40 - NUMBERS}
            store_inspection(tmp_path / RECORDS, record.identity, filled | columns)

    return store


@pytest.fixture
def dynamic(write: Write) -> Callable[..., list[Run]]:  # noqa: F811
    """Runs of a reduced network whose decisions are given."""

    def store(channel: Any = 1, temporal: Any = 1, seeds: int = 3, details: bool = True, **columns: Any) -> list[Run]:
        decided = {"decision.conv.channel": channel, "decision.last.temporal": temporal, "target": NUMBERS % 4}
        decided = {name: np.broadcast_to(values, 40).astype(np.uint8) for name, values in decided.items()}
        runs = []
        for seed in range(seeds):
            record = write(decided | columns, method="vared/r2plus1d_18", options={"search_space": 2}, seed=seed)
            stated = {"units": [UNIT.model_dump(), OTHER.model_dump()]} if details else {}
            runs.append(Run(Path("none"), record.model_copy(update={"details": stated})))
            runs[-1].__dict__["samples"] = _table(decided | columns)
        return runs

    return store


def _table(columns: dict[str, Any]) -> Any:
    import pandas as pd

    base = {"index": NUMBERS, "group": [f"g{i // 2}" for i in range(40)], "cost": 10**9}
    return pd.DataFrame(base | columns).set_index("index")


def joined(tmp_path: Path) -> Joined:
    return join(load("redundancy"), blocks([("yours", tmp_path / RECORDS)]))


def verdict(found: Joined, claim: str) -> Any:
    (one,) = [result for result in found.claims if result.claim.id == claim]
    (judged,) = one.latest
    return judged.judgement


def test_rows_of_the_table_are_filled_along_their_dimension(static: Any, tmp_path: Path) -> None:
    static()
    found = joined(tmp_path)
    (temporal,), (channel,) = found.rows["mit-r2plus1d-temporal"], found.rows["mit-r2plus1d-channel"]
    assert temporal.cells["RP"].found and temporal.cells["RP"].found.value == pytest.approx(0.6)
    assert channel.cells["RP"].found and channel.cells["RP"].found.value == pytest.approx(0.4)
    assert temporal.cells["CC"].found and temporal.seeds == 3
    assert channel.cells["CC"].found is None and "has no channel.CC" in channel.cells["CC"].reason


def test_redundancy_is_compared_between_dimensions_and_networks(static: Any, tmp_path: Path) -> None:
    static()
    static("i3d", **{"temporal.RP": 0.3})
    found = joined(tmp_path)
    assert verdict(found, "mit-r2plus1d-RP").verdict == "holds"
    assert verdict(found, "mit-r2plus1d-RP").interval.value == pytest.approx(0.2)
    assert verdict(found, "mit-i3d-RP").verdict == "does not hold"
    assert verdict(found, "mit-temporal-RP").interval.value == pytest.approx(-0.3)
    assert verdict(found, "mit-channel-RP").interval.value == 0


def test_still_clips_are_more_redundant(static: Any, tmp_path: Path) -> None:
    static(**{"temporal.RP": 1 - NUMBERS / 40, "channel.RP": NUMBERS / 40, "attribute.object_share": NUMBERS})
    found = joined(tmp_path)
    assert verdict(found, "still").verdict == "holds" and verdict(found, "still").interval.value == pytest.approx(-1)
    assert verdict(found, "object").verdict == "holds" and verdict(found, "object").interval.value == pytest.approx(1)


def test_motion_is_estimated_where_it_is_not_known(static: Any, tmp_path: Path) -> None:
    static(known=False, **{"temporal.RP": NUMBERS / 40})
    still = verdict(joined(tmp_path), "still")
    assert still.interval.value == pytest.approx(-1) and (still.verdict, still.reason) == ("holds", "estimated motion")
    assert "object" in verdict(joined(tmp_path), "object").reason


def test_without_an_inspection_the_row_says_so(write: Write, tmp_path: Path) -> None:  # noqa: F811
    for seed in range(3):
        write(seed=seed)
    found = joined(tmp_path)
    (row,) = found.rows["mit-r2plus1d-temporal"]
    assert row.cells["RP"].reason == "the trained network was not inspected"
    assert verdict(found, "mit-r2plus1d-RP").verdict == "not run"


def test_a_failed_inspection_is_a_reason(write: Write, tmp_path: Path) -> None:  # noqa: F811
    record = write()
    store_inspection(tmp_path / RECORDS, record.identity, status="failed", reason="no memory")
    (row,) = joined(tmp_path).rows["mit-r2plus1d-temporal"]
    assert row.cells["RP"].reason == "the inspection failed: no memory"


def test_classes_that_decide_alike_have_no_spread(dynamic: Any) -> None:
    assert class_spread(dynamic(), [])[:3] == (0, 0, 0)


def test_the_spread_over_classes_is_that_of_their_means(dynamic: Any) -> None:
    """Two classes compute everything, two half of one of two convolutions: means of 1 and 0.75, ± 0.125 of 0.875."""
    runs = dynamic(channel=np.where(NUMBERS % 4 < 2, 1, 2))
    assert class_spread(runs, []).value == pytest.approx(0.125 / 0.875)


def test_chance_alone_is_no_spread_over_classes(dynamic: Any) -> None:
    """Decisions by the flip of a coin: the raw spread is far over the margin of 1 %, what is left is not."""
    drawn = np.random.default_rng(0).integers(1, 3, 40)
    found = class_spread(dynamic(channel=drawn, seeds=1), [])
    means = [np.where(drawn == 1, 1, 0.75)[NUMBERS % 4 == label].mean() for label in range(4)]
    assert np.std(means) / np.mean(means) > 0.01
    assert found.value < np.std(means) / np.mean(means)
    assert found.low <= 0.01


def test_what_chance_gives_is_taken_off_the_spread_of_two_classes(dynamic: Any) -> None:
    """Every source has a video of both: by chance their means differ as a mean of paired differences strays."""
    runs = dynamic(channel=np.where(NUMBERS % 4 == 0, 2, 1), target=NUMBERS % 2, seeds=1)
    apart = np.array([0.25 * (source % 2 == 0) for source in sorted(range(20), key=str)])
    chance = apart.var(ddof=1) / 20

    def spread(difference: Any) -> Any:
        return np.sqrt(np.maximum(difference**2 - chance, 0)) / 2 / (1 - difference / 2)

    found, draws = class_spread(runs, []), np.random.default_rng(0)
    assert found.value == pytest.approx(spread(apart.mean()))
    drawn = spread(np.array([apart[draws.integers(20, size=20)].mean() for _ in range(DRAWS)]))
    ends = np.quantile(drawn - drawn.mean() + found.value, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(ends))


def test_the_spread_over_layers(dynamic: Any) -> None:
    found = layer_spread(dynamic(channel=2, temporal=1), [])
    assert found.value == pytest.approx(0.25 / 0.75) and found.low == pytest.approx(found.high)


def test_the_range_within_a_class_is_weighted_by_cost(dynamic: Any) -> None:
    """One clip of each class computes everything, the others half of what makes three quarters of the cost."""
    found = class_range(dynamic(temporal=np.where(NUMBERS < 4, 1, 2)), [])
    assert found.value == pytest.approx(100 * 0.75 * 0.5)
    assert found.low < found.value < found.high  # though no draw of clips has a larger range


def test_what_the_networks_of_folds_compute_is_no_range_and_no_spread_within(dynamic: Any) -> None:
    """The network of one fold computes half of what the other's does, each alike for all of its clips."""
    parts = []
    for number, (run,) in enumerate((dynamic(temporal=1, seeds=1), dynamic(temporal=2, seeds=1))):
        stated = {"dataset_options": {"fold": number}, "folds": [0, 1]}
        parts.append(Run(run.path, run.record.model_copy(update={"protocol": stated})))
        parts[-1].__dict__["samples"] = run.samples[run.samples["target"] > number]  # other classes, as folds may have
    both = [Folded(parts[0].path, parts[0].record, parts)]
    assert class_range(both, [])[:3] == pytest.approx((0, 0, 0), abs=1e-9)
    assert class_spread(both, [])[:3] == pytest.approx((0, 0, 0), abs=1e-9)


def test_without_what_decisions_compute_nothing_is_told(dynamic: Any) -> None:
    for statistic in (class_spread, layer_spread, class_range):
        with pytest.raises(NotMeasuredError, match="no record says"):
            statistic(dynamic(details=False), [])


def test_reduction_is_the_plain_networks_cost_over_ones_own(dynamic: Any) -> None:
    own, plain = dynamic(cost=4 * 10**8), dynamic(cost=10**9)
    assert reduction(own, plain)[:3] == pytest.approx((2.5, 2.5, 2.5))


def test_motion_that_nobody_knows(dynamic: Any) -> None:
    with pytest.raises(NotMeasuredError, match="not known"):
        motion(dynamic()[0])


def test_a_claim_about_motion_takes_no_estimate_for_the_truth(dynamic: Any, tmp_path: Path) -> None:
    runs = dynamic(temporal=1 + NUMBERS % 2)
    for run in runs:
        identity = run.record.identity
        store_inspection(tmp_path, identity, {"estimated.motion": NUMBERS})
        run.__dict__["inspection"] = standard(tmp_path, identity)
    assert motion(runs[0]).nunique() == 40
    with pytest.raises(NotMeasuredError, match="true motion"):
        STATISTICS["motion"](runs, [])


@pytest.mark.parametrize("figure", ["mIoU", "recall"])
def test_without_classes_nothing_is_told_of_them(dynamic: Any, figure: str) -> None:
    runs = dynamic(channel=1 + NUMBERS % 2)
    runs = [Run(r.path, r.record.model_copy(update={"figures": {figure: Figure(value=0.5)}})) for r in runs]
    for statistic in (class_spread, class_range):
        with pytest.raises(NotMeasuredError, match="no classes"):
            statistic(runs, [])


def test_runs_of_other_videos_are_not_put_together(dynamic: Any) -> None:
    runs = dynamic(seeds=2)
    runs[1].__dict__["samples"] = runs[1].samples.iloc[:30]
    for statistic in (class_spread, layer_spread, class_range):
        with pytest.raises(NotMeasuredError, match="same videos"):
            statistic(runs, [])
