"""95 % two-sided intervals over seeds and independent sources (videos, source digits, recordings).

One scheme for every statistic. Each seed gives its own value of the statistic; the estimate is their mean.
- Sources: a bootstrap. Sources are drawn with replacement, the same draw for every seed, since all seeds are tested on
  the same videos. The videos of one source stay together.
- Seeds: Student's t. To the draws is added t * s / sqrt(S), with s the standard deviation of the S seeds' values and t
  of Student's distribution with S - 1 degrees of freedom. Drawing three or ten seeds with replacement instead gives too
  narrow intervals (three seeds: 85 % coverage in a simulation, where 95 % is stated).
The interval is the 2.5 and 97.5 % quantiles of the sum, whose distribution is computed and not drawn: its tails are
those of t, and so few draws fall there that chance would decide verdicts close to their margin. With one seed it is
over sources only. With one source there is nothing to draw from, and its ends are NaN. Ratios of what is above 0 go by
their logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse, special

Floats = NDArray[np.float64]
DRAWS, FEWER = 10_000, 2_000
"""Draws of sources; fewer of what is dear to compute for each, and of so many sources that it makes no difference."""

MOST_DRAWN = 20_000_000
"""Sources in all draws together, where there are more than `FEWER`."""

Statistic = Callable[[Floats], Floats]
"""Weights of the sources (B, G) -> the value for each draw and seed (B, S)."""


class Interval(NamedTuple):
    """An estimate with the ends of its 95 % interval, in the units of the statistic."""

    value: float
    low: float
    high: float


def interval(values: ArrayLike, groups: ArrayLike, resamples: int = DRAWS, seed: int = 0) -> Interval:
    """The mean of `values` (seeds, videos) or (videos,) whose videos come from the sources `groups` (videos,).

    For a paired comparison, `values` are the differences, video by video and seed by seed.

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """
    array, codes = _check(values, groups)
    sums, counts = _sums(array, codes), _sums(np.ones((1, len(codes))), codes)

    def mean(weights: Floats) -> Floats:
        return (weights @ sums.T) / (weights @ counts.T)

    return estimate(mean, int(codes.max()) + 1, resamples, seed)


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike, groups: ArrayLike) -> Interval:
    """The ratio of two means, both (seeds, videos) or (videos,), paired; the geometric mean of the seeds' ratios.

    On the log scale, where a ratio and its inverse are as far from 1 as each other: the ends are above 0, and those of
    the inverse are the inverses.

    Raises:
        ValueError: the shapes do not fit, or a value is not above 0 and finite.
    """
    above, codes = _check(numerator, groups)
    below, _ = _check(denominator, groups)
    if not (above > 0).all() or not (below > 0).all():
        raise ValueError("values must be above 0: their ratio is taken on the log scale")
    sums, others = _sums(above, codes), _sums(below, codes)
    first = float(sums[0].sum() / others[0].sum())  # logs are of what differs from it, so that equal seeds stay exact

    def log_ratio(weights: Floats) -> Floats:
        return np.log((weights @ sums.T) / (weights @ others.T) / first)

    found = estimate(log_ratio, int(codes.max()) + 1)
    return Interval(*(float(first * np.exp(end)) for end in found))


def spread_interval(values: ArrayLike, groups: ArrayLike) -> Interval:
    """The standard deviation over videos relative to the mean, of `values` (seeds, videos) or (videos,).

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """
    array, codes = _check(values, groups)
    scaled = array / array.mean(1, keepdims=True)  # near 1, so that the variance survives the subtraction below
    sums, squares = _sums(scaled - 1, codes), _sums((scaled - 1) ** 2, codes)
    counts = _sums(np.ones((1, len(codes))), codes)

    def spread(weights: Floats) -> Floats:
        total = weights @ counts.T
        mean = (weights @ sums.T) / total
        variance = (weights @ squares.T) / total - mean**2
        return np.sqrt(np.maximum(variance, 0)) / (1 + mean)

    return estimate(spread, int(codes.max()) + 1)


def spearman_interval(x: ArrayLike, y: ArrayLike, groups: ArrayLike, resamples: int = FEWER) -> Interval:
    """Spearman's rank correlation over videos between `x` (seeds, videos) or (videos,) and `y` (videos,).

    Ties share their middle rank. Every draw is ranked anew, which is exact but dearer than a mean: hence fewer draws.
    Where one side is constant nothing follows anything, and the correlation is 0.

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """
    array, codes = _check(x, groups)
    own, other = [_ties(row, codes) for row in array], _ties(_check(y, groups)[0][0], codes)

    def correlation(weights: Floats) -> Floats:
        ranks, scale = _ranks(other, weights)
        weighted = weights[:, codes] * ranks[:, other.runs]
        return np.stack([_correlation(ties, weights, weighted, scale) for ties in own], axis=1)

    return estimate(correlation, int(codes.max()) + 1, resamples, rows=50)


def estimate(
    statistic: Statistic, sources: int, resamples: int = DRAWS, seed: int = 0, rows: int = 200, centred: bool = False
) -> Interval:
    """Any statistic of so many sources, under the scheme of this module's docstring.

    rows: draws at a time, to bound the memory.
    centred: the draws are moved by as much as they lie above the estimate on average. For statistics that drawing
    with replacement biases: a source that is drawn twice confirms itself in a ranking, a rare class may not be drawn.
    """
    seeds = statistic(np.ones((1, sources)))
    value = float(_mean(seeds)[0])
    if sources < 2:
        return Interval(value, float("nan"), float("nan"))
    resamples = min(resamples, max(FEWER, MOST_DRAWN // sources))
    drawn = np.concatenate([_mean(statistic(part)) for part in _draws(sources, resamples, seed, rows)])
    if centred:
        drawn = drawn - (drawn - value).mean()
    count = seeds.shape[1]
    error = float((seeds - seeds[:, :1]).std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    return Interval(value, *(value + _quantile(drawn - value, error, count - 1, share) for share in (0.025, 0.975)))


def _quantile(drawn: Floats, error: float, freedom: int, share: float) -> float:
    """The value below which lies that share of `drawn` plus `error` times a Student's t; NaN where a draw is NaN."""
    if np.isnan(drawn).any() or error <= 1e-12 * np.abs(drawn).max():  # nothing but rounding: too steep to be solved
        return float(np.quantile(drawn, share))
    apart = error * special.stdtrit(freedom, share)

    def beyond(value: float) -> float:
        return float(special.stdtr(freedom, (value - drawn) / error).mean() - share)

    return float(optimize.brentq(beyond, drawn.min() + apart - error, drawn.max() + apart + error))


