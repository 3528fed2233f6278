"""What every dataset looks like to the rest of the house."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor


class DataError(Exception):
    """A dataset cannot be used, or a video cannot be read; the message names the file, field or row."""


class Split(Protocol):
    """Labelled videos, read one by one.

    classes: names, in the order of the labels.
    targets: int64 (N,), the label of each video.
    groups: str (N,), the independent source of each video (source digit, recording): intervals resample these.
    attributes: N rows of what else is known of each video (motion, speed, object share, ...); may have no columns.
    flip: whether a mirrored video keeps its label.
    """

    classes: Sequence[str]
    targets: np.ndarray
    groups: np.ndarray
    attributes: pd.DataFrame
    flip: bool

    def __len__(self) -> int: ...

    def video(self, index: int) -> Tensor:
        """The whole video, uint8 (T, H, W, C) with C = 1 or 3.

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        ...


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test splits whose sources are disjoint.

    name: as on the command line. revision: raised by hand when the videos change.
    fingerprint: changes whenever any video, label or split changes.
    notes: shown with every result (coverage, broken files).
    """

    name: str
    revision: int
    fingerprint: str
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()
