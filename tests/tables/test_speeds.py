"""Timings joined with tables: which row each is of, what it gives a cell, and what it says of a claim."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables.clocked import DYNAMIC, MATCHED, STATIC, at_point, failed, store, timing

from bench.accuracy.intervals import Interval
from bench.speed.record import Span, SpeedError, SpeedRecord
from bench.tables import load
from bench.tables.blocks import blocks
from bench.tables.comparison import compare
from bench.tables.join import Joined, join
from bench.tables.rows import Measured, PointRow
from bench.tables.speed_truth import in_print, speed_lines
from bench.tables.speeds import interval, joules, pooled, setting, throttled
from bench.tables.timings import timings

TABLE1 = load("table1")


@pytest.fixture
def runs(write, tmp_path: Path) -> Path:
    """Records of the static network and of search space 2, three seeds each; gives their folder."""
    for seed in range(3):
        write(seed=seed)
        write(method=DYNAMIC, options={"search_space": 2}, seed=seed)
    return tmp_path / "runs"


def joined(folder: Path, *records: SpeedRecord, table: str = "table1") -> Joined:
    store(folder, *records)
    stores = [("runs", folder)]
    return join(load(table), blocks(stores), timings(stores))


def cell(table: Joined, row: str, block: int = 0) -> Measured:
    return table.rows[row][block].cells["speed"]


def judged(table: Joined, claim: str = "8f-sp2-speed"):
    result = next(result for result in table.claims if result.claim.id == claim)
    return [(item.judgement.verdict, item.judgement.reason) for item in result.latest]


def at_points(table: Joined, claim: str = "8f-sp2-speed"):
    result = next(result for result in table.claims if result.claim.id == claim)
    return [(key and key.text, item.verdict, item.reason) for key, item in result.points]


def test_both_arms_fill_the_cells_of_their_rows(runs: Path) -> None:
    table = joined(runs, *(timing(1.2, seed=seed) for seed in range(3)))
    method, twin = cell(table, "8f-sp2"), cell(table, "8f-static")
    assert method.found is not None and twin.found is not None
    assert (method.found.value, twin.found.value) == pytest.approx((120, 100))
    (one,) = method.timed
    assert one.ratio is not None and one.ratio.value == pytest.approx(1.2) and one.count == one.seeds == 3
    assert one.setting.text == "batch 8, fp32, one processor, 2 threads, torch 2.13.0"
    assert twin.timed[0].ratio is None
    assert cell(joined(runs, table="table10"), "8f-both").found == method.found  # the same experiment


def test_beside_a_ratio_stands_what_the_twin_gave_in_the_same_rounds(runs: Path) -> None:
    """The twin's own cell is over all its partners, of which another may have met a slower hour."""
    slow = {"a": "another", "a_options": {}, "twin": 25.0}
    table = joined(runs, timing(1.2, twin=100.0), timing(1.2, **slow))
    (method,), (twin,) = cell(table, "8f-sp2").timed, cell(table, "8f-static").timed
    assert method.twin is not None and method.ratio is not None
    assert method.found.value == pytest.approx(method.ratio.value * method.twin.value)
    assert twin.found.value == pytest.approx(50.0) and twin.count == 2 and twin.twin is None


def test_timings_against_something_else_are_not_mixed_with_those_against_the_static_row(runs: Path) -> None:
    against_itself = {"b": DYNAMIC, "b_options": {"search_space": 2}, "b_policy": "all"}
    seeds = range(3)
    both = [timing(1.2, seed=seed) for seed in seeds] + [timing(3.0, seed=seed, **against_itself) for seed in seeds]
    (one,) = cell(joined(runs, *both), "8f-sp2").timed
    assert one.count == 3 and one.found.value == pytest.approx(120)
    assert one.ratio is not None and one.ratio.value == pytest.approx(1.2)


def test_the_largest_batch_in_single_precision_is_shown_and_the_rest_beside_it(runs: Path) -> None:
    settings = ((1, "fp32"), (32, "bf16"), (8, "fp32"), (8, "bf16"))
    records = [timing(1.0 + batch / 100, batch=batch, precision=precision) for batch, precision in settings]
    (one,) = cell(joined(runs, *records), "8f-sp2").timed
    assert one.found.value == pytest.approx(108)
    shown = [(one.setting, one.found), *one.others]
    assert [key.workload for key, _ in shown] == ["batch 8, fp32", "batch 1, fp32", "batch 32, bf16", "batch 8, bf16"]


