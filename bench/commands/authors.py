"""Commands for the author of a method: a file to start from, the check of its promises, its row beside the others."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.messages import stop, tell
from bench.commands.options import DATA, METHOD, DataRoot, Frames, Json, Name, Options, ProfileName, Results, named
from bench.recipe import LARGEST_SEED

app = typer.Typer()

Seeds = Annotated[
    list[int] | None,
    typer.Option(
        "--seed", min=0, max=LARGEST_SEED, help="By default the profile's; may be repeated.", rich_help_panel=METHOD
    ),
]
AllFrames = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        help="Frames of a clip, by default the table's or the profile's first; may be repeated.",
        rich_help_panel=DATA,
    ),
]


@app.command("new-method", epilog="Example: vared-bench new-method FewFrames --out few_frames.py")
def new_method(
    name: Annotated[str, typer.Argument(help="Name of the class.")],
    out: Annotated[Path | None, typer.Option(help="The file; by default the name in lower case, here.")] = None,
) -> None:
    """Writes a small, commented method to start from; it passes `check` as it is. Never overwrites."""
    from bench.new_method import write

    file = write(name, out)
    print(f"{file}: {name}, a method that runs as it is; next:")
    there = "" if file.parent == Path() else f"cd {shlex.quote(str(file.parent))} && "
    print(f"{there}vared-bench check {file.stem}:{name}")


@app.command(epilog="Example: vared-bench check mypackage:MyMethod --frames 8")
def check(
    name: Name,
    profile: ProfileName = "quick",
    frames: Frames = None,
    option: Options = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Holds a method to what every method promises, on a few of the profile's samples; exit 1 with every fault."""
    from bench import compare, profiles

    setting = profiles.load(profile)

    def work() -> None:
        compare.check(name, named(option), setting, frames or setting.frames[0], data_root)

    _conforming(work, as_json)
    print(json.dumps({"conformance": []}) if as_json else f"{name}: keeps every promise")


@app.command("compare", epilog="Example: vared-bench compare mypackage:MyMethod --profile digits --table table1")
def compare_(
    name: Name,
    table: Annotated[
        str | None, typer.Option(help="A published table that gets the method's row, and whose claims it is held to.")
    ] = None,
    profile: ProfileName = "quick",
    frames: AllFrames = None,
    seed: Seeds = None,
    option: Options = None,
    results: Results = Path("runs"),
    data_root: DataRoot = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments run side by side, sharing the cores.")] = 2,
    as_json: Json = False,
) -> None:
    """A new method's row beside the others: checked, trained, scored, timed, judged; then the report with it marked.

    Stands beside what is recorded, here or shipped, under the same profile. The verdicts are also in
    RESULTS/compare-NAME-...json, a file for each profile, table, number of frames and set of options.
    """
    from bench import compare, profiles
    from bench.answers.compare import print_compare

    asked = compare.asked(name, named(option), profiles.load(profile), frames or [], seed or [], table)
    code, found = _conforming(lambda: compare.compare(asked, results, data_root, jobs), as_json)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_compare(found)
    raise typer.Exit(code)


def _conforming(work: Callable[[], Any], as_json: bool) -> Any:
    """Does it; of a method that does not conform prints every fault and ends with 1."""
    from bench.compare import NotConformingError

    try:
        return work()
    except NotConformingError as error:
        if as_json:
            print(json.dumps({"conformance": error.faults}, indent=1))
        for fault in error.faults:
            tell(f"- {fault}")
        stop(str(error), 1)
