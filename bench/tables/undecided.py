"""Does deciding pay? The last of a profile's main rows beside what costs about as much and decides nothing.

A profile names the methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from bench.tables.beside import Beside, beside
from bench.tables.block import Block
from bench.tables.schema import Experiment, Table


def main_rows(block: Block, tables: Sequence[Table]) -> list[tuple[Table, str]]:
    """The rows of the main pair of a block's profile, in the tables that are there."""
    named = [row.partition("/") for row in (block.told.main_rows if block.told else [])]
    loaded = {table.id: table for table in tables}
    return [(loaded[id], row) for id, _, row in named if id in loaded]


def of_kind(block: Block, kind: Literal["undecided", "ablation"]) -> Iterator[Experiment]:
    """What the block's profile says to be of that kind among its methods."""
    if block.told is None:
        return
    for one in block.told.methods:
        if not isinstance(one, str) and getattr(one, kind):
            frames = one.frames or block.told.frames[0]
            yield Experiment.model_construct(method=one.method, options=one.options, frames=frames)


def undecided(block: Block, tables: Sequence[Table]) -> Iterator[Beside]:
    """What the block's profile puts beside its main row, where both have seeds in common.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    rows = main_rows(block, tables)
    own = rows[-1][0].row(rows[-1][1]).experiment if rows else None
    if own is None:
        return
    for other in of_kind(block, "undecided"):
        if found := beside(">=", block, own, block, other):
            yield found
