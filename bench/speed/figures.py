"""Speeds, ratios and η from raw samples, with 95 % intervals; "different at all?" before "by how much?"."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from bench.speed.record import Span, SpeedError

MINIMUM = 6
"""Fewest rounds with an interval: of fewer the spread says next to nothing."""

NOTHING_SAVED = 0.005  # a multiply-add ratio this near to 1 leaves η without meaning


def clips_per_second(seconds: Sequence[float], batch: int) -> Span:
    """Speed of one arm: samples over the time they took, with its interval.

    Of the mean and not the median time: where the cost hangs on the clip, most clips may be cheap ones.

    Raises:
        SpeedError: fewer than `MINIMUM` rounds.
    """
    times = _enough(seconds)
    return _span(float(batch / times.mean()), times / times.mean())


def ratio(seconds: Sequence[float], others: Sequence[float]) -> Span:
    """Speed over the other's, with its interval: of the two speeds, and what slows a whole round slows both.

    Raises:
        SpeedError: fewer than `MINIMUM` rounds, or not as many of each.
    """
    if len(seconds) != len(others):
        raise SpeedError(f"{len(seconds)} rounds of one arm cannot be paired with {len(others)} of the other")
    own, its = _enough(seconds), _enough(others)
    return _span(float(its.mean() / own.mean()), own / own.mean() - its / its.mean())


def _span(value: float, deviations: NDArray[np.float64]) -> Span:
    """With the interval of Student's t on the log scale, from what each round adds to the logarithm (delta method)."""
    count = len(deviations)
    width = float(t.ppf(0.975, count - 1) * deviations.std(ddof=1) / sqrt(count))
    return Span(value=value, low=value * exp(-width), high=value * exp(width))


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
    value, low, high = ((found - 1) / saved for found in (ratio.value, ratio.low, ratio.high))
    return Span(value=value, low=low, high=high)


def _enough(seconds: Sequence[float]) -> NDArray[np.float64]:
    if len(seconds) < MINIMUM:
        raise SpeedError(f"{len(seconds)} rounds give no 95 % interval: it takes {MINIMUM} or more")
    return np.asarray(seconds, np.float64)
