"""Speeds, ratios and η against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bench.speed import figures
from bench.speed.record import Span, SpeedError

SECONDS = st.lists(st.floats(0.01, 10), min_size=7, max_size=21).filter(lambda found: len(found) % 2)


def test_speed_is_the_batch_over_the_median_time() -> None:
    assert figures.clips_per_second([0.5] * 6, 4) == Span(median=8, low=8, high=8)
    found = figures.clips_per_second([1, 2, 4, 5, 8, 10, 20], 40)
    assert (found.median, found.low, found.high) == (8, 2, 40)


@pytest.mark.parametrize("count", [6, 7, 8, 9, 12, 20, 51, 200])
def test_the_interval_of_a_speed_is_the_narrowest_that_holds_the_median_with_95_percent(count: int) -> None:
    found = figures.clips_per_second([1 / speed for speed in range(1, count + 1)], 1)
    below = round(found.low) - 1  # of the sorted speeds 1..count, those under the interval
    assert round(found.high) == count - below
    assert 1 - 2 * binom.cdf(below, count, 0.5) >= 0.95 > 1 - 2 * binom.cdf(below + 1, count, 0.5)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_rounds_give_no_interval_and_say_so(count: int) -> None:
    with pytest.raises(SpeedError, match=f"{count} rounds give no 95 % interval: it takes 6"):
        figures.clips_per_second([1.0] * count, 1)
    with pytest.raises(SpeedError, match="it takes 6"):
        figures.ratio([1.0] * count, [1.0] * count)
    with pytest.raises(SpeedError, match="cannot be paired"):
        figures.ratio([1.0] * 6, [1.0] * 7)


@given(SECONDS, st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_what_slows_a_whole_round_is_not_in_the_ratio(seconds: list[float], factor: float) -> None:
    twice = figures.ratio(seconds, [factor * value for value in seconds])
    assert twice.model_dump() == pytest.approx({"median": factor, "low": factor, "high": factor})


@given(SECONDS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_ratio_lies_in_its_interval_and_turns_over_with_its_arms(seconds: list[float], random: object) -> None:
    others = list(seconds)
    random.shuffle(others)  # type: ignore[attr-defined]
    one, other = figures.ratio(seconds, others), figures.ratio(others, seconds)
    assert one.low <= one.median <= one.high
    assert [one.median, one.low, one.high] == pytest.approx([1 / other.median, 1 / other.high, 1 / other.low])


@pytest.mark.parametrize("rounds", [6, 8, 12, 31])
def test_the_interval_of_a_ratio_holds_the_truth_at_least_as_often_as_it_says(rounds: int) -> None:
    """Of few rounds too, where a bootstrap of the median holds it 89 to 93 times of 100."""
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, (4000, 2, rounds)))
    found = [figures.ratio(a.tolist(), (1.3 * b).tolist()) for a, b in noise]
    held = np.mean([one.low <= 1.3 <= one.high for one in found])
    assert 0.94 <= held <= 0.995


@pytest.mark.parametrize(
    ("ratio", "noise", "found"),
    [
        ((1.10, 1.05, 1.15), (1.00, 0.98, 1.02), True),
        ((1.10, 1.05, 1.15), (1.00, 0.94, 1.02), False),  # two equal arms stray as far, to the other side
        ((0.90, 0.85, 0.95), (1.00, 0.98, 1.02), True),
        ((0.90, 0.85, 0.95), (1.00, 0.98, 1.06), False),
        ((1.10, 0.99, 1.15), (1.00, 1.00, 1.00), False),
        ((1.00, 1.00, 1.00), (1.00, 1.00, 1.00), False),
    ],
)
def test_a_difference_must_exceed_the_noise_of_equal_arms(
    ratio: tuple[float, ...], noise: tuple[float, ...], found: bool
) -> None:
    spans = [Span(median=values[0], low=values[1], high=values[2]) for values in (ratio, noise)]
    assert figures.different(*spans) is found


def test_eta_is_the_share_of_the_saving_that_the_clock_sees() -> None:
    whole, none = Span(median=2, low=2, high=2), Span(median=1, low=1, high=1)
    assert figures.eta(whole, 0.5) == Span(median=1, low=1, high=1)
    assert figures.eta(none, 0.5) == Span(median=0, low=0, high=0)
    found = figures.eta(Span(median=1.5, low=0.9, high=2.2), 0.5)
    assert found is not None and found.model_dump() == pytest.approx({"median": 0.5, "low": -0.1, "high": 1.2})


@pytest.mark.parametrize(
    ("speeds", "costs", "eta"), [((108.7, 97.1), (40.4, 55.2), 0.33), ((141.7, 116.4), (26.5, 56.0), 0.20)]
)
def test_eta_of_the_published_tables(speeds: tuple[float, float], costs: tuple[float, float], eta: float) -> None:
    ratio = speeds[0] / speeds[1]
    found = figures.eta(Span(median=ratio, low=ratio, high=ratio), costs[0] / costs[1])
    assert found is not None and round(found.median, 2) == eta


@pytest.mark.parametrize("cost_ratio", [1.0, 1.2, 0.999])
def test_eta_has_no_meaning_where_nothing_is_saved(cost_ratio: float) -> None:
    assert figures.eta(Span(median=1.1, low=1, high=1.2), cost_ratio) is None