def _check(values: ArrayLike, groups: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    """Values as (seeds, videos) and the number 0..G-1 of every video's source."""
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    names = np.asarray(groups)
    if array.ndim != 2 or names.shape != array.shape[1:] or not array.size:
        raise ValueError(f"values {array.shape} are not (seeds, videos) with one of {names.shape} groups a video")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite: leave out the videos that were not scored")
    return array, np.unique(names, return_inverse=True)[1]


def _sums(values: Floats, codes: NDArray[np.intp]) -> Floats:
    """Sums within each source: (seeds, videos) -> (seeds, sources)."""
    return np.stack([np.bincount(codes, weights=row) for row in values])


def _mean(values: Floats) -> Floats:
    """The mean over seeds, (B, S) -> (B,), exact where all are equal: a rounding must not cross a margin."""
    return np.asarray(values[:, 0] + (values - values[:, :1]).mean(1))


def _draws(sources: int, resamples: int, seed: int, rows: int) -> Iterator[Floats]:
    """How often each source is drawn, (<= rows, sources) at a time."""
    weights = _weights(sources, resamples, seed)
    for start in range(0, resamples, rows):
        yield weights[start : start + rows].astype(np.float64)


@lru_cache(maxsize=4)
def _weights(sources: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """How often each source is drawn in each resample; kept, since many statistics share the same sources."""
    random, weights = np.random.default_rng(seed), np.empty((resamples, sources), np.uint16)
    for part in np.array_split(weights, 1 + resamples * sources // 1_000_000):  # views, to bound the memory
        draws = random.integers(sources, size=part.shape) + sources * np.arange(len(part))[:, None]
        part[:] = np.bincount(draws.ravel(), minlength=part.size).reshape(part.shape)
    return weights


class _Ties(NamedTuple):
    """Each video's run of equal values, in rising order, and how many videos of each source are in it (G, runs)."""

    runs: NDArray[np.intp]
    counts: sparse.csr_array


def _ties(values: Floats, codes: NDArray[np.intp]) -> _Ties:
    runs = np.unique(values, return_inverse=True)[1]
    return _Ties(runs, sparse.csr_array((np.ones(len(runs)), (codes, runs))))


def _ranks(ties: _Ties, weights: Floats) -> tuple[Floats, Floats]:
    """Of sources that occur `weights` (B, G) times: middle ranks less their mean (B, runs), and their squares' sum."""
    totals = weights @ ties.counts
    middle = np.cumsum(totals, axis=1) - totals / 2
    ranks = middle - totals.sum(1, keepdims=True) / 2
    return ranks, np.einsum("br,br,br->b", totals, ranks, ranks)


def _correlation(ties: _Ties, weights: Floats, weighted: Floats, scale: Floats) -> Floats:
    """Weighted correlation of ranks with others, 0 where a side is constant: -> (B,).

    weighted (B, videos): the others' ranks times how often a video occurs; scale (B,): the sum of their squares.
    """
    ranks, own = _ranks(ties, weights)
    product, scale = np.einsum("bv,bv->b", ranks[:, ties.runs], weighted), own * scale
    return np.where(scale > 0, product / np.sqrt(np.where(scale > 0, scale, 1)), 0.0)
