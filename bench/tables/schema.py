"""The schema of a published table: cells as printed, the experiment behind each row, and the table's claims."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.faults import fault, hint
from bench.tables.paths import published

CostKind = Literal["gflops_avg", "gflops_max", "gflops_min", "gflops_frame", "params", "reduction"]
SpeedKind = Literal["speed", "latency", "speedup"]
AccuracyKind = Literal["clip-1", "video-1", "video-5", "mAP", "recall", "classification", "mIoU"]
AnalysisKind = Literal["CC", "RMSE", "RP", "share", "share_max", "share_min"]
Kind = Literal[CostKind, SpeedKind, AccuracyKind, AnalysisKind]
Paired = Literal[
    "cost_ratio", "clip-1", "video-1", "mAP", "recall", "classification", "mIoU", "difficulty", "RP", "speed_ratio"
]
Single = Literal[
    "reduction",
    "cost_spread",
    "motion",
    "class_spread",
    "layer_spread",
    "class_range",
    "redundancy_motion",
    "redundancy_object",
]
Statistic = Literal[Paired, Single]
Relation = Literal["<", "<=", ">", ">="]
PAIRED = frozenset(get_args(Paired))
"""The statistics that compare a row with another one."""

_NUMBER = r"[-\u2212+]?\d+(?:\.\d+)?"
_CELL = re.compile(rf"(?P<value>{_NUMBER})(?P<unit>[M%×]?)(?:\s*\((?P<derived>{_NUMBER})(?P<percent>%?)\))?")


class TableError(Exception):
    """A table file cannot be used; the message names file, row and field in one line."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Column(_Part):
    """A column as printed.

    kind: what a record must hold to fill it:
        gflops_avg, gflops_max, gflops_min: of one sample (a clip or a video). gflops_frame: of one frame.
        params: learned weights. reduction: multiply-adds of the plain network over those of the method.
        speed: clips or videos a second. latency: of one sample. speedup: speed over that of the plain network.
        clip-1, video-1, video-5: top-1 of one clip; top-1 and top-5 of a video. mAP, mIoU: as named.
        recall, classification: of YOWO's evaluation: the share of true boxes found, and of those the rightly named.
        CC, RMSE, RP: correlation, root mean square error and proportion of redundant feature maps.
        share, share_max, share_min: of the full cost of the dynamic convolutions that was computed.
    bracket: what the column adds in brackets, computed from the cell and from that of the row beside which it is put:
        the relative "change" in %, or a difference. None: the column has no brackets.
    """

    id: str
    label: str
    unit: str
    kind: Kind
    bracket: Literal["change", "own-other", "other-own"] | None = None


class Experiment(_Part):
    """What measures a row: the method's name, the options that set the row apart, and frames a clip."""

    method: str
    options: dict[str, str | int | float | bool]
    frames: int


class Row(_Part):
    """A row as printed: its label cells, and its cells as one text a column ("" where nothing is printed).

    Either an experiment measures it, or `reason` says why none can.
    beside: the row that its brackets compare it with.
    printed: "table/row" of another table, where this one only refers to a row printed there.
    size: side in pixels of the frames at which a network as it is costs what is printed. Seldom printed itself.
    part: the module of the network whose cost alone is printed; "": all of it.
    along: the dimension in which feature maps are compared, where its cells are CC, RMSE and RP.
    """

    id: str
    labels: dict[str, str]
    cells: list[str]
    group: str = ""
    experiment: Experiment | None = None
    reason: str = ""
    beside: str | None = None
    printed: str | None = None
    size: int | None = Field(None, gt=0)
    part: str = ""
    along: Literal["", "temporal", "channel"] = ""


class Erratum(_Part):
    """What is inconsistent or left open in print. The cell itself stays as printed.

    column: of a cell, or the name of one of the row's labels. bracket: what the cell has in brackets is wrong.
    """

    row: str
    column: str
    text: str
    bracket: bool = False


