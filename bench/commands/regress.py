"""The command `regress`: costs and speeds against their locks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.commands.messages import tell
from bench.commands.options import (
    Json,
)

app = typer.Typer()


@app.command(epilog="Example: vared-bench regress --base main --json")
def regress(
    base: Annotated[str, typer.Option(metavar="REV", help="The commit whose speed is the measure.")] = "HEAD~1",
    costs_only: Annotated[bool, typer.Option("--costs-only", help="Leave speeds out.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Rewrite the locks and say what changed.")] = False,
    as_json: Json = False,
) -> None:
    """Holds every cost against its lock and speeds against a commit: exit 0 fine, 1 regressed, 2 could not measure."""
    from bench.regression import check

    if update:
        changes = check.update(costs_only, tell=tell)
        print(json.dumps({"changed": changes}, indent=1) if as_json else "\n".join(changes or ["nothing changed"]))
        return
    answer = check.check(base, costs_only, tell=tell)
    print(json.dumps(answer.as_json(), indent=1) if as_json else "\n".join(answer.lines()))
    raise typer.Exit(answer.code)
