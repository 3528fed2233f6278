"""Published tables and stored records, joined into plain data: cells beside cells, a judgement for each claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from bench.accuracy.intervals import Interval, interval
from bench.accuracy.pooled import Name, pooled_interval
from bench.tables.analysis import mean_share, of_a_class, redundancy
from bench.tables.runs import Block, NotMeasuredError, Run, Runs, groups, per_video
from bench.tables.schema import Claim, Column, Experiment, Kind, Row, Statistic, Table, answers
from bench.tables.speeds import SPEED_KINDS, Setting, Timed, judge_speed, machines, timed
from bench.tables.timings import Clocked, Timing, beside, learned, matched, of_method, revised, with_own_twin
from bench.tables.verdicts import Judgement, judge, pooled_tables

NAN = float("nan")


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
    """A row's measurement in one block: its cells by column, or the reason why there are none."""

    block: Block
    seeds: int = 0
    cells: Mapping[str, Measured] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class PointRow:
    """What one machine gave for a row at its published operating point: its cells by column."""

    setting: Setting
    cells: Mapping[str, Measured]


@dataclass(frozen=True)
class Judged:
    """The judgement on a claim from one block's records of one revision of the method; first: the block's first one.

    setting: of a speed, what was timed how; there is one judgement a machine.
    """

    block: Block
    revision: int | None
    judgement: Judgement
    setting: Setting | None = None
    first: bool = False


@dataclass(frozen=True)
class ClaimResult:
    """A claim, what the print itself says of it, and what was measured: latest revision first, earlier ones apart.

    printed: what the published cells say of it, "" where they say nothing. satisfied: whether that meets the margin;
    None where it cannot be held against it. never: why no record of any profile could decide it. points: of a speed,
    the judgements at the published operating point, one a machine.
    """

    claim: Claim
    printed: str
    satisfied: bool | None
    never: str
    latest: Sequence[Judged]
    earlier: Sequence[Judged]
    points: Sequence[tuple[Setting | None, Judgement]]


@dataclass(frozen=True)
class Joined:
    """A published table with, for each of its rows, one measured row a block, what was timed at it, and its claims.

    untimed: of rows that print a speed, why nothing was timed at the published operating point.
    """

    table: Table
    rows: Mapping[str, Sequence[MeasuredRow]]
    points: Mapping[str, Sequence[PointRow]]
    claims: Sequence[ClaimResult]
    untimed: Mapping[str, str] = field(default_factory=dict)


def join(table: Table, blocks: Sequence[Block], timings: Sequence[Timing] = ()) -> Joined:
    """Joins one table with all timings, and with the blocks whose data ask for the same: classes, boxes or masks.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    asked = answers({column.kind for column in table.columns})
    blocks = [block for block in blocks if block.answers in (asked, None)]
    own = {id(block): learned(timings, block) for block in blocks}
    rows = {row.id: [_measure_row(table, row.id, block, own[id(block)]) for block in blocks] for row in table.rows}
    points = {row.id: _point_rows(table, row, timings) for row in table.rows}
    judged = [(block, own[id(block)]) for block in blocks if not block.smoke]  # that everything runs is no verdict
    untimed = {row.id: why for row in table.rows if (why := _untimed(table, row, timings))}
    return Joined(table, rows, points, [_result(table, claim, judged, timings) for claim in table.claims], untimed)


def _measure_row(table: Table, id: str, block: Block, timings: Sequence[Timing]) -> MeasuredRow:
    runs, reason = _latest(table, id, block)
    if not runs:
        return MeasuredRow(block, reason=reason)
    row = table.row(id)
    twin = static_twin(table, id)
    clocked = _clocked(timings, row.experiment, next(iter(runs.values())).record.identity.method_revision)
    clocked = _of_one_kind(clocked, table.row(twin).experiment if twin else None)
    cells = {
        column.id: _measure_speed(column, clocked) if column.kind in SPEED_KINDS else _measure(column, runs, row.along)
        for column in table.columns
    }
    others = _latest(table, twin, block)[0] if twin else {}
    for column in table.columns:
        if others and column.kind.startswith("gflops"):
            cells[column.id] = _with_change(cells[column.id], _measure(column, others))
    return MeasuredRow(block, len(runs), cells, reason)


def _clocked(timings: Sequence[Timing], experiment: Experiment | None, revision: int) -> list[Clocked]:
    """The timings of one revision of an experiment."""
    if experiment is None:
        return []
    return revised(of_method(timings, experiment.method, experiment.options, experiment.frames), revision)


def _of_one_kind(clocked: Sequence[Clocked], static: Experiment | None) -> list[Clocked]:
    """The timings against the table's static network, if there are any; else those against its own twin or itself."""
    return (beside(clocked, static) if static else []) or with_own_twin(clocked)


