"""A method beside another on the same data: the suite's own claims, which no table prints, judged as all claims are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.registry import WEIGHTS
from bench.tables.block import Block
from bench.tables.comparison import accuracies
from bench.tables.runs import by_form
from bench.tables.schema import Claim, Experiment, Relation
from bench.tables.verdicts import Judgement, judge


@dataclass(frozen=True)
class Beside:
    """What was found of `own`, in `block`, beside another method or itself in `where`.

    claim, judgement: of its accuracy minus the other's. cost: of its own over the other's.
    """

    block: Block
    own: Experiment
    revision: int
    where: Block
    other: Experiment
    claim: Claim
    judgement: Judgement
    cost: Judgement


def beside(
    relation: Relation, block: Block, own: Experiment, where: Block, other: Experiment, margin: float = 0.0
) -> Beside | None:
    """Whether the accuracy of `own` of a block minus that of `other` of the block `where` is on its side of the margin.

    None without a common seed.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    revision, latest = block.latest(own), where.latest(other)
    if revision is None or latest is None:
        return None
    runs, others = block.done(own, revision), where.done(other, latest)
    claim, cost = _claim(accuracies(block)[0], relation, margin), _claim("cost_ratio", "<=", 1.0)
    found = judge(claim, runs, others)
    if found.interval is None:
        return None
    return Beside(block, own, revision, where, other, claim, found, judge(cost, runs, others))


def beside_itself(block: Block, other: Block) -> Iterator[Beside]:
    """Every method of a block, whatever weights it started from, beside itself in another: is it more accurate?

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    for run, *_ in by_form(run for run in block.runs if run.record.status == "done"):
        who = run.record.identity
        options = {name: value for name, value in who.options.items() if name != WEIGHTS}
        asked = Experiment.model_construct(method=who.method, options=options, frames=who.frames)
        if told := beside(">", block, asked, other, asked):
            yield told


def _claim(statistic: str, relation: Relation, margin: float) -> Claim:
    told = {"id": "", "kind": "accuracy", "row": "", "against": "", "text": ""}
    return Claim.model_validate({**told, "statistic": statistic, "relation": relation, "margin": margin})
