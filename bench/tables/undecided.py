"""Does deciding pay? The last of a profile's main rows beside what costs about as much and decides nothing.

The suite's own claims, which no table prints: a profile names the methods. Judged as all claims are, seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.tables.block import Block
from bench.tables.comparison import accuracies
from bench.tables.schema import Claim, Experiment, Table
from bench.tables.verdicts import Judgement, judge


@dataclass(frozen=True)
class Undecided:
    """What was found beside one method: claim, that `own` is at least as accurate; cost, its own over the other's."""

    block: Block
    own: Experiment
    revision: int
    other: Experiment
    claim: Claim
    judgement: Judgement
    cost: Judgement


def main_rows(block: Block, tables: Sequence[Table]) -> list[tuple[Table, str]]:
    """The rows of the main pair of a block's profile, in the tables that are there."""
    named = [row.partition("/") for row in (block.told.main_rows if block.told else [])]
    loaded = {table.id: table for table in tables}
    return [(loaded[id], row) for id, _, row in named if id in loaded]


def undecided(block: Block, tables: Sequence[Table]) -> Iterator[Undecided]:
    """What the block's profile puts beside its main row, where both have seeds in common.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    rows = main_rows(block, tables)
    own = rows[-1][0].row(rows[-1][1]).experiment if rows else None
    revision = block.latest(own) if own else None
    if own is None or revision is None or block.told is None:
        return
    for one in (one for one in block.told.methods if not isinstance(one, str) and one.undecided):
        frames = one.frames or block.told.frames[0]
        other = Experiment.model_construct(method=one.method, options=one.options, frames=frames)
        latest = block.latest(other)
        runs, others = block.done(own, revision), {} if latest is None else block.done(other, latest)
        claim, cost = _claim(accuracies(block)[0], ">=", 0.0), _claim("cost_ratio", "<=", 1.0)
        found = judge(claim, runs, others)
        if found.interval is not None:
            yield Undecided(block, own, revision, other, claim, found, judge(cost, runs, others))


def _claim(statistic: str, relation: str, margin: float) -> Claim:
    told = {"id": "", "kind": "accuracy", "row": "", "against": "", "text": ""}
    return Claim.model_validate({**told, "statistic": statistic, "relation": relation, "margin": margin})
