"""Blocks apart by what their networks started from: weights as drawn, or stored ones; and what a start gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.registry import WEIGHTS
from bench.tables.beside import Beside, beside_itself
from bench.tables.block import Block
from bench.tables.blocks import share
from bench.tables.runs import Run


def by_start(found: Sequence[Block]) -> list[Block]:
    """Each block as one of weights as drawn, if it has such runs, and of stored weights, if it has.

    So a row of a table is measured, and a claim judged, by runs that started alike. Where every network, or method
    without one, has one start, those of stored weights are one block; where any has several, nothing tells which of
    them go together, and each start is one.
    """
    parts = _apart([part for block in found for part in _parts(block)])
    share(parts)
    return parts


def _apart(parts: Sequence[Block]) -> list[Block]:
    """Without those of stored weights all of whose runs another one has too.

    Several settings of a method have the runs of its static network in common.
    """
    held = [{(part.store, one.path) for run in part.runs for one in run.parts} for part in parts]

    def again(number: int) -> bool:
        return held[number] in held[:number] or any(held[number] < other for other in held)

    return [part for number, part in enumerate(parts) if not (part.starts and again(number))]


def gains(found: Sequence[Block]) -> Iterator[Beside]:
    """Every method that started from stored weights beside itself from weights as drawn, where all else is the same.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    for block, drawn in _twins([block for block in found if not block.smoke]):
        yield from beside_itself(block, drawn)


def _twins(found: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    """Blocks of stored weights, each with that of weights as drawn."""
    bare = [replace(block, runs=[], shared={}, starts={}) for block in found]
    for block, own in zip(found, bare, strict=True):
        for other, kin in zip(found, bare, strict=True):
            if block.starts and not other.starts and own == kin:
                yield block, other


def _parts(block: Block) -> list[Block]:
    runs = {start: [run for run in block.runs if _start(run) == start] for start in {*map(_start, block.runs)}}
    drawn, stored = runs.pop("", []), [runs[start] for start in sorted(runs)]
    starts: dict[str, set[str]] = {}
    for run in (run for part in stored for run in part):
        starts.setdefault(_network(run), set()).add(_start(run))
    if stored and all(len(own) == 1 for own in starts.values()):
        stored = [[run for run in block.runs if _start(run)]]
    begun = [replace(block, runs=part, starts={_network(run): _start(run) for run in part}) for part in stored]
    return [replace(block, runs=drawn)] * bool(drawn) + begun


def _start(run: Run) -> str:
    return str(run.record.identity.options.get(WEIGHTS, ""))


def _network(run: Run) -> str:
    return run.record.identity.method.rpartition("/")[2]
