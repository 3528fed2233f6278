"""Speeds, ratios and η against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from bench.speed import figures
from bench.speed.record import Span, SpeedError

SECONDS = st.lists(st.floats(0.01, 10), min_size=7, max_size=21).filter(lambda found: len(found) % 2)


def test_speed_is_what_was_answered_over_the_time_it_took() -> None:
    assert figures.clips_per_second([0.5] * 6, 4) == Span(value=8, low=8, high=8)
    found = figures.clips_per_second([1, 2, 4, 5, 8, 10], 10)
    assert found.value == pytest.approx(60 / 30) and found.low < 2 < found.high


def test_the_interval_of_a_speed_is_that_of_the_mean_time_to_first_order() -> None:
    times = 1 + 1e-6 * np.random.default_rng(0).normal(size=12)
    found = figures.clips_per_second(times.tolist(), 1)
    of_mean = ttest_1samp(times, 1).confidence_interval(0.95)
    assert [found.low - 1, found.high - 1] == pytest.approx([1 - of_mean.high, 1 - of_mean.low], rel=1e-3)


def test_where_most_clips_are_cheap_the_ratio_is_still_that_of_the_whole_time() -> None:
    """Six of ten clips leave early, at a tenth of the cost: a median would say ten times as fast."""
    own, others = [0.1, 1.0, 0.1, 0.1, 1.0] * 4, [1.0] * 20
    found = figures.ratio(own, others)
    assert found.value == pytest.approx(1 / 0.46)
    share = figures.eta(found, 0.46)
    assert share is not None and share.value == pytest.approx(1)


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
    assert twice.model_dump() == pytest.approx({"value": factor, "low": factor, "high": factor})


@given(SECONDS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_ratio_lies_in_its_interval_and_turns_over_with_its_arms(seconds: list[float], random: object) -> None:
    others = list(seconds)
    random.shuffle(others)  # type: ignore[attr-defined]
    one, other = figures.ratio(seconds, others), figures.ratio(others, seconds)
    assert one.low <= one.value <= one.high
    assert [one.value, one.low, one.high] == pytest.approx([1 / other.value, 1 / other.high, 1 / other.low])


@pytest.mark.parametrize("rounds", [6, 8, 12, 31])
def test_the_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says(rounds: int) -> None:
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, (4000, 2, rounds)))
    found = [figures.ratio(a.tolist(), (1.3 * b).tolist()) for a, b in noise]
    assert 0.935 <= np.mean([one.low <= 1.3 <= one.high for one in found]) <= 0.965


@pytest.mark.parametrize(("leave", "rounds"), [(0.4, 32), (0.6, 32), (0.6, 128)])
def test_and_of_a_method_whose_cost_has_two_values(leave: float, rounds: int) -> None:
    random = np.random.default_rng(0)
    own = np.where(random.random((2000, rounds)) < leave, 0.1, 1.0) * random.normal(1, 0.02, (2000, rounds))
    truth, others = 1 / (1 - 0.9 * leave), [1.0] * rounds
    found = [figures.ratio(one.tolist(), others) for one in own]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.97


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
    spans = [Span(value=values[0], low=values[1], high=values[2]) for values in (ratio, noise)]
    assert figures.different(*spans) is found


def test_eta_is_the_share_of_the_saving_that_the_clock_sees() -> None:
    whole, none = Span(value=2, low=2, high=2), Span(value=1, low=1, high=1)
    assert figures.eta(whole, 0.5) == Span(value=1, low=1, high=1)
    assert figures.eta(none, 0.5) == Span(value=0, low=0, high=0)
    found = figures.eta(Span(value=1.5, low=0.9, high=2.2), 0.5)
    assert found is not None and found.model_dump() == pytest.approx({"value": 0.5, "low": -0.1, "high": 1.2})


@pytest.mark.parametrize(
    ("speeds", "costs", "eta"), [((108.7, 97.1), (40.4, 55.2), 0.33), ((141.7, 116.4), (26.5, 56.0), 0.20)]
)
def test_eta_of_the_published_tables(speeds: tuple[float, float], costs: tuple[float, float], eta: float) -> None:
    ratio = speeds[0] / speeds[1]
    found = figures.eta(Span(value=ratio, low=ratio, high=ratio), costs[0] / costs[1])
    assert found is not None and round(found.value, 2) == eta


@pytest.mark.parametrize("cost_ratio", [1.0, 1.2, 0.999])
def test_eta_has_no_meaning_where_nothing_is_saved(cost_ratio: float) -> None:
    assert figures.eta(Span(value=1.1, low=1, high=1.2), cost_ratio) is None
