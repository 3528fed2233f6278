"""The command `report`: renders what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.messages import tell
from bench.commands.options import OnlyTables

app = typer.Typer()


@app.command(epilog="Example: vared-bench report --results runs --out pages --only table1")
def report(
    results: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder whose records are rendered with the shipped ones; nothing is run."),
    ] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of the pages; by default RESULTS/report.")
    ] = None,
    only: OnlyTables = None,
) -> None:
    """Renders what is stored, the shipped records and your own, beside what was published."""
    from bench.report import render
    from bench.tables.paths import published

    stores = [("shipped", published().parent / "measured"), ("yours", results / "records")]
    broken: list[str] = []
    for page in render(published(), stores, out or results / "report", only, tell=broken.append):
        print(page)
    for line in broken:
        tell(f"left out: {line}")
    raise typer.Exit(1 if broken else 0)
