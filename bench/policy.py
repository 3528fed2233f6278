"""Decisions from outside, once for all methods: the controls of every adaptive method.

A method calls `policy.decide(point, learned)` at each of its decision points. `Learned` hands its own decision
back; every other policy is a `Forced` table of decisions, one row a sample.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bench.method import Method, Trace

MORE = (1, 4, 16, 64)
"""Times as many decisions as asked for that are drawn, one after the other, to come near a cost on average."""


class Policy(ABC):
    """Says what is decided at each decision point."""

    @abstractmethod
    def decide(self, point: str, learned: Tensor) -> Tensor:
        """The decision (B, ...) to follow at `point`, where the method itself would decide `learned` (B, ...)."""

    def rows(self, index: Tensor) -> Policy:
        """The same policy for the samples `index` (int64, (B,)) of a data set."""
        return self


class Learned(Policy):
    """The method's own decisions."""

    def decide(self, point: str, learned: Tensor) -> Tensor:
        """Returns `learned`."""
        return learned


class Forced(Policy):
    """Decisions fixed beforehand: name -> (N, ...); row i, modulo N, is for sample i. Also replays a trace."""

    def __init__(self, trace: Trace) -> None:
        lengths = {len(rows) for rows in trace.values()}
        if len(lengths) > 1:
            raise ValueError(f"a trace needs as many rows at every decision point, got {sorted(lengths)}")
        self.trace = dict(trace)

    def decide(self, point: str, learned: Tensor) -> Tensor:
        """The stored rows for `point`.

        Raises:
            KeyError: the trace has no such decision point.
        """
        if point not in self.trace:
            raise KeyError(f"no decision for {point!r}; the trace has {sorted(self.trace)}")
        rows = self.trace[point].to(learned)
        if len(rows) == len(learned):
            return rows
        return rows[torch.arange(len(learned), device=learned.device) % len(rows)]

    def rows(self, index: Tensor) -> Forced:
        """The rows of the samples `index`."""
        return Forced({point: rows[index.to(rows.device) % len(rows)] for point, rows in self.trace.items()})


def everything(method: Method) -> Forced:
    """The policy `all`: every sample computes everything."""
    return fixed(method, {})


def fixed(method: Method, choice: Mapping[str, int]) -> Forced:
    """The same option for every sample: point -> option number (0, the dearest, where a point is not named).

    Raises:
        ValueError: a point or an option does not exist.
    """
    decisions = method.decisions()
    for point, option in choice.items():
        if point not in decisions or not 0 <= option < len(decisions[point]):
            raise ValueError(f"no option {option} at {point!r}; points are {sorted(decisions)}")
    return Forced({point: options[[choice.get(point, 0)]] for point, options in decisions.items()})


def zeros_decide(options: Tensor) -> bool:
    """Whether zeros are among the options (options, ...), rather than what stands where a sample did not get to."""
    return bool((options == 0).flatten(1).all(1).any())


def unheeded(method: Method, forced: Trace, found: Trace) -> list[str]:
    """The points at which a trace is not what was forced, sample by sample, nor says that they were not reached.

    Both have a row for each sample; what is forced may have size 1 in dimensions in which what was found is larger.
    """
    wrong = []
    for point, wanted in forced.items():
        rows = found[point].to(wanted)
        heeded = (rows == wanted).flatten(1).all(1)
        if not zeros_decide(method.decisions()[point]):
            heeded |= (rows == 0).flatten(1).all(1)
        if not bool(heeded.all()):
            wrong.append(point)
    return wrong


def _draw(method: Method, uniform: dict[str, Tensor], thrift: float) -> Trace:
    """Options from fixed uniform numbers: each point leaves its dearest option with probability `thrift`."""
    trace = {}
    for point, options in method.decisions().items():
        steps = (uniform[point] < thrift).sum(1)  # one chance a step down the options
        trace[point] = options[steps]
    return trace


def _crossing(falling: Callable[[float], float], level: float) -> tuple[float, float, float]:
    """Where in 0..1 a falling function comes down to `level`, by bisection: there, just before, and just after it."""
    above, below = 0.0, 1.0
    for _ in range(40):
        middle = (above + below) / 2
        if falling(middle) > level:
            above = middle
        else:
            below = middle
    return (above + below) / 2, above, below


def matched(
    method: Method,
    macs: int,
    draws: int = 256,
    seed: int = 0,
    low: int | None = None,
    high: int | None = None,
    tolerance: float = 0.005,
) -> Forced:
    """Decisions that look at nothing, whose mean cost over `draws` samples is `macs`, within `tolerance`.

    With `low` and `high` the policy `matched` to a published operating point; without them the control `random`, which
    tells what a learned policy is worth at equal cost.

    Every decision point of every sample steps down its options independently with one common probability, which is
    found by bisection on fixed random numbers; draws below `low` or above `high` are drawn again. Where one decision of
    `draws` samples moves the mean by more than the tolerance, there are four times as many, a few times over.

    Raises:
        ValueError: the cost lies outside what the method can reach, or outside `low`..`high`.
    """
    nearest = math.inf
    for count in (draws * more for more in MORE):
        found = _drawn(method, macs, count, seed, low, high)
        for trace, mean in found:
            if abs(mean - macs) <= tolerance * macs and len(next(iter(trace.values()))) == count:
                return Forced(trace)
            nearest = min(nearest, mean, key=lambda mean: abs(mean - macs))
        if not found[1][1] >= macs >= found[2][1]:  # out of reach, however many
            break
    raise ValueError(f"no draw of {draws} decisions costs {macs} on average (nearest {nearest:.0f})")


def _drawn(
    method: Method, macs: int, draws: int, seed: int, low: int | None, high: int | None
) -> list[tuple[Trace, float]]:
    """Decisions of `draws` samples, fewer where `low`..`high` leaves fewer, and their mean cost: nearest to `macs`.

    As bisection leaves them, then just before and just after the decision with which the mean comes down to `macs`.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = {p: torch.rand(draws * 8, len(o) - 1, generator=generator) for p, o in method.decisions().items()}

    def candidate(thrift: float) -> tuple[Trace, float]:
        trace = _draw(method, uniform, thrift)
        cost = method.account(trace)
        fits = ((cost >= (low or 0)) & (cost <= (high or int(cost.max())))).nonzero()[:draws, 0]
        mean = float(cost[fits].double().mean()) if len(fits) else float(cost.double().mean())
        return {point: rows[fits] for point, rows in trace.items()}, mean

    return [candidate(thrift) for thrift in _crossing(lambda thrift: candidate(thrift)[1], macs)]
