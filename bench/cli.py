"""The command line, `vared-bench` or `python -m bench`: reads arguments, calls the part that does the work, prints.

Whatever is heavy is imported inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from bench import registry

if TYPE_CHECKING:
    from torch import nn

    from bench.cost import Count
    from bench.records import Record
    from bench.speed.record import Span, SpeedRecord
    from bench.tables.static_costs import CostLine

OURS = ("bench", "baselines", "vared")


class _Commands(TyperGroup):
    """Turns what a user can mend into one line: exceptions of our own classes, the system's refusals, Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _stop("interrupted; what is finished is stored, and the same command goes on from there", 130)
        except Exception as error:
            mendable = isinstance(error, OSError) and error.errno not in (None, errno.EPIPE)
            if not mendable and type(error).__module__.partition(".")[0] not in OURS:
                raise
            _stop(str(error), 2)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Benchmark and reproduction suite for efficient video recognition.",
)

weights = typer.Typer(no_args_is_help=True, help="Public checkpoints for the networks.")
app.add_typer(weights, name="weights")

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the method; may be repeated."),
]
DataOptions = Annotated[
    list[str] | None,
    typer.Option("--data-option", metavar="KEY=VALUE", help="An option of the dataset, such as fold=3."),
]
ProfileName = Annotated[str, typer.Option("--profile", help="A built-in profile, or a path ending in .toml.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Frames of a clip; by default the profile's first.")]
Results = Annotated[Path, typer.Option(help="Folder of records and checkpoints; what is there is not run again.")]
DataRoot = Annotated[Path | None, typer.Option(envvar="VARED_DATA", help="Folder of the real datasets.")]


def main() -> None:
    """Runs the command line; "module:attr" names are also looked up in the working folder."""
    sys.path.append(os.getcwd())
    app(prog_name="vared-bench")


@app.command("list", epilog="Example: vared-bench list --json")
def list_(as_json: Json = False) -> None:
    """Networks, methods, datasets, profiles and tables."""
    from bench import profiles
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
        _print_table("", ["", "names"], [[kind, ", ".join(found)] for kind, found in names.items()])


