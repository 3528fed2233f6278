"""Checks of published tables beyond their schema: units, methods, brackets, repetitions, what is printed elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

from bench import registry
from bench.tables.schema import Column, Kind, Row, Table, TableError, ids, load

UNITS: Mapping[Kind, tuple[str, ...]] = {
    **dict.fromkeys(("gflops_avg", "gflops_max", "gflops_min", "gflops_frame"), ("GFLOPs",)),
    **dict.fromkeys(("clip-1", "video-1", "video-5", "mAP", "recall", "classification", "mIoU"), ("%",)),
    **dict.fromkeys(("share", "share_max", "share_min"), ("%",)),
    **dict.fromkeys(("CC", "RMSE", "RP"), ("1",)),
    **dict.fromkeys(("reduction", "speedup"), ("×",)),
    "speed": ("clips/s", "videos/s"),
    "latency": ("s",),
    "params": ("M",),
}
"""The units that a column of each kind may be in; "1" is a plain number."""

HIGHEST = {"%": 100.0, "1": 1.0}
"""The largest number that there can be in a unit; the least is 0 in every unit, and -1 for a correlation."""


def validate(folder: Path | None = None) -> list[str]:
    """Every fault of every table in a folder (default: the published ones), each in one line that names the file."""
    tables, faults = {}, []
    for id in ids(folder):
        try:
            tables[id] = load(id, folder)
        except TableError as error:
            faults.append(str(error))
    for id, table in tables.items():
        faults += [f"{id}.toml: {fault}" for fault in _faults(table, tables)]
    return faults


def _faults(table: Table, tables: Mapping[str, Table]) -> Iterator[str]:
    yield from _blanks(table)
    yield from _units(table)
    yield from _numbers(table)
    yield from _methods(table)
    yield from _brackets(table)
    yield from _repetitions(table)
    yield from _elsewhere(table, tables)


def _blanks(table: Table) -> Iterator[str]:
    for field in ("title", "source", "dataset"):
        if not getattr(table, field).strip():
            yield f"{field}: is blank"


def _units(table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.unit not in UNITS[column.kind]:
            units = " or ".join(UNITS[column.kind])
            yield f"column {column.id!r}: unit: {column.kind} is in {units}, not {column.unit!r}"


def _numbers(table: Table) -> Iterator[str]:
    """Numbers that cannot be, and rows of which it is not clear which cell holds their figure of a kind."""
    columns = {column.id: column for column in table.columns}
    printed = table.cells[~table.cells["derived"].astype(bool)]
    for id, name, text, value in zip(*(printed[part] for part in ("row", "column", "text", "value")), strict=True):
        column = columns[name]
        lowest = -1.0 if column.kind == "CC" else 0.0
        nothing = value == 0 and (column.kind.startswith("gflops") or column.kind == "speed")
        if nothing or value < lowest or value > HIGHEST.get(column.unit, math.inf):
            yield f"row {id!r}: {name}: {text!r} cannot be a number of {column.kind} in {column.unit}"
    for row in table.rows:
        filled = [column.kind for column, cell in zip(table.columns, row.cells, strict=True) if cell]
        for kind in sorted({kind for kind in filled if filled.count(kind) > 1}):
            yield f"row {row.id!r}: cells: two of them are {kind}"
        least, mean, most = (table.value(row.id, kind) for kind in ("gflops_min", "gflops_avg", "gflops_max"))
        if least is not None and mean is not None and most is not None and not least <= mean <= most:
            yield f"row {row.id!r}: cells: minimum {least}, average {mean}, maximum {most} are out of order"


def _methods(table: Table) -> Iterator[str]:
    """Experiments that no registered method runs, and reasons that a method now registered has overtaken."""
    networks, methods = registry.networks(), registry.methods()
    for row in table.rows:
        run = row.experiment
        if run is None:
            name = row.reason.partition(" is not part of")[0]
            if name in networks or name in methods:
                yield f"row {row.id!r}: reason: {name} is registered: name the experiment that measures the row"
            continue
        if fault := _unknown(run.method, networks, methods):
            yield f"row {row.id!r}: experiment.method: {fault}"
        if run.frames < 1:
            yield f"row {row.id!r}: experiment.frames: must be positive, not {run.frames}"
        if run.method in networks and row.size is None and table.value(row.id, "gflops_avg") is not None:
            yield f"row {row.id!r}: size: missing; its printed cost cannot be checked without"
        if row.size is not None and table.classes is None:
            yield f"row {row.id!r}: size: its cost cannot be counted without the table's classes"


def _unknown(name: str, networks: list[str], methods: list[str]) -> str:
    """What is unknown in the name of a method; nothing is imported to find out, so a name may still fail to build."""
    method, slash, network = name.partition("/")
    parts = [("method", method, methods), ("network", network, networks)]
    if not slash:
        parts = [("network or method", name, [*networks, *methods])]
    for what, part, known in parts:
        if part not in known:
            near = get_close_matches(part, known, 1)
            return f"no {what} {part!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    return ""


def _brackets(table: Table) -> Iterator[str]:
    """Brackets that do not follow from the cells and have no erratum, and errata of brackets that do."""
    flagged = {(erratum.row, erratum.column) for erratum in table.errata if erratum.bracket}
    for row in table.rows:
        for column, text in zip(table.columns, row.cells, strict=True):
            bracket = re.search(r"\(([^()]*)\)$", text)
            erratum = (row.id, column.id) in flagged
            place = f"row {row.id!r}: {column.id}:"
            if bracket is None or text.startswith("["):
                if erratum:
                    yield f"{place} an erratum is about brackets, and there are none"
                continue
            found = _recomputed(table, row, column)
            if found is None:
                yield f"{place} {bracket[0]} cannot be recomputed: name the column's bracket and the row beside it"
            elif not _agrees(bracket[1], found) and not erratum:
                yield f"{place} {bracket[0]} is {found:+.2f} from the cells, and no erratum says so"
            elif _agrees(bracket[1], found) and erratum:
                yield f"{place} {bracket[0]} follows from the cells, and an erratum says that it does not"


def _recomputed(table: Table, row: Row, column: Column) -> float | None:
    """What a cell's brackets should say, from the cell itself and from that of the row beside."""
    if column.bracket is None or row.beside is None:
        return None
    own, other = table.value(row.id, column.kind), table.value(row.beside, column.kind)
    if own is None or not other:
        return None
    return {"change": 100 * (own / other - 1), "own-other": own - other, "other-own": other - own}[column.bracket]


