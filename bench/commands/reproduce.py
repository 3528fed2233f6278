"""The command `reproduce`: everything that tables need, or how long that would take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import (
    CacheFolder,
    CacheSize,
    DataRoot,
    DecoderName,
    Devices,
    Link,
    LoadingWorkers,
    OnlyTables,
    ProfileName,
    Results,
    TrainingBatch,
    counts,
    read_with,
)

if TYPE_CHECKING:
    from bench.profiles import Profile

app = typer.Typer()


@app.command(epilog="Example: vared-bench reproduce --profile quick --table table1")
def reproduce(
    profile: ProfileName = "quick",
    table: OnlyTables = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be repeated.")] = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Experiments run side by side, sharing the cores; by default 2, on a GPU 1."),
    ] = None,
    batch: TrainingBatch = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Networks start from this file, of `weights import` or `export`, where they can; may be repeated.",
        ),
    ] = None,
    workers: LoadingWorkers = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 32.0,
    decoder: DecoderName = "pyav",
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Run nothing; say from a few steps what all of it takes here, recorded or not."
        ),
    ] = False,
    devices: Devices = "",
    link: Link = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="With --estimate: answer as JSON, in seconds.")] = False,
) -> None:
    """Everything that the chosen tables need and that is not recorded yet, then the report in RESULTS/report."""
    from bench import profiles
    from bench import reproduce as whole

    read_with(workers, cache, cache_size, decoder)
    chosen = [profiles.load(profile)]
    if not (table or method):
        chosen += [profiles.load(name) for name in chosen[0].also]
    if batch:
        chosen = [one.with_batch(batch) for one in chosen]
    if devices and not estimate:
        raise typer.BadParameter("--devices goes with --estimate")
    if as_json and not estimate:
        raise typer.BadParameter("--json goes with --estimate")
    if estimate and weights:
        raise typer.BadParameter("--weights changes nothing of what --estimate says")
    if estimate:
        _estimate(chosen, results, data_root, table, method, counts(devices), workers or 0, link * 1e9, as_json)
        return
    raise typer.Exit(whole.reproduce(chosen, results, data_root, table, method, jobs or _side_by_side(), weights or ()))


def _estimate(
    profiles: Sequence[Profile],
    results: Path,
    data_root: Path | None,
    tables: list[str] | None,
    methods: list[str] | None,
    devices: Sequence[int],
    readers: int,
    link: float,
    as_json: bool,
) -> None:
    """link: bytes a second."""
    from bench.answers import estimate as answer
    from bench.scaling import Assumed

    found = ((one, answer.estimated(one, results, data_root, tables, methods)) for one in profiles)
    on = (devices, Assumed(readers, link))
    if as_json:
        print(json.dumps([answer.as_json(*one, *on) for one in found], indent=1))
    else:
        for one in found:
            answer.print_estimates(*one, *on)


def _side_by_side() -> int:
    """Two halves of a processor; of a GPU's memory none knows what the other takes."""
    import torch

    return 1 if torch.cuda.is_available() else 2
