import json
from pathlib import Path

import numpy as np
import pytest

from bench import profiles
from bench.accuracy.detection import key_frame
from bench.accuracy.segmentation import counts
from bench.records import Figure, RecordError, Store, sample_bytes
from bench.report.views.recorded import most_seeds
from bench.tables import TableError, load
from bench.tables.blocks import blocks
from bench.tables.figures import FIGURES
from bench.tables.join import Joined, join
from bench.tables.runs import NotMeasuredError
from bench.tables.static_costs import cost_lines, reference

DYNAMIC = {"method": "vared/r2plus1d_18", "options": {"search_space": 2}}


def joined(tmp_path: Path, table: str = "table1", stores: tuple[str, ...] = ("runs",)) -> Joined:
    return join(load(table), blocks([(store, tmp_path / store) for store in stores]))


def verdict(table: Joined, claim: str, block: int = 0):
    return next(result for result in table.claims if result.claim.id == claim).latest[block].judgement


def test_without_records_every_claim_still_has_its_print(tmp_path: Path) -> None:
    found = {result.claim.id: result for result in joined(tmp_path, stores=("nowhere",)).claims}
    assert found["8f-sp2-cost"].printed == "0.722" and found["8f-sp2-cost"].satisfied
    assert found["8f-sp2-clip-1"].printed == "+1.3"
    assert found["16f-sp2-input"].printed == "43.2 > 40.4 > 36.6"
    assert found["8f-sp2-motion"].printed == "" and found["8f-sp2-motion"].satisfied is None
    assert not found["8f-sp2-cost"].latest


def test_a_row_is_measured_by_its_own_options_only(write, tmp_path: Path) -> None:
    write({"cost": 5 * 10**8}, **DYNAMIC)
    write({"cost": 1}, method=DYNAMIC["method"], options={"search_space": 2, "dimensions": "temporal"})
    write({"cost": 2}, method=DYNAMIC["method"], options={"search_space": 3})
    write({"cost": 3}, **DYNAMIC, frames=16)
    (row,) = joined(tmp_path).rows["8f-sp2"]
    assert row.seeds == 1 and row.cells["gflops_avg"].found == (0.5, 0.5, 0.5)


def test_cells_are_means_over_seeds_in_the_columns_units(write, tmp_path: Path) -> None:
    write({"clip_1": np.arange(40) % 2 * 1.0})
    write(seed=1)
    for seed, cost in ((0, 6), (1, 8)):
        write({"cost": np.tile([cost - 1, cost + 1], 20) * 10**8}, **DYNAMIC, seed=seed)
    table = joined(tmp_path)
    (static,), (dynamic,) = table.rows["8f-static"], table.rows["8f-sp2"]
    assert static.seeds == 2 and static.cells["clip-1"].found is not None
    assert static.cells["clip-1"].found.value == 75.0
    assert static.cells["video-5"].found is None and static.cells["video-5"].reason == "fewer than 20 classes"
    found = {name: dynamic.cells[f"gflops_{name}"].found for name in ("avg", "max", "min")}
    assert {name: cell and round(cell.value, 9) for name, cell in found.items()} == {"avg": 0.7, "max": 0.8, "min": 0.6}
    assert dynamic.cells["gflops_avg"].change == pytest.approx(-0.3)


def test_blocks_of_one_name_are_told_apart_by_what_differs(write, tmp_path: Path) -> None:
    for seed, epochs in ((0, 10), (1, 20)):
        write(seed=seed, setting=f"s{epochs}", protocol={"recipe": {"epochs": epochs, "lr": 0.1}})
    assert [block.name for block in blocks([("runs", tmp_path / "runs")])] == [
        "p (epochs 10)",
        "p (epochs 20)",
    ]
    write(seed=2, setting="other12", protocol={"recipe": {"epochs": 20, "lr": 0.1}})
    names = {block.name for block in blocks([("runs", tmp_path / "runs")])}
    assert names == {"p (epochs 10)", "p (setting s20)", "p (setting other1)"}


