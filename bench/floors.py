"""What can be had on a data set without looking at its pictures: a result is worth what it has above this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.accuracy.detection import key_frame
from bench.accuracy.intervals import Interval, interval
from bench.accuracy.pooled import pooled_interval
from bench.accuracy.segmentation import counts
from bench.data.key_frames import no_skill
from bench.data.split import AnnotatedSplit, Dataset, Split, annotated

BOXES = ("mAP", "recall", "classification")
MASKS = ("mIoU", "pixel-accuracy")


def floors(dataset: Dataset) -> dict[str, Mapping[str, Interval]]:
    """Blind rule, fitted on the training split -> figures on the whole test split, as shares of 1.

    Classes: the most frequent one. Boxes: see `bench.data.key_frames.no_skill`. Masks: the most frequent class, and
    where all pictures are of one size the most frequent one at each place.

    Raises:
        DataError: no training row has a box.
    """
    train, test = annotated(dataset.train), annotated(dataset.test)
    if train is None or test is None:
        return {"most frequent class": {"clip-1": _majority(dataset.train, dataset.test)}}
    if test.task == "boxes":
        return {f"boxes: {rule}": _boxes(test, answer) for rule, answer in no_skill(train).items()}
    return _masks(train, test)


def _majority(train: Split, test: Split) -> Interval:
    most = np.bincount(train.targets, minlength=len(train.classes)).argmax()
    return interval((test.targets == most).astype(np.float64), test.groups)


def _boxes(test: AnnotatedSplit, answer: NDArray[np.float64]) -> dict[str, Interval]:
    rows = [key_frame(answer.astype(np.float32), test.annotation(row).numpy()) for row in range(len(test))]
    table = pd.DataFrame(rows).assign(group=test.groups.astype(str))
    return {name: pooled_interval(name, [table]) for name in BOXES}  # type: ignore[arg-type]


def _masks(train: AnnotatedSplit, test: AnnotatedSplit) -> dict[str, Mapping[str, Interval]]:
    classes, shapes = len(train.classes), {mask.shape for mask in _each(test)}
    seen = np.zeros(classes, np.int64)
    for mask in _each(train):
        shapes.add(mask.shape)
        seen += np.bincount(mask[mask >= 0], minlength=classes)
    rules = {"most frequent class": np.full((1, 1), int(seen.argmax()))}
    if len(shapes) == 1:
        rules["most frequent class at each place"] = _places(train, classes, shapes.pop())
    return {rule: _pixels(test, answer, classes) for rule, answer in rules.items()}


def _each(split: AnnotatedSplit) -> Iterator[NDArray[np.int64]]:
    """The masks, one at a time: together they may not fit in memory."""
    return (np.asarray(split.annotation(row).numpy(), np.int64) for row in range(len(split)))


def _places(train: AnnotatedSplit, classes: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(H, W)."""
    seen = np.zeros((classes, *shape), np.int64)
    for mask in _each(train):
        for label in range(classes):
            seen[label] += mask == label
    return np.asarray(seen.argmax(0), np.int64)


def _pixels(test: AnnotatedSplit, answer: NDArray[np.int64], classes: int) -> dict[str, Interval]:
    rows = [counts(np.broadcast_to(answer, truth.shape), truth, classes) for truth in _each(test)]
    table = pd.DataFrame(rows).assign(group=test.groups.astype(str))
    return {name: pooled_interval(name, [table]) for name in MASKS}  # type: ignore[arg-type]
