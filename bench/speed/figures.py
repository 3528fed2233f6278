"""Speeds, ratios and η from raw samples, with 95 % intervals; "different at all?" before "by how much?"."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log

import numpy as np
from numpy.typing import NDArray

from bench.speed.record import Span, SpeedError

MINIMUM = 6
"""Fewest rounds with an interval: of five, smallest and largest hold the median with 93.75 % only."""

NOTHING_SAVED = 0.005  # a multiply-add ratio this near to 1 leaves η without meaning


def clips_per_second(seconds: Sequence[float], batch: int) -> Span:
    """Median speed of one arm, with its interval.

    Raises:
        SpeedError: fewer than `MINIMUM` rounds.
    """
    return _span(batch / _enough(seconds))


def _span(values: NDArray[np.float64]) -> Span:
    """The median; its interval is between order statistics, which assumes no distribution and holds of few values too.

    (A bootstrap of the median does not quite: of 6 to 8 rounds its 95 % hold the truth 89 to 93 times of 100.)
    """
    ordered, outside = np.sort(values), _outside(len(values))
    return Span(median=float(np.median(ordered)), low=float(ordered[outside]), high=float(ordered[-1 - outside]))


def _outside(count: int) -> int:
    """How many of `count` sorted values lie below an interval, and above it, that holds the median with 95 %."""
    below, tail = 0, 1  # tail: of 2^count outcomes, those with at most `below` values under the median
    while (tail + comb(count, below + 1)) * 2 <= 0.05 * 2**count:
        below += 1
        tail += comb(count, below)
    return below


def ratio(seconds: Sequence[float], others: Sequence[float]) -> Span:
    """Speed over the other's: the median of the rounds' ratios, with its interval.

    Raises:
        SpeedError: fewer than `MINIMUM` rounds, or not as many of each.
    """
    if len(seconds) != len(others):
        raise SpeedError(f"{len(seconds)} rounds of one arm cannot be paired with {len(others)} of the other")
    return _span(_enough(others) / _enough(seconds))


def different(ratio: Span, noise: Span) -> bool:
    """Whether the interval of `ratio` excludes 1 by more than that of `noise`, equal against equal, strays from it."""
    margin = max(abs(log(noise.low)), abs(log(noise.high)))
    return log(ratio.low) > margin or log(ratio.high) < -margin


def eta(ratio: Span, cost_ratio: float) -> Span | None:
    """η = (speed ratio - 1) / (1 / cost ratio - 1): which part of the saved multiply-adds the clock sees.

    Its interval has the ends of that of the speed ratio. None where nothing was saved.
    """
    saved = 1 / cost_ratio - 1
    if saved <= NOTHING_SAVED:
        return None
    median, low, high = ((value - 1) / saved for value in (ratio.median, ratio.low, ratio.high))
    return Span(median=median, low=low, high=high)


def _enough(seconds: Sequence[float]) -> NDArray[np.float64]:
    if len(seconds) < MINIMUM:
        raise SpeedError(f"{len(seconds)} rounds give no 95 % interval: it takes {MINIMUM} or more")
    return np.asarray(seconds, np.float64)