def test_methods_set_otherwise_are_apart_beside_the_same_static_runs(write, tmp_path: Path) -> None:
    """Whichever was stored first; a static run that comes later belongs to both."""
    write({"cost": 10**9})
    for number, (setting, said) in enumerate(
        (("", {}), ("v1", {"vared": {"explore": 0.1}}), ("v2", {"vared": {"explore": 0.2}}))
    ):
        write({"cost": 5 * 10**8 + number}, **DYNAMIC, method_setting=setting, protocol={"method": said})
        if number == 1:
            names = {block.name for block in blocks([("runs", tmp_path / "runs")])}
            assert names == {"p (first setting)", "p (second setting)"}
    write({"cost": 10**9}, seed=1, protocol={"method": {"arnet": {"x": 1}}})
    found = blocks([("runs", tmp_path / "runs")])
    assert {block.name for block in found} == {f"p ({what} setting)" for what in ("first", "second", "third")}
    assert next(block for block in found if block.name == "p (first setting)").settings["vared"] == ""
    static = [{run.path for run in block.runs if run.record.identity.method == "r2plus1d_18"} for block in found]
    assert len(found) == 3 and static[0] == static[1] == static[2] and len(static[0]) == 2
    assert [row.cells["gflops_avg"].change for row in joined(tmp_path).rows["8f-sp2"]] == pytest.approx([-0.5] * 3)


def test_runs_that_blocks_share_are_the_first_blocks_own_and_the_latest_comes_first(write, tmp_path: Path) -> None:
    for seed in range(2):
        write(seed=seed)
    for setting, said in (("v1", {}), ("v2", {"vared": {"explore": 0.2}})):
        write({"cost": 5 * 10**8}, **DYNAMIC, method_setting=setting, protocol={"method": said})
    latest, first = found = blocks([("runs", tmp_path / "runs")])
    assert [block.name for block in found] == ["p (second setting)", "p (first setting)"]
    assert [len(block.own) for block in found] == [3, 1] and [len(block.runs) for block in found] == [3, 3]
    assert not latest.shared and most_seeds(first) == 1 and most_seeds(latest) == 2
    table = joined(tmp_path)
    assert [row.sharing for row in table.rows["8f-static"]] == ["", "p (second setting)"]
    assert [row.sharing for row in table.rows["8f-sp2"]] == ["", ""]


def test_rows_of_one_block_that_a_later_revision_supersedes_say_which_they_are(write, tmp_path: Path) -> None:
    write(**DYNAMIC, revision=2)
    write(method=DYNAMIC["method"], options={"search_space": 3}, revision=1)
    write(**DYNAMIC, revision=3, setting="later")
    rows = joined(tmp_path).rows
    told = [{row.revision for row in rows[id] if row.seeds} for id in ("8f-sp2", "8f-sp3")]
    assert told == [{2, None}, {1}]


def test_what_its_profile_still_says_is_final_and_what_it_does_not_tells_its_revisions(write, tmp_path: Path) -> None:
    profile = profiles.load("digits")
    stands = {"profile": "digits", "setting": profile.setting, "protocol": {"recipe": {"epochs": 20}}}
    before = {"profile": "digits", "setting": "s10", "protocol": {"recipe": {"epochs": 10}}}
    write(**DYNAMIC, **before, revision=1)
    write(**DYNAMIC, **before, revision=2)
    write(**DYNAMIC, **stands, revision=3)
    found = {block.name: block for block in blocks([("runs", tmp_path / "runs")])}
    assert set(found) == {"digits (final)", "digits (revision 1-2, epochs 10)"}
    old = found["digits (revision 1-2, epochs 10)"]
    assert [old.superseded(DYNAMIC["method"], revision) for revision in (None, 2, 3)] == [False, True, False]
    assert not old.superseded("r2plus1d_18", 1)  # of which nothing later is recorded
    result = next(one for one in joined(tmp_path).claims if one.claim.row == "8f-sp2")
    judged = {item.block.name: item.superseded for item in result.latest}
    assert judged == {"digits (final)": False, old.name: True}


