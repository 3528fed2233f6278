"""Masks: how many pixels of which class an answer has right, and mIoU and pixel accuracy from what is stored.

Everything that is pooled over images comes from the columns that `counts` gives, one row an image. Pixels are counted
over all images together before anything is divided, so that a large image weighs more than a small one, and a class by
its pixels, wherever they are. IoU of a class is intersection over union of its pixels in truth and answer. The mean is
over the classes that occur in truth or answer at all: one with neither has no IoU and is left out. Void pixels count
nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.accuracy.detection import Floats, Numbers, Pooled

if TYPE_CHECKING:
    import pandas as pd

VOID = -1


def counts(answer: ArrayLike, mask: ArrayLike, classes: int) -> dict[str, int | float]:
    """What is stored of one image.

    answer: (H, W) integers, the class of each pixel. mask: (H, W) integers, the true one, -1 void.

    Returns:
        true.K, said.K, both.K: pixels of class K in truth, in the answer, in both, for every K. pixels: the share of
        right pixels, NaN of an image that is all void or has none.

    Raises:
        ValueError: the shapes differ, or a number is no class.
    """
    said, true = np.asarray(answer), np.asarray(mask)
    if said.shape != true.shape or true.ndim != 2:
        raise ValueError(f"an answer of shape {said.shape} does not fit a mask of shape {true.shape}")
    known = true != VOID
    said, true = _classes(said[known], classes, "answer"), _classes(true[known], classes, "mask")
    right = true[said == true]
    found: dict[str, int | float] = {}
    for name, values in (("true", true), ("said", said), ("both", right)):
        found |= {f"{name}.{k}": int(count) for k, count in enumerate(np.bincount(values, minlength=classes))}
    return {**found, "pixels": len(right) / len(true) if len(true) else float("nan")}


def _classes(values: NDArray[np.generic], classes: int, what: str) -> NDArray[np.int64]:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"the {what} holds {values.dtype}, not integers")
    numbers = values.astype(np.int64)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < classes:
        raise ValueError(f"the {what} runs from {numbers.min()} to {numbers.max()}, of {classes} classes")
    return numbers


def ious(table: pd.DataFrame, codes: Numbers) -> Pooled:
    """IoU (K, B) of each class, NaN in draws in which neither truth nor answer has it.

    table: the columns of `counts`. codes: of each image, the number of its source.
    """
    true, said, both = (_sums(table, name, codes) for name in ("true", "said", "both"))

    def values(weights: Floats) -> Floats:
        union = weights @ (true + said - both)
        return np.asarray(np.where(union > 0, (weights @ both) / np.maximum(union, 1), np.nan).T)

    return values


def pixel_accuracy(table: pd.DataFrame, codes: Numbers) -> Pooled:
    """The share of right pixels, (B,), NaN in draws that are all void."""
    true, both = (_sums(table, name, codes).sum(1) for name in ("true", "both"))

    def values(weights: Floats) -> Floats:
        total = weights @ true
        return np.asarray(np.where(total > 0, (weights @ both) / np.maximum(total, 1), np.nan))

    return values


def _sums(table: pd.DataFrame, name: str, codes: Numbers) -> Floats:
    """Pixels of each source and class, (G, K)."""
    columns = [column for column in table.columns if column.startswith(f"{name}.")]
    return np.stack([np.bincount(codes, weights=table[f"{name}.{k}"]) for k in range(len(columns))], axis=1)
