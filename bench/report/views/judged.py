"""Claims and rows of joined tables: which were judged and measured, and why the others were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.accuracy.intervals import Interval
from bench.report import text
from bench.tables.block import Block
from bench.tables.claims import ClaimResult, Judged
from bench.tables.join import Joined
from bench.tables.rows import MeasuredRow
from bench.tables.schema import Claim
from bench.tables.speeds import Setting


def ran(claims: Sequence[ClaimResult], wanted: bool) -> list[ClaimResult]:
    """The claims that were judged from some block, or from none."""
    return [claim for claim in claims if any(j.judgement.interval is not None for j in claim.latest) == wanted]


def judging(claims: Sequence[ClaimResult]) -> list[Block]:
    """The blocks from which any of these claims was judged, or could have been."""
    found = {id(item.block): item.block for claim in claims for item in claim.latest}
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


def clocked(claims: Sequence[ClaimResult]) -> list[ClaimResult]:
    """The claims that were judged at published operating points."""
    return [claim for claim in claims if claim.points]


def point_settings(claims: Sequence[ClaimResult]) -> list[Setting]:
    """The machines on which claims were judged at published operating points, by one setting each."""
    settings = {key.machine: key for claim in claims for key, _ in claim.points if key}
    return [settings[machine] for machine in sorted(settings)]


def picture(found: Interval, claim: Claim) -> dict[str, float] | None:
    """Where margin, interval and the claim's side lie, in percent of a bar's width; None without an interval."""
    places = [found.low, found.high, claim.margin]
    span = max(places) - min(places)
    if not span > 0:
        return None
    start = min(places) - 0.15 * span
    low, high, margin = (round(100 * (place - start) / (1.3 * span), 1) for place in places)
    below = claim.relation.startswith("<")
    side = (0.0, margin) if below else (margin, round(100 - margin, 1))
    width = max(round(high - low, 1), 1.0)
    return {"low": low, "width": width, "margin": margin, "side": side[0], "side_width": side[1]}


def measured(rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
    """The blocks in which a row was run."""
    return [row for row in rows if row.seeds]


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
