"""What can be had on a data set without a network: a result is worth what it has above this."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.accuracy.detection import key_frame
from bench.accuracy.intervals import Interval, interval
from bench.accuracy.pooled import pooled_interval
from bench.accuracy.segmentation import counts
from bench.coarse import right
from bench.data.key_frames import no_skill
from bench.data.split import AnnotatedSplit, DataError, Dataset, annotated
from bench.experiment.build import dataset_of
from bench.profiles import Profile
from bench.records import Figure
from bench.tables.floors import FloorRecord, store

BOXES = ("mAP", "recall", "classification")
MASKS = ("mIoU", "pixel-accuracy")
COARSE = "kernel ridge on coarse pictures"


@dataclass(frozen=True)
class Found:
    """What a rule has: figures, shares of 1; of classes also, a fold each, whether test videos are right."""

    figures: Mapping[str, Interval]
    right: Sequence[NDArray[np.float64]] = ()


def floors(*folds: Dataset, coarse: bool = False) -> dict[str, Found]:
    """Rule, fitted on the training split -> what it has on the whole test split; of folds on all of theirs.

    Classes: the most frequent one, and with `coarse` what `bench.coarse` names, which looks at every video. Boxes: see
    `bench.data.key_frames.no_skill`. Masks: the most frequent class, and where all pictures are of one size the most
    frequent one at each place.

    Raises:
        DataError: no training row has a box, or boxes and masks are asked for of several folds.
    """
    train, test = annotated(folds[0].train), annotated(folds[0].test)
    if train is None or test is None:
        rules = {"most frequent class": _majority} | ({COARSE: right} if coarse else {})
        return {name: _over(folds, rule) for name, rule in rules.items()}
    if len(folds) > 1:
        raise DataError(f"{folds[0].name}: floors of {test.task} are of one fold: name it with --data-option fold=0")
    if test.task == "boxes":
        return {f"boxes: {rule}": Found(_boxes(test, answer)) for rule, answer in no_skill(train).items()}
    return _masks(train, test)


def measured(
    profile: Profile, frames: int, data_root: Path | None, coarse: bool
) -> tuple[list[Dataset], dict[str, Found]]:
    """The data sets of a profile, one a fold, and their floors.

    Raises:
        DataError: the data cannot be read.
    """
    folds = [dataset_of(one, frames, data_root) for one in profile.in_folds()]
    return folds, floors(*folds, coarse=coarse)


def stored(
    profile: Profile,
    frames: int,
    folds: Sequence[Dataset],
    found: Mapping[str, Found],
    folder: Path,
) -> Path:
    """Keeps floors beside the records of `folder`."""
    rules = {
        rule: {
            name: Figure(value=one.value, low=_end(one.low), high=_end(one.high)) for name, one in had.figures.items()
        }
        for rule, had in found.items()
    }
    first, videos = folds[0], sum(len(dataset.test) for dataset in folds)
    prints = [dataset.fingerprint for dataset in folds]
    right = {
        rule: {digest: "".join(str(int(one)) for one in row) for digest, row in zip(prints, had.right, strict=True)}
        for rule, had in found.items()
        if had.right
    }
    record = FloorRecord(
        dataset=first.name,
        dataset_revision=first.revision,
        profile=profile.name,
        frames=frames,
        fingerprints=prints,
        videos=videos,
        rules=rules,
        right=right,
    )
    return store(folder, record)


def _end(value: float) -> float | None:
    return None if math.isnan(value) else value


def _over(folds: Sequence[Dataset], rule: Callable[[Dataset], NDArray[np.float64]]) -> Found:
    """A rule's share of right test videos of all folds, over their sources."""
    sources = np.concatenate([dataset.test.groups.astype(str) for dataset in folds])
    right = [rule(dataset) for dataset in folds]
    return Found({"clip-1": interval(np.concatenate(right), sources)}, right)


def _majority(dataset: Dataset) -> NDArray[np.float64]:
    train, test = dataset.train, dataset.test
    most = np.bincount(train.targets, minlength=len(train.classes)).argmax()
    return np.asarray(test.targets == most, np.float64)


def _boxes(test: AnnotatedSplit, answer: NDArray[np.float64]) -> dict[str, Interval]:
    rows = [key_frame(answer.astype(np.float32), test.annotation(row).numpy()) for row in range(len(test))]
    table = pd.DataFrame(rows).assign(group=test.groups.astype(str))
    return {name: pooled_interval(name, [table]) for name in BOXES}  # type: ignore[arg-type]


def _masks(train: AnnotatedSplit, test: AnnotatedSplit) -> dict[str, Found]:
    classes, shapes = len(train.classes), {mask.shape for mask in _each(test)}
    seen = np.zeros(classes, np.int64)
    for mask in _each(train):
        shapes.add(mask.shape)
        seen += np.bincount(mask[mask >= 0], minlength=classes)
    rules = {"most frequent class": np.full((1, 1), int(seen.argmax()))}
    if len(shapes) == 1:
        rules["most frequent class at each place"] = _places(train, classes, shapes.pop())
    return {rule: Found(_pixels(test, answer, classes)) for rule, answer in rules.items()}


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
