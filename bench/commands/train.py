"""The commands `train` and `evaluate`: one method on one dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.messages import stop
from bench.commands.options import (
    CacheFolder,
    CacheSize,
    DataOptions,
    DataRoot,
    DecoderName,
    Frames,
    Json,
    LoadingWorkers,
    Name,
    Options,
    ProfileName,
    Results,
    Seed,
    TrainingBatch,
    named,
    read_with,
    setting_of,
)

if TYPE_CHECKING:
    from bench.records import Record

app = typer.Typer()


@app.command(epilog="Example: vared-bench train vared/r2plus1d_18 --profile quick --frames 8 --seed 1")
def train(
    name: Name,
    profile: ProfileName = "quick",
    frames: Frames = None,
    seed: Seed = 0,
    option: Options = None,
    data_option: DataOptions = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    batch: TrainingBatch = None,
    workers: LoadingWorkers = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 32.0,
    decoder: DecoderName = "pyav",
    as_json: Json = False,
) -> None:
    """Trains one method on the profile's dataset; goes on from its last checkpoint."""
    from bench.answers.table import print_table

    read_with(workers, cache, cache_size, decoder)
    scores = _single("train", name, profile, frames, seed, option, data_option, results, data_root, batch)
    assert isinstance(scores, dict)  # a record comes of evaluating only
    if as_json:
        print(json.dumps({"validation": scores}, indent=1))
    else:
        print_table(["on the validation split", "value"], [[key, f"{value:,.4g}"] for key, value in scores.items()])


@app.command(epilog="Example: vared-bench evaluate vared/r2plus1d_18 --profile quick --frames 8 --seed 1 --json")
def evaluate(
    name: Name,
    profile: ProfileName = "quick",
    frames: Frames = None,
    seed: Seed = 0,
    option: Options = None,
    data_option: DataOptions = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    batch: TrainingBatch = None,
    again: Annotated[
        bool, typer.Option("--again", help="Score what is trained once more; replaces the record.")
    ] = False,
    workers: LoadingWorkers = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 32.0,
    decoder: DecoderName = "pyav",
    as_json: Json = False,
) -> None:
    """Trains one method where that is still to do, and scores it: accuracy, and the cost of every test sample."""
    from bench.answers.record import print_record

    read_with(workers, cache, cache_size, decoder)
    record = _single(
        "again" if again else "evaluate", name, profile, frames, seed, option, data_option, results, data_root, batch
    )
    assert not isinstance(record, dict)  # scores alone come of training only
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        print_record(record)
    if record.status == "failed":
        stop(f"{name}: {record.reason}", 1)


def _single(
    until: Literal["train", "evaluate", "again"],
    name: str,
    profile: str,
    frames: int | None,
    seed: int,
    option: list[str] | None,
    data_option: list[str] | None,
    results: Path,
    data_root: Path | None,
    batch: int | None,
) -> Record | dict[str, float]:
    from bench.distributed import first, joined
    from bench.experiment.single import single

    chosen = setting_of(profile, data_option, batch)
    with joined():
        found = single(
            name,
            profile=chosen,
            frames=frames or chosen.frames[0],
            seed=seed,
            options=named(option),
            results=results,
            data_root=data_root,
            until=until,
        )
        if not first():  # of several processes the first says what came out
            raise typer.Exit(0)
    return found
