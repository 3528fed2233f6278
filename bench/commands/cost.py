"""The command `cost`: multiply-adds of a network, a method, or the static rows of a table."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.commands.messages import stop
from bench.commands.options import (
    Json,
    named,
    only,
)

app = typer.Typer()


@app.command(epilog="Example: vared-bench cost r2plus1d_18 --frames 8 --size 128 --json")
def cost(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A network, a method, or method/network.")] = None,
    table: Annotated[
        str | None, typer.Option(help="Every static row of a published table instead, at its own size; or all.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 16,
    size: Annotated[int, typer.Option(min=1, help="Pixels each way.")] = 112,
    classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 400,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the network or the method; may be repeated."),
    ] = None,
    agreement: Annotated[bool, typer.Option(help="Run fvcore and ptflops beside our counter.")] = True,
    as_json: Json = False,
) -> None:
    """Multiply-adds per module and operation, other counters beside ours; exit 1 where an operation is not known.

    A network is counted without running it. A method is built untrained and counted as it decides on one random input.
    """
    if (name is None) == (table is None):
        raise typer.BadParameter("give either NAME or --table")
    if table is not None:
        only(ctx, "--table", ("table", "as_json"))
        _cost_of_table(table, as_json)
        return
    from bench.answers.cost import cost_answer, print_cost

    answer = cost_answer(str(name), frames=frames, size=size, classes=classes, options=named(option), others=agreement)
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        print_cost(answer)
    if answer["uncounted"]:
        stop(f"the counter does not know {', '.join(answer['uncounted'])}: the total is too low", 1)


def _cost_of_table(name: str, as_json: bool) -> None:
    from bench.answers.table_costs import print_table_costs, table_costs, table_costs_answer

    lines = table_costs(name)
    if as_json:
        print(json.dumps(table_costs_answer(lines), indent=1))
    else:
        print_table_costs(lines)