@pytest.mark.parametrize(
    "other", [{"device": "another"}, {"threads": 8}, {"torch": "2.14.0"}], ids=["device", "threads", "torch"]
)
def test_machines_are_never_averaged(runs: Path, other: dict[str, object]) -> None:
    table = joined(runs, timing(1.2), timing(2.4, **other))
    assert [round(one.found.value) for one in cell(table, "8f-sp2").timed] in ([120, 240], [240, 120])
    assert len(judged(table)) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"profile": "q"},
        {"dataset": "another"},
        {"size": 64},
        {"frames": 16},
        {"policy": "all"},
        {"policy": "matched:20.0"},
        {"trained": False},
        {"revisions": [2, 1, 1]},
        {"revisions": [1, 1, 2]},
        {"a_options": {"search_space": 3}},
        {"protocol": {"setting": "another"}},
    ],
    ids=str,
)
def test_timings_of_anything_else_are_not_of_the_row(runs: Path, other: dict[str, object]) -> None:
    found = cell(joined(runs, timing(1.2, **other)), "8f-sp2")
    assert (found.found, found.reason) == (None, "not timed")


def test_of_two_settings_in_a_store_a_timing_must_say_which(write, runs: Path) -> None:
    write(setting="s2", method=DYNAMIC, options={"search_space": 2})
    store(runs, timing(1.2))
    assert [row.cells["speed"].found for row in joined(runs).rows["8f-sp2"]] == [None, None]
    table = joined(runs, timing(1.2, seed=1, protocol={"setting": "s2"}))
    found = {row.block.setting: row.cells["speed"].found is not None for row in table.rows["8f-sp2"]}
    assert found == {"s": False, "s2": True}


def test_stores_are_kept_apart(write, runs: Path, tmp_path: Path) -> None:
    write(folder="measured", method=DYNAMIC, options={"search_space": 2})
    store(runs, timing(1.2))
    stores = [("measured", tmp_path / "measured"), ("runs", runs)]
    rows = join(TABLE1, blocks(stores), timings(stores)).rows["8f-sp2"]
    assert [(row.block.store, row.cells["speed"].found is not None) for row in rows] == [
        ("measured", False),
        ("runs", True),
    ]


@pytest.mark.parametrize(
    ("ratio", "share", "verdict"),
    [(1.2, 0.01, "holds"), (1.2, 0.3, "inconclusive"), (0.8, 0.01, "does not hold"), (1.005, 0.01, "inconclusive")],
)
def test_the_interval_of_the_paired_ratio_decides(runs: Path, ratio: float, share: float, verdict: str) -> None:
    table = joined(runs, *(timing(ratio, share=share, seed=seed) for seed in range(3)), at_point(ratio, share=share))
    assert judged(table) == [(verdict, "")]
    assert at_points(table) == [("batch 8, fp32, one processor, 2 threads, torch 2.13.0", verdict, "")]


def test_trained_networks_need_seeds_and_matched_ones_do_not(runs: Path) -> None:
    table = joined(runs, timing(1.2), timing(1.2, seed=1), at_point(1.2))
    ((verdict, reason),) = judged(table)
    assert verdict == "too few seeds, within" and "2 seeds" in reason
    assert [item[1] for item in at_points(table)] == ["holds"]


def test_seeds_that_disagree_widen_the_interval(runs: Path) -> None:
    table = joined(runs, *(timing(ratio, seed=seed) for seed, ratio in enumerate((1.01, 1.2, 1.5))))
    assert judged(table) == [("inconclusive", "")]


def test_within_the_noise_nothing_is_concluded_and_what_was_throttled_is_said(runs: Path) -> None:
    marked = {"different": False, "telemetry": {"throttled": True}}
    table = joined(runs, timing(1.2, **marked), timing(1.2, seed=1), timing(1.2, seed=2), at_point(1.2, **marked))
    assert judged(table) == [
        ("inconclusive", "within the noise between two copies of the static baseline in 1 of 3 timings; "
                  "the device was throttled in 1 of 3 timings")
    ]  # fmt: skip
    told = "within the noise between two copies of the static baseline; the device was throttled"
    assert at_points(table)[0][1:] == ("inconclusive", told)
    assert at_points(joined(runs, at_point(0.9, different=False)))[0][1] == "inconclusive"
    throttled_ = {"telemetry": {"throttled": True}}
    assert at_points(joined(runs, at_point(1.2, **throttled_)))[0][1:] == ("holds", "the device was throttled")


