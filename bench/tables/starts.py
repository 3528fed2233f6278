"""Blocks apart by what their networks started from: weights as drawn, or stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.registry import WEIGHTS
from bench.tables.block import Block
from bench.tables.blocks import share
from bench.tables.runs import Run


def by_start(found: Sequence[Block]) -> list[Block]:
    """Each block as one of weights as drawn, if it has such runs, and of stored weights, if it has.

    So a row of a table is measured, and a claim judged, by runs that started alike. Where every network, or method
    without one, has one start, those of stored weights are one block; where any has several, nothing tells which of
    them go together, and each start is one.
    """
    parts = [part for block in found for part in _parts(block)]
    share(parts)
    return parts


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
