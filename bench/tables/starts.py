"""Blocks apart by what their networks started from: weights as drawn, or stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.registry import WEIGHTS
from bench.tables.block import Block
from bench.tables.blocks import share
from bench.tables.runs import Run


def by_start(found: Sequence[Block]) -> list[Block]:
    """Each block as one of weights as drawn, if it has such runs, and ones of stored weights.

    In these every network, or method without one, starts from the same files in all its runs, so that a row of a table
    is measured, and a claim judged, by runs that started alike.
    """
    parts = [part for block in found for part in _parts(block)]
    share(parts)
    return parts


def _parts(block: Block) -> list[Block]:
    drawn, stored = list[Run](), list[Block]()
    for run in block.runs:
        who = run.record.identity
        network, start = who.method.rpartition("/")[2], who.options.get(WEIGHTS)
        if not isinstance(start, str):
            drawn.append(run)
            continue
        fitting = [part for part in stored if part.starts.get(network, start) == start]
        if not fitting:
            stored.append(replace(block, runs=[], starts={}))
        part = fitting[0] if fitting else stored[-1]
        part.starts[network] = start
        part.runs.append(run)
    return [replace(block, runs=drawn)] * bool(drawn) + stored