def test_what_two_folders_of_one_label_hold_counts_once(tmp_path: Path) -> None:
    one, two = tmp_path / "shipped", tmp_path / "mine"
    store(one, timing(1.2))
    store(two, timing(1.4))
    (found,) = timings([("both", one), ("both", two)])
    assert found.record.ratio is not None and found.record.ratio.value == 1.4
    assert len(timings([("one", one), ("two", two)])) == 2


def test_of_folders_of_one_label_a_machine_names_those_that_timed_on_it(tmp_path: Path) -> None:
    store(tmp_path / "shipped", at_point(1.1, device="theirs"), at_point(1.2, device="both"))
    store(tmp_path / "yours", at_point(1.3, device="mine"), at_point(1.4, batch=32, device="both"))
    one = "shipped and yours"
    found = map(setting, timings([(one, tmp_path / "shipped"), (one, tmp_path / "yours")]))
    named = {(where.device, where.store, where.origins) for where in found}
    assert named == {("theirs", one, "shipped"), ("mine", one, "yours"), ("both", one, one)}
    (alone,) = {setting(timing).origins for timing in timings([("runs", tmp_path / "yours")])}
    assert alone == "runs"


def test_too_few_rounds_conclude_nothing(runs: Path) -> None:
    assert at_points(joined(runs, at_point(1.2, share=0.0)))[0][1:] == ("inconclusive", "too few rounds: no interval")


def test_what_is_not_stored_or_failed_says_so(runs: Path) -> None:
    table = joined(runs)
    assert judged(table) == [("not run", "speed was not measured")] and at_points(table) == []
    assert judged(table, "8f-sp3-speed") == [("not run", "no record")]
    table = joined(runs, failed("out of memory"), failed("too large", row="table1/8f-sp2", trained=False))
    assert judged(table) == [("not run", "failed: out of memory")]
    assert at_points(table)[0][1:] == ("not run", "failed: too large")
    assert cell(table, "8f-sp2").reason == "failed: out of memory"


def test_a_failure_of_one_machine_stands_beside_the_verdict_of_another(runs: Path) -> None:
    point = {"row": "table1/8f-sp2", "policy": MATCHED, "trained": False}
    table = joined(runs, at_point(1.2), failed("too large", batch=128, **point), failed("lost", device="GPU", **point))
    assert [item[1:] for item in at_points(table)] == [("holds", ""), ("not run", "failed: lost")]


def test_an_earlier_revision_keeps_its_verdict(write, runs: Path) -> None:
    for seed in range(3):
        write(method=DYNAMIC, options={"search_space": 2}, seed=seed, revision=2)
        store(runs, timing(0.8, seed=seed), timing(1.2, seed=seed, revisions=[2, 1, 1]))
    result = next(result for result in joined(runs).claims if result.claim.id == "8f-sp2-speed")
    assert [(item.revision, item.judgement.verdict) for item in result.latest] == [(2, "holds")]
    assert [(item.revision, item.judgement.verdict, item.first) for item in result.earlier] == [
        (1, "does not hold", True)
    ]


def point(table: Joined, row: str) -> PointRow:
    (found,) = table.points[row]
    return found


def test_operating_points_have_rows_of_their_own(runs: Path) -> None:
    table = joined(runs, at_point(1.2, twin=10.0))
    method, twin = point(table, "8f-sp2"), point(table, "8f-static")
    speeds = [row.cells["speed"].found for row in (method, twin)]
    assert [found and found.value for found in speeds] == pytest.approx([12, 10])
    assert method.cells["gflops_avg"].found == pytest.approx((20.0, math.nan, math.nan), nan_ok=True)
    assert set(method.cells) == {"speed", "gflops_avg"}
    assert not table.points["8f-sp3"] and not table.points["16f-static"]
    assert cell(table, "8f-sp2").found is None


def test_a_trained_timing_is_never_shown_as_an_operating_point(runs: Path) -> None:
    table = joined(runs, at_point(1.2, trained=True))
    assert not table.points["8f-sp2"] and not table.points["8f-static"] and at_points(table) == []


def test_rows_that_print_the_same_point_share_its_timing(runs: Path) -> None:
    """Table 10's row for 8 frames with both dimensions is Table 1's; 16 frames on Kinetics-400 cost 40.3, not 40.4."""
    store(runs, at_point(1.2))
    assert len(joined(runs, table="table10").points["8f-both"]) == 1
    longer = at_point(1.2, frames=16, row="table1/16f-sp2", policy="matched:40.4:36.6:43.2")
    assert len(joined(runs, longer, table="table2").points["r2plus1d-vared"]) == 1
    other = joined(runs, table="table5").points
    assert not other["16f-r2plus1d-vared"] and not other["16f-r2plus1d"]