def test_stores_are_told_apart_where_there_are_several(write, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(folder=folder)
    stores = [(folder, tmp_path / folder) for folder in ("one", "two")]
    assert [block.name for block in blocks(stores)] == ["p (one)", "p (two)"]
    assert [block.name for block in blocks(stores[:1])] == ["p"]


@pytest.mark.parametrize(
    ("profile", "cost", "verdict"), [("digits", 7, "set"), ("digits", 9, "does not hold"), ("p", 7, "holds")]
)
def test_a_cost_that_was_chosen_is_set_where_it_is_reached(
    profile: str, cost: int, verdict: str, write, tmp_path: Path
) -> None:
    """In a profile that says so; a miss is a finding."""
    for seed in range(3):
        write({"cost": 10**9}, seed=seed, profile=profile)
        write({"cost": cost * 10**8}, **DYNAMIC, seed=seed, profile=profile)
    found = {result.claim.id: result.latest[0].judgement for result in joined(tmp_path).claims if result.latest}
    assert found["8f-sp2-cost"].verdict == verdict and ("0.78" in found["8f-sp2-cost"].reason) == (verdict == "set")
    assert found["8f-sp2-clip-1"].verdict == "holds"  # nothing but costs is set


def test_a_smoke_run_fills_cells_and_gives_no_verdict(write, tmp_path: Path) -> None:
    for seed in range(3):
        write(seed=seed, protocol={"smoke": True})
        write({"cost": 5 * 10**8}, **DYNAMIC, seed=seed, protocol={"smoke": True})
    table = joined(tmp_path)
    assert table.rows["8f-sp2"][0].seeds == 3
    assert all(not result.latest and not result.earlier for result in table.claims)


def test_what_no_record_could_decide_says_so_whatever_is_recorded(write, tmp_path: Path) -> None:
    write(frames=16)
    write(**DYNAMIC, frames=16)
    claims = {result.claim.id: result for result in joined(tmp_path).claims}
    assert claims["8f-sp2-speed"].never == "" == claims["8f-sp2-cost"].never
    versus = {result.claim.id: result for result in joined(tmp_path, "adafocus").claims}
    apart = versus["something-v1-144-cost"]
    assert apart.never == "its form with TSM and two sets of frames is not among the runs" and not apart.latest


def test_reasons_of_rows_that_were_not_run(write, tmp_path: Path) -> None:
    write()
    write(**DYNAMIC, reason="the loss is not finite")
    table = joined(tmp_path)
    assert table.rows["8f-sp2"][0].reason == "failed: the loss is not finite"
    assert table.rows["8f-sp3"][0].reason == "no record"
    assert table.rows["16f-sp2"][0].reason == "nothing was run with 16 frames"
    assert verdict(table, "8f-sp2-cost").reason == "failed: the loss is not finite"
    apart = joined(tmp_path, "adafocus").rows["activitynet-128-a"][0]
    assert apart.reason == "its skipping of frames is not part of this suite"


def test_a_failed_seed_is_told_beside_the_others(write, tmp_path: Path) -> None:
    write(**DYNAMIC)
    write(**DYNAMIC, seed=1, reason="out of memory")
    (row,) = joined(tmp_path).rows["8f-sp2"]
    assert (row.seeds, row.reason) == (1, "1 of 2 runs failed: out of memory")


@pytest.mark.parametrize("other", ["profile", "setting", "dataset", "data_fingerprint"])
def test_records_of_another_profile_setting_or_data_are_never_compared(write, tmp_path: Path, other: str) -> None:
    for seed in range(3):
        write(seed=seed)
        write({"cost": 10**8}, **DYNAMIC, seed=seed, **{other: "another"})
    table = joined(tmp_path)
    assert len(table.rows["8f-sp2"]) == 2
    assert {verdict(table, "8f-sp2-cost", block).verdict for block in (0, 1)} == {"not run"}


def test_data_made_for_another_clip_length_is_the_same_block(write, tmp_path: Path) -> None:
    """Longer clips may need longer videos, so the fingerprint differs by length; changed data is another block."""
    write(data_fingerprint="short")
    write(data_fingerprint="long", frames=16)
    assert [row.seeds for row in joined(tmp_path).rows["16f-static"]] == [1]
    write(data_fingerprint="changed", seed=1)
    rows = joined(tmp_path).rows["8f-static"]
    assert [row.seeds for row in rows] == [1, 1]


def test_stores_are_kept_apart_and_labelled(write, tmp_path: Path) -> None:
    write(folder="measured")
    write(folder="runs")
    rows = joined(tmp_path, stores=("measured", "runs")).rows["8f-static"]
    assert [(row.block.store, row.seeds) for row in rows] == [("measured", 1), ("runs", 1)]


def test_a_new_revision_is_shown_and_the_first_verdict_kept(write, tmp_path: Path) -> None:
    for seed in range(3):
        write(seed=seed)
        write({"cost": 9 * 10**8}, **DYNAMIC, seed=seed, revision=1)
        write({"cost": 7 * 10**8}, **DYNAMIC, seed=seed, revision=2)
    table = joined(tmp_path)
    (row,) = table.rows["8f-sp2"]
    assert row.cells["gflops_avg"].found == pytest.approx((0.7, 0.7, 0.7))
    result = next(result for result in table.claims if result.claim.id == "8f-sp2-cost")
    assert [(item.revision, item.judgement.verdict) for item in result.latest] == [(2, "holds")]
    assert [(item.revision, item.judgement.verdict) for item in result.earlier] == [(1, "does not hold")]


def test_rows_of_one_method_are_compared_revision_by_revision(write, tmp_path: Path) -> None:
    """A later revision costs more in both rows: against that, an earlier one would have saved what it did not."""
    for seed in range(3):
        for revision, cost in ((1, 6 * 10**8), (2, 9 * 10**8)):
            write({"cost": cost}, **DYNAMIC, seed=seed, revision=revision)
            wider = {"method": DYNAMIC["method"], "options": {"search_space": 3}}
            write({"cost": cost + 10**8}, **wider, seed=seed, revision=revision)
    result = next(result for result in joined(tmp_path).claims if result.claim.id == "8f-sp3-sp2-cost")
    found = [(item.revision, item.judgement.interval) for item in (*result.earlier, *result.latest)]
    assert [revision for revision, _ in found] == [1, 2]
    assert [one and one.value for _, one in found] == pytest.approx([7 / 6, 10 / 9])


@pytest.mark.parametrize("setting", ["s", "later"])
def test_a_later_revision_that_only_failed_takes_no_verdict_away(write, tmp_path: Path, setting: str) -> None:
    """It is shown as failed in its row, under the same setting or under another one."""
    for seed in range(3):
        write(seed=seed)
        write({"cost": 7 * 10**8}, **DYNAMIC, seed=seed)
        write(**DYNAMIC, seed=seed, revision=2, setting=setting, reason="out of memory")
    table = joined(tmp_path)
    result = next(result for result in table.claims if result.claim.id == "8f-sp2-cost")
    counted = [item for item in result.latest if item.judgement.interval is not None]
    assert [(item.revision, item.judgement.verdict, item.superseded) for item in counted] == [(1, "holds", False)]
    row, *other = table.rows["8f-sp2"]
    assert (row.seeds, row.revision) == (3, None) and row.cells["gflops_avg"].found == pytest.approx((0.7, 0.7, 0.7))
    told = other[0].reason if other else row.reason
    assert told == ("failed: out of memory" if other else "revision 2 failed: out of memory")


def test_records_without_per_video_tables_give_figures_but_no_verdict(write, tmp_path: Path) -> None:
    for seed in range(3):
        for record in (write(seed=seed), write({"cost": 10**8}, **DYNAMIC, seed=seed)):
            bare = record.model_copy(update={"samples_file": None, "samples_sha256": None})
            Store(tmp_path / "runs").write(bare)
    table = joined(tmp_path)
    found = table.rows["8f-sp2"][0].cells["gflops_avg"].found
    assert found is not None and found.value == pytest.approx(0.1) and np.isnan(found.low)
    assert verdict(table, "8f-sp2-cost").reason == "no per-video figures were stored"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../../../etc/passwd", "samples_file: '../../../../etc/passwd' is not the name of a file beside it"),
        ("nowhere.parquet", "No such file or directory; {record} names it"),
    ],
)
def test_a_per_video_table_that_is_not_there_names_its_record(write, tmp_path: Path, name: str, said: str) -> None:
    record = write()
    path = Store(tmp_path / "runs").path(record.identity)
    with pytest.raises(RecordError) as caught:
        sample_bytes(path, record.model_copy(update={"samples_file": name}))
    assert str(caught.value).endswith(said.format(record=path.name)) and path.name in str(caught.value)


