"""Rows, claims and speeds of runs that started from stored weights, apart from those whose weights were drawn."""

from __future__ import annotations

from pathlib import Path

from tables.clocked import store, timing

from bench.tables import load
from bench.tables.blocks import blocks
from bench.tables.join import Joined, join
from bench.tables.starts import by_start
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


def test_weights_of_one_network_are_apart_and_those_of_several_together(write, tmp_path: Path) -> None:
    write(options={"weights": ONE})
    write(method="i3d", options={"weights": OTHER})
    write(options={"weights": OTHER}, seed=1)
    (whole,) = blocks([("runs", tmp_path / "runs")])
    found = by_start([whole])
    assert [block.starts for block in found] == [{STATIC: ONE, "i3d": OTHER}, {STATIC: OTHER}]
    assert [block.name for block in found] == ["p (from weights aaaaaa bbbbbb)", "p (from weights bbbbbb)"]
    assert whole.starts == {} and len(whole.runs) == 3  # where methods are compared, all are there


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
