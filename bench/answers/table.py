"""Tables for the terminal, or wider ones for a file or a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

WIDTH = 160
"""Characters, at least, where nobody's window is the limit."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Prints one row a line, under its heads."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(table)


def short(value: float | None) -> str:
    """Four digits of a number, or a dash."""
    return "-" if value is None else f"{value:.4g}"
