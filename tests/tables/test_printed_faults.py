import re
from pathlib import Path

import pytest
from tables.printed_faults import validate

from bench.tables import published


def text(table: str) -> str:
    return (published() / f"{table}.toml").read_text(encoding="utf-8")


def write(folder: Path, table: str, content: str) -> None:
    (folder / f"{table}.toml").write_text(content, encoding="utf-8")


def replaced(content: str, old: str, new: str) -> str:
    assert old in content
    return content.replace(old, new, 1)


def test_the_published_tables_have_no_fault() -> None:
    assert validate() == []


FAULTS = [
    ("table1", 'unit = "clips/s"', 'unit = "GFLOPs"', "column 'speed': unit: speed is in clips/s or videos/s"),
    ("table1", 'label = "clip-1", unit = "%"', 'label = "clip-1", unit = "M"', "column 'clip-1': unit: clip-1 is in %"),
    ("table4", '"63.0M"', '"63.0%"', "row 'arnet': params: '63.0%' is not in M"),
    ("table1", 'source = "', '# source = "', "source: is missing"),
    ("table1", 'source = "VA', 'source = " "\n# "VA', "source: is blank"),
    (
        "table2",
        '"vared/i3d"',
        '"varde/i3d"',
        "row 'i3d-vared': experiment.method: no method 'varde'; did you mean 'vared'",
    ),
    (
        "table2",
        '"vared/i3d"',
        '"vared/i4d"',
        "row 'i3d-vared': experiment.method: no network 'i4d'; did you mean 'i3d'",
    ),
    ("table2", 'method = "i3d"', 'method = "swin"', "row 'i3d': experiment.method: no network or method 'swin'"),
    ("arnet", '"AdaFrame is not part', '"vared is not part', "reason: vared is registered: name the experiment"),
    ("table2", "frames = 16", "frames = 0", "row 'r2plus1d': experiment.frames: must be positive, not 0"),
    ("table2", ", size = 256", "", "row 'i3d': size: missing"),
    (
        "table1",
        "20.0(−28%)",
        "20.0(−29%)",
        r"row '8f-sp2': gflops_avg: (−29%) is -27.80 from the cells, and no erratum",
    ),
    ("table1", "20.0(−28%)", "20.0(28%)", "row '8f-sp2': gflops_avg: (28%) is -27.80"),
    (
        "table1",
        'kind = "gflops_max", bracket = "change"',
        'kind = "gflops_max"',
        "gflops_max: (−20%) cannot be recomputed",
    ),
    ("table7", "23.8 (+3.8)", "23.8 (+3.7)", "row '8f-cgnet': gflops: (+3.7) is +3.80 from the cells"),
    ("table7", "54.5 (+3.2)", "54.5 (-3.2)", "row '8f-pruned': clip-1: (-3.2) is +3.20 from the cells"),
    (
        "table7",
        ", bracket = true",
        "",
        "row '32f-pruned': gflops: (-0.3) is +0.30 from the cells, and no erratum says so",
    ),
    ("table7", "79.6 (-0.3)", "79.6 (+0.3)", "row '32f-pruned': gflops: (+0.3) follows from the cells, and an erratum"),
    ("table7", "79.6 (-0.3)", "79.6", "row '32f-pruned': gflops: an erratum is about brackets, and there are none"),
    (
        "table7",
        'printed = "table1/8f-sp2"',
        'printed = "table1/8f-sp4"',
        "row '8f-vared': printed: no row 'table1/8f-sp4'",
    ),
    ("table7", '["20.0", "57.7"]', '["20.0", "57.6"]', "row '8f-vared': clip-1: 57.6, and table1/8f-sp2 has 57.7"),
    ("table7", "search_space = 2", "search_space = 3", "row '8f-vared': experiment: table1/8f-sp2 has another"),
    ("table1", '"56.4"', '"564"', "row '8f-static': clip-1: '564' cannot be a number of clip-1 in %"),
    ("redundancy", '"0.77"', '"7.7"', "row 'mit-i3d-temporal': CC: '7.7' cannot be"),
    ("table11", '"9.1"', '"7.0"', "row 'vared': cells: minimum 7.3, average 7.8, maximum 7.0 are out of order"),
    ("table11", 'kind = "gflops_max"', 'kind = "gflops_min"', "row 'vared': cells: two of them are gflops_min"),
    ("table5", 'column = "Dy."', 'column = "gflops"', "row '16f-x3d-vared': labels: those of row '16f-x3d' again"),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(("table", "old", "new", "message"), FAULTS)
def test_a_planted_fault_is_found(tmp_path: Path, table: str, old: str, new: str, message: str) -> None:
    write(tmp_path, "table1", text("table1"))  # which Table 7 refers to
    write(tmp_path, table, replaced(text(table), old, new))
    found = validate(tmp_path)
    assert any(fault.startswith(f"{table}.toml: ") and message in fault for fault in found), found
    assert all("\n" not in fault for fault in found)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "row 'again': labels: those of row 'tpn-8f' again"),
        ({"TPN-8f": "TPN"}, "row 'again': cells: those of row 'tpn-8f' again, from the same experiment"),
    ],
)
def test_a_duplicate_row_is_found(tmp_path: Path, change: dict[str, str], message: str) -> None:
    content = text("table3")
    (row,) = re.findall(r'^  \{ id = "tpn-8f", .*\n', content, re.M)
    again = row.replace('id = "tpn-8f"', 'id = "again"')
    for old, new in change.items():
        again = replaced(again, old, new)
    write(tmp_path, "table3", content.replace(row, row + again))
    assert validate(tmp_path) == [f"table3.toml: {message}"]


@pytest.mark.bad_input
def test_all_faults_of_all_files_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "table2", replaced(text("table2"), '"clips/s"', '"fps"').replace('"vared/i3d"', '"vared/i4d"'))
    write(tmp_path, "table3", "id = ")
    found = validate(tmp_path)
    assert [fault.partition(":")[0] for fault in found] == ["table3.toml", "table2.toml", "table2.toml"]
