"""Boxes in key frames: which of them are right, and frame-mAP, recall and classification accuracy from what is stored.

Boxes are x1, y1, x2, y2 in pixels, with real-valued sides (no pixel is added to a side). Everything that is pooled over
key frames comes from the columns that `key_frame` gives, one row a key frame, so that it can be recomputed from them.

- frame-mAP: average precision as in Pascal VOC. In each key frame and class the boxes are taken in falling score. A box
  is right if the true box that it overlaps most has an IoU above 0.5 with it and was not taken before: what finds the
  same thing again is wrong. VOC states that the overlap must exceed 0.5; its development kit also takes 0.5 itself.
  The boxes of all key frames are then ranked together. Precision at a recall is the best at that recall or a higher one
  (all points, nothing sampled), and average precision is the area under it. The mean is over the classes that some key
  frame truly holds. Boxes of equal score come in together, so that the order of the key frames has no say.
- recall and classification as in YOWO: the share of true boxes whose best IoU with any box of a confidence above 0.25,
  whatever its class, exceeds 0.5; and of those the share whose best box has the right class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Numbers = NDArray[np.intp]
Pooled = Callable[[Floats], Floats]
"""Weights of the sources (B, G) -> a statistic of each draw (B,), or of each class and draw (K, B)."""

ENOUGH = 0.5
"""The IoU that must be exceeded."""
SURE = 0.25
"""The confidence that must be exceeded to count for recall and classification."""


def box_iou(boxes: ArrayLike, others: ArrayLike) -> Floats:
    """Intersection over union of each of `boxes` (n, 4) with each of `others` (m, 4): (n, m); 0 where both are empty.

    A box whose sides are in the wrong order is empty.
    """
    one, other = _rows(boxes, 4, "boxes")[:, None], _rows(others, 4, "boxes")[None]
    shared = _area(np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:]))
    union = _area(one[..., :2], one[..., 2:]) + _area(other[..., :2], other[..., 2:]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(low: Floats, high: Floats) -> Floats:
    return np.asarray(np.maximum(high - low, 0).prod(-1))


def key_frame(detections: ArrayLike, truth: ArrayLike) -> dict[str, Any]:
    """What is stored of one key frame.

    detections: (n, 7) as x1, y1, x2, y2, confidence, share, class; the score is confidence times share. All that the
    network kept (confidence above 0.005, after non-maximum suppression).
    truth: (m, 5) as x1, y1, x2, y2, class. Either may be empty.

    Returns:
        boxes.score (float32), boxes.class (int16), boxes.right (bool): of each detection, in falling score. truths
        (int16): the class of each true box. found: how many of them are, for recall. named: how many of those rightly.

    Raises:
        ValueError: the shapes do not fit, or a number is not finite.
    """
    boxes, true = _rows(detections, 7, "detections"), _rows(truth, 5, "true boxes")
    score = (boxes[:, 4] * boxes[:, 5]).astype(np.float32)
    order = np.argsort(-score, kind="stable")
    boxes, score = boxes[order], score[order]
    overlap = box_iou(boxes[:, :4], true[:, :4])
    found, named = _found(overlap[boxes[:, 4] > SURE], boxes[boxes[:, 4] > SURE, 6], true[:, 4])
    return {
        "boxes.score": score,
        "boxes.class": boxes[:, 6].astype(np.int16),
        "boxes.right": _right(overlap, boxes[:, 6], true[:, 4]),
        "truths": true[:, 4].astype(np.int16),
        "found": found,
        "named": named,
    }


def _rows(values: ArrayLike, width: int, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, width))
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{what} of shape {array.shape} are not (n, {width})")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite")
    return array


def _right(overlap: Floats, named: Floats, true: Floats) -> Bools:
    """Which boxes, in falling score, are the first to have their nearest true box (n, m) of their class near enough."""
    right = np.zeros(len(named), dtype=np.bool_)
    if right.size and true.size:
        overlap = np.where(named[:, None] == true, overlap, 0)
        near = np.flatnonzero(overlap.max(1) > ENOUGH)
        right[near[np.unique(overlap[near].argmax(1), return_index=True)[1]]] = True
    return right


def _found(overlap: Floats, named: Floats, true: Floats) -> tuple[int, int]:
    """How many true boxes are found by the nearest of the sure boxes (n, m), and how many of those rightly named."""
    if not overlap.size:
        return 0, 0
    found = overlap.max(0) > ENOUGH
    return int(found.sum()), int((found & (named[overlap.argmax(0)] == true)).sum())


def average_precisions(table: pd.DataFrame, codes: Numbers) -> Pooled:
    """Average precision (K, B) of the classes that some key frame truly holds, NaN in draws that hold none of one.

    table: the columns of `key_frame`. codes: of each key frame, the number of its source.
    """
    score, named, right = (_flat(table[f"boxes.{name}"]) for name in ("score", "class", "right"))
    sources = codes.repeat([len(cell) for cell in table["boxes.score"]])
    truths, origin = _flat(table["truths"]), codes.repeat([len(cell) for cell in table["truths"]])
    count = int(codes.max()) + 1
    curves = [
        _curve(score[own], right[own] > 0, sources[own], np.bincount(origin[truths == k], minlength=count))
        for k, own in ((k, named == k) for k in np.unique(truths))
    ]

    def values(weights: Floats) -> Floats:
        return np.stack([curve.area(weights) for curve in curves]) if curves else np.full((1, len(weights)), np.nan)

    return values


def _flat(column: pd.Series[Any]) -> Floats:
    """The numbers in all of a column's lists, one after another."""
    return np.concatenate([np.zeros(0), *(np.asarray(cell, dtype=np.float64) for cell in column)])


