"""What was measured for the rows of a table: a cell for each column, from one block of records or one machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.accuracy.intervals import Interval
from bench.tables.block import Block
from bench.tables.figures import FIGURES, figure
from bench.tables.runs import NotMeasuredError, Runs
from bench.tables.schema import Column, Experiment, Row, Table
from bench.tables.speeds import SPEED_KINDS, Setting, Timed, machines, timed
from bench.tables.timings import (
    Clocked,
    Timing,
    beside,
    matched,
    of_experiment,
    with_own_twin,
)


@dataclass(frozen=True)
class Measured:
    """A measured cell in its column's unit; interval ends are NaN where there is none, `found` is None if not run.

    change: relative to the row's static twin, where the table's claims name one. timed: of a speed, the figure of every
    machine.
    """

    found: Interval | None
    reason: str = ""
    change: float | None = None
    timed: Sequence[Timed] = ()


@dataclass(frozen=True)
class MeasuredRow:
    """A row's measurement in one block: its cells by column, or the reason why there are none.

    revision: of the method, where a later one supersedes it. sharing: the block before it that has the same records, ""
    where there is none.
    """

    block: Block
    seeds: int = 0
    cells: Mapping[str, Measured] = field(default_factory=dict)
    reason: str = ""
    sharing: str = ""
    revision: int | None = None


@dataclass(frozen=True)
class PointRow:
    """What one machine gave for a row at its published operating point: its cells by column."""

    setting: Setting
    cells: Mapping[str, Measured]


def measure_row(table: Table, id: str, block: Block, timings: Sequence[Timing]) -> MeasuredRow:
    """A row by what is stored in a block, its speeds by the block's timings.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    runs, reason = _latest(table, id, block)
    if not runs:
        return MeasuredRow(block, reason=reason)
    row = table.row(id)
    twin = static_twin(table, id)
    who = next(iter(runs.values())).record.identity
    own, static = (one and block.asked(one) for one in (row.experiment, table.row(twin).experiment if twin else None))
    clocked = _of_one_kind(of_experiment(timings, own, who.method_revision), static)
    cells = {
        column.id: _measure_speed(column, clocked) if column.kind in SPEED_KINDS else _measure(column, runs, row.along)
        for column in table.columns
    }
    others = _latest(table, twin, block)[0] if twin else {}
    for column in table.columns:
        if others and column.kind.startswith("gflops"):
            cells[column.id] = _with_change(cells[column.id], _measure(column, others))
    old = who.method_revision if block.superseded(who.method, who.method_revision) else None
    return MeasuredRow(block, len(runs), cells, reason, block.sharing([*runs.values()]), old)


def _of_one_kind(clocked: Sequence[Clocked], static: Experiment | None) -> list[Clocked]:
    """The timings against the table's static network, if there are any; else those against its own twin or itself."""
    return (beside(clocked, static) if static else []) or with_own_twin(clocked)


def point_rows(table: Table, row: Row, timings: Sequence[Timing]) -> list[PointRow]:
    """What was timed at a row's published operating point, one row a machine, with the cost accounted there."""
    found = []
    for settings in machines(matched(timings, table, row)):
        clocked = [one for group in settings.values() for one in group]
        cells = {column.id: _measure_speed(column, clocked) for column in table.columns if column.kind in SPEED_KINDS}
        cells |= {column.id: _accounted(clocked) for column in table.columns if column.kind == "gflops_avg"}
        found.append(PointRow(next(iter(settings)), cells))
    return found


def why_untimed(table: Table, row: Row, timings: Sequence[Timing]) -> str:
    """Why a row that prints a speed has none at its operating point; "" where it has one, or prints none."""
    clocked = matched(timings, table, row)
    if all(table.value(row.id, kind) is None for kind in SPEED_KINDS) or machines(clocked):
        return ""
    if row.experiment is None:
        return row.reason
    if clocked:
        return f"failed: {clocked[-1].record.reason}"
    twin = row.beside or static_twin(table, row.id)
    if table.value(row.id, "gflops_avg") is None:
        return "no multiply-adds are printed to draw decisions for"
    if row.size is None and (twin is None or table.row(twin).size is None):
        return "no size is printed, and no static row beside it has one"
    return f"not timed on any device yet: speed --table {table.id} --row {row.id}"


def _accounted(clocked: Sequence[Clocked]) -> Measured:
    """The mean cost of what was timed, in 10⁹ multiply-adds."""
    arms = [one.record.a if one.side == "method" else one.record.b for one in clocked]
    return Measured(Interval(float(np.mean([arm.accounted for arm in arms if arm])) / 1e9, math.nan, math.nan))


def _measure_speed(column: Column, clocked: Sequence[Clocked]) -> Measured:
    """A speed cell: what each machine gave, the first one's figure for all."""
    try:
        found = timed(column.kind, clocked)
    except NotMeasuredError as reason:
        return Measured(None, str(reason))
    return Measured(found[0].found, timed=found)


def static_twin(table: Table, id: str) -> str | None:
    """The row of the network that the row's method is built on, as it is, at as many frames."""
    own = table.row(id).experiment
    if own is None or "/" not in own.method:
        return None
    plain = (own.method.rpartition("/")[2], own.frames)
    for row in table.rows:
        run = row.experiment
        if row.id != id and run and not run.options and (run.method, run.frames) == plain:
            return row.id
    return None


def _with_change(cell: Measured, twin: Measured) -> Measured:
    if cell.found is None or twin.found is None or not twin.found.value:
        return cell
    return Measured(cell.found, cell.reason, cell.found.value / twin.found.value - 1)


def _latest(table: Table, id: str, block: Block) -> tuple[Runs, str]:
    """The finished runs of a row's latest revision, and why there are none, or what of it or of a later one failed."""
    row = table.row(id)
    if row.experiment is None:
        return {}, row.reason
    revision = block.latest(row.experiment)
    runs = {} if revision is None else block.done(row.experiment, revision)
    failed = len([run for run in block.of(row.experiment) if run.record.identity.method_revision == revision]) - len(
        runs
    )
    reason = block.reason(row.experiment, revision)
    if not runs:
        return runs, reason
    last = block.revisions(row.experiment)[-1]
    told = [f"{failed} of {failed + len(runs)} runs {reason}"] if failed else []
    told += [f"revision {last} {block.reason(row.experiment, last)}"] if last != revision else []
    return runs, "; ".join(told)


def _measure(column: Column, runs: Runs, along: str = "") -> Measured:
    """One cell: the mean over seeds, with its interval where the per-video figures are stored."""
    kind = f"{along}.{column.kind}" if along else column.kind
    if kind not in FIGURES:
        return Measured(None, "not measured")
    try:
        return Measured(figure(kind, tuple(runs[seed] for seed in sorted(runs))))
    except NotMeasuredError as reason:
        return Measured(None, str(reason))
