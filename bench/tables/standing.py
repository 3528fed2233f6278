"""How a method stands beside each other one of its block: more accurate, cheaper, faster? Judged as claims are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.tables.block import Block
from bench.tables.comparison import accuracies, described
from bench.tables.runs import NotMeasuredError
from bench.tables.schema import Claim, Experiment, Statistic
from bench.tables.speeds import Setting, Timed, judge_speed, timed
from bench.tables.timings import Timing, beside, learned, of_method, revised, with_own_twin
from bench.tables.verdicts import Judgement, judge

QUESTIONS = ("more accurate", "cheaper", "faster")


@dataclass(frozen=True)
class Answer:
    """One question's verdict, by a statistic of `bench.tables.schema.Claim`; setting: of a speed, timed how."""

    question: str
    statistic: Statistic
    judgement: Judgement
    setting: Setting | None = None


@dataclass(frozen=True)
class Standing:
    """A method beside one other: verdicts, and the other's own speeds, or why there are none."""

    against: Experiment
    answers: Sequence[Answer]
    speeds: Sequence[Timed] = ()
    why_not: str = ""

    @property
    def name(self) -> str:
        """The other one, for people."""
        return described(self.against.method, self.against.options)


def standings(block: Block, own: Experiment, timings: Sequence[Timing]) -> list[Standing]:
    """`own`, of its latest revision, beside every other method that was finished in the block at as many frames.

    timings: of all blocks; those of this one give the speeds. A block of smoke runs concludes nothing.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    here = learned(timings, block)
    return [_standing(block, own, other, here) for other in _others(block, own)]


def _others(block: Block, own: Experiment) -> list[Experiment]:
    found: list[Experiment] = []
    for record in (run.record for run in block.runs):
        who = record.identity
        other = Experiment.model_construct(method=who.method, options=who.options, frames=who.frames)
        if record.status == "done" and who.frames == own.frames and other not in (own, *found):
            found.append(other)
    return sorted(found, key=lambda other: described(other.method, other.options))


def _standing(block: Block, own: Experiment, other: Experiment, timings: Sequence[Timing]) -> Standing:
    revision, its = block.latest(own), block.latest(other)
    assert revision is not None and its is not None
    runs, others = block.done(own, revision), block.done(other, its)
    main: Statistic = accuracies(block)[0]  # type: ignore[assignment]  # the figures that are compared are statistics
    answers = [
        Answer(question, statistic, _guarded(block, judge(_claim(statistic), runs, others)))
        for question, statistic in zip(QUESTIONS, (main, "cost_ratio"), strict=False)
    ]
    clocked = beside(revised(of_method(timings, own.method, own.options, own.frames), revision), other)
    judged = judge_speed(_claim("speed_ratio"), clocked)
    if not clocked:
        judged = [(None, Judgement("not run", reason="the two were not timed against each other"))]
    answers += [Answer(QUESTIONS[2], "speed_ratio", _guarded(block, found), key) for key, found in judged]
    return Standing(other, answers, *speeds(timings, other, its))


def speeds(timings: Sequence[Timing], one: Experiment, revision: int) -> tuple[Sequence[Timed], str]:
    """Samples a second of a revision, one a machine, or why there are none."""
    clocked = with_own_twin(of_method(timings, one.method, one.options, one.frames))
    try:
        return timed("speed", revised(clocked, revision)), ""
    except NotMeasuredError as reason:
        return (), str(reason)


def _claim(statistic: Statistic) -> Claim:
    """Better than the other by anything at all."""
    relation, margin = {"cost_ratio": ("<", 1.0), "speed_ratio": (">", 1.0)}.get(statistic, (">", 0.0))
    values: Mapping[str, object] = {"relation": relation, "margin": margin, "statistic": statistic}
    return Claim.model_validate({"id": "", "kind": "analysis", "row": "", "against": "", "text": "", **values})


def _guarded(block: Block, found: Judgement) -> Judgement:
    if not block.smoke or found.verdict == "not run":
        return found
    return replace(found, verdict="inconclusive", reason="a smoke run: it only shows that everything runs")
