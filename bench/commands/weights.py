"""The commands `weights ...`: files of weights that networks and methods start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.commands.options import (
    DataOptions,
    DataRoot,
    Frames,
    Json,
    Name,
    Options,
    ProfileName,
    Results,
    Seed,
    TrainingBatch,
    named,
    setting_of,
)

app = typer.Typer(no_args_is_help=True, help="Weights that networks and methods start from (--option weights=FILE).")


@app.command("import", epilog="Example: vared-bench weights import x3d_m.pth x3d_m --out x3d_m.safetensors")
def import_(
    file: Annotated[Path, typer.Argument(help="A state dict or a training checkpoint: safetensors or PyTorch.")],
    network: Annotated[str, typer.Argument(help="The network that takes the weights.")],
    out: Annotated[Path, typer.Option(help="Where they go, as safetensors with our names.")],
    classes: Annotated[int | None, typer.Option(min=1, help="Refuse weights of another number of classes.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the network, as blocks=[3,4,23,3]; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Brings public weights (torchvision, PyTorchVideo, TSM, IBM's I3D) into a network of ours; runs no code in them.

    The layout is found by the file's keys. Any key left over on either side, and any other shape, is refused.
    """
    answer = registry.weights(network)(file, out, classes=classes, options=named(option))
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    print(f"{out}: {network} with {answer['classes']} classes, {answer['parameters']:,} parameters")
    print(f"from {answer['layout']}; num_batches_tracked: {answer['num_batches_tracked']}")
    print("trained on pixels in 0..1 normalised by mean {mean}, std {std}".format(**answer["normalisation"]))


@app.command("export", epilog="Example: vared-bench weights export i3d --profile quick --out i3d.safetensors")
def export_(
    name: Name,
    out: Annotated[Path, typer.Option(help="Where they go, as safetensors.")],
    profile: ProfileName = "quick",
    frames: Frames = None,
    seed: Seed = 0,
    option: Options = None,
    data_option: DataOptions = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    batch: TrainingBatch = None,
    as_json: Json = False,
) -> None:
    """Keeps the weights of a network that `train` or `evaluate` has trained, for others to start from.

    The words are those that it was trained with.
    """
    from bench.experiment.export import export
    from bench.experiment.plan import Experiment
    from bench.experiment.run import Run

    setting = setting_of(profile, data_option, batch)
    experiment = Experiment(name, tuple(sorted(named(option).items())), frames or setting.frames[0], seed)
    answer = export(Run(experiment, setting, results, data_root), out)
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    print(f"{out}: {name} with {answer['classes']} classes, {answer['parameters']:,} parameters")
    print(f"trained on {answer['trained']['dataset']}; to start from it: --option weights={out}")
