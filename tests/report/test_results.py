"""The page of results and the speed cells, from the shipped records: nothing is empty, nothing contradicts another."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.report.bottom import bottom_line
from bench.report.content import Content, gather
from bench.report.figures.training import training
from bench.report.render import ANSWERS, _values
from bench.report.sources import Sources
from bench.report.summary import summary
from bench.report.templating import environment
from bench.report.text import bounds, markdown, with_unit
from bench.report.views.judged import earlier, judging, missing
from bench.tables import published
from bench.tables.join import Joined
from bench.tables.speeds import SPEED_KINDS

TIMED = ("table1", "table2", "table5", "table6", "table8", "table10")


@pytest.fixture(scope="module")
def content() -> Content:
    return gather(published(), [("shipped", published().parent / "measured")])


@pytest.fixture(scope="module")
def page(content: Content) -> str:
    return environment(False).get_template("results.md.j2").render(_values(content, []), sources=Sources())


def table(content: Content, id: str) -> Joined:
    return next(joined for joined in content.joined if joined.table.id == id)


@pytest.mark.parametrize("id", TIMED)
def test_every_speed_cell_has_a_measurement_or_a_reason(id: str, content: Content) -> None:
    joined = table(content, id)
    speeds = [column for column in joined.table.columns if column.kind in SPEED_KINDS]
    assert speeds
    for row in joined.table.rows:
        for run in joined.rows[row.id]:
            for column in speeds if run.cells else []:
                cell = run.cells[column.id]
                assert cell.found is not None or cell.reason, f"{id}/{row.id}, {run.block.name}"
            assert run.cells or run.reason
        timed = [point.cells[column.id].found for point in joined.points[row.id] for column in speeds]
        if joined.table.value(row.id, "speed") is not None:
            assert any(timed) != bool(joined.untimed.get(row.id)), f"{id}/{row.id}: either timed or why not"
        if not any(timed):
            assert missing(joined, row.id)


def test_the_page_has_a_line_for_every_outcome_and_no_other_verdict(content: Content, page: str) -> None:
    found = [finding for question in summary(content) for finding in question.findings]
    said = re.findall(r"^- (\*\*(?:yes|no|set|open(?:, within|, beyond)?)\*\*)", page, re.MULTILINE)
    assert sorted(said) == sorted(ANSWERS[finding.verdict] for finding in found)
    assert len(found) > 60 and all(f"{finding.figure} ({finding.interval})" in page for finding in found)


def test_what_blocks_share_is_compared_and_counted_once(content: Content) -> None:
    for block, _, lines in content.compared:
        assert any(not block.sharing(line.runs) for line in lines), f"{block.name}: all of it stands before already"
    found = [finding for question in summary(content) for finding in question.findings]
    told = Counter((one.subject, one.text, one.figure, one.interval, one.margin) for one in found if one.on)
    assert [key for key, times in told.items() if times > 1] == []


def test_the_page_and_its_tallies_are_of_the_same_findings(content: Content, page: str) -> None:
    for question in summary(content):
        part = page[page.index(f"## {question.title}") :].partition("\n## ")[0]
        lines = [line for line in part.splitlines() if line.startswith("- **")]
        counted = Counter(re.match(r"- (\*\*.*?\*\*)", line)[1] for line in lines if "not counted" not in line)
        tally = part.partition("Counted: ")[2].partition(".")[0]
        assert {f"{verdict} {count}" for verdict, count in counted.items()} == {*filter(None, tally.split("; "))}


def test_every_verdict_of_an_earlier_revision_is_listed(content: Content, page: str) -> None:
    part = page.partition("## Verdicts of earlier revisions")[2].partition("\n## ")[0]
    told = [(result.claim, item) for joined in content.joined for result, item in earlier(joined.claims)]
    assert told
    for claim, item in told:
        found = item.judgement.interval
        assert found is not None and f"{with_unit(found.value, claim)} ({bounds(found, claim)}" in part
    lines = [line for line in part.splitlines() if line.startswith("- ")]
    assert 0 < len(lines) == len({*lines}) <= len(told)


def test_a_column_of_claims_is_of_a_block_that_judged_one(content: Content) -> None:
    for joined in content.joined:
        items = [item for result in joined.claims for item in result.latest if item.judgement.interval is not None]
        assert {id(block) for block in judging(joined.claims)} == {id(item.block) for item in items}
        assert len(judging(joined.claims)) == len({id(item.block) for item in items})


def test_what_blocks_share_is_drawn_and_counted_once(content: Content) -> None:
    drawn = [id(log) for picture in training(content) for log in picture.draw.args[0]]  # type: ignore[attr-defined]
    assert any(block.shared for block in content.found) and len(drawn) == len({*drawn}) > 0
    parts = [part.path for block in content.found for run in block.own for part in run.parts]
    assert len(parts) == len({*parts})


def test_the_bottom_line_stands_above_all_counts(content: Content, page: str) -> None:
    found = bottom_line(content)
    assert found and page.index(markdown(found[0])) < page.index("Written by") < page.index("Counted")


def test_every_data_set_is_told_apart_and_folds_are_counted(content: Content) -> None:
    loss = next(question for question in summary(content) if question.id == "loss")
    named = {finding.on.partition(";")[0] for finding in loss.findings}
    wanted = ("ut_interaction, 10 folds, profile ut_interaction (final), 3 seeds", "digits, profile digits (")
    assert all(any(one.startswith(name) for one in named) for name in wanted)


def test_every_block_that_judges_a_claim_is_told_by_its_name(content: Content) -> None:
    judged = {
        item.block.name
        for joined in content.joined
        for result in joined.claims
        for item in result.latest
        if item.judgement.interval is not None
    }
    told = {finding.block for question in summary(content) for finding in question.findings}
    assert len([name for name in judged if name.startswith("digits (")]) > 1  # two settings of the same data
    assert judged <= told
    assert all(finding.block in finding.on for question in summary(content) for finding in question.findings)


def test_the_page_says_at_what_scale_networks_were_trained_and_timed(content: Content, page: str) -> None:
    top = page[: page.index("\n## ")]
    assert (
        "8 and 16 frames of 24 × 24, miniature networks: width 8, blocks [1, 1, 1, 1], stem [3, 3, 3]"
        in top.replace("\\[", "[")
    )
    assert "with fewer than 3 seeds" in top and "within the noise of two copies of the static baseline" in top
    points = [one for question in summary(content) for one in question.findings if one.machine]
    assert all(one.on.startswith("full size, not trained, decisions drawn to the published cost; ") for one in points)


def test_where_no_floor_was_measured_the_command_that_does_is_named(content: Content) -> None:
    given = [(block, count, []) for block, count, _ in content.floors if block.profile in ("digits", "camvid")]
    page = environment(False).get_template("results.md.j2")
    told = page.render(_values(replace(content, floors=given), []), sources=Sources())
    floor = "no trivial baseline of exactly these data: vared-bench data floor"
    assert f"{floor} --profile digits --frames 16 --coarse --results runs" in told
    assert f"{floor} --profile camvid --frames 1 --results runs" in told


def test_key_frames_stand_beside_their_floor(content: Content, page: str) -> None:
    own = {(block.profile, frames): floors for block, frames, floors in content.floors}
    assert any(floor.measured and floor.figure == "mAP" for floor in own["localisation", 16])
    assert re.search(r"composed, 16 frames \(localisation.*\): boxes: ", page)


def test_what_was_not_run_is_named_with_its_reason(content: Content, page: str) -> None:
    end = page[page.index("## What was not run") :]
    assert "Table 8" in end and "nothing was run with 32 frames" in end
    for line in end.splitlines():
        if line.startswith("- "):
            assert re.fullmatch(r"- .+: \S.*", line), line


@pytest.mark.parametrize("id", TIMED)
def test_what_was_not_timed_is_named_with_its_command(id: str, tmp_path: Path) -> None:
    joined = table(gather(published(), [("none", tmp_path)]), id)
    printed = [row.id for row in joined.table.rows if joined.table.value(row.id, "speed") is not None]
    assert printed
    for row in printed:
        assert joined.untimed[row] == f"not timed on any device yet: speed --table {id} --row {row}"


def test_floors_stand_beside_results_of_the_same_data_alone(content: Content) -> None:
    own = {(block.dataset, frames): floors for block, frames, floors in content.floors}
    rules = {floor.rule for floor in own["camvid", 1]}
    assert "most frequent class at each place" in rules
    measured = [floor for floor in own["ut_interaction", 8] if floor.measured]
    assert {floor.rule for floor in measured} >= {"most frequent class", "kernel ridge on coarse pictures"}
    (chance,) = (floor for floor in own["ut_interaction", 8] if floor.rule.startswith("one of the 6 classes"))
    assert chance.found.value == pytest.approx(100 / 6) and not chance.measured
