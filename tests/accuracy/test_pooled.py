from functools import cache
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from bench.accuracy.detection import key_frame
from bench.accuracy.pooled import COLUMNS, Name, pooled_difference, pooled_interval
from bench.accuracy.segmentation import counts

NAMES = get_args(Name)
GROUPS = 25


@cache
def frames(seed: int, skill: float = 0.7, groups: int = GROUPS) -> pd.DataFrame:
    """Key frames, two a source, one true box each: found in its place with a chance of `skill`, beside false boxes."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(2 * groups):
        label = index // 2 % 3
        boxes = np.hstack([np.full((4, 2), 50.0), np.full((4, 2), 60.0), random.random((4, 2)), np.full((4, 1), label)])
        if random.random() < skill:
            boxes[0] = [0, 0, 10, 10, 0.5 + random.random() / 2, 1, label if random.random() < 0.8 else 2 - label]
        rows.append({"index": index, "group": f"g{index // 2}", **key_frame(boxes, [[0, 0, 10, 10, label]])})
    return pd.DataFrame(rows)


@cache
def images(seed: int, skill: float = 0.7, groups: int = GROUPS) -> pd.DataFrame:
    """Images, two a source, of three classes, each pixel right with a chance of `skill`, or by luck."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(2 * groups):
        mask = random.integers(-1, 3, (4, 4))
        answer = np.where(random.random((4, 4)) < skill, np.maximum(mask, 0), random.integers(0, 3, (4, 4)))
        rows.append({"index": index, "group": f"g{index // 2}", **counts(answer, mask, 3)})
    return pd.DataFrame(rows)


def tables(name: Name, seeds: int, skill: float = 0.7, groups: int = GROUPS, first: int = 0) -> list[pd.DataFrame]:
    make = images if name in ("mIoU", "pixel-accuracy") else frames
    return [make(first + seed, skill, groups) for seed in range(seeds)]


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_the_mean_over_seeds_inside_its_interval(name: Name) -> None:
    seeds = tables(name, 3)
    value, low, high = pooled_interval(name, seeds)
    alone = [pooled_interval(name, [table]) for table in seeds]
    assert value == pytest.approx(np.mean([one.value for one in alone])) and 0 < low < value < high <= 1.2
    assert high - low > min(one.high - one.low for one in alone)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_differs_by_nothing_at_all(name: Name) -> None:
    seeds = tables(name, 3)
    assert pooled_difference(name, seeds, [table.copy() for table in seeds]) == (0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_difference_is_of_the_values_in_points_and_changes_sign_with_its_sides(name: Name) -> None:
    one, other = tables(name, 2, 0.9), tables(name, 2, 0.5, first=10)
    value, low, high = pooled_difference(name, one, other)
    assert value == pytest.approx(100 * (pooled_interval(name, one).value - pooled_interval(name, other).value))
    assert low < value < high
    back = pooled_difference(name, other[:1], one[:1])
    assert back == pytest.approx([-end for end in np.take(pooled_difference(name, one[:1], other[:1]), [0, 2, 1])])


def test_pairing_removes_what_sources_have_in_common() -> None:
    """Half of the sources are hopeless for both sides: each side is uncertain, their difference is not."""
    one, other = images(0, 1.0).copy(), images(0, 1.0).copy()
    hopeless = one["group"].isin([f"g{k}" for k in range(0, GROUPS, 2)])
    for table in (one, other):
        table.loc[hopeless, [f"both.{k}" for k in range(3)]] = 0
    assert np.diff(pooled_interval("pixel-accuracy", [one])[1:])[0] > 0.2
    assert pooled_difference("pixel-accuracy", [one], [other]) == (0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_are_those_of_computing_every_draw_anew(name: Name) -> None:
    (table,) = tables(name, 1)
    draws, names, values = np.random.default_rng(0), np.sort(table["group"].unique()), []
    for _ in range(40):
        chosen = names[draws.integers(GROUPS, size=GROUPS)]
        drawn = np.concatenate([np.flatnonzero(table["group"] == source) for source in chosen])
        again = table.iloc[drawn].assign(index=np.arange(len(drawn)))
        values.append(pooled_interval(name, [again], resamples=1).value)
    found = pooled_interval(name, [table], resamples=40)
    shift = np.mean(values) - found.value if name in ("mAP", "mIoU") else 0.0
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(np.array(values) - shift, [0.025, 0.975])))


@pytest.mark.parametrize("name", ["mAP", "recall", "mIoU"])
def test_the_truth_lies_inside_about_as_often_as_stated(name: Name) -> None:
    truth = pooled_interval(name, tables(name, 1, groups=800, first=999), resamples=1).value
    inside = 0
    for trial in range(60):
        found = pooled_interval(name, tables(name, 1, first=trial), resamples=200, seed=trial % 5)
        inside += found.low <= truth <= found.high
    assert inside >= 50


def test_samples_of_one_source_stay_together() -> None:
    """Three copies of every key frame say no more than one of each."""
    once = frames(0)
    copied = pd.concat([once] * 3).assign(index=np.arange(3 * len(once)))
    assert pooled_interval("recall", [copied]) == pytest.approx(pooled_interval("recall", [once]))


def test_classes_that_only_some_draws_hold_leave_the_interval_whole() -> None:
    table = images(0).copy()
    rare = table["group"] == "g0"
    for part in ("true", "said", "both"):
        table[f"{part}.3"] = np.where(rare, 5, 0)
    found = pooled_interval("mIoU", [table])
    assert found.low < found.value < found.high


@pytest.mark.parametrize("name", NAMES)
def test_one_source_has_no_interval(name: Name) -> None:
    (table,) = tables(name, 1, 1.0)
    found = pooled_interval(name, [table.assign(group="a")])
    assert found.value > 0 and np.isnan(found.low) and np.isnan(found.high)


def test_nothing_to_be_right_about_is_refused() -> None:
    nothing = pd.DataFrame([{"group": g, **key_frame([[0, 0, 1, 1, 1, 1, 0]], [])} for g in "abc"])
    void = pd.DataFrame([{"group": g, **counts([[0]], [[-1]], 2)} for g in "abc"])
    for name, table in (("mAP", nothing), ("recall", nothing), ("mIoU", void), ("pixel-accuracy", void)):
        with pytest.raises(ValueError, match=f"no sample holds anything that {name}"):
            pooled_interval(name, [table])
    assert pooled_interval("classification", [nothing]) == (0, 0, 0)


def test_seeds_of_other_samples_are_refused() -> None:
    table = frames(0)
    for other in (table.iloc[:-2], table.iloc[::-1], table.assign(group="x"), table.assign(index=table["index"] + 1)):
        with pytest.raises(ValueError, match="same samples in the same order"):
            pooled_interval("mAP", [table, other])
    with pytest.raises(ValueError, match="there are no samples"):
        pooled_interval("mAP", [])
    with pytest.raises(ValueError, match="2 seeds cannot be paired with 1"):
        pooled_difference("mAP", [table, table], [table])


def test_what_a_figure_needs_is_what_is_stored_of_a_sample() -> None:
    assert all({*COLUMNS[name]} <= {*tables(name, 1)[0].columns} for name in NAMES)
    for name in NAMES:
        (table,) = tables(name, 1)
        pixels = [c for c in table.columns if c[:4] in ("true", "said", "both")]
        needed = pixels if name in ("mIoU", "pixel-accuracy") else [*COLUMNS[name]]
        assert pooled_interval(name, [table[["index", "group", *needed]]]) == pooled_interval(name, [table])
