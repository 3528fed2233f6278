from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.detection import key_frame
from bench.accuracy.intervals import Interval
from bench.accuracy.segmentation import counts
from bench.tables.block import Block
from bench.tables.blocks import blocks
from bench.tables.schema import Claim, Experiment
from bench.tables.verdicts import Judgement, decide, judge, pooled_tables, weigh

STATIC = Experiment(method="r2plus1d_18", options={}, frames=8)
DYNAMIC = Experiment(method="vared/r2plus1d_18", options={"search_space": 2}, frames=8)
SOME = np.random.default_rng(0)
VARIED = 7 * 10**8 + np.arange(40) * 10**6


def claim(statistic, relation, margin, against="static"):
    return Claim(
        id="c",
        kind="cost",
        row="dynamic",
        against=against,
        statistic=statistic,
        relation=relation,
        margin=margin,
        text="t",
    )


@pytest.mark.parametrize(
    ("relation", "low", "high", "verdict"),
    [
        (">=", -1.0, 2.0, "holds"),
        (">", -1.0, 2.0, "inconclusive"),
        (">", -0.9, 2.0, "holds"),
        (">=", -3.0, -1.0, "inconclusive"),
        (">", -3.0, -1.0, "does not hold"),
        (">=", -3.0, -1.1, "does not hold"),
        (">=", -2.0, 0.0, "inconclusive"),
        ("<=", -3.0, -1.0, "holds"),
        ("<", -3.0, -1.0, "inconclusive"),
        ("<", -3.0, -1.1, "holds"),
        ("<=", -1.0, 2.0, "inconclusive"),
        ("<", -1.0, 2.0, "does not hold"),
        ("<=", -0.9, 2.0, "does not hold"),
    ],
)
def test_verdicts_at_the_margin(relation, low, high, verdict) -> None:
    """The margin, -1, itself is on the claim's side where the relation includes it."""
    assert decide(Interval(0.0, low, high), relation, -1.0) == verdict


def only_block(tmp_path: Path) -> Block:
    (block,) = blocks([("runs", tmp_path / "runs")])
    return block


def judged(tmp_path: Path, wanted: Claim) -> Judgement:
    block = only_block(tmp_path)
    return judge(wanted, block.done(DYNAMIC, 1), block.done(STATIC, 1) if wanted.against else {})


def pair(write, seeds: int, static=None, **dynamic) -> None:
    for seed in range(seeds):
        write(static, seed=seed)
        write(dynamic, method=DYNAMIC.method, options=dict(DYNAMIC.options), seed=seed)


def test_a_constant_saving_is_its_own_interval(write, tmp_path: Path) -> None:
    pair(write, 3, cost=8 * 10**8)
    found = judged(tmp_path, claim("cost_ratio", "<=", 0.8))
    assert found == Judgement("holds", Interval(0.8, 0.8, 0.8), 3)
    assert judged(tmp_path, claim("cost_ratio", "<", 0.8)).verdict == "does not hold"


def test_accuracy_is_a_difference_in_points(write, tmp_path: Path) -> None:
    """Half of every source's videos are wrong: minus 50 points, for every draw."""
    pair(write, 3, clip_1=np.arange(40) % 2 * 1.0)
    found = judged(tmp_path, claim("clip-1", ">=", -1.0))
    assert found == Judgement("does not hold", Interval(-50.0, -50.0, -50.0), 3)


def test_pairing_removes_what_both_have_in_common(write, tmp_path: Path) -> None:
    right = (SOME.random(40) < 0.5) * 1.0
    pair(write, 3, {"clip_1": right}, clip_1=right)
    assert judged(tmp_path, claim("clip-1", ">=", -1.0)).interval == Interval(0, 0, 0)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_conclude_nothing_but_show_the_interval(write, tmp_path: Path, seeds: int) -> None:
    pair(write, seeds, cost=5 * 10**8)
    found = judged(tmp_path, claim("cost_ratio", "<=", 0.8))
    assert found.verdict == "too few seeds, within" and found.interval == Interval(0.5, 0.5, 0.5)
    assert f"{seeds} seed" in found.reason
    assert judged(tmp_path, claim("cost_ratio", "<=", 0.4)).verdict == "too few seeds, beyond"


@pytest.mark.parametrize("seeds", [1, 2, 3, 9])
def test_an_interval_on_both_sides_is_inconclusive_from_however_many_seeds(seeds: int) -> None:
    assert weigh(Interval(0.0, -1.0, 1.0), ">", 0.0, seeds) == "inconclusive"
    assert weigh(Interval(1.0, float("nan"), float("nan")), ">", 0.0, seeds) == "inconclusive"
    assert weigh(Interval(1.0, 0.5, 1.5), ">", 0.0, seeds).startswith("holds" if seeds > 2 else "too few seeds, within")


