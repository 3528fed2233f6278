"""The command line, `vared-bench` or `python -m bench`: reads arguments and calls the part that does the work.

What is printed is in `bench.answers`. Whatever is heavy is imported inside the command that needs it, so that `--help`
answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from bench import authors, registry
from bench.inspection import command
from bench.options import (
    Again,
    Batches,
    CacheFolder,
    CacheSize,
    Check,
    Classes,
    DataOptions,
    DataRoot,
    Decode,
    DecoderName,
    Devices,
    Frames,
    Json,
    Link,
    LoadingWorkers,
    Name,
    OnlyTables,
    Options,
    Plain,
    Policy,
    Precision,
    ProfileName,
    Results,
    Rounds,
    Rows,
    Seed,
    Size,
    Table,
    Threads,
    TrainingBatch,
    Untrained,
    counts,
    named,
    pairs,
    read_with,
)
from bench.short_of_memory import short_of_memory

if TYPE_CHECKING:
    from bench.records import Record

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
            mendable = mendable or short_of_memory(error)
            if not mendable and type(error).__module__.partition(".")[0] not in OURS:
                raise
            _stop(str(error) or type(error).__name__, 2)


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
data = typer.Typer(no_args_is_help=True, help="Datasets on disk.")
app.add_typer(data, name="data")


app.add_typer(authors.app)
app.add_typer(command.app)


def main() -> None:
    """Runs the command line; "module:attr" names are also looked up in the working folder."""
    sys.path.append(os.getcwd())
    app(prog_name="vared-bench")


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
        _cost_of_table(table, as_json)
        return
    from bench.answers.cost import cost_answer, print_cost

    answer = cost_answer(str(name), frames=frames, size=size, classes=classes, options=named(option), others=agreement)
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        print_cost(answer)
    if answer["uncounted"]:
        _stop(f"the counter does not know {', '.join(answer['uncounted'])}: the total is too low", 1)


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
        _stop(f"{name}: {record.reason}", 1)


@app.command(epilog="Example: vared-bench speed vared/r2plus1d_18 --policy all --profile quick --frames 8 --batch 8")
def speed(
    a: Annotated[str | None, typer.Argument(help="A network, a method, or method/network.")] = None,
    b: Annotated[
        str | None,
        typer.Argument(help="What it is timed against; by default the network under it, else itself, everything open."),
    ] = None,
    option: Options = None,
    policy: Policy = "learned",
    untrained: Untrained = False,
    seed: Seed = 0,
    profile: ProfileName = "quick",
    frames: Frames = None,
    size: Size = None,
    classes: Classes = None,
    data_option: DataOptions = None,
    data_root: DataRoot = None,
    batch: Batches = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    rounds: Rounds = 32,
    plain: Plain = False,
    decode: Decode = False,
    again: Again = False,
    table: Table = None,
    row: Rows = None,
    check: Check = None,
    results: Results = Path("runs"),
    as_json: Json = False,
) -> None:
    """Times a method against its static twin on real clips, in turns: how much of the saving the clock sees.

    With --check: exit 0 if every stored record agrees with what is timed now, 1 if one differs, 2 if one cannot be held
    against it (another kind of device or revision, a timing that failed). Records agree where their intervals overlap,
    so that a wide one agrees with anything: what is timed now is printed over what was stored, with its own interval.
    Nothing is stored.

    Under torchrun every process times its own device, all at once: the record, which fills no table, has the speed of
    each, and their sum is printed.
    """
    from bench import profiles
    from bench.answers.speed import print_speeds, speed_answer
    from bench.distributed import first, joined
    from bench.speed import measure as timing
    from bench.speed import pair

    if [a is None, table is None, not check].count(False) != 1 or (row and table is None):
        raise typer.BadParameter("give either A or --table or --check; --row goes with --table")
    if check:
        _check_timings(check, results, data_root, as_json)
    if table and (b or option or policy != "learned" or frames or size or classes or decode):
        raise typer.BadParameter("a published row has its own methods, options, policy and input, without decoding")
    data = profiles.load(profile)
    data = data.model_copy(update={"dataset_options": data.dataset_options | pairs(data_option)})
    data = data.model_copy(update={"size": size or data.size})
    setting = pair.Setting(
        data, frames or data.frames[0], classes=classes, policy=policy, precision=precision, rounds=rounds,
        threads=threads, seed=seed, plain=plain, untrained=untrained, decode=decode,
    )  # fmt: skip
    jobs = [pair.job(a, b, named(option), setting)] if a else pair.published_jobs(str(table), row, setting)
    with joined():
        records = [
            timing.measure(job.at(clips), results=results, data_root=data_root, again=again, announce=_tell)
            for job in jobs
            for clips in batch or [1]
        ]
        if not first():  # of several processes the first says what came out
            raise typer.Exit(0)
    if as_json:
        answers = [speed_answer(record) for record in records]
        print(json.dumps(answers[0] if len(answers) == 1 else answers, indent=1))
    else:
        print_speeds(records)
    for record in records:
        if record.status == "failed":
            _stop(f"{record.identity.a}, batch {record.identity.batch}: {record.reason}", 1)


@app.command(epilog="Example: vared-bench reproduce --profile quick --table table1")
def reproduce(
    profile: ProfileName = "quick",
    table: OnlyTables = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be repeated.")] = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments run side by side, sharing the cores.")] = 2,
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
    raise typer.Exit(whole.reproduce(chosen, results, data_root, table, method, jobs))


@app.command(epilog="Example: vared-bench report --results runs --out pages --only table1")
def report(
    results: Results = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Folder of the pages; by default RESULTS/report.")] = None,
    only: OnlyTables = None,
) -> None:
    """Renders what is stored, the shipped records and your own, beside what was published."""
    from bench.report import render
    from bench.tables.paths import published

    stores = [("shipped", published().parent / "measured"), ("yours", results / "records")]
    broken: list[str] = []
    for page in render(published(), stores, out or results / "report", only, tell=broken.append):
        print(page)
    for line in broken:
        _tell(f"left out: {line}")
    raise typer.Exit(1 if broken else 0)


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
    answer = registry.weights(network)(file, out, classes=classes, options=named(option))
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    print(f"{out}: {network} with {answer['classes']} classes, {answer['parameters']:,} parameters")
    print(f"from {answer['layout']}; num_batches_tracked: {answer['num_batches_tracked']}")
    print("trained on pixels in 0..1 normalised by mean {mean}, std {std}".format(**answer["normalisation"]))


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
    from bench import experiment, profiles
    from bench.distributed import first, joined

    setting = profiles.load(profile)
    chosen = setting.model_copy(update={"dataset_options": setting.dataset_options | pairs(data_option)})
    chosen = chosen.with_batch(batch) if batch else chosen
    with joined():
        found = experiment.single(
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


@data.command("floor", epilog="Example: vared-bench data floor --profile camvid --data-root /data")
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
        _tell(f"kept as {stored(chosen, frames or chosen.frames[0], datasets, found, results / 'records')}")
    if as_json:
        told = {rule: {name: one._asdict() for name, one in figures.items()} for rule, figures in found.items()}
        print(json.dumps(told, indent=1))
    else:
        print_floors(found)


@data.command("check", epilog="Example: vared-bench data check camvid --data-root /data --json")
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
        _stop(f"{name}: {len(report.faults)} things are wrong", 1)


def _counted(name: str, every: float = 30.0) -> Callable[[int, int], None]:
    """Tells every tenth of the rows, and twice a minute, with an estimate of what is left."""
    start = told = time.monotonic()
    known = 0

    def call(done: int, total: int) -> None:
        nonlocal told, known
        known = known or done  # what was read before comes in one
        now = time.monotonic()
        if done * 10 // total > (done - 1) * 10 // total or now - told > every:
            told = now
            left = (now - start) / max(done - known, 1) * (total - done)
            _tell(
                f"{name}: {done:,} of {total:,} read" + (f", about {left / 60:.0f} minutes left" if left > 60 else "")
            )

    return call


def _check_timings(paths: list[Path], results: Path, data_root: Path | None, as_json: bool) -> NoReturn:
    """Ends with 0 if all agree, 2 if any could not be held against what was stored, else 1."""
    from bench.answers.again import again_answer, print_again
    from bench.speed.again import check
    from bench.speed.record import read_speed_record

    records = [(path, read_speed_record(path)) for path in paths]  # all, before the first is timed
    found = check(records, results, data_root, _tell)
    if as_json:
        print(json.dumps([again_answer(one) for one in found], indent=1))
    else:
        print_again(found)
    verdicts = {one.verdict for one in found}
    raise typer.Exit(0 if verdicts == {"agrees"} else 1 if verdicts <= {"agrees", "differs"} else 2)


def _cost_of_table(name: str, as_json: bool) -> None:
    from bench.answers.table_costs import print_table_costs, table_costs, table_costs_answer

    lines = table_costs(name)
    if as_json:
        print(json.dumps(table_costs_answer(lines), indent=1))
    else:
        print_table_costs(lines)


def _tell(line: str) -> None:
    """How far things are, on standard error."""
    print(line, file=sys.stderr, flush=True)


def _stop(message: str, code: int) -> NoReturn:
    """Ends the program with one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(code)
