import inspect
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from bench import registry
from bench.tables import TableError, ids, load, published
from bench.tables.join import join
from bench.tables.schema import Statistic
from bench.tables.verdicts import STATISTICS

TABLES = ids()
NUMBERED = [f"table{number}" for number in range(1, 12)]
OTHERS = ["adafocus", "adafocus_v2", "arnet", "cgnet", "faster", "figure3", "figure4", "redundancy", "uni_adafocus"]


def value(table: str, row: str, column: str) -> tuple[str, float]:
    cells = load(table).cells
    found = cells[(cells["row"] == row) & (cells["column"] == column) & ~cells["derived"].astype(bool)]
    assert len(found) == 1
    return found["text"].iloc[0], found["value"].iloc[0]


def test_ids_are_in_the_order_of_print() -> None:
    assert TABLES == NUMBERED + OTHERS


@pytest.mark.parametrize(
    ("table", "row", "column", "text", "number"),
    [
        ("table1", "8f-static", "speed", "192.1", 192.1),
        ("table1", "8f-sp2", "gflops_avg", "20.0(−28%)", 20.0),
        ("table1", "8f-sp3", "gflops_min", "19.8(−29%)", 19.8),
        ("table1", "16f-sp2", "video-1", "70.0", 70.0),
        ("table1", "32f-sp2", "gflops_max", "89.5(−19%)", 89.5),
        ("table1", "32f-sp2", "video-5", "89.7", 89.7),
        ("table4", "corrnet-vared", "gflops", "45.5", 45.5),
        ("table4", "corrnet", "video-1", "68.2", 68.2),
        ("table4", "arnet", "params", "63.0M", 63.0),
        ("table4", "vared", "clip-1", "68.3", 68.3),
        ("table10", "8f-temporal", "gflops", "23.5", 23.5),
        ("table10", "8f-channel", "speed", "196.5", 196.5),
        ("table10", "16f-temporal", "clip-1", "58.6", 58.6),
        ("table10", "16f-channel", "gflops", "46.3", 46.3),
        ("table10", "16f-both", "video-1", "70.0", 70.0),
        ("table2", "i3d-vared", "gflops", "26.5", 26.5),
        ("table2", "x3d-vared", "video-1", "72.1", 72.1),
        ("table3", "tpn-16f-vared", "clip-1", "60.8", 60.8),
        ("table5", "16f-x3d", "gflops", "6.42", 6.42),
        ("table5", "32f-i3d-vared", "video-5", "88.4", 88.4),
        ("table6", "r2plus1d-vared", "speed", "105.5", 105.5),
        ("table7", "16f-cgnet", "gflops", "47.6 (+7.2)", 47.6),
        ("table7", "32f-pruned", "gflops", "79.6 (-0.3)", 79.6),
        ("table8", "x3d-vared", "mAP", "50.0", 50.0),
        ("table8", "i3d", "recall", "67.3", 67.3),
        ("table9", "r2plus1d-no", "gflops", "49.8", 49.8),
        ("table11", "vared", "gflops_max", "9.1", 9.1),
        ("table11", "static", "mIoU", "31.2%", 31.2),
        ("redundancy", "kinetics-r2plus1d-channel", "RMSE", "0.088", 0.088),
        ("figure4", "flipping-pancake", "least", "52.1%", 52.1),
        ("arnet", "fcvid-arnet", "gflops-frame", "2.19", 2.19),
        ("faster", "ucf101-faster", "top-1", "96.9", 96.9),
        ("adafocus", "something-v1-tsm-plus", "latency", "0.42", 0.42),
        ("adafocus_v2", "jester-176", "top-1", "96.9", 96.9),
        ("uni_adafocus", "kinetics400-x3d-exit-3", "gflops", "4.9", 4.9),
        ("cgnet", "cifar10-most", "reduction", "8.0×", 8.0),
    ],
)
def test_cells_as_printed(table: str, row: str, column: str, text: str, number: float) -> None:
    assert value(table, row, column) == (text, number)