@dataclass(frozen=True)
class _Curve:
    """Precision and recall of one class. A step begins with every distinct score of a right box.

    right, seen: (steps, G), right boxes and all boxes that come in with a step. truths: (G,), true boxes.
    """

    right: sparse.csr_array
    seen: sparse.csr_array
    truths: Numbers

    def area(self, weights: Floats) -> Floats:
        """Average precision of each draw, (B,), of sources that occur `weights` (B, G) times."""
        right, seen, total = self.right @ weights.T, (self.seen @ weights.T).cumsum(0), weights @ self.truths
        precision = right.cumsum(0) / np.maximum(seen, 1)  # where nothing is seen nothing is right either
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return np.asarray(np.where(total > 0, (right * best).sum(0) / np.maximum(total, 1), np.nan))


def _curve(score: Floats, right: Bools, sources: Numbers, truths: Numbers) -> _Curve:
    falling = np.unique(score[right])[::-1]
    step = np.searchsorted(-falling, -score)  # the first of the falling scores that a box reaches; none is the last

    def counts(chosen: Bools) -> sparse.csr_array:
        ones = np.ones(np.count_nonzero(chosen))
        return sparse.csr_array((ones, (step[chosen], sources[chosen])), shape=(len(falling), len(truths)))

    return _Curve(counts(right), counts(step < len(falling)), truths)


def recall(table: pd.DataFrame, codes: Numbers) -> Pooled:
    """The share of true boxes that are found, (B,), NaN in draws without a true box."""
    found, truths = _sum(table["found"], codes), _sum([len(cell) for cell in table["truths"]], codes)

    def values(weights: Floats) -> Floats:
        total = weights @ truths
        return np.asarray(np.where(total > 0, (weights @ found) / np.maximum(total, 1), np.nan))

    return values


def classification(table: pd.DataFrame, codes: Numbers) -> Pooled:
    """The share of found boxes that are rightly named, (B,), 0 where none is found."""
    named, found = _sum(table["named"], codes), _sum(table["found"], codes)

    def values(weights: Floats) -> Floats:
        return np.asarray((weights @ named) / np.maximum(weights @ found, 1))

    return values


def _sum(column: ArrayLike, codes: Numbers) -> Floats:
    """The sum of each source, (G,)."""
    return np.asarray(np.bincount(codes, weights=np.asarray(column, dtype=np.float64)), dtype=np.float64)