def test_only_seeds_of_both_rows_are_compared(write, tmp_path: Path) -> None:
    pair(write, 3, cost=5 * 10**8)
    write({"cost": 1}, method=DYNAMIC.method, options=dict(DYNAMIC.options), seed=7)
    write({"cost": 1}, seed=8)
    found = judged(tmp_path, claim("cost_ratio", "<=", 0.8))
    assert found.seeds == 3 and found.interval is not None and found.interval.value == 0.5


def test_videos_are_matched_by_index_not_by_place(write, tmp_path: Path) -> None:
    order = SOME.permutation(40)
    right = np.arange(40) % 3 * 0.5
    shuffled = {"index": order, "group": [f"g{i // 2}" for i in order], "clip_1": right[order]}
    pair(write, 3, {"clip_1": right}, **shuffled)
    assert judged(tmp_path, claim("clip-1", ">=", -1.0)).interval == Interval(0, 0, 0)


def test_unscored_videos_are_left_out(write, tmp_path: Path) -> None:
    some = np.where(np.arange(40) < 10, 0.0, np.nan)
    pair(write, 3, {"video_1": 1.0}, video_1=some)
    found = judged(tmp_path, claim("video-1", ">=", -1.0))
    assert found.interval == Interval(-100, -100, -100)


def test_map_of_videos_is_compared_where_their_scores_were_stored(write, tmp_path: Path) -> None:
    """Every source holds one video of each of two classes: knowing them is 100 in any draw, nothing 50."""
    target = np.arange(40) % 2
    knowing = [np.eye(2, dtype=np.float32)[label] for label in target]
    nothing = [np.full(2, 0.5, np.float32)] * 40
    pair(write, 3, {"target": target, "scores": knowing}, target=target, scores=nothing)
    assert judged(tmp_path, claim("mAP", ">=", -1.0)) == Judgement("does not hold", Interval(-50, -50, -50), 3)
    runs = [*only_block(tmp_path).done(DYNAMIC, 1).values()]
    assert pooled_tables(runs, "mAP")[0]["scores"].map(len).eq(2).all()


def test_map_of_videos_is_not_compared_where_one_run_lacks_them(write, tmp_path: Path) -> None:
    target = np.arange(40) % 2
    pair(write, 3, {"target": target, "scores": [np.ones(2, np.float32)] * 40}, target=target)
    found = judged(tmp_path, claim("mAP", ">=", -1.0))
    assert found.verdict == "not run" and "mAP" in found.reason and "not stored" in found.reason


def test_cost_that_never_varies_does_not_depend_on_the_input(write, tmp_path: Path) -> None:
    pair(write, 3, cost=8 * 10**8)
    assert judged(tmp_path, claim("cost_spread", ">", 0.01, None)).verdict == "does not hold"


def test_cost_that_varies_does(write, tmp_path: Path) -> None:
    pair(write, 3, cost=np.tile([10**8, 3 * 10**8], 20))
    found = judged(tmp_path, claim("cost_spread", ">", 0.01, None))
    assert found.verdict == "holds" and found.interval == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "does not hold")])
def test_temporal_cost_against_motion(write, tmp_path: Path, sign: int, verdict: str) -> None:
    """Bit 0 of a temporal point says that every frame was computed there; channel points do not count."""
    motion = np.arange(40) / 40
    masks = {
        f"decision.layer{k}.temporal": np.where(sign * motion > sign * k / 4, 3, 2).astype(np.uint8) for k in range(4)
    }
    channel = {"decision.layer0.channel": SOME.integers(2, 4, 40).astype(np.uint8)}
    pair(write, 3, **masks, **channel, **{"attribute.motion": motion})
    found = judged(tmp_path, claim("motion", ">", 0.0, None))
    assert found.verdict == verdict and found.interval is not None
    assert sign * found.interval.value > 0.9


def test_motion_needs_temporal_decisions_and_a_known_motion(write, tmp_path: Path) -> None:
    pair(write, 3, **{"decision.layer0.channel": np.uint8(1)})
    assert "motion" in judged(tmp_path, claim("motion", ">", 0.0, None)).reason
    pair(write, 3, **{"decision.layer0.channel": np.uint8(1), "attribute.motion": np.arange(40) / 40})
    assert judged(tmp_path, claim("motion", ">", 0.0, None)) == Judgement(
        "not run", reason="no temporal decisions were stored"
    )


