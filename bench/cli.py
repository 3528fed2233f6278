"""The command line, `vared-bench` or `python -m bench`: the commands put together, and how they end when they fail."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from bench.commands import (
    authors,
    cost,
    data,
    inspection,
    listing,
    regress,
    report,
    reproduce,
    speed,
    train,
    weights,
)
from bench.commands.messages import stop
from bench.short_of_memory import short_of_memory

OURS = ("bench", "baselines", "vared")


class _Commands(TyperGroup):
    """Turns what a user can mend into one line: exceptions of our own classes, the system's refusals, Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            stop("interrupted; what is finished is stored, and the same command goes on from there", 130)
        except SystemExit as error:
            of_ours = isinstance(error.code, int) and error.code > 128  # on a signal
            if of_ours or isinstance(error.__context__, BrokenPipeError):  # of rich, when `| head` has read enough
                raise
            stop(f"a method ended the program: SystemExit: {error.code}; nothing was recorded", 2)
        except Exception as error:
            mendable = isinstance(error, OSError) and error.errno not in (None, errno.EPIPE)
            mendable = mendable or short_of_memory(error)
            if not mendable and type(error).__module__.partition(".")[0] not in OURS:
                raise
            stop(str(error) or type(error).__name__, 2)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Benchmark and reproduction suite for efficient video recognition.",
)
for part in (listing, cost, train, speed, reproduce, report, regress):
    app.add_typer(part.app)
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")
for part in (authors, inspection):
    app.add_typer(part.app)


def main() -> None:
    """Runs the command line; "module:attr" names are also looked up in the working folder."""
    sys.path.append(os.getcwd())
    app(prog_name="vared-bench")
