"""The harness under attack: what was timed must have been the work, all of it, done then and for that input.

A method that answers before it is done, or with what it kept from other inputs, that changes its input, works on after
it returned or out of the clock's sight, or is faster on what it has seen, is caught by name.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.method import Method, Prediction, Trace
from bench.policy import Forced, Policy
from bench.speed.clock import Clock
from bench.speed.record import Precision, SpeedError

TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2}
"""Root mean square error of one sample's answer, relative to that of the answers."""

CHECKED = 16
"""Rounds whose answers are held against others, drawn beforehand: half of false answers escape once in 2^16."""

TELLING = 0.5  # of what sets answers to different inputs apart, the most that an error may be
SAME_COST = 0.02  # of the cost, what rounding may change in learned decisions
SETTLE, WATCH, IDLE = 0.05, 0.05, 0.1  # seconds for worker threads to fall asleep, of watching; busy share of one core
HIDDEN = (0.1, 1e-3)  # by which the caller's time may exceed the device's: share, seconds
AGAIN, REPEATED = 3, 1.5  # inputs shown again; how much slower all first sights are than all second ones: a cache

GOT = 0.9
"""Of the share of one core that an arm got, what the other must have got: with less, it makes up a ratio of 1.1."""

TOLD = 0.1
"""Seconds of calls, at least, of which a share is told: some systems count processor time in steps of 10 ms."""

BEYOND = 2.0
"""How much more than it can be a ratio may be: the roofline's is no strict bound."""


class CheatError(SpeedError):
    """A method was caught; names it and what it did."""

    def __init__(self, name: str, cheat: str) -> None:
        super().__init__(f"{name}: {cheat}")


class BusyError(CheatError):
    """A method was caught by the clock alone: on a machine that is busy with something else an honest one may be."""


@dataclass(frozen=True)
class Answer:
    """A snapshot of a prediction: its values (B, ...), boxes as sums over those of a sample, decisions and cost."""

    values: Tensor
    trace: Trace
    cost: Tensor


def snapshot(name: str, prediction: Prediction) -> Answer:
    """Copies an answer as it is now.

    Raises:
        CheatError: it is not made of plain tensors, so that its values may still be to come, or it is not finite.
    """
    parts = [prediction.logits, prediction.masks, *(prediction.boxes or ())]
    given = [part for part in parts if part is not None]
    if any(type(part) is not Tensor for part in (*given, prediction.cost, *prediction.trace.values())):
        raise CheatError(name, "answers with something else than plain tensors, whose values may be to come")
    values = _summed(prediction.boxes) if prediction.boxes is not None else given[0]
    values = values.detach().to("cpu", torch.float32, copy=True)
    if not bool(values.isfinite().all()):
        raise CheatError(name, "answers are not finite")
    trace = {point: rows.detach().to("cpu", copy=True) for point, rows in prediction.trace.items()}
    return Answer(values.flatten(1), trace, prediction.cost.clone())