def test_difficulty_is_the_static_networks_over_all_its_seeds(write, tmp_path: Path) -> None:
    """Video i is wrong for the first i // 8 of five static seeds, and dearer the higher i: only the mean shows it."""
    for seed in range(5):
        write({"clip_1": (np.arange(40) // 8 <= seed) * 1.0}, seed=seed)
    for seed in range(3):
        write({"cost": VARIED, "clip_1": 0.0}, method=DYNAMIC.method, options=dict(DYNAMIC.options), seed=seed)
    found = judged(tmp_path, claim("difficulty", ">", 0.0))
    assert found.verdict == "holds" and found.seeds == 3 and found.interval is not None
    assert found.interval.value > 0.95


def boxes(right: np.ndarray) -> dict[str, list]:
    """What is stored of 40 key frames of two classes, each with a true box that is found where `right`."""
    place, elsewhere = [0, 0, 10, 10], [50, 50, 60, 60]
    rows = [
        key_frame([[*(place if ok else elsewhere), 0.9, 1, i // 2 % 2]], [[*place, i // 2 % 2]])
        for i, ok in enumerate(right)
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def masks(right: np.ndarray) -> dict[str, list]:
    """What is stored of 40 images of one pixel, all of class 0, that is said to be so where `right`."""
    rows = [counts([[0 if ok else 1]], [[0]], 2) for ok in right]
    return {name: [row[name] for row in rows] for name in rows[0]}


ALL, HALF = np.ones(40, bool), np.arange(40) % 2 == 0  # one of two of every source


@pytest.mark.parametrize(
    ("statistic", "make", "points"),
    [("mAP", boxes, -75.0), ("recall", boxes, -50.0), ("classification", boxes, 0.0), ("mIoU", masks, -75.0)],
)
def test_figures_of_all_samples_together_are_compared_in_points(write, tmp_path, statistic, make, points) -> None:
    """Half of the boxes found at equal scores: AP is 1/2 · 1/2. Half of the pixels right: IoU is 1/2 and 0."""
    pair(write, 3, make(ALL), **make(HALF))
    found = judged(tmp_path, claim(statistic, ">=", -1.0))
    assert found.interval == pytest.approx((points, points, points)) and found.seeds == 3
    assert found.verdict == ("holds" if points == 0 else "does not hold")


@pytest.mark.parametrize(
    ("statistic", "make"), [("mAP", boxes), ("recall", boxes), ("classification", boxes), ("mIoU", masks)]
)
def test_equal_runs_differ_by_nothing(write, tmp_path: Path, statistic: str, make) -> None:
    right = SOME.random(40) < 0.6
    pair(write, 3, make(right), **make(right))
    assert judged(tmp_path, claim(statistic, ">=", -1.0)) == Judgement("holds", Interval(0, 0, 0), 3)
    assert judged(tmp_path, claim(statistic, ">", 0.0)).verdict == "does not hold"


def test_key_frames_are_matched_by_index_not_by_place(write, tmp_path: Path) -> None:
    right = SOME.random(40) < 0.6
    order = SOME.permutation(40)
    columns = {name: [cells[i] for i in order] for name, cells in boxes(right).items()}
    pair(write, 3, boxes(right), index=order, group=[f"g{i // 2}" for i in order], **columns)
    assert judged(tmp_path, claim("recall", ">=", -1.0)).interval == Interval(0, 0, 0)


def test_images_that_one_side_did_not_score_are_left_out(write, tmp_path: Path) -> None:
    some = {name: np.where(np.arange(40) < 10, cells, np.nan) for name, cells in masks(~ALL).items()}
    pair(write, 3, masks(np.arange(40) < 10), **some)
    assert judged(tmp_path, claim("mIoU", ">=", -1.0)).interval == pytest.approx((-100, -100, -100))


def test_a_mean_average_precision_of_videos_is_not_compared(write, tmp_path: Path) -> None:
    """The scores of each video, which it is computed from, are not stored."""
    pair(write, 3)
    found = judged(tmp_path, claim("mAP", ">=", -1.0))
    assert (found.verdict, found.reason) == ("not run", "what mAP is computed from was not stored of each sample")


def test_runs_on_other_data_are_not_compared(write, tmp_path: Path) -> None:
    for seed in range(3):
        write(boxes(ALL), seed=seed)
        write(boxes(ALL), method=DYNAMIC.method, options=dict(DYNAMIC.options), seed=seed, data_fingerprint="other")
    runs = [run for block in blocks([("runs", tmp_path / "runs")]) for run in block.runs]
    row = {run.record.identity.seed: run for run in runs if run.record.identity.method == DYNAMIC.method}
    other = {run.record.identity.seed: run for run in runs if run.record.identity.method == STATIC.method}
    assert judge(claim("mAP", ">=", -1.0), row, other).reason == "the two rows were tested on different data"