def test_a_rows_own_timing_goes_before_that_of_a_row_like_it(runs: Path) -> None:
    own = at_point(1.5, row="table10/8f-both", policy="matched:20.0")
    table = joined(runs, at_point(1.2), own, table="table10")
    assert point(table, "8f-both").cells["speed"].timed[0].found.value == pytest.approx(15)
    assert point(joined(runs), "8f-sp2").cells["speed"].timed[0].found.value == pytest.approx(12)


def test_a_timing_with_decoding_is_of_another_kind(runs: Path) -> None:
    assert not joined(runs, at_point(1.2, protocol={"decode": True})).points["8f-sp2"]


def test_only_the_latest_revision_is_shown_at_an_operating_point(runs: Path) -> None:
    table = joined(runs, at_point(1.2), at_point(1.5, revisions=[3, 1, 1]))
    assert point(table, "8f-sp2").cells["speed"].timed[0].found.value == pytest.approx(15)


@pytest.mark.parametrize(("kind", "unit", "value"), [("latency", "s", 1 / 120), ("speedup", "×", 1.2)])
def test_latency_and_speed_up_columns(runs: Path, kind: str, unit: str, value: float) -> None:
    column = TABLE1.columns[0].model_copy(update={"id": "c", "kind": kind, "unit": unit, "bracket": None})
    narrow = [row.model_copy(update={"cells": row.cells[:1]}) for row in TABLE1.rows]
    # A copy would keep what the original has cached of its own columns.
    table = type(TABLE1).model_construct(**{**dict(TABLE1), "columns": [column], "rows": narrow})
    stores = [("runs", runs)]
    store(runs, timing(1.2, batch=8))
    alone = join(table, blocks(stores), timings(stores)).rows["8f-sp2"][0].cells["c"]
    assert alone.reason == "not timed at batch 1" if kind == "latency" else alone.found is not None
    store(runs, timing(1.2, batch=1))
    rows = join(table, blocks(stores), timings(stores)).rows
    found = rows["8f-sp2"][0].cells["c"].found
    assert found is not None and found.value == pytest.approx(value) and found.low < value < found.high
    static = rows["8f-static"][0].cells["c"]
    assert static.reason == "not timed" if kind == "speedup" else static.found is not None


def test_one_timing_is_its_own_interval_and_more_add_their_spread() -> None:
    one = Interval(1.2, 1.1, 1.4)
    assert pooled([one]) == one
    twice = pooled([one, one])
    below, above = (1.1 / 1.2) ** math.sqrt(0.5), (1.4 / 1.2) ** math.sqrt(0.5)
    assert twice == pytest.approx((1.2, 1.2 * below, 1.2 * above))
    apart = pooled([Interval(1.0, 1.0, 1.0), Interval(4.0, 4.0, 4.0)])
    assert apart == pytest.approx((2.0, 2.0 / 2**12.706, 2.0 * 2**12.706), rel=1e-3)
    assert all(math.isnan(end) for end in pooled([one, Interval(1.0, math.nan, math.nan)])[1:])
    assert math.isnan(interval(Span(value=1.0, low=1.0, high=1.0)).low)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=5), st.floats(1.0, 3.0))
def test_timings_however_far_apart_are_never_below_zero_and_their_inverse_is_the_inverse(
    ratios: list[float], wide: float
) -> None:
    found = pooled([Interval(ratio, ratio / wide, ratio * wide) for ratio in ratios])
    inverse = pooled([Interval(1 / ratio, 1 / ratio / wide, wide / ratio) for ratio in ratios])
    assert 0 <= found.low <= found.value <= found.high
    assert (1 / inverse.value, 1 / inverse.high) == pytest.approx((found.value, found.low))


def test_a_faulty_timing_is_one_line(runs: Path) -> None:
    (runs / "speed").mkdir()
    (runs / "speed" / "a.json").write_text('{"status": "done"}')
    with pytest.raises(SpeedError, match=r"a\.json: identity") as caught:
        timings([("runs", runs)])
    assert "\n" not in str(caught.value)
    assert timings([("runs", runs / "nowhere")]) == []