def _point_rows(table: Table, row: Row, timings: Sequence[Timing]) -> list[PointRow]:
    """What was timed at a row's published operating point, one row a machine, with the cost accounted there."""
    found = []
    for settings in machines(matched(timings, table, row)):
        clocked = [one for group in settings.values() for one in group]
        cells = {column.id: _measure_speed(column, clocked) for column in table.columns if column.kind in SPEED_KINDS}
        cells |= {column.id: _accounted(clocked) for column in table.columns if column.kind == "gflops_avg"}
        found.append(PointRow(next(iter(settings)), cells))
    return found


def _untimed(table: Table, row: Row, timings: Sequence[Timing]) -> str:
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
    return Measured(Interval(float(np.mean([arm.accounted for arm in arms if arm])) / 1e9, NAN, NAN))


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
    """The finished runs of a row's latest revision, and the reason where there are none or some failed."""
    row = table.row(id)
    if row.experiment is None:
        return {}, row.reason
    revision = _last(block, row.experiment)
    runs = {} if revision is None else block.done(row.experiment, revision)
    failed = len([run for run in block.of(row.experiment) if run.record.identity.method_revision == revision]) - len(
        runs
    )
    if runs and not failed:
        return runs, ""
    reason = block.reason(row.experiment, revision)
    return runs, f"{failed} of {failed + len(runs)} runs {reason}" if runs else reason


def _last(block: Block, experiment: Experiment) -> int | None:
    revisions = block.revisions(experiment)
    return revisions[-1] if revisions else None


def _measure(column: Column, runs: Runs, along: str = "") -> Measured:
    """One cell: the mean over seeds, with its interval where the per-video figures are stored."""
    kind = f"{along}.{column.kind}" if along else column.kind
    if kind not in FIGURES:
        return Measured(None, "not measured")
    try:
        return Measured(figure(kind, tuple(runs[seed] for seed in sorted(runs))))
    except NotMeasuredError as reason:
        return Measured(None, str(reason))


def _per_video(runs: Sequence[Run], name: str, stored: Sequence[float], unit: float) -> Interval:
    """From the per-video figures; where they were not shipped, the mean of the `stored` figures without interval."""
    if any(run.record.samples_file is None for run in runs):
        return Interval(float(np.mean(stored)) / unit, NAN, NAN)
    table = per_video(runs, name)
    return interval(table.to_numpy().T / unit, groups(runs[0], table.index))


def per_video_figure(kind: str) -> Callable[[Sequence[Run]], Interval]:
    """How a share of right answers ("clip-1", ...) is had from runs, in %; it raises NotMeasuredError without any."""

    def measure(runs: Sequence[Run]) -> Interval:
        for run in runs:
            if kind not in run.record.figures:
                raise NotMeasuredError(run.record.missing.get(kind, f"{kind} was not recorded"))
        stored = [run.record.figures[kind].value for run in runs]
        return _per_video(runs, kind.replace("-", "_"), stored, 0.01)

    return measure


