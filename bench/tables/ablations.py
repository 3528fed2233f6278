"""What the part that an ablation leaves out of a profile's main row is worth, and what the rest of it costs.

A profile names the ablations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.tables.beside import Beside, beside
from bench.tables.block import Block
from bench.tables.schema import Table
from bench.tables.undecided import main_rows, of_kind

ALLOWED = -1.0
"""Points that may be lost: as in the claims of the published tables."""


def ablated(block: Block, tables: Sequence[Table]) -> Iterator[Beside]:
    """The last of the block's main rows beside each ablation, and that beside the first, where seeds are in common.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    rows = [experiment for table, row in main_rows(block, tables) if (experiment := table.row(row).experiment)]
    for part in of_kind(block, "ablation") if len(rows) > 1 else []:
        for own, other in ((rows[-1], part), (part, rows[0])):
            if found := beside(">=", block, own, block, other, ALLOWED):
                yield found
