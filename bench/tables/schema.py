"""The schema of a published table: cells as printed, the experiment behind each row, and the table's claims."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.tables.paths import published

Kind = Literal["gflops_avg", "gflops_max", "gflops_min", "speed", "clip-1", "video-1", "video-5", "params"]
Statistic = Literal["cost_ratio", "clip-1", "video-1", "cost_spread", "motion", "difficulty", "speed_ratio"]
Relation = Literal["<", "<=", ">", ">="]
PAIRED = {"cost_ratio", "clip-1", "video-1", "difficulty", "speed_ratio"}
"""The statistics that compare a row with another one."""

_NUMBER = r"[-\u2212+]?\d+(?:\.\d+)?"
_CELL = re.compile(rf"(?P<value>{_NUMBER})(?P<unit>[M%]?)(?:\s*\((?P<derived>{_NUMBER})(?P<percent>%?)\))?")


class TableError(Exception):
    """A table file cannot be used; the message names file, row and field in one line."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Column(_Part):
    """A column as printed. kind: what a record must hold to fill it."""

    id: str
    label: str
    unit: str
    kind: Kind


class Experiment(_Part):
    """What measures a row: the method's name, the options that set the row apart, and frames a clip."""

    method: str
    options: dict[str, str | int | float | bool]
    frames: int


class Row(_Part):
    """A row as printed: its label cells, and its cells as one text a column ("" where nothing is printed).

    Either an experiment measures it, or `reason` says why none can.
    """

    id: str
    labels: dict[str, str]
    cells: list[str]
    group: str = ""
    experiment: Experiment | None = None
    reason: str = ""


class Erratum(_Part):
    """What is inconsistent or left open in print. The cell itself stays as printed."""

    row: str
    column: str
    text: str


class Claim(_Part):
    """A relation that the table claims of a row, or between two, with a margin stated beforehand.

    statistic, row against `against`:
        cost_ratio: mean multiply-adds of the row over those of the other.
        clip-1, video-1: difference of accuracy, row minus other, in points.
        cost_spread: standard deviation over clips of the row's cost, relative to its mean.
        motion: rank correlation of the share of temporal points computed in full with the video's true motion.
        difficulty: rank correlation of cost with the other row's mean clip-1 error over its seeds.
        speed_ratio: clips per second of the row over those of the other.
    """

    id: str
    kind: Literal["cost", "accuracy", "input", "analysis", "speed"]
    row: str
    statistic: Statistic
    relation: Relation
    margin: float
    text: str
    against: str | None = None


