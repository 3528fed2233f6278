"""The static rows' published GFLOPs beside our multiply-adds and fvcore's total."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench import registry
from bench.faults import first_fault
from bench.records import Strict
from bench.tables.schema import Row, Table, TableError

REPRODUCED = 0.005
"""A cost that differs from print by no more than this share is reproduced."""


class StaticCost(Strict):
    """One network at the published size. macs: multiply-adds by our counter; fvcore: fvcore's total."""

    macs: int
    fvcore: int
    params: int


@dataclass(frozen=True)
class CostLine:
    """A static row of a table. name: "method@frames×size, classes". published: in GFLOPs; text: as printed.

    cost: None if not counted. remark: why not, whether neither convention reproduces it, and what is known of the cell.
    """

    table: str
    row: str
    name: str
    published: float
    text: str
    cost: StaticCost | None
    remark: str


Lookup = Callable[[str, int, int, int], StaticCost | None]
"""(network or network.part, frames, size, classes) -> its cost, if it is known."""


def cost_lines(tables: Sequence[Table], lookup: Lookup) -> list[CostLine]:
    """A line for each row that states the size at which a static network costs what is printed."""
    return [line for table in tables for row in table.rows if (line := _line(table, row, lookup))]


def key(network: str, frames: int, size: int, classes: int) -> str:
    """Under what a cost stands in the reference file."""
    return f"{network}@{frames}x{size}, {classes} classes"


def reference(published: Path) -> Lookup:
    """The costs of the reference file beside the folder `published`; without one, none is known.

    Raises:
        TableError: the reference file is not what it should be.
    """
    path = published.parent / "reference" / "static_costs.json"
    costs: dict[str, StaticCost] = {}
    try:
        if path.exists():
            costs = TypeAdapter(dict[str, StaticCost]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise TableError(f"{path.name}: {first_fault(error)}") from None
    except ValueError as error:
        raise TableError(f"{path.name}: {error}") from None
    return lambda *given: costs.get(key(*given))


def _line(table: Table, row: Row, lookup: Lookup) -> CostLine | None:
    published, run = table.value(row.id, "gflops_avg"), row.experiment
    if row.size is None or not published:
        return None
    text, known = table.text(row.id, "gflops_avg"), _known(table, row)
    if run is None:
        return CostLine(table.id, row.id, "", published, text, None, "; ".join([row.reason, *known]))
    given = (".".join([run.method, *([row.part] if row.part else [])]), run.frames, row.size, table.classes or 0)
    cost = lookup(*given)
    if cost is None:
        known = known if run.method in registry.methods() else ["not in the reference file", *known]
    elif all(abs(total / 1e9 / published - 1) > REPRODUCED for total in (cost.macs, cost.fvcore)):
        known = ["not reproduced", *known]
    remark = "; ".join(known)
    return CostLine(table.id, row.id, key(*given), published, text, cost, remark)


def _known(table: Table, row: Row) -> list[str]:
    """What the table's errata say of a printed cost."""
    columns = [column.id for column in table.columns if column.kind == "gflops_avg"]
    return [erratum.text for erratum in table.errata if erratum.row == row.id and erratum.column in columns]
