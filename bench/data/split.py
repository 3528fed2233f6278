"""What every dataset looks like to the rest of the house."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

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


class AnnotatedSplit(Split, Protocol):
    """Rows with boxes or a mask each.

    Of boxes a row is a key frame: its video is the clip that ends with it, `groups` tells the independent source, and
    `targets` is the class of its first box, 0 where there is none. Of masks a row is an image, a video of one frame.
    """

    task: Literal["boxes", "masks"]

    def annotation(self, index: int) -> Tensor:
        """Of the last frame of `video(index)`, in its pixels: boxes float32 (m, 5) as x1, y1, x2, y2, class; or a mask
        int64 (H, W), -1 where nothing is known.

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        ...


def annotated(split: Split) -> AnnotatedSplit | None:
    """The split as one with boxes or masks; None if its answers are classes."""
    return cast(AnnotatedSplit, split) if getattr(split, "task", "classes") != "classes" else None


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
