"""A method that no table prints: its rows and claims in a table, and how it stands beside the others of its block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tables.clocked import store, timing

from bench.records import Record
from bench.report.summary import _question
from bench.tables.block import Block
from bench.tables.blocks import blocks
from bench.tables.join import join
from bench.tables.newcomer import experiments, is_new, static_rows, with_method
from bench.tables.schema import ids, load
from bench.tables.standing import standings
from bench.tables.timings import timings

MINE = "mine:Mine"
Write = Callable[..., Record]


def stored(folder: Path, *names: str) -> list[Block]:
    return blocks([("all", folder / name) for name in names])


def both(write: Write, folder: str = "runs", seeds: int = 3, **changed: Any) -> None:
    """The plain network, wrong at full cost, and the new method, right at half of it."""
    for seed in range(seeds):
        write({"clip_1": 0.0, "cost": 10**9}, seed=seed, folder=folder, **changed)
        write({"clip_1": 1.0, "cost": 10**9 // 2}, method=MINE, seed=seed, folder=folder, **changed)


def test_a_row_and_the_claims_of_its_kind(write: Write, tmp_path: Path) -> None:
    both(write)
    table = load("table1")
    found = with_method(table, MINE, stored(tmp_path, "runs"))
    (row,) = [row for row in found.rows if is_new(row.id)]
    assert row.labels == {"length": "8", "sp.": MINE} and not any(row.cells) and row.experiment is not None
    claims = [claim for claim in found.claims if is_new(claim.row)]
    assert {claim.statistic for claim in claims} == {
        *("cost_ratio", "clip-1", "video-1", "cost_spread", "motion", "difficulty", "speed_ratio")
    }
    assert len(claims) == 7  # search spaces 2 and 3 claim the same of cost, accuracy and speed
    assert all(claim.text.startswith(f"{MINE}: ") and claim.against in (None, "8f-static") for claim in claims)
    assert [row for row in found.rows if not is_new(row.id)] == table.rows
    verdicts = {
        result.claim.statistic: result.latest[0].judgement.verdict
        for result in join(found, stored(tmp_path, "runs")).claims
        if is_new(result.claim.row)
    }
    assert (verdicts["cost_ratio"], verdicts["clip-1"], verdicts["cost_spread"]) == ("holds", "holds", "does not hold")
    assert (verdicts["speed_ratio"], verdicts["motion"]) == ("not run", "not run")


@pytest.mark.parametrize("id", ids())
def test_no_table_minds_a_new_method(id: str, write: Write, tmp_path: Path) -> None:
    for frames in (1, 8, 16):
        write(method=MINE, frames=frames, options={"shares": [1, 2]})
    found = with_method(load(id), MINE, stored(tmp_path, "runs"))
    assert len({part.id for part in (*found.rows, *found.claims)}) == len(found.rows) + len(found.claims)
    join(found, stored(tmp_path, "runs"))
    nothing = with_method(load(id), "another:Method", stored(tmp_path, "runs"))
    assert (nothing.rows, nothing.claims) == (load(id).rows, load(id).claims)


def test_a_method_on_a_network_stands_beside_that_network_only() -> None:
    table = load("table2")
    assert [row.id for row in static_rows(table, MINE, 16)] == ["r2plus1d", "i3d", "x3d"]
    assert [row.id for row in static_rows(table, f"{MINE}/i3d", 16)] == ["i3d"]
    assert static_rows(table, MINE, 8) == []


def test_verdicts_beside_another_method_are_those_of_claims(write: Write, tmp_path: Path) -> None:
    both(write)
    write({"clip_1": 1.0}, seed=7, options={"width": 7})
    (block,) = stored(tmp_path, "runs")
    (own,) = experiments(MINE, [block])
    plain, narrow = standings(block, own, [])
    accurate, cheaper, faster = plain.answers
    assert (accurate.judgement.verdict, accurate.judgement.interval) == ("holds", (100.0, 100.0, 100.0))
    assert cheaper.judgement.verdict == "holds" and cheaper.judgement.interval == (0.5, 0.5, 0.5)
    assert (faster.judgement.verdict, plain.why_not) == ("not run", "not timed")
    assert narrow.name == "r2plus1d_18, width 7" and narrow.answers[0].judgement.verdict == "not run"  # other seeds
    turned = standings(block, plain.against, [])
    verdicts = {one.name: [answer.judgement.verdict for answer in one.answers] for one in turned}
    assert verdicts[MINE] == ["does not hold", "does not hold", "not run"]


@pytest.mark.parametrize(("ratio", "verdict"), [(1.2, "holds"), (0.8, "does not hold")])
def test_what_was_timed_against_the_other_says_which_is_faster(
    ratio: float, verdict: str, write: Write, tmp_path: Path
) -> None:
    both(write)
    store(tmp_path / "runs", *(timing(ratio, a=MINE, a_options={}, seed=seed) for seed in range(3)))
    (block,) = stored(tmp_path, "runs")
    (standing,) = standings(block, experiments(MINE, [block])[0], timings([("all", tmp_path / "runs")]))
    judgement = standing.answers[-1].judgement
    assert judgement.verdict == verdict and judgement.interval is not None
    assert judgement.interval.value == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("seeds", "smoke", "words", "verdict"),
    [(2, False, "2 seeds", "too few seeds"), (3, True, "smoke run", "inconclusive")],
)
def test_few_seeds_and_smoke_runs_conclude_nothing(
    seeds: int, smoke: bool, words: str, verdict: str, write: Write, tmp_path: Path
) -> None:
    both(write, seeds=seeds, protocol={"smoke": smoke})
    (block,) = stored(tmp_path, "runs")
    ((standing),) = standings(block, experiments(MINE, [block])[0], [])
    for answer in standing.answers[:2]:
        assert answer.judgement.verdict.startswith(verdict) and words in answer.judgement.reason


def test_folders_of_one_label_are_one_store(write: Write, tmp_path: Path) -> None:
    write({"clip_1": 0.0}, folder="shipped")
    both(write, folder="yours", seeds=1)
    (block,) = stored(tmp_path, "shipped", "yours")
    assert sorted(run.path.parent.name for run in block.runs) == ["yours", "yours"]
    assert len(blocks([("a", tmp_path / "shipped"), ("b", tmp_path / "yours")])) == 2


def test_of_folders_of_one_label_only_those_are_named_that_hold_something(write: Write, tmp_path: Path) -> None:
    write(folder="shipped")
    both(write, folder="yours", seeds=1, profile="tiny")
    one = "shipped and yours"
    stores = [(one, tmp_path / "shipped"), (one, tmp_path / "yours")]
    assert [block.name for block in blocks(stores)] == ["p (shipped)", "tiny (yours)"]
    write(folder="shipped", profile="tiny", seed=5)
    assert blocks(stores)[1].name == "tiny (shipped and yours)"


def test_what_a_table_claims_of_a_new_method_is_of_saving_and_of_loss(write: Write, tmp_path: Path) -> None:
    both(write)
    found = with_method(load("table1"), MINE, stored(tmp_path, "runs"))
    asked = {claim.statistic: _question(found, claim) for claim in found.claims if claim.row.startswith("new-")}
    assert asked["cost_ratio"] == "saves" and asked["clip-1"] == asked["video-1"] == "loss"