def gflops(field: str) -> Callable[[Sequence[Run]], Interval]:
    """How the "average", "maximum" or "minimum" cost of a sample is had from runs, in 10⁹ multiply-adds."""

    def measure(runs: Sequence[Run]) -> Interval:
        costs = [run.record.cost for run in runs]
        if None in costs:
            raise NotMeasuredError("no cost was recorded")
        stored = [float(getattr(cost, field)) for cost in costs]
        if field == "average":
            return _per_video(runs, "cost", stored, 1e9)
        return Interval(float(np.mean(stored)) / 1e9, NAN, NAN)

    return measure


def pooled_figure(name: Name) -> Callable[[Sequence[Run]], Interval]:
    """How a figure of all samples together ("mAP", ...) is had from runs, in %; NotMeasuredError without any.

    Where it cannot be computed anew (mAP over videos, whose scores are not stored; records without their per-sample
    tables), it is the mean of the recorded figures without interval.
    """

    def measure(runs: Sequence[Run]) -> Interval:
        stored = [run.record.figures[name].value for run in runs if name in run.record.figures]
        if not stored:
            raise NotMeasuredError(runs[0].record.missing.get(name, f"{name} was not recorded"))
        try:
            found = pooled_interval(name, pooled_tables(runs, name))
        except NotMeasuredError:
            found = Interval(float(np.mean(stored)), NAN, NAN)
        return Interval(*(100 * share for share in found))

    return measure


def _params(runs: Sequence[Run]) -> Interval:
    counts = [run.record.parameters for run in runs if run.record.parameters is not None]
    if not counts:
        raise NotMeasuredError("no parameter count was recorded")
    return Interval(float(np.mean(counts)) / 1e6, NAN, NAN)


FIGURES: Mapping[str, Callable[[Sequence[Run]], Interval]] = {
    "gflops_avg": gflops("average"),
    "gflops_max": gflops("maximum"),
    "gflops_min": gflops("minimum"),
    "clip-1": per_video_figure("clip-1"),
    "video-1": per_video_figure("video-1"),
    "video-5": per_video_figure("video-5"),
    "mAP": pooled_figure("mAP"),
    "recall": pooled_figure("recall"),
    "classification": pooled_figure("classification"),
    "mIoU": pooled_figure("mIoU"),
    "pixel-accuracy": pooled_figure("pixel-accuracy"),
    "params": _params,
    "share": mean_share,
    "share_max": of_a_class,
    "share_min": of_a_class,
    **{name: redundancy(name) for name in ("temporal.CC", "temporal.RMSE", "temporal.RP")},
    **{name: redundancy(name) for name in ("channel.CC", "channel.RMSE", "channel.RP")},
}
"""What records hold, by its name or kind of column; a column of any other kind is "not measured"."""


@lru_cache(maxsize=1024)
def figure(kind: str, runs: tuple[Run, ...]) -> Interval:
    """A figure of `FIGURES` from runs; remembered, since many tables ask for it.

    Raises:
        NotMeasuredError: there is none.
    """
    return FIGURES[kind](runs)


def _result(
    table: Table, claim: Claim, blocks: Sequence[tuple[Block, Sequence[Timing]]], timings: Sequence[Timing]
) -> ClaimResult:
    printed, satisfied = _printed(table, claim)
    never = _never(table, claim)
    latest: list[Judged] = []
    earlier: list[Judged] = []
    for block, own in [] if never else blocks:
        experiment = table.row(claim.row).experiment
        revisions = block.revisions(experiment) if experiment else []
        latest += _judged(table, claim, block, revisions[-1] if revisions else None, own)
        judged = [item for revision in revisions[:-1] for item in _judged(table, claim, block, revision, own)]
        ran = [item for item in judged if item.judgement.interval is not None]
        earlier += [replace(item, first=item.revision == ran[0].revision) for item in ran]
    timed = claim.statistic == "speed_ratio" and not never
    points = _judged_points(table, claim, matched(timings, table, table.row(claim.row))) if timed else []
    return ClaimResult(claim, printed, satisfied, never, latest, earlier, points)


def _judged_points(table: Table, claim: Claim, clocked: Sequence[Clocked]) -> list[tuple[Setting | None, Judgement]]:
    """What a machine says of a claim on speed at the published operating point; nothing where none timed it."""
    other = table.row(claim.against or claim.row).experiment
    against = beside(clocked, other) if other else []
    return judge_speed(claim, against) if against else []


