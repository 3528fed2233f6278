"""The commands `data ...`: what datasets hold, and what they give without a network."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.messages import stop, tell
from bench.commands.options import (
    DataOptions,
    DataRoot,
    Frames,
    Json,
    ProfileName,
    pairs,
)

SOON = 5.0
"""Seconds of reading after which the rest can be estimated."""

app = typer.Typer(no_args_is_help=True, help="Datasets on disk.")


@app.command("floor", epilog="Example: vared-bench data floor --profile camvid --data-root /data")
def data_floor(
    profile: ProfileName = "quick",
    frames: Frames = None,
    data_option: DataOptions = None,
    data_root: DataRoot = None,
    coarse: Annotated[
        bool, typer.Option("--coarse", help="Also kernel ridge on coarse pictures, which reads every video.")
    ] = False,
    results: Annotated[Path | None, typer.Option(help="Keep it there for the report, beside the records.")] = None,
    as_json: Json = False,
) -> None:
    """What a profile's data set, in all its folds, gives without a network: results are worth what is above it."""
    from bench import profiles
    from bench.answers.data import print_floors
    from bench.floors import measured, stored

    chosen = profiles.load(profile)
    given = pairs(data_option)
    folds = [] if "fold" in given else chosen.folds
    chosen = chosen.model_copy(update={"dataset_options": chosen.dataset_options | given, "folds": folds})
    datasets, found = measured(chosen, frames or chosen.frames[0], data_root, coarse)
    if results is not None:
        tell(f"kept as {stored(chosen, frames or chosen.frames[0], datasets, found, results / 'records')}")
    if as_json:
        told = {rule: {name: one._asdict() for name, one in had.figures.items()} for rule, had in found.items()}
        print(json.dumps(told, indent=1))
    else:
        print_floors(found)


@app.command("check", epilog="Example: vared-bench data check camvid --data-root /data --json")
def data_check(
    name: Annotated[str, typer.Argument(help="A dataset of `vared-bench list`.")],
    data_option: DataOptions = None,
    data_root: DataRoot = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 16,
    size: Annotated[int, typer.Option(min=1, help="Pixels each way.")] = 112,
    read: Annotated[bool, typer.Option(help="Read every file to its end, not only the lists.")] = True,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the journal of files that were read; by default the user's cache.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read; by default one a core; 0: none of their own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a dataset holds, by split and class; reads every file once, and exits with 1 if anything is wrong.

    A check that was cut off goes on where it stopped; files that did not change since are not read again.
    """
    from bench.answers.data import data_answer, print_data
    from bench.data.check import check

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vared-bench"
    report = check(
        name,
        data_root=data_root,
        frames=frames,
        size=size,
        options=pairs(data_option),
        read=read,
        cache=cache or home,
        workers=(os.cpu_count() or 1) if workers is None else workers,
        progress=_counted(name),
    )
    if as_json:
        print(json.dumps(data_answer(report), indent=1))
    else:
        print_data(report)
    if report.faults:
        stop(f"{name}: {len(report.faults)} things are wrong", 1)


def _counted(name: str, every: float = 30.0) -> Callable[[int, int], None]:
    """Tells every tenth of the rows, and twice a minute, with an estimate of what is left once that can be told."""
    start = told = time.monotonic()
    known = 0

    def call(done: int, total: int) -> None:
        nonlocal told, known, start
        now = time.monotonic()
        if not known:  # what was read before comes in one, and the first file with the start of the workers
            known, start = done, now
        if done * 10 // total > (done - 1) * 10 // total or now - told > every:
            told = now
            left = (now - start) / max(done - known, 1) * (total - done) if now - start > SOON else 0
            tell(f"{name}: {done:,} of {total:,} read" + (f", about {left / 60:.0f} minutes left" if left > 60 else ""))

    return call