def test_a_changed_per_video_table_is_refused(write, tmp_path: Path) -> None:
    record = write()
    (tmp_path / "runs" / str(record.samples_file)).write_bytes(b"other")
    with pytest.raises(RecordError, match="checksum differs"):
        joined(tmp_path)


FOUND = key_frame([[0, 0, 9, 9, 1, 1, 0]], [[0, 0, 9, 9, 0]])
MISSED = key_frame([], [[0, 0, 9, 9, 0]])
BOXES = {name: [MISSED[name] if i % 4 else FOUND[name] for i in range(40)] for name in FOUND}
MASKS = {name: [value] * 40 for name, value in counts([[0, 0]], [[0, 1]], 2).items()}


@pytest.mark.parametrize(
    ("kind", "columns", "percent"),
    [
        ("mAP", BOXES, 25.0),
        ("recall", BOXES, 25.0),
        ("classification", BOXES, 100.0),
        ("mIoU", MASKS, 25.0),
        ("pixel-accuracy", MASKS, 50.0),
    ],
)
def test_figures_of_all_samples_together_are_computed_anew(write, tmp_path: Path, kind, columns, percent) -> None:
    """What the record states is taken only where what it was computed from is not stored."""
    for seed in range(2):
        record = write(columns, seed=seed)
        figures = {kind: Figure(value=0.9)}
        Store(tmp_path / "runs").write(record.model_copy(update={"figures": figures}))
        bare = {"samples_file": None, "samples_sha256": None, "figures": figures}
        Store(tmp_path / "bare").write(record.model_copy(update=bare))
    (whole,), (bare_runs,) = (blocks([(name, tmp_path / name)]) for name in ("runs", "bare"))
    found = FIGURES[kind](whole.runs)
    assert found.value == pytest.approx(percent) and found.low <= found.value <= found.high
    stated = FIGURES[kind](bare_runs.runs)
    assert stated.value == pytest.approx(90.0) and np.isnan(stated.low)


