from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.accuracy.segmentation import counts, ious, pixel_accuracy


def table(*images: tuple[Any, Any], classes: int = 3) -> pd.DataFrame:
    return pd.DataFrame([counts(answer, mask, classes) for answer, mask in images])


def whole(stored: pd.DataFrame) -> tuple[list[float], float]:
    """IoU of each class and pixel accuracy, of images that each are a source of their own."""
    codes, ones = np.arange(len(stored)), np.ones((1, len(stored)))
    return ious(stored, codes)(ones)[:, 0].tolist(), float(pixel_accuracy(stored, codes)(ones)[0])


def test_an_image_by_hand() -> None:
    row = counts([[0, 0, 1], [1, 1, 2]], [[0, 1, 1], [1, 1, -1]], 3)
    assert [row[f"true.{k}"] for k in range(3)] == [1, 4, 0]
    assert [row[f"said.{k}"] for k in range(3)] == [2, 3, 0], "what is said of a void pixel counts nowhere"
    assert [row[f"both.{k}"] for k in range(3)] == [1, 3, 0] and row["pixels"] == 4 / 5
    values, accuracy = whole(pd.DataFrame([row]))
    assert values[:2] == [1 / 2, 3 / 4] and np.isnan(values[2]) and accuracy == 4 / 5


def test_perfect_and_wholly_wrong() -> None:
    mask = np.arange(12).reshape(3, 4) % 3
    assert whole(table((mask, mask))) == ([1.0, 1.0, 1.0], 1.0)
    assert whole(table(((mask + 1) % 3, mask))) == ([0.0, 0.0, 0.0], 0.0)


def test_a_class_that_is_said_and_never_there_counts_as_nought() -> None:
    values, _ = whole(table(([[0, 2]], [[0, 0]])))
    assert values[0] == 0.5 and np.isnan(values[1]) and values[2] == 0


@pytest.mark.parametrize("shape", [(2, 3), (0, 0), (0, 5)])
def test_an_image_that_is_all_void_or_has_no_pixels_counts_nowhere(shape: tuple[int, int]) -> None:
    """Its answer may be anything."""
    row = counts(np.full(shape, 2), np.full(shape, -1), 3)
    assert np.isnan(row.pop("pixels")) and set(row.values()) == {0}
    one = ([[0, 0, 1]], [[0, 1, 1]])
    assert whole(table(one, (np.full(shape, 2), np.full(shape, -1))))[1] == whole(table(one))[1]
    nothing, accuracy = whole(table((np.full(shape, 2), np.full(shape, -1))))
    assert np.isnan(nothing).all() and np.isnan(accuracy)


def test_pixels_of_all_images_are_counted_before_anything_is_divided() -> None:
    """One pixel wrong of one, none of nine: 9/10 of pixels, not the mean of two images."""
    values, accuracy = whole(table(([[1]], [[0]]), (np.zeros((3, 3), int), np.zeros((3, 3), int)), classes=2))
    assert values == [9 / 10, 0.0] and accuracy == 9 / 10


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_it_is_what_plain_loops_compute_for_any_weights(seed: int, classes: int, shapes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(seed)
    images = [(random.integers(0, classes, shape), random.integers(-1, classes, shape)) for shape in shapes]
    times = random.integers(0, 3, len(images))
    pairs = [
        (int(said), int(true))
        for (answer, mask), count in zip(images, times, strict=True)
        for said, true in list(zip(answer.flat, mask.flat, strict=True)) * count
        if true >= 0
    ]
    stored, codes = table(*images, classes=classes), np.arange(len(images))
    found = ious(stored, codes)(times[None].astype(float))[:, 0]
    for k in range(classes):
        union = [pair for pair in pairs if k in pair]
        assert np.isnan(found[k]) if not union else found[k] == pytest.approx(union.count((k, k)) / len(union))
    share = pixel_accuracy(stored, codes)(times[None].astype(float))[0]
    assert np.isnan(share) if not pairs else share == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


@pytest.mark.parametrize(
    ("answer", "mask", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "does not fit"),
        (np.zeros(4, int), np.zeros(4, int), "does not fit"),
        ([[3]], [[0]], "the answer runs from 3 to 3, of 3 classes"),
        ([[-1]], [[0]], "the answer runs from -1"),
        ([[0]], [[3]], "the mask runs from 3"),
        ([[0]], [[-2]], "the mask runs from -2"),
        ([[0.5]], [[0]], "the answer holds float64"),
    ],
)
def test_faulty_masks_are_refused(answer: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counts(answer, mask, 3)


def test_an_answer_for_a_void_pixel_may_be_none() -> None:
    assert counts([[255, 0]], [[-1, 0]], 3)["pixels"] == 1
