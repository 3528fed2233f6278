"""Options of the command line: types, names, help, and the panels of `--help` where a command has many."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from bench import registry
from bench.recipe import LARGEST_SEED

if TYPE_CHECKING:
    from bench.profiles import Profile

METHOD, DATA, CLOCK, ROW = "What is run", "On what data", "How it is timed", "A published row instead"
AGAIN, READ = "A stored timing instead", "How videos are read"

Name = Annotated[str, typer.Argument(help="A network, a method, or method/network.")]
Json = Annotated[bool, Option("--json", help="Answer as JSON on standard output.")]
Results = Annotated[
    Path, Option(file_okay=False, help="Folder of records and checkpoints; what is there is not run again.")
]
OnlyTables = Annotated[list[str] | None, Option(help="Only this published table; may be repeated.")]

Options = Annotated[
    list[str] | None,
    Option("--option", metavar="KEY=VALUE", help="An option of the method; may be repeated.", rich_help_panel=METHOD),
]
Seed = Annotated[
    int, Option(min=0, max=LARGEST_SEED, help="Seed of weights and of every draw.", rich_help_panel=METHOD)
]
Policy = Annotated[
    str,
    Option(
        help="learned, all, random:GFLOPS or matched:GFLOPS[:MIN:MAX], of 1e9 multiply-adds.", rich_help_panel=METHOD
    ),
]
Untrained = Annotated[bool, Option("--untrained", help="Weights as drawn, also to decide by.", rich_help_panel=METHOD)]

ProfileName = Annotated[
    str, Option("--profile", help="A built-in profile, or a path ending in .toml.", rich_help_panel=DATA)
]
Frames = Annotated[
    int | None, Option(min=1, help="Frames of a clip; by default the profile's first.", rich_help_panel=DATA)
]
Size = Annotated[int | None, Option(min=1, help="Pixels each way; by default the profile's.", rich_help_panel=DATA)]
Classes = Annotated[
    int | None, Option(min=1, help="Classes of the head; by default the dataset's.", rich_help_panel=DATA)
]
DataOptions = Annotated[
    list[str] | None,
    Option(
        "--data-option", metavar="KEY=VALUE", help="An option of the dataset, such as fold=3.", rich_help_panel=DATA
    ),
]
DataRoot = Annotated[
    Path | None, Option(envvar="VARED_DATA", help="Folder of the real datasets.", rich_help_panel=DATA)
]

Batches = Annotated[
    list[int] | None, Option("--batch", min=1, help="Samples a batch (1); may be repeated.", rich_help_panel=CLOCK)
]
Precision = Annotated[
    Literal["fp32", "tf32", "bf16", "fp16"], Option(help="On a CPU fp32 or bf16.", rich_help_panel=CLOCK)
]
Threads = Annotated[
    int | None, Option(min=1, max=1024, help="Of torch; by default its own choice.", rich_help_panel=CLOCK)
]
Rounds = Annotated[
    int | None,
    Option(min=6, help="Rounds timed, at least; by default 32, more of short batches.", rich_help_panel=CLOCK),
]
Plain = Annotated[
    bool, Option("--plain", help="Time the eager and compiled forms of B as well.", rich_help_panel=CLOCK)
]
Decode = Annotated[
    bool, Option("--decode", help="Reading a batch from its videos is timed as well.", rich_help_panel=CLOCK)
]
Again = Annotated[bool, Option("--again", help="Time once more what is recorded.", rich_help_panel=CLOCK)]
Check = Annotated[
    list[Path] | None,
    Option(
        metavar="RECORD.json",
        help="Time a stored record's job once more, and say whether it agrees; may be repeated.",
        rich_help_panel=AGAIN,
    ),
]
Table = Annotated[
    str | None,
    Option(help="The rows of this table that print a speed, each at its cost and size.", rich_help_panel=ROW),
]
Rows = Annotated[list[str] | None, Option("--row", help="Only this row; may be repeated.", rich_help_panel=ROW)]
LoadingWorkers = Annotated[
    int | None,
    Option(
        "--workers",
        min=0,
        help="Processes that read videos; by default one a core, none of data held in memory.",
        rich_help_panel=READ,
    ),
]
CacheFolder = Annotated[
    Path | None, Option("--cache", help="Folder in which decoded videos are kept, for any run.", rich_help_panel=READ)
]
CacheSize = Annotated[
    float,
    Option("--cache-size", metavar="GB", min=0.01, max=1e6, help="At most so many 1e9 bytes.", rich_help_panel=READ),
]
DecoderName = Annotated[
    Literal["pyav", "torchcodec", "torchcodec-cuda"],
    Option("--decoder", help="TorchCodec must be installed; -cuda decodes on the GPU.", rich_help_panel=READ),
]
TrainingBatch = Annotated[
    int | None,
    Option(
        "--batch",
        min=1,
        help="Samples of a training step, over all processes; the learning rate follows linearly.",
        rich_help_panel=DATA,
    ),
]

Devices = Annotated[
    str,
    Option(
        metavar="1,8,64",
        help="With --estimate: also what it would take on so many devices like this one, and what would bind.",
    ),
]
Link = Annotated[
    float, Option(min=0.001, help="With --devices: GB a second assumed between devices, where nothing is measured.")
]


def only(ctx: typer.Context, chosen: str, fitting: Collection[str]) -> None:
    """Refuses flags beside `chosen` that would change nothing. fitting: parameters of the command that may be given.

    Raises:
        BadParameter: one is given on the command line that is not fitting.
    """
    extra = [
        one.opts[0]
        for one in ctx.command.params
        if one.name and one.name not in fitting
        if (source := ctx.get_parameter_source(one.name)) and source.name == "COMMANDLINE"
    ]
    if extra:
        raise typer.BadParameter(f"{', '.join(extra)} {'do' if extra[1:] else 'does'} not go with {chosen}")


def counts(given: str) -> list[int]:
    """Numbers of devices, "1,8,64".

    Raises:
        BadParameter: a number below 1, or none.
    """
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"--devices {given!r}: give whole numbers from 1 on, such as 1,8,64")
    return [int(part) for part in parts]


def pairs(given: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE strings as a mapping; a value is JSON where it can be read so (8, 0.5, true, [2, 4]), else text.

    Raises:
        BadParameter: a string is none.
    """
    found = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def named(given: list[str] | None) -> dict[str, Any]:
    """Options of a network or a method.

    Raises:
        BadParameter: a string is not KEY=VALUE.
        RegistryError: what a flag or the profile gives is given as an option.
    """
    found = pairs(given)
    for key in registry.RESERVED & found.keys():
        raise registry.RegistryError(f"{key} is no --option: a flag or the profile gives it")
    return found


def setting_of(profile: str, data_option: list[str] | None, batch: int | None) -> Profile:
    """The profile, with what the command line changes in it.

    Raises:
        BadParameter: an option is not KEY=VALUE.
        ProfileError: no such profile, or not one.
    """
    from bench import profiles

    setting = profiles.load(profile)
    changed = setting.model_copy(update={"dataset_options": setting.dataset_options | pairs(data_option)})
    return changed.with_batch(batch) if batch else changed


def read_with(workers: int | None, cache: Path | None, size: float, decoder: str) -> None:
    """Puts in force how videos are read.

    Raises:
        DataError: the cache or the decoder cannot be had.
        BadParameter: the size is no number.
    """
    from bench.data.loading import Loading, use

    if math.isnan(size):  # which lies within any bounds
        raise typer.BadParameter("--cache-size nan: give a number of GB")
    use(Loading(workers, cache, int(size * 1e9), decoder))
