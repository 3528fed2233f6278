"""The static rows' published GFLOPs beside our multiply-adds and fvcore's total, from the reference costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bench.tables.schema import Row, Table, TableError


class StaticCost(BaseModel):
    """One network at the published size. macs: multiply-adds by our counter; fvcore: fvcore's total."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    macs: int
    fvcore: int
    params: int


@dataclass(frozen=True)
class CostLine:
    """A static row of a table. name: method@frames x size. published: in GFLOPs."""

    table: str
    row: str
    name: str
    published: float
    cost: StaticCost


def static_costs(published: Path, tables: Sequence[Table]) -> list[CostLine]:
    """A line for each row with a size that is a static network of the reference file beside `published`, if any.

    Raises:
        TableError: the reference file is not what it should be.
    """
    path = published.parent / "reference" / "static_costs.json"
    if not path.exists():
        return []
    try:
        costs = TypeAdapter(dict[str, StaticCost]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise TableError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise TableError(f"{path.name}: {error}") from None
    return [line for table in tables for row in table.rows for line in _lines(table, row, costs)]


def _lines(table: Table, row: Row, costs: dict[str, StaticCost]) -> list[CostLine]:
    published = table.value(row.id, "gflops_avg")
    if row.experiment is None or row.experiment.options or row.size is None or published is None:
        return []
    name = f"{row.experiment.method}@{row.experiment.frames}x{row.size}"
    return [CostLine(table.id, row.id, name, published, costs[name])] if name in costs else []
