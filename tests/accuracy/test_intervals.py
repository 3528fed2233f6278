import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.accuracy.intervals import DRAWS, FEWER, interval, ratio_interval, spearman_interval, spread_interval


@given(value=st.floats(-1e6, 1e6), seeds=st.integers(1, 5), videos=st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_equal_values_have_no_width(value: float, seeds: int, videos: int) -> None:
    found = interval(np.full((seeds, videos), value), np.arange(videos) // 2)
    assert found.value == pytest.approx(value)
    if videos > 2:
        assert found.low == pytest.approx(value) and found.high == pytest.approx(value)


def test_the_same_numbers_give_ratio_one_exactly() -> None:
    costs = np.random.default_rng(0).integers(10**9, 10**10, (3, 50))
    assert ratio_interval(costs, costs, np.arange(50)) == (1.0, 1.0, 1.0)


def test_ratio_does_not_depend_on_the_unit() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 30)) + 1, random.random((2, 30)) + 1
    assert ratio_interval(first * 1e9, second * 1e9, np.arange(30)) == pytest.approx(
        ratio_interval(first, second, np.arange(30))
    )


@given(st.lists(st.floats(0.05, 20), min_size=3, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_ratio_is_above_zero_and_its_inverse_has_the_inverse_interval(ratios: list[float]) -> None:
    below = np.random.default_rng(3).random((len(ratios), 20)) + 1
    above, sources = below * np.array(ratios)[:, None], np.arange(20)
    found, inverse = ratio_interval(above, below, sources), ratio_interval(below, above, sources)
    assert 0 < found.low <= found.value <= found.high
    assert found.value == pytest.approx(stats.gmean(ratios))
    assert (1 / inverse.value, 1 / inverse.high, 1 / inverse.low) == pytest.approx(found, rel=1e-6)


def test_equal_ratios_of_all_seeds_are_exact() -> None:
    below = np.full((3, 10), 5.0)
    assert ratio_interval(0.8 * below, below, np.arange(10)) == (0.8, 0.8, 0.8)


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        ratio_interval(np.zeros(4), np.ones(4), np.arange(4))


def test_spread_of_two_equally_frequent_costs() -> None:
    """Costs 3 and 5: mean 4, standard deviation 1, both in every source."""
    found = spread_interval(np.tile([3.0, 5.0], (2, 20)), np.repeat(np.arange(20), 2))
    assert found == pytest.approx((0.25, 0.25, 0.25))


def test_spread_keeps_a_small_variation_of_a_large_cost() -> None:
    found = spread_interval([10_000_000_000.0, 10_000_000_002.0] * 10, np.arange(20))
    assert found.value == pytest.approx(1e-10, rel=1e-3)


def test_spread_ends_are_relative_to_the_mean_of_every_draw() -> None:
    values = np.random.default_rng(8).exponential(size=60) + 0.1
    draws = np.random.default_rng(0)
    redrawn = [values[draws.integers(60, size=60)] for _ in range(DRAWS)]
    found = spread_interval(values, np.arange(60))
    expected = np.quantile([one.std() / one.mean() for one in redrawn], [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_one_value_a_source_agrees_with_the_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=400)
    found = interval(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_videos_of_one_source_stay_together() -> None:
    """Ten copies of each video say no more than one of each."""
    values = np.random.default_rng(3).normal(size=50)
    once = interval(values, np.arange(50))
    assert interval(np.repeat(values, 10), np.repeat(np.arange(50), 10)) == pytest.approx(once)


def test_seeds_alone_give_students_interval() -> None:
    """Sources that do not differ leave only the seeds: the textbook interval of a mean of three."""
    seeds = np.array([1.0, 2.0, 4.0])
    found = interval(np.repeat(seeds[:, None], 20, axis=1), np.arange(20), resamples=100)
    low, high = stats.t.interval(0.95, 2, loc=seeds.mean(), scale=stats.sem(seeds))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_ends_hardly_hang_on_the_draws() -> None:
    """Verdicts close to a margin must not be decided by chance: Student's tails with 2 degrees of freedom are long."""
    random = np.random.default_rng(11)
    values = np.array([[-1.0], [0.0], [2.0]]) + random.normal(size=46) + random.normal(size=(3, 46))
    found = np.array([interval(values, np.arange(46), seed=seed)[1:] for seed in range(20)])
    assert (found.std(axis=0) < 0.002 * (found[:, 1] - found[:, 0]).mean()).all()


def test_sources_and_seeds_add_up() -> None:
    """Where both are about normal the half width is that of their variances together, to first order."""
    random = np.random.default_rng(12)
    values = 0.05 * random.normal(size=(40, 1)) + np.ones((40, 1)) * random.normal(size=500)
    found = interval(values, np.arange(500))
    error = np.hypot(stats.sem(values.mean(1)), values.mean(0).std() / np.sqrt(500))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_many_sources_are_drawn_less_often() -> None:
    values = np.random.default_rng(13).random(20_000)
    assert interval(values, np.arange(20_000)) == interval(values, np.arange(20_000), resamples=FEWER)


@pytest.mark.parametrize(("seeds", "noise"), [(1, 0.0), (3, 1.0), (10, 0.3)])
def test_coverage(seeds: int, noise: float) -> None:
    """Sources and seeds both vary; the true mean, 0, lies inside about 95 times in 100."""
    random = np.random.default_rng(seeds)
    inside, trials = 0, 300
    groups = np.repeat(np.arange(60), 3)
    for trial in range(trials):
        sources = np.repeat(random.normal(size=60), 3)
        values = sources + noise * random.normal(size=(seeds, 1)) + random.normal(size=(seeds, 180))
        found = interval(values, groups, resamples=300, seed=trial % 7)
        inside += found.low <= 0 <= found.high
    assert 0.90 <= inside / trials <= 0.995


def test_spearman_is_scipys_with_ties() -> None:
    random = np.random.default_rng(4)
    x, y = random.integers(0, 5, (2, 200)), random.integers(0, 4, 200)
    expected = np.mean([stats.spearmanr(row, y).statistic for row in x])
    assert spearman_interval(x, y, np.arange(200)).value == pytest.approx(expected)


def test_spearman_ends_are_those_of_ranking_every_draw_anew() -> None:
    random = np.random.default_rng(5)
    x, y = random.integers(0, 6, 60), random.integers(0, 6, 60)
    draws = np.random.default_rng(0)
    redrawn = [draws.integers(60, size=60) for _ in range(FEWER)]
    values = [stats.spearmanr(x[rows], y[rows]).statistic for rows in redrawn]
    found = spearman_interval(x, y, np.arange(60))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_spearman_of_a_rising_function_is_one_and_of_a_constant_zero() -> None:
    y = np.random.default_rng(6).random(80)
    assert spearman_interval(np.exp(y), y, np.arange(80)) == pytest.approx((1, 1, 1))
    assert spearman_interval(np.ones(80), y, np.arange(80)) == (0, 0, 0)


def test_one_source_has_no_interval() -> None:
    found = interval([1.0, 2.0], ["a", "a"])
    assert found.value == 1.5 and np.isnan(found.low) and np.isnan(found.high)


@pytest.mark.parametrize("values", [[1.0, float("nan")], [1.0, 2.0, 3.0], []])
def test_faulty_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        interval(values, ["a", "b"])


def test_same_input_same_interval() -> None:
    values = np.random.default_rng(7).random((3, 40))
    assert interval(values, np.arange(40)) == interval(values, np.arange(40))
