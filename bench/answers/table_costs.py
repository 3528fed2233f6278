"""What `cost --table` answers: published cost beside ours, under both conventions, for every static row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.answers.table import print_table
from bench.static import static_cost
from bench.tables import schema
from bench.tables.static_costs import CostLine, cost_lines

COLUMNS = ("table", "row", "network", "published", "multiply-adds", "difference", "fvcore's total", "difference")


def table_costs(name: str) -> list[CostLine]:
    """The rows of a published table, or of "all".

    Raises:
        TableError: no such table, or none of its rows states the size at which a static network costs what is printed.
    """
    lines = cost_lines([schema.load(id) for id in (schema.ids() if name == "all" else [name])], static_cost)
    if not lines:
        raise schema.TableError(f"{name}: no row states the size at which a static network costs what is printed")
    return lines


def table_costs_answer(lines: Sequence[CostLine]) -> list[dict[str, Any]]:
    """As JSON can hold them."""
    return [asdict(line) | {"cost": line.cost and line.cost.model_dump()} for line in lines]


def print_table_costs(lines: Sequence[CostLine]) -> None:
    """One row a line; remarks below."""
    rows = [[line.table, line.row, line.name or "-", line.text, *_conventions(line)] for line in lines]
    print_table(COLUMNS, rows, title="GFLOPs (1e9 multiply-adds), and the difference to print")
    for line in lines:
        if line.remark:
            print(f"{line.table}, {line.row}: {line.remark}")


def _conventions(line: CostLine) -> list[str]:
    """Both totals in 1e9, each with its difference to print."""
    totals = [line.cost.macs / 1e9, line.cost.fvcore / 1e9] if line.cost else []
    cells = [(f"{total:.3f}", f"{total / line.published - 1:+.2%}") for total in totals]
    return [cell for pair in cells for cell in pair] or ["-"] * 4
