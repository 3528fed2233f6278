"""Claims and rows of joined tables: which were judged and measured, and why the others were not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.accuracy.intervals import Interval
from bench.report import text
from bench.report.views.printed import claim_key, label
from bench.tables.analysis import ONE_CLASS
from bench.tables.block import Block
from bench.tables.claims import ClaimResult, Judged
from bench.tables.comparison import described
from bench.tables.join import Joined
from bench.tables.rows import MeasuredRow
from bench.tables.schema import Claim
from bench.tables.speeds import Setting


def ran(claims: Sequence[ClaimResult], wanted: bool) -> list[ClaimResult]:
    """The claims that were judged from some block, or from none."""
    return [claim for claim in claims if any(j.judgement.interval is not None for j in claim.latest) == wanted]


def judging(claims: Sequence[ClaimResult]) -> list[Block]:
    """The blocks from which any of these claims was judged."""
    judged = (item for claim in claims for item in claim.latest if item.judgement.interval is not None)
    found = {id(item.block): item.block for item in judged}
    return list(found.values())


def idle(claims: Sequence[ClaimResult]) -> dict[str, list[ClaimResult]]:
    """The claims that were not judged, by the reason."""
    found: dict[str, list[ClaimResult]] = {}
    for claim in (claim for claim in ran(claims, False) if not claim.points):
        blocks = [(item.block.name, item.judgement.reason) for item in claim.latest]
        found.setdefault(claim.never or text.reasons(blocks, 0) or "no record", []).append(claim)
    return found


def earlier(claims: Sequence[ClaimResult]) -> list[tuple[ClaimResult, Judged]]:
    """What earlier revisions were judged to be, where they were run."""
    return [(claim, item) for claim in claims for item in claim.earlier]


def outdated(joined: Sequence[Joined]) -> list[tuple[str, list[tuple[ClaimResult, Judged, str]]]]:
    """What earlier revisions were judged to be, in all tables: by what it is about, what tables share once, with the
    name of the first table.
    """
    found: dict[str, dict[tuple[object, ...], tuple[ClaimResult, Judged, str]]] = {}
    for one in joined:
        for result, item in earlier(one.claims):
            own = one.table.row(result.claim.row).experiment
            key = (*claim_key(one.table, result.claim), id(item.block), item.revision, item.setting)
            subject = described(own.method, own.options) if own else ""
            found.setdefault(subject, {}).setdefault(key, (result, item, label(one.table)))
    return [(subject, [*lines.values()]) for subject, lines in found.items()]


def clocked(claims: Sequence[ClaimResult]) -> list[ClaimResult]:
    """The claims that were judged at published operating points."""
    return [claim for claim in claims if claim.points]


def point_settings(claims: Sequence[ClaimResult]) -> list[Setting]:
    """The machines on which claims were judged at published operating points, by one setting each."""
    settings = {key.machine: key for claim in claims for key, _ in claim.points if key}
    return [settings[machine] for machine in sorted(settings)]


def intervals(claim: ClaimResult, points: bool = False) -> list[Interval]:
    """What a row of the table of claims shows: the intervals of its latest judgements, or of those at full size."""
    judged = [item for _, item in claim.points] if points else [item.judgement for item in claim.latest]
    return [item.interval for item in judged if item.interval is not None]


def picture(found: Interval, claim: Claim, row: Sequence[Interval] = ()) -> dict[str, float] | None:
    """Where margin, interval and the claim's side lie, in percent of a bar's width; None without an interval.

    row: the intervals that stand in one row with it, and so on one scale.
    """
    if math.isnan(found.low):
        return None
    places = [end for one in (found, *row) for end in one[1:] if not math.isnan(end)] + [claim.margin]
    span = max(places) - min(places)
    if not span > 0:
        return None
    start = min(places) - 0.15 * span
    low, high, margin = (round(100 * (place - start) / (1.3 * span), 1) for place in (*found[1:], claim.margin))
    below = claim.relation.startswith("<")
    side = (0.0, margin) if below else (margin, round(100 - margin, 1))
    width = max(round(high - low, 1), 1.0)
    return {"low": low, "width": width, "margin": margin, "side": side[0], "side_width": side[1]}


def measured(rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
    """The blocks in which a row was run."""
    return [row for row in rows if row.seeds]


def single_classes(joined: Joined) -> bool:
    """Whether a table has cells that are of one of the published classes."""
    cells = (cell for rows in joined.rows.values() for row in rows for cell in row.cells.values())
    return any(cell.reason == ONE_CLASS for cell in cells)


def why_not(rows: Sequence[MeasuredRow]) -> str:
    """Why a row was not run in the blocks that do not have it; smoke runs are not there to fill rows."""
    missing = [(row.block.name, row.reason) for row in rows if not row.seeds and not row.block.smoke]
    return text.reasons(missing, len(measured(rows))) if missing else ""


def missing(joined: Joined, row: str) -> str:
    """Why a row was not run where it was not, and why it was not timed at its published operating point."""
    run, timed = why_not(joined.rows[row]), joined.untimed.get(row, "")
    parts = [f"not run: {run}"] if run else []
    return ". ".join([*parts, f"Speed at the published operating point: {timed}"] if timed else parts)


def by_reason(untimed: Mapping[str, str]) -> dict[str, list[str]]:
    """Rows by why they were not timed; those that only wait, together."""
    found: dict[str, list[str]] = {}
    for row, reason in untimed.items():
        found.setdefault(reason.partition(": speed --table")[0], []).append(row)
    return found