@app.command(epilog="Example: vared-bench cost r2plus1d_18 --frames 8 --size 128 --json")
def cost(
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
        _cost_of_tables(table, as_json)
        return
    answer = _cost_of(str(name), frames, size, classes, _options(option), agreement)
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        _print_cost(answer)
    if answer["uncounted"]:
        _stop(f"the counter does not know {', '.join(answer['uncounted'])}: the total is too low", 1)


@app.command(epilog="Example: vared-bench train vared/r2plus1d_18 --profile quick --frames 8 --seed 1")
def train(
    name: Annotated[str, typer.Argument(help="A network, a method, or method/network.")],
    profile: ProfileName = "quick",
    frames: Frames = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data order.")] = 0,
    option: Options = None,
    data_option: DataOptions = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Trains one method on the profile's dataset; goes on from its last checkpoint."""
    scores = _single("train", name, profile, frames, seed, option, data_option, results, data_root)
    assert isinstance(scores, dict)  # a record comes of evaluating only
    if as_json:
        print(json.dumps({"validation": scores}, indent=1))
    else:
        _print_table(
            "", ["on the validation split", "value"], [[key, f"{value:,.4g}"] for key, value in scores.items()]
        )


@app.command(epilog="Example: vared-bench evaluate vared/r2plus1d_18 --profile quick --frames 8 --seed 1 --json")
def evaluate(
    name: Annotated[str, typer.Argument(help="A network, a method, or method/network.")],
    profile: ProfileName = "quick",
    frames: Frames = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data order.")] = 0,
    option: Options = None,
    data_option: DataOptions = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Trains one method where that is still to do, and scores it: accuracy, and the cost of every test sample."""
    record = _single("evaluate", name, profile, frames, seed, option, data_option, results, data_root)
    assert not isinstance(record, dict)  # scores alone come of training only
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        _print_record(record)
    if record.status == "failed":
        _stop(f"{name}: {record.reason}", 1)


@app.command(epilog="Example: vared-bench speed vared/r2plus1d_18 --policy all --profile quick --frames 8 --batch 8")
def speed(
    a: Annotated[str | None, typer.Argument(help="A network, a method, or method/network.")] = None,
    b: Annotated[str | None, typer.Argument(help="What it is timed against; by default the network under it.")] = None,
    policy: Annotated[
        str, typer.Option(help="learned, all, random:GFLOPS or matched:GFLOPS[:MIN:MAX], of 1e9 multiply-adds.")
    ] = "learned",
    profile: ProfileName = "quick",
    frames: Frames = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels each way; by default the profile's.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Classes of the head; by default the dataset's.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Clips a batch (1); may be repeated.")] = None,
    precision: Annotated[Literal["fp32", "tf32", "bf16", "fp16"], typer.Option(help="On a CPU fp32 or bf16.")] = "fp32",
    rounds: Annotated[int, typer.Option(min=6, help="Rounds timed, at least.")] = 32,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; by default its own choice.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Time the eager and compiled forms of B as well.")] = False,
    untrained: Annotated[bool, typer.Option("--untrained", help="Weights as drawn, also to decide by.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Reading a batch from its videos is timed as well.")] = False,
    table: Annotated[
        str | None,
        typer.Option(help="Instead: the rows of a published table that print a speed, at their cost and size."),
    ] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only this row of the table; may be repeated.")] = None,
    option: Options = None,
    data_option: DataOptions = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, draws and order.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Time once more what is recorded.")] = False,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Times a method against its static twin on real clips, in turns: how much of the saving the clock sees."""
    from bench import profiles
    from bench.speed import measure as timing
    from bench.speed import pair

    if (a is None) == (table is None) or (row and table is None):
        raise typer.BadParameter("give either A or --table; --row goes with --table")
    if table and (b or option or policy != "learned" or frames or size or classes or decode):
        raise typer.BadParameter("a published row has its own methods, options, policy and input, without decoding")
    data = profiles.load(profile)
    data = data.model_copy(update={"dataset_options": data.dataset_options | _pairs(data_option)})
    data = data.model_copy(update={"size": size or data.size})
    setting = pair.Setting(
        data, frames or data.frames[0], classes=classes, policy=policy, precision=precision, rounds=rounds,
        threads=threads, seed=seed, plain=plain, untrained=untrained, decode=decode,
    )  # fmt: skip
    jobs = [pair.job(a, b, _options(option), setting)] if a else pair.published_jobs(str(table), row, setting)
    records = [
        timing.measure(job.at(clips), results=results, data_root=data_root, again=again, announce=_tell)
        for job in jobs
        for clips in batch or [1]
    ]
    if as_json:
        answers = [_speed_answer(record) for record in records]
        print(json.dumps(answers[0] if len(answers) == 1 else answers, indent=1))
    else:
        _print_speeds(records)
    for record in records:
        if record.status == "failed":
            _stop(f"{record.identity.a}, batch {record.identity.batch}: {record.reason}", 1)


@app.command(epilog="Example: vared-bench reproduce --profile quick --table table1")
def reproduce(
    profile: ProfileName = "quick",
    table: Annotated[list[str] | None, typer.Option(help="Only this published table; may be repeated.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be repeated.")] = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments run side by side, sharing the cores.")] = 2,
) -> None:
    """Everything that the chosen tables need and that is not recorded yet, then the report in RESULTS/report."""
    from bench import profiles
    from bench import reproduce as whole

    chosen = [profiles.load(profile)]
    if not (table or method):
        chosen += [profiles.load(name) for name in chosen[0].also]
    raise typer.Exit(whole.reproduce(chosen, results, data_root, table, method, jobs))


@app.command(epilog="Example: vared-bench report --results runs --out pages --only table1")
def report(
    results: Results = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Folder of the pages; by default RESULTS/report.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this published table; may be repeated.")] = None,
) -> None:
    """Renders what is stored, the shipped records and your own, beside what was published."""
    from bench.report import render
    from bench.tables.paths import published

    stores = [("shipped", published().parent / "measured"), ("yours", results / "records")]
    for page in render(published(), stores, out or results / "report", only):
        print(page)


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
        changes = check.update(costs_only, tell=_tell)
        print(json.dumps({"changed": changes}, indent=1) if as_json else "\n".join(changes or ["nothing changed"]))
        return
    answer = check.check(base, costs_only, tell=_tell)
    print(json.dumps(answer.as_json(), indent=1) if as_json else "\n".join(answer.lines()))
    raise typer.Exit(answer.code)


@weights.command("import", epilog="Example: vared-bench weights import x3d_m.pth x3d_m --out x3d_m.safetensors")
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
    answer = registry.weights(network)(file, out, classes=classes, options=_options(option))
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    print(f"{out}: {network} with {answer['classes']} classes, {answer['parameters']:,} parameters")
    print(f"from {answer['layout']}; num_batches_tracked: {answer['num_batches_tracked']}")
    print("trained on pixels in 0..1 normalised by mean {mean}, std {std}".format(**answer["normalisation"]))


def _single(
    until: str,
    name: str,
    profile: str,
    frames: int | None,
    seed: int,
    option: list[str] | None,
    data_option: list[str] | None,
    results: Path,
    data_root: Path | None,
) -> Record | dict[str, float]:
    from bench import experiment, profiles

    setting = profiles.load(profile)
    chosen = setting.model_copy(update={"dataset_options": setting.dataset_options | _pairs(data_option)})
    return experiment.single(
        name,
        profile=chosen,
        frames=frames or chosen.frames[0],
        seed=seed,
        options=_options(option),
        results=results,
        data_root=data_root,
        until=until,
    )


def _pairs(given: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE strings as a mapping; a value is JSON where it can be read so (8, 0.5, true, [2, 4]), else text."""
    pairs = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
        try:
            pairs[key] = json.loads(value)
        except ValueError:
            pairs[key] = value
    return pairs


def _options(given: list[str] | None) -> dict[str, Any]:
    """Options of a network or a method."""
    pairs = _pairs(given)
    for key in registry.RESERVED & pairs.keys():
        _stop(f"{key} is no --option: a flag or the profile gives it", 2)
    return pairs


def _cost_of(
    name: str, frames: int, size: int, classes: int, options: dict[str, Any], agreement: bool
) -> dict[str, Any]:
    """What `cost NAME` answers, in integers of multiply-adds; null for counters that were not run or failed."""
    from bench import cost as counting

    module, shape = _built(name, frames, size, classes, options)
    found = _count(module, shape)
    others = counting.agreement(module, shape) if agreement else None
    return {
        "name": name,
        "input": {"frames": frames, "size": size},
        "macs": found.macs,
        "params": sum(weight.numel() for weight in module.parameters() if weight.requires_grad),
        "by_module": found.by_module,
        "by_operation": found.by_operation,
        "counters": others.counters if others else {"dispatch": found.macs, "fvcore": None, "ptflops": None},
        "uncounted": sorted(found.uncounted),
        "missed": others.missed if others else {"fvcore": [], "ptflops": []},
    }


def _built(name: str, frames: int, size: int, classes: int, options: dict[str, Any]) -> tuple[nn.Module, Sequence[int]]:
    """A network on the meta device, or an untrained method with real weights, and the shape of one sample."""
    import torch

    if name in registry.networks():
        with torch.device("meta"):
            network = registry.build_network(name, frames=frames, size=size, classes=classes, **options)
        return network, (1, 3, frames, size, size)
    for_network, for_method = registry.split_options(name, options)
    torch.manual_seed(0)
    method = registry.build(name, frames=frames, size=size, classes=classes, network_options=for_network, **for_method)
    return method, method.spec.shape(1)


def _count(module: nn.Module, shape: Sequence[int]) -> Count:
    import torch

    from bench.cost import count, count_meta

    if all(weight.is_meta for weight in module.parameters()):
        return count_meta(module, shape, strict=False)
    sample = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))  # as in `agreement`
    return count(module, sample, strict=False)


def _cost_of_tables(name: str, as_json: bool) -> None:
    """Published cost beside ours, under both conventions, for every static row of a table or of all."""
    from bench.static import static_cost
    from bench.tables import schema
    from bench.tables.static_costs import cost_lines

    lines = cost_lines([schema.load(id) for id in (schema.ids() if name == "all" else [name])], static_cost)
    if not lines:
        _stop(f"{name}: no row states the size at which a static network costs what is printed", 2)
    if as_json:
        print(json.dumps([asdict(line) | {"cost": line.cost and line.cost.model_dump()} for line in lines], indent=1))
        return
    columns = ["table", "row", "network", "published", "multiply-adds", "difference", "fvcore's total", "difference"]
    rows = [[line.table, line.row, line.name or "-", line.text, *_conventions(line)] for line in lines]
    _print_table("GFLOPs (1e9 multiply-adds), and the difference to print", columns, rows)
    for line in lines:
        if line.remark:
            print(f"{line.table}, {line.row}: {line.remark}")


def _conventions(line: CostLine) -> list[str]:
    """Both totals in 1e9, each with its difference to print."""
    totals = [line.cost.macs / 1e9, line.cost.fvcore / 1e9] if line.cost else []
    cells = [(f"{total:.3f}", f"{total / line.published - 1:+.2%}") for total in totals]
    return [cell for pair in cells for cell in pair] or ["-"] * 4


def _print_cost(answer: dict[str, Any]) -> None:
    given = answer["input"]
    print(f"{answer['name']}, {given['frames']} frames of {given['size']} x {given['size']}")
    print(f"{answer['macs']:,} multiply-adds, {answer['params']:,} parameters")
    for kind in ("by_module", "by_operation"):
        rows = [[part or "(root)", f"{macs:,}"] for part, macs in answer[kind].items()]
        _print_table("", [kind.replace("_", " "), "multiply-adds"], rows)
    totals = [f"{total:,}" if total is not None else "-" for total in answer["counters"].values()]
    missed = ["", *(", ".join(answer["missed"][tool]) for tool in ("fvcore", "ptflops"))]
    rows = [list(row) for row in zip(answer["counters"], totals, missed, strict=True)]
    _print_table("", ["counter", "total", "did not know"], rows)


def _print_record(record: Record) -> None:
    print(f"{record.identity.id}: {record.status} on {record.identity.dataset}")
    rows = [[name, f"{100 * f.value:.2f} %", _interval(f.low, f.high)] for name, f in record.figures.items()]
    rows += [[name, "-", why] for name, why in record.missing.items()]
    if record.cost is not None:
        spread = f"{record.cost.minimum:,} to {record.cost.maximum:,}"
        rows.append(["multiply-adds", f"{record.cost.average:,.0f}", spread])
    _print_table("", ["figure", "value", "95 % interval, range, or why not measured"], rows)


def _speed_answer(record: SpeedRecord) -> dict[str, Any]:
    """A record, with what an answer about speed cannot do without at its top."""
    return {"device": record.identity.device, "policy": record.identity.policy, **record.model_dump(mode="json")}


def _print_speeds(records: list[SpeedRecord]) -> None:
    """One line a record, and one for each plain form of the twin."""
    names = ["method", "batch", "clips/s", "twin's", "ratio", "noise", "cost ratio", "eta", "eta max", "bound"]
    rows = []
    for record in records:
        who, bound = record.identity, record.bound or {}
        speeds = [_short(arm.clips_per_second.median if arm else None) for arm in (record.a, record.b)]
        rows.append([
            who.a, str(who.batch), *speeds, _span(record.ratio), _span(record.noise), _short(record.cost_ratio),
            _span(record.eta), _short(record.eta_max), _short(bound.get("a")), _speed_verdict(record),
        ])  # fmt: skip
        for arm in record.plain:
            rows.append(
                [f"{arm.method} ({arm.form})", str(who.batch), "", _short(arm.clips_per_second.median), *[""] * 7]
            )
    first = records[0].identity
    title = f"{first.device}, {first.precision}, {first.threads} threads, policy {first.policy}"
    _print_table(title, [*names, "verdict"], rows)
    for record in records:
        for what, why in record.protocol.get("missing", {}).items():
            print(f"{record.identity.a}, batch {record.identity.batch}: without {what}: {why}")


def _speed_verdict(record: SpeedRecord) -> str:
    """Whether there is a difference at all, before by how much."""
    if record.ratio is None:
        return record.reason
    faster = "faster" if record.ratio.median > 1 else "slower"
    throttled = ", while throttled" if record.telemetry.get("throttled") else ""
    return (faster if record.different else "no difference beyond the noise") + throttled


def _span(span: Span | None) -> str:
    return f"{span.median:.4g} ({span.low:.4g} to {span.high:.4g})" if span else "-"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f} %"


def _print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title or None)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a file or a pipe has room
    console.print(table)


def _tell(line: str) -> None:
    """How far things are, on standard error."""
    print(line, file=sys.stderr, flush=True)


def _stop(message: str, code: int) -> NoReturn:
    """Ends the program with one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(code)