CELLS = {
    "table1": 7 * 7,
    "table2": 6 * 4,
    "table3": 4 * 3,
    "table4": 2 * 3 + 2 * 3,
    "table5": 6 * 5 + 4 * 5,
    "table6": 6 * 4,
    "table7": 6 * 2 + 3 * 2,  # and VA-RED²'s rows of Table 1
    "table8": 4 * 5,
    "table9": 4 * 3,
    "table10": 8 * 4,
    "table11": 2 + 4,
    "redundancy": 8 * 3,
    "figure3": 0,
    "figure4": 3 * 2,
}


@pytest.mark.parametrize("table", CELLS)
def test_nothing_is_missing(table: str) -> None:
    cells = load(table).cells
    assert cells[~cells["derived"].astype(bool)]["value"].notna().sum() == CELLS[table]


def test_rows_printed_twice_name_one_experiment_and_the_same_numbers() -> None:
    first, tenth = load("table1"), load("table10")
    for frames in ("8f", "16f"):
        for one, other in (("static", "static"), ("sp2", "both")):
            a, b = first.row(f"{frames}-{one}"), tenth.row(f"{frames}-{other}")
            assert a.experiment == b.experiment and a.experiment is not None
            for kind in ("gflops_avg", "speed", "clip-1", "video-1"):
                assert first.value(a.id, kind) == tenth.value(b.id, kind)


def test_single_dimensions_are_options() -> None:
    experiment = load("table10").row("16f-temporal").experiment
    assert experiment is not None
    assert (experiment.method, experiment.frames) == ("vared/r2plus1d_18", 16)
    assert experiment.options == {"search_space": 2, "dimensions": "temporal"}


def test_every_dynamic_row_of_table1_has_the_four_claims() -> None:
    table = load("table1")
    for row in table.rows:
        found = {claim.statistic for claim in table.claims if claim.row == row.id}
        if row.id.endswith("static"):
            assert not found
        else:
            assert found >= {"cost_ratio", "clip-1", "video-1", "cost_spread", "speed_ratio"}


@pytest.mark.parametrize("name", ["table2", "table3", "table5", "table6", "table8"])
def test_every_dynamic_row_has_its_claims(name: str) -> None:
    """Of cost, accuracy, dependence on the input, and speed where it is printed; Table 2's R(2+1)D is in Table 1."""
    table = load(name)
    kinds = {column.kind for column in table.columns}
    wanted = {"cost_ratio", "cost_spread"} | ({"clip-1", "video-1", "mAP"} & kinds)
    wanted |= {"speed_ratio"} if "speed" in kinds else set()
    for row in table.rows:
        found = {claim.statistic for claim in table.claims if claim.row == row.id}
        dynamic = row.id.endswith("-vared") and (name, row.id) != ("table2", "r2plus1d-vared")
        assert found >= wanted if dynamic else not found


@pytest.mark.parametrize("name", TABLES)
def test_the_print_meets_the_margins_of_its_own_claims(name: str) -> None:
    """A margin that the published numbers miss themselves would be ours, not the table's."""
    table = load(name)
    assert table.claims
    assert [result.claim.id for result in join(table, []).claims if result.satisfied is False] == []


def test_every_statistic_is_computed() -> None:
    """Those that do not stand alone are had from the dimensions of two rows, and from timings."""
    apart = {"RP", "speed_ratio"}
    assert {*STATISTICS, *apart} == {*get_args(Statistic)} and not STATISTICS.keys() & apart


def test_tables_of_other_data_sets_share_their_experiments() -> None:
    """What one data set measures for Tables 1 and 2 fills Tables 5, 6 and half of 9 too."""
    first = [row.experiment for name in ("table1", "table2") for row in load(name).rows]
    for name, more in (
        ("table5", {"32f-i3d", "32f-i3d-vared"}),
        ("table6", set()),
        ("table9", {"r2plus1d-no", "i3d-no"}),
    ):
        apart = {row.id for row in load(name).rows if row.experiment and row.experiment not in first}
        assert apart == more


