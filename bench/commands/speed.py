"""The command `speed`: a method timed against its static twin, or stored timings once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bench.commands.messages import stop, tell
from bench.commands.options import (
    Again,
    Batches,
    Check,
    Classes,
    DataOptions,
    DataRoot,
    Decode,
    Frames,
    Json,
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
    Untrained,
    named,
    only,
    pairs,
)

if TYPE_CHECKING:
    from bench.speed.record import SpeedRecord

app = typer.Typer()


@app.command(epilog="Example: vared-bench speed vared/r2plus1d_18 --policy all --profile quick --frames 8 --batch 8")
def speed(
    ctx: typer.Context,
    a: Annotated[str | None, typer.Argument(help="A network, a method, or method/network.")] = None,
    b: Annotated[
        str | None,
        typer.Argument(help="Timed against this; by default the network under it, else itself with all gates on."),
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
    rounds: Rounds = None,
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
    from bench.distributed import first, joined
    from bench.speed import measure as timing
    from bench.speed import pair

    if [a is None, table is None, not check].count(False) != 1 or (row and table is None):
        raise typer.BadParameter("give either A or --table or --check; --row goes with --table")
    if check:
        only(ctx, "--check", ("check", "results", "data_root", "as_json"))
        _check_timings(check, results, data_root, as_json)
    if table and (b or option or policy != "learned" or frames or size or classes or decode):
        raise typer.BadParameter("a published row has its own methods, options, policy and input, without decoding")
    data = profiles.load(profile)
    data = data.model_copy(update={"dataset_options": data.dataset_options | pairs(data_option)})
    data = data.fitted_to(a) if a else data  # before an option of the command, which is to count
    data = data.model_copy(update={"size": size or data.size})
    setting = pair.Setting(
        data, frames or data.frames[0], classes=classes, policy=policy, precision=precision, rounds=rounds,
        threads=threads, seed=seed, plain=plain, untrained=untrained, decode=decode,
    )  # fmt: skip
    jobs = [pair.job(a, b, named(option), setting)] if a else pair.published_jobs(str(table), row, setting)
    with joined():
        records = [
            timing.measure(job.at(clips), results=results, data_root=data_root, again=again, announce=tell)
            for job in jobs
            for clips in batch or [1]
        ]
        if not first():  # of several processes the first says what came out
            raise typer.Exit(0)
    _answer(records, as_json)


def _answer(records: list[SpeedRecord], as_json: bool) -> None:
    """Prints what was timed; ends with 1 where a timing failed."""
    from bench.answers.speed import print_speeds, speed_answer

    if as_json:
        answers = [speed_answer(record) for record in records]
        print(json.dumps(answers[0] if len(answers) == 1 else answers, indent=1))
    else:
        print_speeds(records)
    for record in records:
        if record.status == "failed":
            stop(f"{record.identity.a}, batch {record.identity.batch}: {record.reason}", 1)


def _check_timings(paths: list[Path], results: Path, data_root: Path | None, as_json: bool) -> NoReturn:
    """Ends with 0 if all agree, 2 if any could not be held against what was stored, else 1."""
    from bench.answers.again import again_answer, print_again
    from bench.speed.again import check
    from bench.speed.record import read_speed_record

    records = [(path, read_speed_record(path)) for path in paths]  # all, before the first is timed
    found = check(records, results, data_root, tell)
    if as_json:
        print(json.dumps([again_answer(one) for one in found], indent=1))
    else:
        print_again(found)
    verdicts = {one.verdict for one in found}
    raise typer.Exit(0 if verdicts == {"agrees"} else 1 if verdicts <= {"agrees", "differs"} else 2)