def _summed(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes of all samples as (B, 6): the sum of their scores, and of corners and classes, each times the score.

    The same in whatever order they come, and hardly moved by a box that is hardly there and comes or goes by rounding.
    """
    rows = []
    for each in boxes:
        score = (each[:, 4] * each[:, 5]).float()
        rows.append(torch.cat([score.sum()[None], (score[:, None] * each[:, [0, 1, 2, 3, 6]]).sum(0)]))
    return torch.stack(rows)


class Watch:
    """Sees every answer of the timed rounds, and keeps those of some that no arm can know."""

    def __init__(self, rounds: int, seed: int) -> None:
        self.kept_rounds = sorted(random.Random(seed).sample(range(rounds), min(CHECKED, rounds)))
        self.kept: dict[str, dict[int, Answer]] = {}
        self.costs: dict[str, list[float]] = {}
        self._threads = torch.get_num_threads()

    def see(self, name: str, label: str, number: int, prediction: Prediction) -> None:
        """Called with arm `name`'s answer right after the clock has stopped. label: for people.

        Raises:
            CheatError: it is no answer, or the number of threads was changed.
        """
        answer = snapshot(label, prediction)
        if torch.get_num_threads() != self._threads:
            raise CheatError(label, f"leaves torch with {torch.get_num_threads()} threads, not {self._threads}")
        self.costs.setdefault(name, []).append(float(answer.cost.double().mean()))
        if number in self.kept_rounds:
            self.kept.setdefault(name, {})[number] = answer


def unchanged(name: str, given: Tensor, original: Tensor) -> None:
    """What an arm was given must be what it was before.

    Raises:
        CheatError: it is not.
    """
    if given.shape != original.shape or not torch.equal(given, original):
        raise CheatError(name, "changes its input")


class Apart:
    """Answers computed apart: in float32, by a copy of the method that was used for nothing else.

    inputs: round -> its batch and policy.
    """

    def __init__(self, method: Method, inputs: Callable[[int], tuple[Tensor, Policy]]) -> None:
        self._method, self._inputs = copy.deepcopy(method), inputs
        self._known: dict[int, Answer] = {}

    def accounted(self, trace: Trace) -> Tensor | None:
        """The cost (B,) of decisions; None where there are none."""
        return self._method.account(trace) if self._method.decisions() else None

    def forced(self, number: int) -> Forced | None:
        """The decisions that were forced upon a round, if any were."""
        policy = self._inputs(number)[1]
        return policy if isinstance(policy, Forced) and self._method.decisions() else None

    def answer(self, name: str, number: int) -> Answer:
        """To the batch of a round, under its policy."""
        if number not in self._known:
            self._known[number] = snapshot(name, self._method(*self._inputs(number)))
        return self._known[number]

    @torch.no_grad()
    def hangs_on_weights(self, name: str) -> bool:
        """Whether a copy with other weights answers otherwise, as what is only kept from another input does not."""
        other, number = copy.deepcopy(self._method), next(iter(self._known))
        for weight in other.parameters():
            weight.mul_(1.1)
        return not torch.equal(snapshot(name, other(*self._inputs(number))).values, self._known[number].values)

    def replayed(self, name: str, number: int, trace: Trace) -> Answer:
        """To the batch of a round, under the decisions `trace`."""
        return snapshot(name, self._method(self._inputs(number)[0], Forced(trace)))


def hold(name: str, answers: Mapping[int, Answer], apart: Apart, precision: Precision) -> dict[str, float]:
    """Holds the answers of some rounds against those computed apart.

    Where rounding turned a learned decision, the decisions that were timed are followed. Returns the largest error and
    the spread of the answers over all samples, both relative to the answers' root mean square.

    Raises:
        CheatError: an answer, the decisions or their cost are others; or all answers are the same.
    """
    wanted, stated, cost = {}, 0.0, 0.0
    for number, answer in answers.items():
        if not _obeyed(answer.trace, apart.forced(number)):
            raise CheatError(name, f"does not follow the decisions it was given (round {number + 1})")
        told = apart.answer(name, number)
        cost += float(told.cost.double().sum())
        stated += float(answer.cost.double().sum())
        if not _alike(answer.trace, told.trace):
            told = apart.replayed(name, number, answer.trace)
        accounted = apart.accounted(answer.trace)
        if not torch.equal(told.cost if accounted is None else accounted, answer.cost):
            raise CheatError(name, f"states another cost than its decisions have (round {number + 1})")
        wanted[number] = told.values
    if abs(stated - cost) > SAME_COST * cost:
        raise CheatError(
            name, f"decides otherwise than when it is not timed: {stated:.4g} multiply-adds, not {cost:.4g}"
        )
    found = {number: answer.values for number, answer in answers.items()}
    if _repeated(found) and not (_constant(wanted) and apart.hangs_on_weights(name)):
        raise CheatError(name, "gives the same answer to different inputs")
    return _compare(name, found, wanted, precision)


def _repeated(found: Mapping[int, Tensor]) -> bool:
    """Whether two rounds have the same answers that are something."""
    return any(bool(one.any()) and torch.equal(one, other) for one, other in combinations(found.values(), 2))


def _constant(wanted: Mapping[int, Tensor]) -> bool:
    """Whether all samples of all rounds have one answer: of a network that skips all, or whose features are dead."""
    everything = torch.cat(list(wanted.values()))
    return bool((everything == everything[0]).all())


def _compare(
    name: str, found: Mapping[int, Tensor], wanted: Mapping[int, Tensor], precision: Precision
) -> dict[str, float]:
    if {number: values.shape for number, values in found.items()} != {n: values.shape for n, values in wanted.items()}:
        raise CheatError(name, "answers have another form than those computed apart")
    everything = torch.cat(list(wanted.values()))
    scale, spread = _rms(everything), _rms(everything - everything.mean(0))
    allowed = TOLERANCE[precision] * scale
    if not _constant(wanted):  # else nothing sets answers apart
        allowed = min(allowed, TELLING * spread)
    worst = 0.0
    for number, values in found.items():
        error = max(map(_rms, values - wanted[number]))
        if error > allowed:
            off = f"off by {error / scale:.2g} of their size, {allowed / scale:.2g} allowed" if scale else "not zeros"
            raise CheatError(
                name,
                f"answers in round {number + 1} are not those computed apart: unfinished, kept from another input, or "
                f"computed otherwise ({off})",
            )
        worst = max(worst, error)
    size = scale or 1.0  # of answers that are all zeros, which nothing is off from here
    return {"error": worst / size, "spread": spread / size}


def _alike(trace: Trace, other: Trace) -> bool:
    """Whether the same is open."""
    same = trace.keys() == other.keys()
    return same and all(torch.equal(rows > 0, other[point] > 0) for point, rows in trace.items())


def _obeyed(trace: Trace, forced: Forced | None) -> bool:
    """Whether what is open is what was forced, of each sample that got to the point (else its rows are zeros)."""
    if forced is None:
        return True
    for point, rows in trace.items():
        wanted = forced.decide(point, rows)
        reached = (rows != 0).flatten(1).any(1)
        if bool(((rows > 0) != (wanted > 0)).flatten(1).any(1).logical_and(reached).any()):
            return False
    return True


def _rms(values: Tensor) -> float:
    return float(values.double().pow(2).mean().sqrt())


def in_sight(name: str, seconds: Sequence[float], walls: Sequence[float]) -> None:
    """The device's time and the caller's must agree.

    Raises:
        BusyError: the device still worked when the events of its stream had passed.
    """
    device, caller = median(seconds), median(walls)
    share, least = HIDDEN
    if caller - device > max(share * device, least):
        raise BusyError(
            name, f"works out of its stream's sight: {device * 1e3:.3g} ms by events, {caller * 1e3:.3g} ms in all"
        )


def share(walls: Sequence[float], processor: Sequence[float]) -> float:
    """Of one core, what calls got while they ran, 1 at the most, and where they are too short to tell.

    Several threads only add to it, so that a share below 1 is sure, and 1 tells little.
    """
    wall = sum(walls)
    return min(1.0, sum(processor) / wall) if wall >= TOLD else 1.0


def undisturbed(name: str, own: float, other: float) -> None:
    """An arm and what it is timed against must have got about the same share of a core: else the ratio is made of that.

    Raises:
        BusyError: what else ran cut into one more than into the other.
    """
    if min(own, other) < GOT * max(own, other):
        raise BusyError(name, f"got {own:.0%} of a processor while it was timed, and its other side {other:.0%}")


def believable(name: str, ratio: float, bound: float, fastest: float) -> None:
    """A ratio must not lie far above both what the roofline allows and what the fastest call of each arm shows.

    The fastest calls count too, since of two networks that are not twins one may be much nearer to its roofline.

    Raises:
        BusyError: it does.
    """
    if ratio > BEYOND * max(bound, fastest):
        raise BusyError(
            name,
            f"{ratio:.3g} times as fast, where the roofline allows {bound:.3g} and the fastest calls show "
            f"{fastest:.3g}: something else slowed the other down",
        )


def same_when_seen(name: str, arm: Callable[[Any], Any], fresh: Callable[[int], Any], clock: Clock) -> None:
    """Shows inputs that are new, each twice over in copies of its own.

    Raises:
        BusyError: every second sight was much faster than every first.
    """
    first: list[float] = []
    again: list[float] = []
    for number in range(AGAIN):
        for seconds in (first, again):
            seconds.append(clock.time(arm, fresh(number)).seconds)
    if min(first) > REPEATED * max(again):
        once, twice = (f"{median(seconds) * 1e3:.3g} ms" for seconds in (first, again))
        raise BusyError(name, f"is faster on input that it has seen: {twice}, at first sight {once}")


def done_on_return(
    name: str,
    call: Callable[[], Prediction],
    *,
    sleep: Callable[[float], None] = time.sleep,
    processor: Callable[[], float] = time.process_time,
) -> None:
    """Calls once; then nothing may happen to the answer, nor anything that takes processor time.

    Raises:
        CheatError: the answer changes.
        BusyError: the process goes on computing.
    """
    prediction = call()
    before = snapshot(name, prediction)
    sleep(SETTLE)  # the threads of a parallel loop spin for a moment
    start = processor()
    sleep(WATCH)
    busy = (processor() - start) / WATCH
    if not torch.equal(snapshot(name, prediction).values, before.values):
        raise CheatError(name, "was not done when it returned: its answer changed afterwards")
    if busy > IDLE:
        raise BusyError(name, f"works on after it has returned: {busy:.0%} of a core")
