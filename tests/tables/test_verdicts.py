from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.intervals import Interval
from bench.tables.runs import Block, blocks
from bench.tables.schema import Claim, Experiment
from bench.tables.verdicts import Judgement, decide, judge

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
    assert found.verdict == "inconclusive" and found.interval == Interval(0.5, 0.5, 0.5)
    assert f"{seeds} seed" in found.reason


def test_only_seeds_of_both_rows_are_compared(write, tmp_path: Path) -> None:
    pair(write, 3, cost=5 * 10**8)
    write({"cost": 1}, method=DYNAMIC.method, options=dict(DYNAMIC.options), seed=7)
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