def test_a_figure_that_was_never_recorded_says_so(write, tmp_path: Path) -> None:
    write()
    (block,) = blocks([("runs", tmp_path / "runs")])
    with pytest.raises(NotMeasuredError, match="mIoU was not recorded"):
        FIGURES["mIoU"](block.runs)


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "static_costs.json").write_text(text)
    return tmp_path / "published"


def test_static_costs_stand_beside_static_rows_only(tmp_path: Path) -> None:
    costs = {
        "r2plus1d_18@8x128, 200 classes": {"macs": 27_600_000_000, "fvcore": 2, "params": 3},
        "i3d@16x256, 200 classes": {"macs": 4, "fvcore": 5, "params": 6},
    }
    lines = cost_lines([load("table1"), load("table10")], reference(written(tmp_path, json.dumps(costs))))
    found = [(line.table, line.row, line.text, line.remark.startswith("not")) for line in lines]
    assert ("table1", "8f-static", "27.7", False) in found and ("table10", "8f-static", "27.7", False) in found
    assert {line.remark for line in lines if line.cost is None} == {"not in the reference file"}
    assert {line.row for line in lines} == {"8f-static", "16f-static", "32f-static"}


def test_a_cost_that_neither_convention_reproduces_says_so(tmp_path: Path) -> None:
    costs = {"tpn@8x224, 200 classes": {"macs": 28_000_000_000, "fvcore": 28_100_000_000, "params": 3}}
    lines = cost_lines([load("table3")], reference(written(tmp_path, json.dumps(costs))))
    assert lines[0].remark.startswith("not reproduced; ") and "auxiliary" in lines[0].remark


@pytest.mark.parametrize(("text", "message"), [('{"a": {"macs": 1}}', "a.fvcore"), ("{", "static_costs.json")])
def test_faulty_static_costs_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        reference(written(tmp_path, text))
    assert "\n" not in str(caught.value)
