"""What print and measurements say of the claims of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.tables.block import Block
from bench.tables.runs import Runs
from bench.tables.schema import Claim, Experiment, Kind, Statistic, Table
from bench.tables.speeds import Setting, judge_speed
from bench.tables.timings import (
    Clocked,
    Timing,
    beside,
    matched,
    of_experiment,
)
from bench.tables.verdicts import Judgement, judge


@dataclass(frozen=True)
class Judged:
    """The judgement on a claim from one block's records of one revision of the method; first: the block's first one.

    setting: of a speed, what was timed how; there is one judgement a machine. superseded: whether a later revision was
    run under the same profile in another block.
    """

    block: Block
    revision: int | None
    judgement: Judgement
    setting: Setting | None = None
    first: bool = False
    superseded: bool = False


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


def judge_claim(
    table: Table, claim: Claim, blocks: Sequence[tuple[Block, Sequence[Timing]]], timings: Sequence[Timing]
) -> ClaimResult:
    """A claim held against print, against the blocks with their own timings, and against all timings at full size.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    printed, satisfied = _printed(table, claim)
    never = _never(table, claim)
    latest: list[Judged] = []
    earlier: list[Judged] = []
    for block, own in [] if never else blocks:
        experiment = table.row(claim.row).experiment
        last = block.latest(experiment) if experiment else None
        superseded = experiment is not None and block.superseded(experiment.method, last)
        judged = _judged(table, claim, block, last, own)
        latest += [replace(item, superseded=superseded) for item in judged]
        before = [one for one in block.revisions(experiment) if last and one < last] if experiment else []
        judged = [item for revision in before for item in _judged(table, claim, block, revision, own)]
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
        clocked = beside(of_experiment(timings, block.asked(own), revision), block.asked(other))
        return [Judged(block, revision, judgement, key) for key, judgement in judge_speed(claim, clocked)]
    others: Runs = {}
    if other is not None:
        chosen = revision if other.method == own.method else block.latest(other)
        others = {} if chosen is None else block.done(other, chosen)
        if not others:
            why = f"{other.method}, {other.frames} frames: {block.reason(other, chosen)}"
            return [Judged(block, revision, Judgement("not run", reason=why))]
    along = (table.row(claim.row).along, table.row(claim.against or claim.row).along)
    return [Judged(block, revision, _unless_set(judge(claim, runs, others, along), claim, block, own, other))]


def _unless_set(found: Judgement, claim: Claim, block: Block, own: Experiment, other: Experiment | None) -> Judgement:
    """What was chosen to cost so much, and does, is set: a claim on the costs of two methods finds nothing there."""
    names = [one.method.partition("/")[0] for one in (own, other) if one]
    if claim.statistic not in ("cost_ratio", "reduction") or len({*names}) < 2:  # of one method's forms one is chosen
        return found
    why = [reason for name in names if (reason := (block.told.set_costs if block.told else {}).get(name))]
    if not why or found.verdict not in ("holds", "too few seeds, within"):
        return found
    return replace(found, verdict="set", reason="; ".join(filter(None, (found.reason, *why))))


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
