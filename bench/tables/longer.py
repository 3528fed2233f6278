"""What longer training gains: the methods of a profile beside themselves in the one that it is but for its epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.tables.beside import Beside, beside_itself
from bench.tables.block import Block


def longer(found: Sequence[Block]) -> Iterator[Beside]:
    """Every method of a profile that names a shorter one, beside itself there, where the data are the same.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    for block in filter(_told, found):
        assert block.told is not None
        shorter = [other for other in found if other.profile == block.told.longer_than and _alike(block, other)]
        if shorter:  # blocks of other settings of a method have the other methods' runs too
            yield from beside_itself(block, max(shorter, key=lambda other: len(other.own)))


def _told(block: Block) -> bool:
    """Whether it was run under its profile as that stands now, from weights as drawn."""
    return block.told is not None and block.under(block.told) and not block.starts


def _alike(block: Block, other: Block) -> bool:
    common = block.fingerprints.keys() & other.fingerprints.keys()
    same = bool(common) and all(block.fingerprints[key] == other.fingerprints[key] for key in common)
    return _told(other) and block.store == other.store and same