class Claim(_Part):
    """A relation that the table claims of a row, or between two, with a margin stated beforehand.

    statistic, row against `against`:
        cost_ratio: mean multiply-adds of the row over those of the other.
        reduction: mean multiply-adds of the row's plain network over its own.
        clip-1, video-1, mAP, recall, classification, mIoU: difference, row minus other, in points.
        cost_spread: standard deviation over clips of the row's cost, relative to its mean.
        motion: rank correlation of the share of temporal points computed in full with the video's true motion.
        difficulty: rank correlation of cost with the other row's mean clip-1 error over its seeds.
        class_spread, layer_spread: standard deviation over classes or layers of the share of features that is computed,
            relative to its mean, less what chance gives.
        class_range: largest minus smallest computed share among the clips of one class, mean over classes, in points.
        RP: difference of the proportion of redundant feature maps, row minus other.
        redundancy_motion: rank correlation of a clip's proportion of maps that are redundant in time with its motion,
            the true one where it is known, else as estimated from the frames.
        redundancy_object: rank correlation of a clip's proportion of maps that are redundant among channels with the
            share of the frame that its object fills.
        speed_ratio: clips per second of the row over those of the other.
    """

    id: str
    kind: Literal["cost", "accuracy", "input", "analysis", "speed"]
    row: str
    statistic: Statistic
    relation: Relation
    margin: float = Field(allow_inf_nan=False)
    text: str
    against: str | None = None


class Table(_Part):
    """One published table.

    dataset: what its accuracies were measured on; where there are several, the rows' groups tell them apart.
    classes: of that data set.
    """

    id: str
    title: str
    source: str
    dataset: str
    classes: int | None = Field(None, gt=0)
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

    @cached_property
    def numbers(self) -> dict[tuple[str, Kind], float]:
        """The published numbers by row and kind; of two columns of one kind the first that is filled."""
        kinds = {column.id: column.kind for column in self.columns}
        printed = self.cells[~self.cells["derived"].astype(bool)].dropna(subset="value")
        found: dict[tuple[str, Kind], float] = {}
        for row, column, value in zip(printed["row"], printed["column"], printed["value"], strict=True):
            found.setdefault((row, kinds[column]), float(value))
        return found

    def row(self, id: str) -> Row:
        """The row of that id."""
        return next(row for row in self.rows if row.id == id)

    def text(self, row: str, kind: Kind) -> str:
        """The cell of that kind in a row as printed, "" where there is none."""
        cells = zip(self.columns, self.row(row).cells, strict=True)
        return next((text for column, text in cells if column.kind == kind and text), "")

    def value(self, row: str, kind: Kind) -> float | None:
        """The published number of that kind in a row, or None where none is printed."""
        return self.numbers.get((row, kind))


def answers(figures: Collection[str]) -> Literal["classes", "boxes", "masks"]:
    """What is asked for where these figures are told, by a table or by records."""
    return "masks" if "mIoU" in figures else "boxes" if "recall" in figures else "classes"


def ids(folder: Path | None = None) -> list[str]:
    """The tables of a folder (default: the published ones), the numbered ones first, table2 before table10."""
    names = [path.stem for path in (folder or published()).glob("*.toml")]
    names.sort(key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    return sorted(names, key=lambda name: not name.startswith("table"))


def load(id: str, folder: Path | None = None) -> Table:
    """Reads a table by its id, from a folder (default: the published ones).

    Raises:
        TableError: no such table, not TOML, or a row or field that is not what it should be.
    """
    folder = folder or published()
    path = folder / f"{id}.toml"
    if id not in ids(folder):
        raise TableError(f"{folder}: no table {id!r}; {hint(id, ids(folder))}")
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
    where, shown = fault(error, Table)
    place = list(where)
    if len(place) >= 2 and isinstance(place[1], int):
        part = data[str(place[0])][place[1]]
        name = part.get("id", place[1]) if isinstance(part, dict) else place[1]
        kind = str(place[0]).removesuffix("s")
        place = [f"{kind} {name!r}", *place[2:]]
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
        if row.beside is not None and row.beside not in rows:
            raise TableError(f"row {row.id!r}: beside: no row {row.beside!r}")
    for erratum in table.errata:
        if erratum.row not in rows or erratum.column not in columns | table.row(erratum.row).labels.keys():
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
        if match and match["unit"] not in ("", column.unit):
            raise TableError(f"row {row.id!r}: {column.id}: {text!r} is not in {column.unit or 'a plain number'}")
        value = _number(match["value"]) if match else float("nan")
        lines.append((row.id, row.group, column.id, text, value, column.unit, False))
        if match and match["derived"]:
            unit = match["percent"] or column.unit
            derived = f"({match['derived']}{match['percent']})"
            lines.append((row.id, row.group, column.id, derived, _number(match["derived"]), unit, True))
    return lines


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-"))