def _never(table: Table, claim: Claim) -> str:
    """Why no record could decide a claim, whatever is run."""
    for id in (claim.row, claim.against):
        if id is not None and table.row(id).experiment is None:
            return table.row(id).reason
    return ""


def _judged(table: Table, claim: Claim, block: Block, revision: int | None, timings: Sequence[Timing]) -> list[Judged]:
    """Judges one revision of the row against the same revision of its own method, or the latest of another."""
    own = table.row(claim.row).experiment
    assert own is not None
    runs = {} if revision is None else block.done(own, revision)
    if revision is None or not runs:
        return [Judged(block, revision, Judgement("not run", reason=block.reason(own, revision)))]
    other = None if claim.against is None else table.row(claim.against).experiment
    if claim.statistic == "reduction":
        other = _plain(own)
    if claim.statistic == "speed_ratio" and other is not None:
        clocked = beside(_clocked(timings, own, revision), other)
        return [Judged(block, revision, judgement, key) for key, judgement in judge_speed(claim, clocked)]
    others: Runs = {}
    if other is not None:
        chosen = revision if other.method == own.method else _last(block, other)
        others = {} if chosen is None else block.done(other, chosen)
        if not others:
            why = f"{other.method}, {other.frames} frames: {block.reason(other, chosen)}"
            return [Judged(block, revision, Judgement("not run", reason=why))]
    along = (table.row(claim.row).along, table.row(claim.against or claim.row).along)
    return [Judged(block, revision, judge(claim, runs, others, along))]


def _plain(own: Experiment) -> Experiment:
    """The network under a method, as it is."""
    return Experiment(method=own.method.rpartition("/")[2], options={}, frames=own.frames)


def _printed(table: Table, claim: Claim) -> tuple[str, bool | None]:
    """What the published cells give for a claim, and whether it meets the margin."""
    if claim.statistic == "cost_spread":
        kinds: tuple[Kind, ...] = ("gflops_max", "gflops_avg", "gflops_min")
        most, mean, least = (table.value(claim.row, kind) for kind in kinds)
        if most is None or mean is None or least is None:
            return "", None
        return f"{most} > {mean} > {least}", None  # no standard deviation is printed
    value = _printed_value(table, claim)
    if value is None:
        return "", None
    return f"{value:{_PRINTED[claim.statistic][2]}}".replace("-", "\u2212"), _meets(value, claim)


_POINTS = "+.1f"
_PRINTED: Mapping[Statistic, tuple[Kind, Kind | None, str]] = {
    "cost_ratio": ("gflops_avg", "gflops_avg", ".3f"),
    "speed_ratio": ("speed", "speed", ".3f"),
    "reduction": ("reduction", None, ".1f"),
    "clip-1": ("clip-1", "clip-1", _POINTS),
    "video-1": ("video-1", "video-1", _POINTS),
    "mAP": ("mAP", "mAP", _POINTS),
    "recall": ("recall", "recall", _POINTS),
    "classification": ("classification", "classification", _POINTS),
    "mIoU": ("mIoU", "mIoU", _POINTS),
    "RP": ("RP", "RP", "+.2f"),
    "class_range": ("share_max", "share_min", _POINTS),
}
"""The cell that a statistic is computed from, the cell of the other row (or of the same), and how it is shown."""


def _printed_value(table: Table, claim: Claim) -> float | None:
    if claim.statistic not in _PRINTED:
        return None
    own, other, _ = _PRINTED[claim.statistic]
    first = table.value(claim.row, own)
    if other is None:
        return first
    second = table.value(claim.against or claim.row, other)
    if first is None or second is None:
        return None
    if claim.statistic.endswith("ratio"):
        return first / second if second else None
    return round(first - second, 6)


def _meets(value: float, claim: Claim) -> bool:
    margin = claim.margin
    return {"<": value < margin, "<=": value <= margin, ">": value > margin, ">=": value >= margin}[claim.relation]
