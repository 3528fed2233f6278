"""The command `inspect`: what a trained network does inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from bench.commands.messages import tell
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
    named,
    read_with,
    setting_of,
)

RULE, SEEN = "When feature maps are redundant", "What is looked at"

Clips = Annotated[int, Option(min=0, help="Test clips; 0: all.", rich_help_panel=SEEN)]
PickedClasses = Annotated[
    int, Option(min=0, help="Classes whose dearest and cheapest clips are kept.", rich_help_panel=SEEN)
]
Layer = Annotated[
    str, Option(help="Whose most similar feature maps are kept; by default the middle one.", rich_help_panel=SEEN)
]
Correlation = Annotated[
    float, Option(help="A map is redundant from this correlation with another on.", rich_help_panel=RULE)
]
Rmse = Annotated[float | None, Option(min=0, help="And up to this root mean square error.", rich_help_panel=RULE)]
Neighbours = Annotated[
    bool, Option("--neighbours", help="Compare frames with the next one only.", rich_help_panel=RULE)
]
Scale = Annotated[
    Literal["range", "none"],
    Option(help="Unit of the error: a layer's range in a clip, or its own.", rich_help_panel=RULE),
]
LeastPixels = Annotated[int, Option(min=2, help="Layers with smaller maps are left out.", rich_help_panel=RULE)]

app = typer.Typer()

EXAMPLE = "vared-bench inspect vared/r2plus1d_18 --profile quick --frames 8 --option search_space=2 --json"


@app.command("inspect", epilog=f"Example: {EXAMPLE}")
def inspect_(
    name: Name,
    profile: ProfileName = "quick",
    frames: Frames = None,
    seed: Seed = 0,
    option: Options = None,
    data_option: DataOptions = None,
    data_root: DataRoot = None,
    clips: Clips = 1000,
    classes: PickedClasses = 6,
    layer: Layer = "",
    correlation: Correlation = 0.85,
    rmse: Rmse = None,
    neighbours: Neighbours = False,
    scale: Scale = "range",
    least_pixels: LeastPixels = 16,
    results: Results = Path("runs"),
    workers: LoadingWorkers = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 32.0,
    decoder: DecoderName = "pyav",
    as_json: Json = False,
) -> None:
    """Looks into a trained run: redundancy of its feature maps, or what its decisions compute, clip by clip.

    A network that decides nothing has its feature maps compared along time and along channels (CC, RMSE, RP); what
    decides has its cost, decisions, dearest and cheapest clips told by class, and one in its VA-RED² form has these
    clips drawn. What is missing is trained and evaluated.
    """
    from bench.experiment.plan import Experiment
    from bench.inspection.answer import inspection_answer, print_inspection
    from bench.inspection.run import inspect
    from bench.inspection.settings import Rule, Settings
    from bench.inspection.store import InspectionError

    read_with(workers, cache, cache_size, decoder)
    setting = setting_of(profile, data_option, None)
    if not 0 < correlation <= 1:
        raise typer.BadParameter(f"--correlation: {correlation} is not above 0 and at most 1")
    pairs_ = "neighbours" if neighbours else "all"
    rule = Rule(correlation=correlation, rmse=rmse, pairs=pairs_, scale=scale, least_pixels=least_pixels)  # type: ignore[arg-type]
    experiment = Experiment(name, tuple(sorted(named(option).items())), frames or setting.frames[0], seed)
    wanted = Settings(rule=rule, clips=clips, classes=classes, layer=layer)
    found = inspect(experiment, setting, results, data_root, wanted, _tenths(experiment.label))
    if as_json:
        print(json.dumps(inspection_answer(found), indent=1))
    else:
        print_inspection(found)
    if found.record.status == "failed":
        raise InspectionError(f"{name}: {found.record.reason}")


def _tenths(label: str) -> Callable[[float], None]:
    """Prints the share done at every tenth; training and inspection each begin at zero."""
    told = [0.0]

    def call(share: float) -> None:
        if share < told[0]:
            told[0] = 0.0
        if share - told[0] >= 0.1:
            told[0] = share
            tell(f"{label}: {share:.0%}")

    return call