class Table(_Part):
    """One published table. dataset: what its accuracies were measured on."""

    id: str
    title: str
    source: str
    dataset: str
    columns: list[Column]
    errata: list[Erratum] = []
    rows: list[Row]
    claims: list[Claim] = []

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Long form: row, group, column, text (verbatim), value, unit, derived.

        What a cell adds in brackets, such as "(-28%)", was derived from other cells by the authors: a line of its own.

        Raises:
            TableError: a cell is no number; a note in place of a number stands in square brackets.
        """
        lines = [line for row in self.rows for line in _lines(row, self.columns)]
        return pd.DataFrame(lines, columns=["row", "group", "column", "text", "value", "unit", "derived"])

    def row(self, id: str) -> Row:
        """The row of that id."""
        return next(row for row in self.rows if row.id == id)

    def value(self, row: str, kind: Kind) -> float | None:
        """The published number of that kind in a row, or None where none is printed."""
        columns = [column.id for column in self.columns if column.kind == kind]
        cells = self.cells
        found = cells[(cells["row"] == row) & cells["column"].isin(columns) & ~cells["derived"].astype(bool)]
        return None if found.empty or pd.isna(found["value"].iloc[0]) else float(found["value"].iloc[0])


def ids(folder: Path | None = None) -> list[str]:
    """The tables of a folder (default: the published ones), table2 before table10."""
    names = (path.stem for path in (folder or published()).glob("*.toml"))
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def load(id: str, folder: Path | None = None) -> Table:
    """Reads a table by its id, from a folder (default: the published ones).

    Raises:
        TableError: no such table, not TOML, or a row or field that is not what it should be.
    """
    folder = folder or published()
    path = folder / f"{id}.toml"
    if id not in ids(folder):
        near = difflib.get_close_matches(id, ids(folder), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ids(folder)) or 'none'}"
        raise TableError(f"{folder}: no table {id!r}; {hint}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{path.name}: {error}") from None
    try:
        table = Table.model_validate(data)
        _check(table, path.stem)
    except ValidationError as error:
        raise TableError(f"{path.name}: {_where(error, data)}") from None
    except TableError as error:
        raise TableError(f"{path.name}: {error}") from None
    return table


def _where(error: ValidationError, data: dict[str, Any]) -> str:
    """The first fault in one line, with rows and the like named by their id."""
    first = error.errors()[0]
    place = list(first["loc"])
    if len(place) >= 2 and isinstance(place[1], int):
        part = data[str(place[0])][place[1]]
        name = part.get("id", place[1]) if isinstance(part, dict) else place[1]
        kind = str(place[0]).removesuffix("s")
        place = [f"{kind} {name!r}", *place[2:]]
    shown = str(first["msg"])
    if first["type"] == "extra_forbidden":
        shown = "no such field"
    return f"{'.'.join(map(str, place))}: {shown}"


def _check(table: Table, name: str) -> None:
    """Everything that concerns more than one field."""
    if table.id != name:
        raise TableError(f"id: {table.id!r} differs from the file's name")
    for kind, parts in (("column", table.columns), ("row", table.rows), ("claim", table.claims)):
        repeated = [id for id, count in Counter(part.id for part in parts).items() if count > 1]
        if repeated:
            raise TableError(f"{kind} {repeated[0]!r}: id: used twice")
    rows, columns = {row.id for row in table.rows}, {column.id for column in table.columns}
    for row in table.rows:
        if len(row.cells) != len(columns):
            raise TableError(f"row {row.id!r}: cells: {len(row.cells)} for {len(columns)} columns")
        if (row.experiment is None) != bool(row.reason):
            raise TableError(f"row {row.id!r}: experiment: give either an experiment or the reason why there is none")
    for erratum in table.errata:
        if erratum.row not in rows or erratum.column not in columns:
            raise TableError(f"errata: no cell at row {erratum.row!r}, column {erratum.column!r}")
    for claim in table.claims:
        _check_claim(claim, rows)
    _ = table.cells  # raises where a cell is no number


def _check_claim(claim: Claim, rows: set[str]) -> None:
    for field in ("row", "against"):
        if (row := getattr(claim, field)) is not None and row not in rows:
            raise TableError(f"claim {claim.id!r}: {field}: no row {row!r}")
    if (claim.against is not None) != (claim.statistic in PAIRED):
        needs = "needs" if claim.statistic in PAIRED else "takes no"
        raise TableError(f"claim {claim.id!r}: against: statistic {claim.statistic!r} {needs} other row")


def _lines(row: Row, columns: list[Column]) -> list[tuple[str, str, str, str, float, str, bool]]:
    """A row's cells in long form."""
    lines = []
    for column, text in zip(columns, row.cells, strict=True):
        if not text:
            continue
        match = _CELL.fullmatch(text)
        if match is None and not (text.startswith("[") and text.endswith("]")):
            raise TableError(f"row {row.id!r}: {column.id}: {text!r} is no number (a note stands in square brackets)")
        value = _number(match["value"]) if match else float("nan")
        lines.append((row.id, row.group, column.id, text, value, column.unit, False))
        if match and match["derived"]:
            unit = match["percent"] or column.unit
            derived = f"({match['derived']}{match['percent']})"
            lines.append((row.id, row.group, column.id, derived, _number(match["derived"]), unit, True))
    return lines


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-"))
