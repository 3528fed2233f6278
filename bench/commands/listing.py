"""The command `list`: what there is, by name."""

from __future__ import annotations

import json

import typer

from bench import registry
from bench.commands.options import (
    Json,
)

app = typer.Typer()


@app.command("list", epilog="Example: vared-bench list --json")
def list_(as_json: Json = False) -> None:
    """Networks, methods, datasets, profiles and tables."""
    from bench import profiles
    from bench.answers.table import print_table
    from bench.data.builders import DATASETS
    from bench.tables import schema

    names = {
        "networks": registry.networks(),
        "methods": registry.methods(),
        "datasets": sorted(DATASETS),
        "profiles": profiles.names(),
        "tables": schema.ids(),
    }
    if as_json:
        print(json.dumps(names, indent=1))
    else:
        print_table(["", "names"], [[kind, ", ".join(found)] for kind, found in names.items()])
