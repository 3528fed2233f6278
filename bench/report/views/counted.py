"""What the counters of multiply-adds say: of what ran, and of what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report import text
from bench.tables.block import Block
from bench.tables.comparison import described
from bench.tables.runs import Run, by_form
from bench.tables.static_costs import REPRODUCED, CostLine, StaticCost


@dataclass(frozen=True)
class Agreement:
    """What the counters say of one method: summed over its seeds, and for one sample of a static network.

    samples: of the test set. accounted, executed: multiply-adds of those. ours, fvcore: of one sample, None where the
    network is not static.
    """

    block: Block
    method: str
    name: str
    samples: int
    accounted: int
    executed: int
    ours: int | None
    fvcore: int | None


def agreements(blocks: Sequence[Block]) -> list[Agreement]:
    """What the counters say of every method in the records, with the seeds of its latest revision together."""
    return [line for block in blocks for line in _agreements(block)]


def _agreements(block: Block) -> list[Agreement]:
    return [
        _agreement(block, runs) for runs in by_form(run for run in block.own if run.record.executed.get("accounted"))
    ]


def _agreement(block: Block, runs: Sequence[Run]) -> Agreement:
    records = [run.record for run in runs]
    samples, accounted, executed = (
        sum(record.executed.get(key, 0) for record in records) for key in ("samples", "accounted", "executed")
    )
    who = records[0].identity
    name = f"{described(who.method, who.options)}, {text.frames(who.frames)}"
    return Agreement(
        block, who.method, name, samples, accounted, executed, records[0].static_macs, records[0].fvcore_macs
    )


def reproduced(lines: Sequence[CostLine]) -> str:
    """How many of the counted static rows come out as printed, in a sentence."""
    counted = [line for line in lines if line.cost]
    near = [line for line in counted if line.cost and _near(line.cost, line.published)]
    share = f"{100 * REPRODUCED:g} %"
    what = f"{len(near)} of the {len(counted)} rows that are counted"
    return f"{what} come within {share} of what is published under a convention."


def _near(cost: StaticCost, published: float) -> bool:
    return any(abs(macs / 1e9 / published - 1) <= REPRODUCED for macs in (cost.macs, cost.fvcore))
