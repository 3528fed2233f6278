"""Which question a claim answers, what is told first, and how figures read without a head."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from report.stored import NASTY, clock, records, write
from tables.clocked import store, timing

from bench.accuracy.intervals import Interval
from bench.report.content import gather
from bench.report.sources import Sources
from bench.report.summary import QUESTIONS, Finding, Question, _question, _rank, counts, summary
from bench.report.text import bounds, cost_unit, costed, ends, figure, span, with_unit
from bench.report.views.printed import claim_key
from bench.tables import ids, load, published
from bench.tables.comparison import CONTROLS, Control
from bench.tables.rows import Measured
from bench.tables.timings import of_method


@pytest.mark.parametrize(
    ("table", "row", "statistic", "against", "question"),
    [
        ("table1", "8f-sp2", "cost_ratio", "8f-static", "saves"),
        ("table1", "8f-sp2", "clip-1", "8f-static", "loss"),
        ("table1", "8f-sp2", "speed_ratio", "8f-static", "faster"),
        ("table1", "8f-sp2", "motion", None, "input"),
        ("table1", "8f-sp3", "cost_ratio", "8f-sp2", "parts"),
        ("redundancy", "kinetics-r2plus1d-temporal", "redundancy_motion", None, "analysis"),
        ("redundancy", "mit-i3d-temporal", "RP", "mit-i3d-channel", "analysis"),
        ("table11", "vared", "mIoU", "static", "loss"),
    ],
)
def test_a_claim_answers_the_question_of_what_it_compares(table, row, statistic, against, question) -> None:
    found = load(table)
    claims = [c for c in found.claims if (c.statistic, c.against) == (statistic, against)]
    claims = [c for c in claims if c.row == row or table == "table11"]
    assert claims and {_question(found, claim) for claim in claims} == {question}


def test_against_another_network_is_not_against_its_own() -> None:
    table = load("table7")
    assert {_question(table, claim) for claim in table.claims} == {"others"}


def test_claims_about_other_dimensions_are_other_claims() -> None:
    table = load("redundancy")
    keys = {claim.id: claim_key(table, claim) for claim in table.claims}
    assert keys["mit-temporal-RP"] != keys["mit-channel-RP"] != keys["mit-i3d-RP"]
    assert keys["mit-temporal-RP"] == keys["kinetics-temporal-RP"]  # the same records decide both


def test_every_claim_has_a_question() -> None:
    tables = [load(id) for id in ids()]
    assert {_question(table, claim) for table in tables for claim in table.claims} <= QUESTIONS.keys()


def test_most_telling_is_full_size_then_most_seeds_and_last_what_is_superseded() -> None:
    plain = Finding("", "", "", "holds", "", "", "", "", "", "")
    few, many, point = replace(plain, seeds=3), replace(plain, seeds=10), replace(plain, machine="m")
    old = replace(plain, seeds=12, superseded=True)
    assert sorted([old, few, many, point], key=_rank) == [point, many, few, old]
    assert Question("", "", [old, few, many]).tally == {"holds": 2}


def test_a_claim_is_told_once_from_the_latest_records_and_once_a_machine(tmp_path: Path) -> None:
    records(tmp_path / "runs")
    clock(tmp_path / "runs")
    content = gather(published(), [("runs", tmp_path / "runs")])
    found = {question.id: question for question in summary(content)}
    assert [finding.figure for finding in found["saves"].findings] == ["×0.700"]
    assert [finding.figure for finding in found["faster"].findings] == ["×1.300", "×1.250", "×1.200"]
    assert found["faster"].tally == {"holds": 3} and "controls" not in found


def test_what_a_start_from_stored_weights_gains_has_a_question_of_its_own(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / "runs", "i3d", {}, seed, 10**9)
        write(tmp_path / "runs", "i3d", {"weights": f"sha256:{'a' * 64}"}, seed, 9 * 10**8)
    (question,) = summary(gather(published(), [("runs", tmp_path / "runs")]))
    (finding,) = question.findings
    assert (question.id, finding.verdict, finding.block) == ("starts", "does not hold", "quick (from weights aaaaaa)")
    assert finding.text == "8 frames: more accurate than from weights as drawn"
    assert finding.figure.endswith("0.00 points") and "at 0.900 of the cost" in finding.margin


def test_what_a_later_revision_supersedes_is_told_and_not_counted(tmp_path: Path) -> None:
    """An earlier revision, stored apart since its recipe was another one."""
    records(tmp_path / "runs")
    for seed in range(3):
        write(tmp_path / "old", "r2plus1d_18", {}, seed, 10**9)
        write(tmp_path / "old", "vared/r2plus1d_18", {"search_space": 2}, seed, 6 * 10**8)
    content = gather(published(), [("runs", tmp_path / "runs"), ("old", tmp_path / "old")])
    saves = next(question for question in summary(content) if question.id == "saves")
    assert [(one.figure, one.superseded) for one in saves.findings] == [("×0.700", False), ("×0.600", True)]
    assert saves.tally == {"holds": 1}
    old = next(block.name for block in content.found if block.store == "old")
    assert not any(
        one.superseded is False and one.block == old and one.method.startswith("vared") for one in saves.findings
    )
    every = summary(content)
    total = sum((question.tally for question in every), Counter())
    assert sum((counts(every, block.name) for block in content.found), counts(every, "")) == total


def test_everything_open_is_no_decision_about_the_clip(tmp_path: Path) -> None:
    records(tmp_path)
    content = gather(published(), [("runs", tmp_path)])
    (block, frames, lines), gain = content.compared[0], Interval(1.0, 0.5, 1.5)
    controls = [Control(CONTROLS[name], "clip-1", gain, gain, 0.9, "holds", seeds=2) for name in ("all", "shuffled")]
    compared = [(block, frames, [replace(lines[0], controls=controls)])]
    asked = {question.id: question for question in summary(replace(content, compared=compared))}
    assert [found.text for found in asked["controls"].findings] == ["8 frames: better than " + CONTROLS["shuffled"]]
    assert asked["controls"].findings[0].margin.endswith("the control at 0.90 of its cost")
    assert asked["controls"].findings[0].on == f"{block.dataset}{block.part}, profile {block.name}, 2 seeds"


def test_a_speed_of_folds_says_in_which_it_was_timed(tmp_path: Path) -> None:
    records(tmp_path / "runs")
    stated = {"setting": "s", "dataset_options": {"fold": 2}}
    named = {"profile": "quick", "dataset": NASTY, "revisions": [2, 1, 1], "protocol": stated}
    store(tmp_path / "runs", *(timing(1.2, seed=seed, **named) for seed in range(3)))
    content = gather(published(), [("runs", tmp_path / "runs")])
    found = next(question for question in summary(content) if question.id == "faster").findings
    assert found and all(one.on.endswith(", timed in fold 2") for one in found)
    timed = [one.record for one in content.timed]
    assert dict(Sources().timings("runs", timed).facts)["fold"] == "2"


def test_a_share_is_shown_within_what_shares_can_be() -> None:
    beyond = Interval(99.0, 97.5, 100.5)
    assert span(beyond) == "97.5 to 100.0" and span(Interval(1.0, -0.5, 2.5)) == "0.0 to 2.5"
    assert span(Interval(1.0, -0.5, 2.5), "+") == "−0.5 to +2.5"  # a difference may be below 0
    assert span(Interval(72.0, 38.1, 105.6), "+") == "+38.1 to +100.0"  # but never by more than all
    claim = next(claim for claim in load("table1").claims if claim.statistic == "clip-1")
    assert bounds(Interval(-80.0, -110.0, -50.0), claim) == "−100.00 to −50.00"
    column = next(column for column in load("table1").columns if column.unit == "%")
    assert ends(Measured(beyond), column) == "97.5 to 100.0"


def test_records_of_one_figure_are_one_source(tmp_path: Path) -> None:
    records(tmp_path / "runs")
    clock(tmp_path / "runs")
    content = gather(published(), [("runs", tmp_path / "runs")], ["table1"])
    block, sources = content.found[0], Sources()
    first, again, other = (sources.runs(block, block.runs[part]) for part in (slice(3), slice(3), slice(3, 6)))
    timed = [one.record for one in of_method(content.timed, "vared/r2plus1d_18", {"search_space": 2}, 8)]
    clocked = sources.timings("runs", timed[:1])
    assert first is again and [source.id for source in sources] == [first.id, other.id, clocked.id]
    facts = dict(first.facts)
    assert facts["seeds"] == "0, 1, 2" and facts["clips"] == "3"
    assert facts["records"].count("r2plus1d_18-8f-s") == 3
    assert {"device", "batch, precision", "records"} <= dict(clocked.facts).keys()


def test_the_same_records_rerun_in_another_store_are_another_source(tmp_path: Path) -> None:
    records(tmp_path / "runs")
    clock(tmp_path / "runs")
    content = gather(published(), [("shipped", tmp_path / "runs"), ("yours", tmp_path / "runs")], ["table1"])
    sources, timed = Sources(), content.timed[0].record
    for block in content.found[:2]:
        assert dict(sources.runs(block, block.runs[:3]).facts)["profile"] == block.name
        assert dict(sources.timings(block.store, [timed]).facts)["store"] == block.store
    assert len(sources) == 4


def test_a_figure_says_its_unit() -> None:
    claims = {claim.statistic: claim for claim in load("table1").claims}
    assert with_unit(0.7, claims["cost_ratio"]) == "×0.700" and with_unit(1.2, claims["speed_ratio"]) == "×1.200"
    assert with_unit(-3.238, claims["clip-1"]) == "−3.24 points"
    assert with_unit(0.075, claims["cost_spread"]) == "7.5 %" and with_unit(0.02, claims["motion"]) == "+0.020"


def test_miniatures_cost_millions_and_say_so() -> None:
    assert cost_unit([0.006, 0.05]) == (1e3, "MFLOPs") and cost_unit([0.006, 27.7]) == (1.0, "GFLOPs")
    assert costed([0.00606, 0.0123], 1e3) == ["6.06", "12.3"]
    column = next(column for column in load("table1").columns if column.kind == "gflops_avg")
    small = Measured(Interval(0.00606, 0.006, 0.0061))
    assert (figure(small, column), ends(small, column)) == ("6.06 M", "6.00 M to 6.10 M")
    assert figure(Measured(Interval(20.0, 19.0, 21.0)), column) == "20.0"
