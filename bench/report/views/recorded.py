"""What the records of a block say of their data, their settings and their networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.records import Identity, Record
from bench.report import text
from bench.tables.block import Block


def records(block: Block) -> list[Record]:
    """The records of a block, in the order of their file names."""
    return [part.record for run in block.runs for part in run.parts]


def own_records(block: Block) -> list[Record]:
    """The records of a block but for those that a block before it has too."""
    return [part.record for run in block.own for part in run.parts]


def sharing(block: Block) -> list[tuple[str, int]]:
    """The blocks before it that have records of it too, and how many."""
    return list(Counter(block.shared.values()).items())


def notes(block: Block) -> list[str]:
    """What the records note of their data and their run, each note once."""
    return list(dict.fromkeys(note for record in records(block) for note in record.notes))


def settings(block: Block, part: str) -> list[tuple[str, str]]:
    """The "protocol" or "environment" of a block's records; of the methods' settings each record's own."""
    return text.settings(_own(record, getattr(record, part)) for record in records(block))


def _own(record: Record, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the settings that the profile, by which static records may be shared, has for other methods."""
    if "method" not in said:
        return said
    own = record.identity.prefix
    return {**said, "method": {name: value for name, value in said["method"].items() if name == own}}


def most_seeds(block: Block) -> int:
    """The most seeds that any method of the block was finished with, in runs of its own."""
    seeds = Counter((who.method, repr(who.options), who.frames, who.method_revision) for who in _finished(block))
    return max(seeds.values(), default=0)


def _finished(block: Block) -> list[Identity]:
    return [run.record.identity for run in block.own if run.record.status == "done"]


def costs_of(block: Block) -> list[float]:
    """What the runs of a block cost on average, GFLOPs."""
    return [record.cost.average / 1e9 for record in records(block) if record.cost]


def networks(blocks: Sequence[Block]) -> list[str]:
    """What was trained, a line for each block that has a finished run: size of input, and of networks."""
    return [
        f"{block.dataset}{block.part}, profile {block.name}: {scale(block)}"
        for block in blocks
        if _finished(block) and not block.smoke
    ]


def scale(block: Block) -> str:
    """Size of input, and of networks: those that the profile shrank are miniatures; "" where nothing was finished."""
    record = next((run.record for run in block.runs if run.record.status == "done"), None)
    if record is None:
        return ""
    finished = [run.record.identity for run in block.runs if run.record.status == "done"]
    counts = sorted({who.frames for who in finished})
    sizes = sorted({who.size for who in finished})
    input = f"{' and '.join(map(str, counts))} frame{'' if counts == [1] else 's'} of "
    input += " or ".join(f"{size} × {size}" for size in sizes)
    if "network" not in record.protocol:
        return input
    told = [f"{key.replace('_', ' ')} {value}" for key, value in record.protocol["network"].items()]
    return f"{input}, {'miniature networks: ' + ', '.join(told) if told else 'networks at full width'}"


def miniature(block: Block) -> bool:
    """Whether the profile shrank its networks."""
    return any(run.record.protocol.get("network") for run in block.runs if run.record.status == "done")
