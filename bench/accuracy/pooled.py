"""Figures of all samples together that have no part of each sample: frame-mAP, recall, mIoU and the like.

Each is a pure function of what is stored of every sample (`detection.key_frame`, `segmentation.counts`, or the scores
of all classes of a video whose set is measured by mAP), so that it can
be computed anew from records, for any draw of sources and for the samples that two methods share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.accuracy.average_precision import mean_over_classes, scored_precisions
from bench.accuracy.detection import Floats, Numbers, Pooled, average_precisions, classification, recall
from bench.accuracy.intervals import FEWER, Interval, Statistic, estimate
from bench.accuracy.segmentation import ious, pixel_accuracy

if TYPE_CHECKING:
    import pandas as pd


class NothingToScoreError(ValueError):
    """A figure has nothing to be of."""


Name = Literal["mAP", "recall", "classification", "mIoU", "pixel-accuracy"]
OVER_CLASSES = frozenset({"mAP", "mIoU"})
"""The figures that are a mean over the classes that a draw holds."""

COLUMNS: Mapping[Name, Collection[str]] = {
    "mAP": ("boxes.score", "boxes.class", "boxes.right", "truths"),
    "recall": ("truths", "found"),
    "classification": ("found", "named"),
    "mIoU": ("true.0", "said.0", "both.0"),
    "pixel-accuracy": ("true.0", "both.0"),
}
"""What each figure is computed from, besides "group"; of pixels there is one column a class."""

OF_VIDEOS = ("scores", "target")
"""What mAP of classified videos is computed from, where that is stored."""


def needed(name: Name, stored: Collection[str]) -> Collection[str]:
    """The columns that a figure is computed from, of a table that has the columns `stored`."""
    return OF_VIDEOS if name == "mAP" and "scores" in stored else COLUMNS[name]


def _precisions(table: pd.DataFrame, codes: Numbers) -> Pooled:
    """Average precision of each class: of boxes, or of videos."""
    return scored_precisions(table, codes) if "scores" in table else average_precisions(table, codes)


_FIGURES: Mapping[Name, Callable[[pd.DataFrame, Numbers], Pooled]] = {
    "mAP": _precisions,
    "recall": recall,
    "classification": classification,
    "mIoU": ious,
    "pixel-accuracy": pixel_accuracy,
}


def pooled_interval(name: Name, tables: Sequence[pd.DataFrame], resamples: int = FEWER, seed: int = 0) -> Interval:
    """A figure as a share of 1, with its interval over sources and seeds.

    tables: of each seed, one row a sample, with what is `needed` and "group", its source; the same rows in each. Where
    sources are so few that a draw may hold nothing to be right about, the ends are NaN.

    Raises:
        ValueError: the tables are not of the same samples, or no sample holds anything to be right about.
    """
    codes = _codes(tables)
    return _estimate(name, _of_seeds(name, tables, codes), codes, resamples, seed)


def pooled_difference(name: Name, tables: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame]) -> Interval:
    """A figure of `tables` minus that of `others` in points, paired by sample, source and seed.

    Raises:
        ValueError: as `pooled_interval`, or there are not as many seeds on either side.
    """
    codes = _codes([*tables, *others])
    if len(tables) != len(others):
        raise ValueError(f"{len(tables)} seeds cannot be paired with {len(others)}")
    first, second = _of_seeds(name, tables, codes), _of_seeds(name, others, codes)

    def points(weights: Floats) -> Floats:
        return 100 * (first(weights) - second(weights))

    return _estimate(name, points, codes)


def _of_seeds(name: Name, tables: Sequence[pd.DataFrame], codes: Numbers) -> Statistic:
    figures = [_FIGURES[name](table, codes) for table in tables]

    def values(weights: Floats) -> Floats:
        drawn = [figure(weights) for figure in figures]
        return np.stack([mean_over_classes(classes) for classes in drawn] if name in OVER_CLASSES else drawn, axis=1)

    return values


def _estimate(name: Name, statistic: Statistic, codes: Numbers, resamples: int = FEWER, seed: int = 0) -> Interval:
    found = estimate(statistic, int(codes.max()) + 1, resamples, seed, centred=name in OVER_CLASSES)
    if np.isnan(found.value):
        raise NothingToScoreError(f"no sample holds anything that {name} could be of")
    return found


def _codes(tables: Sequence[pd.DataFrame]) -> Numbers:
    """The number 0..G-1 of every sample's source."""
    rows = [(table.get("index", table.index).to_numpy(), table["group"].astype(str).to_numpy()) for table in tables]
    if not rows or not len(rows[0][0]):
        raise NothingToScoreError("there are no samples")
    if not all(np.array_equal(one, other) for row in rows for one, other in zip(row, rows[0], strict=True)):
        raise ValueError("the seeds were not scored on the same samples in the same order")
    return np.unique(rows[0][1], return_inverse=True)[1]