def _agrees(printed: str, found: float) -> bool:
    """Whether a number is printed to within half of its last digit."""
    number = printed.rstrip("%").replace("\u2212", "-")
    digits = len(number.partition(".")[2])
    return math.isclose(float(number), found, rel_tol=0, abs_tol=0.5 * 0.1**digits + 1e-9)


def _repetitions(table: Table) -> Iterator[str]:
    """Rows that are told apart by nothing that is printed, unless an erratum flags one's labels."""
    flagged = {erratum.row for erratum in table.errata if erratum.column in table.row(erratum.row).labels}
    for one, other in combinations(table.rows, 2):
        if one.group == other.group and one.labels == other.labels and not flagged & {one.id, other.id}:
            yield f"row {other.id!r}: labels: those of row {one.id!r} again"
        elif one.cells == other.cells and any(one.cells) and _measured_alike(one, other):
            yield f"row {other.id!r}: cells: those of row {one.id!r} again, from the same experiment"


def _measured_alike(one: Row, other: Row) -> bool:
    return one.experiment is not None and one.experiment == other.experiment


def _elsewhere(table: Table, tables: Mapping[str, Table]) -> Iterator[str]:
    """Rows that refer to another table, and differ from what it prints."""
    for row in table.rows:
        if row.printed is None:
            continue
        id, _, there = row.printed.partition("/")
        if id not in tables or there not in {other.id for other in tables[id].rows}:
            yield f"row {row.id!r}: printed: no row {row.printed!r}"
            continue
        if tables[id].row(there).experiment != row.experiment:
            yield f"row {row.id!r}: experiment: {row.printed} has another"
        for column in table.columns:
            mine, theirs = table.value(row.id, column.kind), tables[id].value(there, column.kind)
            if mine != theirs:
                yield f"row {row.id!r}: {column.id}: {mine}, and {row.printed} has {theirs}"
