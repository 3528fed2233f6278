import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from bench.accuracy.average_precision import mean_average_precision_interval, one_hot
from bench.accuracy.intervals import FEWER


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each class, NaN where no video carries it."""
    everywhere = np.zeros(len(scores))  # one source: nothing is drawn
    parts = [(scores[:, [k]], targets[:, [k]]) for k in range(targets.shape[1])]
    found = [mean_average_precision_interval(*part, everywhere).value if part[1].any() else np.nan for part in parts]
    return np.array(found)


HAND_MADE = {
    "perfect": ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
    "reversed": ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], (1 / 3 + 2 / 4) / 2),
    "between": ([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 1], (1 / 1 + 2 / 3 + 3 / 5) / 3),
    "one positive, third": ([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0], 1 / 3),
    "all positive": ([0.3, 0.1, 0.2], [1, 1, 1], 1.0),
    "all tied": ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 1], 2 / 4),
    "tied in the middle": ([0.9, 0.5, 0.5, 0.5, 0.1], [1, 0, 1, 0, 1], (1 / 1 + 2 / 4 + 3 / 5) / 3),
    "tied positives": ([0.9, 0.5, 0.5], [0, 1, 1], 2 / 3),
    "one video": ([0.2], [1], 1.0),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_rankings(name: str) -> None:
    scores, carried, expected = HAND_MADE[name]
    assert average_precision(column(*scores), column(*carried).astype(bool)) == pytest.approx([expected])


def test_a_class_that_no_video_carries_is_left_out_of_the_mean() -> None:
    scores, targets = np.array([[0.9, 0.1, 0.3], [0.1, 0.9, 0.4]]), one_hot([0, 0], 3)
    targets[0, 2] = True
    found = average_precision(scores, targets)
    assert found[0] == 1 and np.isnan(found[1]) and found[2] == 0.5
    assert mean_average_precision_interval(scores, targets, [0, 1]).value == 0.75


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    videos, classes = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    levels = draw(st.sampled_from([2, 5, 10**6]))  # many ties, some, none
    return random.integers(0, levels, (videos, classes)) / levels, random.random((videos, classes)) < 0.4


@settings(max_examples=100, deadline=None)
@given(ranked())
def test_it_is_what_scikit_learn_computes(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = case
    found = average_precision(scores, targets)
    for k in range(targets.shape[1]):
        if targets[:, k].any():
            assert found[k] == pytest.approx(average_precision_score(targets[:, k], scores[:, k]))
        else:
            assert np.isnan(found[k])


@settings(max_examples=30, deadline=None)
@given(ranked(), st.randoms(use_true_random=False))
def test_neither_order_nor_scale_has_a_say(case: tuple[np.ndarray, np.ndarray], random: object) -> None:
    scores, targets = case
    order = np.random.default_rng(random.randint(0, 10**6)).permutation(len(scores))
    expected = average_precision(scores, targets)
    assert np.array_equal(average_precision(scores[order], targets[order]), expected, equal_nan=True)
    assert np.array_equal(average_precision(np.exp(scores * 3), targets), expected, equal_nan=True)


def some(videos: int = 40, classes: int = 3, seeds: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(8)
    targets = one_hot(random.integers(0, classes, videos), classes)
    return random.integers(0, 20, (seeds, videos, classes)) + 8.0 * targets, targets


def test_the_ends_are_those_of_scoring_every_draw_anew() -> None:
    scores, targets = some()
    groups = np.arange(40) // 2
    draws = np.random.default_rng(0)
    values = []
    for _ in range(FEWER):
        rows = np.concatenate([np.flatnonzero(groups == source) for source in draws.integers(20, size=20)])
        values.append(np.nanmean(average_precision(scores[0, rows], targets[rows])))
    found = mean_average_precision_interval(scores[0], targets, groups)
    assert found.value == pytest.approx(np.mean(average_precision(scores[0], targets)))
    centred = np.array(values) - np.mean(values) + found.value
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(centred, [0.025, 0.975])))


def test_a_video_drawn_twice_does_not_confirm_itself() -> None:
    """Scores that know nothing of rare classes: the draws themselves lie wholly above the estimate."""
    random = np.random.default_rng(9)
    scores, targets = random.random((400, 80)), one_hot(np.arange(400) % 80, 80)
    value, low, high = mean_average_precision_interval(scores, targets, np.arange(400))
    assert value - low == pytest.approx(high - value, rel=0.4) and low < value < high


def test_a_draw_without_a_class_leaves_it_out() -> None:
    """One of the twenty videos carries the second class, so that every third draw lacks it."""
    targets = one_hot([0] * 19 + [1], 2)
    perfect = targets.astype(float)
    assert mean_average_precision_interval(perfect, targets, np.arange(20)) == (1, 1, 1)


def test_seeds_widen_the_interval_and_their_mean_is_the_value() -> None:
    scores, targets = some()
    both = mean_average_precision_interval(scores, targets, np.arange(40))
    alone = [mean_average_precision_interval(of_seed, targets, np.arange(40)) for of_seed in scores]
    assert both.value == pytest.approx((alone[0].value + alone[1].value) / 2)
    assert both.high - both.low > max(one.high - one.low for one in alone)


def test_videos_of_one_source_stay_together() -> None:
    """Three copies of every video say no more than one of each."""
    scores, targets = some()
    once = mean_average_precision_interval(scores, targets, np.arange(40))
    copied = mean_average_precision_interval(scores.repeat(3, 1), targets.repeat(3, 0), np.arange(40).repeat(3))
    assert copied == pytest.approx(once)


def test_one_source_has_no_interval_and_few_may_have_no_ends() -> None:
    scores, targets = column(0.9, 0.2), column(1, 0).astype(bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for groups in (["a", "a"], ["a", "b"]):  # "b" twice holds no class
            found = mean_average_precision_interval(scores, targets, groups)
            assert found.value == 1 and np.isnan(found.low) and np.isnan(found.high)


def test_one_hot() -> None:
    assert one_hot([2, 0], 3).tolist() == [[False, False, True], [True, False, False]]
    assert one_hot(np.zeros(0, dtype=int), 3).shape == (0, 3)


@pytest.mark.parametrize("targets", [[3], [-1], [0.5], [[0]]])
def test_one_hot_refuses_what_is_no_class(targets: list[object]) -> None:
    with pytest.raises(ValueError, match="targets"):
        one_hot(targets, 3)


FAULTY = {
    "targets must be booleans": (np.zeros((2, 3)), np.ones((2, 3))),
    "not both": (np.zeros((2, 3)), np.ones((3, 2), dtype=bool)),
    "finite": (np.full((2, 3), np.nan), np.ones((2, 3), dtype=bool)),
    "no video carries": (np.zeros((2, 3)), np.zeros((2, 3), dtype=bool)),
}


@pytest.mark.parametrize("reason", FAULTY)
def test_faulty_input_is_refused(reason: str) -> None:
    scores, targets = FAULTY[reason]
    with pytest.raises(ValueError, match=reason):
        mean_average_precision_interval(scores, targets, [0, 1])


def test_every_video_has_a_group() -> None:
    with pytest.raises(ValueError, match="groups"):
        mean_average_precision_interval(np.zeros((2, 1)), np.ones((2, 1), dtype=bool), [0])