def test_the_comparison_shows_speeds_where_they_are_stored(runs: Path) -> None:
    stores = [("runs", runs)]
    (block,) = blocks(stores)
    assert {(line.name, line.why_not) for line in compare(block, 8)} == {
        (STATIC, "not timed"),
        (f"{DYNAMIC}, search space 2", "not timed"),
    }
    store(runs, timing(1.2), at_point(3.0))
    lines = {line.name: line.speeds for line in compare(block, 8, timings(stores))}
    (method,), (twin,) = lines[f"{DYNAMIC}, search space 2"], lines[STATIC]
    assert (method.found.value, twin.found.value) == pytest.approx((120, 100))
    assert method.ratio is not None and method.ratio.value == pytest.approx(1.2)


def test_published_ratios_and_eta_come_from_the_cells() -> None:
    ratio, eta = in_print(TABLE1, TABLE1.row("8f-sp2"))
    assert ratio == pytest.approx(205.5 / 192.1)
    assert eta == pytest.approx((205.5 / 192.1 - 1) / (27.7 / 20.0 - 1))
    table2 = load("table2")
    ratio, eta = in_print(table2, table2.row("i3d-vared"))  # nothing is printed beside: its static row
    assert (ratio, eta) == (pytest.approx(141.7 / 116.4), pytest.approx(0.2, abs=0.01))
    assert in_print(TABLE1, TABLE1.row("8f-static")) == (None, None)


def test_lines_stand_in_the_order_of_print_then_by_batch(runs: Path) -> None:
    store(
        runs,
        timing(1.2),
        timing(1.1, a="mine", b="other"),
        at_point(1.2, batch=32),
        at_point(1.2, batch=1),
        at_point(1.2, row="table1/8f-sp3", a_options={"search_space": 3}, policy="matched:21.6"),
        at_point(1.2, row="table2/i3d-vared", a="vared/i3d", frames=16, batch=1),
        at_point(1.2, row="gone/row", frames=4),
    )
    lines = speed_lines(timings([("runs", runs)]), [TABLE1, load("table2")])
    assert [(line.record.row, line.record.identity.batch) for line in lines] == [
        ("table1/8f-sp2", 1),
        ("table1/8f-sp2", 32),
        ("table1/8f-sp3", 8),
        ("table2/i3d-vared", 1),
        ("gone/row", 8),
        (None, 8),
        (None, 8),
    ]
    assert [line.row and line.row.id for line in lines[4:]] == [None, "8f-sp2", None]


def test_a_line_relates_what_was_measured() -> None:
    from bench.tables.timings import Timing

    (line,) = speed_lines([Timing("runs", at_point(1.2))], [TABLE1])
    assert line.executed == pytest.approx(0.9)
    assert line.reached == pytest.approx((0.2 / (27.7 / 20 - 1)) / 0.9)
    assert line.plain is not None and line.plain.form == "compiled" and not line.slow
    straw = at_point(1.2)
    fast = straw.plain[0].model_copy(update={"clips_per_second": Span(value=20, low=19, high=21)})
    (line,) = speed_lines([Timing("runs", straw.model_copy(update={"plain": [fast]}))], [TABLE1])
    assert line.slow
    close = fast.model_copy(update={"clips_per_second": Span(value=10.5, low=10.1, high=11)})  # the twin: 9.8 to 10.2
    (line,) = speed_lines([Timing("runs", straw.model_copy(update={"plain": [close]}))], [TABLE1])
    assert not line.slow


@pytest.mark.parametrize(("ratio", "eta_max"), [(0.5, -0.4), (0.5, 0.9), (1.2, -0.4)])
def test_of_a_loss_no_share_is_reached(ratio: float, eta_max: float) -> None:
    from bench.tables.timings import Timing

    (line,) = speed_lines([Timing("runs", at_point(ratio).model_copy(update={"eta_max": eta_max}))], [TABLE1])
    assert line.reached is None


def test_what_the_device_told_of_itself() -> None:
    energy = {"a": {"joules_per_clip": 0.8}, "b": {"joules_per_clip": 1.2}}
    told = timing(telemetry={"throttled": True, "energy": energy})
    assert throttled(told) and (joules(told), joules(told, "b")) == (0.8, 1.2)
    for telemetry in (
        {"available": False, "reason": "no GPU", "throttled": False},
        {"energy": {"a": {"joules_per_clip": None}, "b": {"joules_per_clip": 1.2}}},
    ):
        untold = timing(telemetry=telemetry)
        assert not throttled(untold) and joules(untold) is None
