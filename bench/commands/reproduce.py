"""The command `reproduce`: everything that tables need, or how long that would take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    workers: LoadingWorkers = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 32.0,
    decoder: DecoderName = "pyav",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Run nothing; say from a few steps what it will take here.")
    ] = False,
    devices: Devices = "",
    link: Link = 10.0,
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
    if estimate:
        from bench.answers.estimate import print_estimates
        from bench.scaling import Assumed

        for one in chosen:
            print_estimates(one, results, data_root, table, method, counts(devices), Assumed(workers or 0, link * 1e9))
        return
    raise typer.Exit(whole.reproduce(chosen, results, data_root, table, method, jobs or _side_by_side()))


def _side_by_side() -> int:
    """Two halves of a processor; of a GPU's memory none knows what the other takes."""
    import torch

    return 1 if torch.cuda.is_available() else 2
