"""Rows, claims and speeds of runs that started from stored weights, apart from those whose weights were drawn."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tables.clocked import store, timing

from bench import profiles
from bench.answers.compare import answer
from bench.report import latex
from bench.report.content import gather
from bench.report.figures.pareto import pareto
from bench.tables import load
from bench.tables.blocks import blocks
from bench.tables.join import Joined, join
from bench.tables.newcomer import is_new, with_method
from bench.tables.paths import published
from bench.tables.starts import by_start, gains
from bench.tables.timings import timings

ONE, OTHER = (f"sha256:{letter * 64}" for letter in "ab")
STATIC, DYNAMIC = "r2plus1d_18", "vared/r2plus1d_18"
SPACE = {"search_space": 2}


def joined(folder: Path) -> Joined:
    stores = [("runs", folder / "runs")]
    return join(load("table1"), by_start(blocks(stores)), timings(stores))


def test_a_row_is_measured_beside_the_network_that_started_alike(write, tmp_path: Path) -> None:
    for seed in range(3):
        write({"cost": 8 * 10**8}, seed=seed)
        write({"cost": 4 * 10**8}, method=DYNAMIC, options=SPACE, seed=seed)
        write({"cost": 10**9}, options={"weights": ONE}, seed=seed)
        write({"cost": 6 * 10**8}, method=DYNAMIC, options={**SPACE, "weights": ONE}, seed=seed)
    table = joined(tmp_path)
    drawn, stored = table.rows["8f-sp2"]
    assert [row.block.name for row in (drawn, stored)] == ["p", "p (from weights aaaaaa)"]
    changes = [row.cells["gflops_avg"].change for row in (drawn, stored)]
    assert [round(change, 9) for change in changes if change] == [-0.5, -0.4]
    (claim,) = (one for one in table.claims if one.claim.id == "8f-sp2-cost")
    ratios = [one.judgement.interval.value for one in claim.latest if one.judgement.interval]
    assert [round(ratio, 9) for ratio in ratios] == [0.5, 0.6]
    assert [len(row.block.own) for row in (drawn, stored)] == [6, 6]  # none is counted twice


def test_a_start_is_held_against_weights_as_drawn_where_all_else_is_the_same(write, tmp_path: Path) -> None:
    """By the seeds that both have; not against another setting, nor where only one of the two was run."""
    half = {"clip_1": [0.0, 1.0] * 20}
    for seed in range(3):
        write(half, seed=seed)
        write({"cost": 9 * 10**8}, options={"weights": ONE}, seed=seed)
        write({"cost": 8 * 10**8, **half}, method=DYNAMIC, options={**SPACE, "weights": ONE}, seed=seed)
        write(half, seed=seed, profile="q")
    write({"cost": 10}, options={"weights": ONE}, seed=7)
    write(half, method="i3d", profile="q", setting="other")
    write(method="i3d", profile="q", options={"weights": ONE})
    (told,) = gains(by_start(blocks([("runs", tmp_path / "runs")])))
    assert (told.own.method, told.own.options, told.block.name) == (STATIC, {}, "p (from weights aaaaaa)")
    found, cost = told.judgement, told.cost.interval
    assert found.interval and cost and (round(found.interval.value, 9), round(cost.value, 9)) == (50.0, 0.9)
    assert (found.verdict, found.seeds) == ("holds", 3)


def test_a_start_that_a_block_before_has_all_runs_of_is_told_once(write, tmp_path: Path) -> None:
    """The static network, which settings of the method do not touch, stands in the block of each of them."""
    for setting, options in (("a", {"weights": ONE}), ("a", {}), ("b", {})):
        write(options=options)
        write(method=DYNAMIC, options={**SPACE, **options}, method_setting=setting)
    found = by_start(blocks([("runs", tmp_path / "runs")]))
    assert sorted(len(block.runs) for block in found) == [2, 2, 2]
    assert [told.own.method for told in gains(found)] == [STATIC, DYNAMIC]


def test_networks_with_one_start_each_are_together_and_where_one_has_several_each_start_is_apart(
    write, tmp_path: Path
) -> None:
    def found() -> dict[str, dict[str, str]]:
        return {block.name: block.starts for block in by_start(blocks([("runs", tmp_path / "runs")]))}

    write(options={"weights": ONE})
    write(method="i3d", options={"weights": OTHER})
    assert found() == {"p (from weights aaaaaa bbbbbb)": {STATIC: ONE, "i3d": OTHER}}
    write(options={"weights": OTHER}, seed=1)  # whichever of them belongs to i3d's, nobody can tell
    assert found() == {
        "p (from weights aaaaaa)": {STATIC: ONE},
        "p (from weights bbbbbb)": {STATIC: OTHER, "i3d": OTHER},
    }


def test_a_new_methods_row_is_measured_by_each_start_in_its_own_block(write, tmp_path: Path) -> None:
    for options, cost in (({}, 1), ({"weights": ONE}, 2), ({"weights": OTHER}, 3)):
        write({"cost": 10 * 10**9}, options=options)
        write({"cost": cost * 10**9}, method=f"mine/{STATIC}", options=options)
    found = by_start(blocks([("runs", tmp_path / "runs")]))
    table = join(with_method(load("table1"), f"mine/{STATIC}", found), found)
    (row,) = (row for row in table.table.rows if is_new(row.id))
    assert row.experiment and row.experiment.options == {}
    cells = [measured.cells["gflops_avg"].found for measured in table.rows[row.id]]
    assert [cell and cell.value for cell in cells] == [1.0, 2.0, 3.0]


def test_pictures_and_sheets_of_blocks_that_started_otherwise_are_apart(write, tmp_path: Path) -> None:
    for options in ({}, {"weights": ONE}):
        write(options=options)
        write({"cost": 5 * 10**8}, method=DYNAMIC, options={**SPACE, **options})
    content = gather(published(), [("yours", tmp_path / "runs")])
    compared = [entry for entry in content.compared if entry[0].profile == "p"]
    assert len(compared) == 2 and {len(lines) for _, _, lines in compared} == {2}
    names = [picture.id for picture in pareto(content) if picture.id.startswith("pareto-p-")]
    assert len({*names}) == len(names) == 2
    sheets = [path.name for path in latex.write(content, tmp_path / "tables")]
    assert len({*sheets}) == len(sheets) and len([name for name in sheets if name.startswith("comparison-p-")]) == 2


def test_compare_puts_a_method_beside_what_started_alike(write, tmp_path: Path) -> None:
    """Its answer and the page say the same of it."""
    profile, file = profiles.load("digits"), tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    start = {"weights": f"sha256:{hashlib.sha256(b'weights').hexdigest()}"}
    who = {"profile": "digits", "setting": profile.setting}
    for seed in range(3):
        write({"cost": 10**9}, seed=seed, **who)
        write({"cost": 6 * 10**8}, method=f"mine/{STATIC}", options={"price": 1, **start}, seed=seed, **who)
    stores = [("yours", tmp_path / "runs")]

    def answered() -> dict[str, Any]:
        given = {"price": 1, "weights": str(file)}
        (form,) = answer(f"mine/{STATIC}", given, profile, [8], load("table1"), stores)["forms"]
        return form

    form = answered()
    assert form["seeds"] == [0, 1, 2] and form["beside"] == []
    assert {claim["verdict"] for claim in form["claims"] if claim["statistic"] == "cost_ratio"} == {"not run"}
    for seed in range(3):
        write({"cost": 8 * 10**8}, options=start, seed=seed, **who)
    form = answered()
    assert [one["against"] for one in form["beside"]] == [STATIC]
    (claim,) = (claim for claim in form["claims"] if claim["statistic"] == "cost_ratio")
    assert claim["verdict"] == "holds" and round(claim["value"], 9) == 0.75


def test_a_speed_is_of_the_network_that_started_alike(write, tmp_path: Path) -> None:
    for options, ratio in (({}, 1.5), ({"weights": ONE}, 1.25)):
        write(options=options)
        write(method=DYNAMIC, options={**SPACE, **options})
        record = timing(ratio, a_options={**SPACE, **options}, b_options=options)
        store(tmp_path / "runs", record.model_copy(update={"protocol": {"setting": "s"}}))
    table = joined(tmp_path)
    rows = table.rows["8f-sp2"]
    speeds = [row.cells["speed"].found for row in rows]
    assert [found and round(found.value, 6) for found in speeds] == [150.0, 125.0]