def test_the_rows_with_the_efficiency_loss_are_those_of_table5() -> None:
    fifth, ninth = load("table5"), load("table9")
    for network in ("r2plus1d", "i3d"):
        one, other = fifth.row(f"16f-{network}-vared"), ninth.row(f"{network}-yes")
        assert one.experiment == other.experiment
        for kind in ("gflops_avg", "clip-1", "video-1"):
            assert fifth.value(one.id, kind) == ninth.value(other.id, kind)


def test_options_are_options_of_the_method() -> None:
    runs = [row.experiment for table in TABLES for row in load(table).rows if row.experiment]
    named = {run.method for run in runs if run.options}
    assert named == {name for name in named if name.startswith(("vared/", "pruned/", "cgnet/", "adafocus_", "uni_"))}
    for run in runs:
        if run.options:
            builder = registry._load(registry._target(run.method.partition("/")[0], "method"))
            assert run.options.keys() <= inspect.signature(builder).parameters.keys(), run


def test_a_label_in_print_may_have_an_erratum() -> None:
    """The dynamic X3D of Table 5 has a cross where a check must be meant: kept, and flagged."""
    table = load("table5")
    row = table.row("16f-x3d-vared")
    assert row.labels["Dy."] == "✗" and row.experiment is not None and row.experiment.method == "vared/x3d_m"
    assert [erratum.column for erratum in table.errata if erratum.row == row.id] == ["Dy."]


FAULTS = [
    ('id = "8f-sp2", labels', 'id = "8f-sp2", colour = "red", labels', "row '8f-sp2'.colour: no such field"),
    ("frames = 32 }, size = 128", 'frames = "32" }, size = 128', "row '32f-static'.experiment.frames"),
    ('beside = "32f-static"', 'beside = "64f-static"', "row '32f-sp2': beside: no row '64f-static'"),
    ('"192.1"', '"192.1%"', "row '8f-static': speed: '192.1%' is not in clips/s"),
    ('"192.1"', '"192,1"', "row '8f-static': speed: '192,1' is no number"),
    ('"192.1", ', "", "row '8f-static': cells: 6 for 7 columns"),
    ('id = "16f-sp2", labels', 'id = "8f-sp2", labels', "row '8f-sp2': id: used twice"),
    ('row = "8f-sp3", column = "gflops_min"', 'row = "9f", column = "gflops_min"', "errata: no cell at row '9f'"),
    ('against = "8f-sp2"', 'against = "8f"', "claim '8f-sp3-sp2-cost': against: no row '8f'"),
    ('relation = ">", margin = 0.01', 'relation = "=>", margin = 0.01', "claim '8f-sp2-input'.relation"),
    ('kind = "video-5"', 'kind = "video5"', "column 'video-5'.kind"),
    ('experiment = { method = "r2plus1d_18", options = {}, frames = 16 }, ', "", "row '16f-static': experiment"),
    (
        'row = "8f-sp2", statistic = "cost_spread"',
        'row = "8f-sp2", against = "8f-static", statistic = "cost_spread"',
        "takes no",
    ),
    ('id = "table1"', 'id = "table2"', "differs from the file's name"),
    ("errata = [", "errata = ", "table1.toml"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_a_fault_is_one_line_that_names_file_row_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (published() / "table1.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "table1.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TableError, match=message) as caught:
        load("table1", tmp_path)
    assert str(caught.value).startswith("table1.toml: ") and "\n" not in str(caught.value)


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(TableError, match="did you mean 'table10'"):
        load("table100")


def test_a_note_in_square_brackets_has_no_value(tmp_path: Path) -> None:
    text = (published() / "table4.toml").read_text(encoding="utf-8").replace('"68.2"', '"[not printed here]"')
    (tmp_path / "table4.toml").write_text(text, encoding="utf-8")
    table = load("table4", tmp_path)
    assert table.value("corrnet", "video-1") is None
    assert pd.isna(table.cells.query("row == 'corrnet' and column == 'video-1'")["value"]).all()
