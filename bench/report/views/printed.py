"""Published tables as they are printed, and where in the page their parts are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.content import Content
from bench.tables.newcomer import is_new
from bench.tables.schema import Claim, Column, Erratum, Row, Table


@dataclass(frozen=True)
class Group:
    """Rows that are printed together, with the columns that they fill."""

    name: str
    rows: Sequence[Row]
    columns: Sequence[Column]

    @property
    def labels(self) -> list[str]:
        """The heads of the label columns."""
        return list(dict.fromkeys(label for row in self.rows for label in row.labels))


def groups(table: Table) -> list[Group]:
    """The table's groups in the order of print, each with the columns that it fills."""
    found = []
    for name in dict.fromkeys(row.group for row in table.rows):
        rows = [row for row in table.rows if row.group == name]
        filled = [any(cells) for cells in zip(*(row.cells for row in rows), strict=True)]
        found.append(Group(name, rows, [c for c, full in zip(table.columns, filled, strict=True) if full]))
    return found


def published_text(table: Table, row: Row, column: Column) -> str:
    """The cell as printed."""
    return row.cells[table.columns.index(column)]


def method_of(table: Table, row: str) -> str:
    """The method that measures a row, "" where none does."""
    run = table.row(row).experiment
    return run.method if run else ""


def place(table: Table, erratum: Erratum) -> str:
    """The cell that an erratum is about, by its labels in print."""
    row = table.row(erratum.row)
    heads = {column.id: column.label for column in table.columns}
    labels = [f"{name} {text}" for name, text in row.labels.items() if text]
    return ", ".join([*([row.group] if row.group else []), *labels, heads.get(erratum.column, erratum.column)])


def claim_key(table: Table, claim: Claim) -> tuple[str, ...]:
    """What tells a claim from others that the same records decide; tables that share rows may repeat one."""
    rows = [table.row(id) if id else None for id in (claim.row, claim.against)]
    compared = [(row.experiment, row.along) if row else None for row in rows]
    return repr(compared), claim.statistic, claim.relation, repr(claim.margin)


def heading(table: Table) -> str:
    """The title, with its number where it has one."""
    number = short(table.id)
    return f"{number}: {table.title}" if number != table.id else table.title


def short(id: str) -> str:
    """ "Table 1" and "Figure 3" for people; other ids as they are."""
    kind = re.fullmatch(r"(table|figure)(\d+)", id)
    return f"{kind[1].capitalize()} {kind[2]}" if kind else id


def label(table: Table) -> str:
    """A table in a word or two."""
    number = short(table.id)
    return number if number != table.id else table.title.partition(":")[0]


def anchor(table: str, part: str) -> str:
    """The id in the page of a claim or row of a table."""
    return re.sub(r"[^\w.-]+", "-", f"{table}-{part}")


def compared(number: int) -> str:
    """The id in the page of a comparison, counted from 0."""
    return f"comparison-{number + 1}"


def first_new(content: Content) -> str:
    """Where in the page the highlighted method is first seen, "" if nowhere."""
    for joined in content.joined:
        for row in joined.table.rows:
            if is_new(row.id):
                return anchor(joined.table.id, row.id)
    for number, (_, _, lines) in enumerate(content.compared):
        if any(line.method == content.highlight for line in lines):
            return compared(number)
    return ""
