from pathlib import Path

import pandas as pd
import pytest

from bench.tables import TableError, ids, load, published

TABLES = ids()


def value(table: str, row: str, column: str) -> tuple[str, float]:
    cells = load(table).cells
    found = cells[(cells["row"] == row) & (cells["column"] == column) & ~cells["derived"].astype(bool)]
    assert len(found) == 1
    return found["text"].iloc[0], found["value"].iloc[0]


def test_ids_are_in_the_order_of_print() -> None:
    assert TABLES == ["table1", "table4", "table10"]


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
    ],
)
def test_cells_as_printed(table: str, row: str, column: str, text: str, number: float) -> None:
    assert value(table, row, column) == (text, number)


@pytest.mark.parametrize(("table", "cells"), [("table1", 49), ("table4", 12), ("table10", 32)])
def test_nothing_is_missing(table: str, cells: int) -> None:
    """7 rows of 7; 2 rows of 3 beside 2 of 3; 8 rows of 4."""
    assert (~load(table).cells["derived"].astype(bool)).sum() == cells


def test_derived_percentages_follow_from_the_cells() -> None:
    """What Table 1 prints in brackets is the change against the static row of the same length, to rounding."""
    cells = load("table1").cells
    printed = cells[cells["derived"].astype(bool)]
    assert len(printed) == 12
    for line in printed.itertuples():
        own, static = (
            value("table1", line.row, line.column)[1],
            value("table1", f"{line.row[:-3]}static", line.column)[1],
        )
        assert 100 * (own / static - 1) == pytest.approx(line.value, abs=0.52)
        assert line.unit == "%"


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


FAULTS = [
    ('id = "8f-sp2", labels', 'id = "8f-sp2", colour = "red", labels', "row '8f-sp2'.colour: no such field"),
    ('frames = 32 }, cells = ["110.5"', 'frames = "32" }, cells = ["110.5"', "row '32f-static'.experiment.frames"),
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
