"""Published tables and stored records, joined into plain data: cells beside cells, a judgement for each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.tables.block import Block
from bench.tables.claims import ClaimResult, judge_claim
from bench.tables.rows import MeasuredRow, PointRow, measure_row, point_rows, why_untimed
from bench.tables.schema import Table, answers
from bench.tables.timings import Timing, learned


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
    rows = {row.id: [measure_row(table, row.id, block, own[id(block)]) for block in blocks] for row in table.rows}
    points = {row.id: point_rows(table, row, timings) for row in table.rows}
    judged = [(block, own[id(block)]) for block in blocks if not block.smoke]  # that everything runs is no verdict
    untimed = {row.id: why for row in table.rows if (why := why_untimed(table, row, timings))}
    return Joined(table, rows, points, [judge_claim(table, claim, judged, timings) for claim in table.claims], untimed)
