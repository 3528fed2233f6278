"""What every dataset looks like to the rest of the house."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from bench.data.coverage import LeftOut


class DataError(Exception):
    """A dataset cannot be used, or a video cannot be read; the message names the file, field or row."""


class UnreadableError(DataError):
    """One video of a set cannot be read: `path`. A run can go on without it, as `LeftOut` says."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[Path, str]]:
        return UnreadableError, (self.path, str(self))  # it comes out of workers


class Split(Protocol):
    """Labelled videos, read one by one.

    A split that can read some frames of a video without the rest has `frames_of` too, see there; one whose videos may
    turn out unreadable has `left_out` and `is_left_out`; one that reads files, which workers speed up, `reads_files`;
    one of classes whose published measure is mAP, `measured_by_map`.

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


def measured_by_map(split: Split) -> bool:
    """Whether mAP is the measure of a split whose answers are classes."""
    return bool(getattr(split, "measured_by_map", False))


def frames_of(split: Split, index: int, choose: Callable[[int], Sequence[int]]) -> Tensor:
    """The frames `choose(T)` of a video of T frames, uint8 (n, H, W, C), in that order.

    A split's own `frames_of(index, choose)` gives them where it has one, else they are taken out of the whole video.

    Raises:
        DataError: the file cannot be read; the message names it.
    """
    if own := getattr(split, "frames_of", None):
        return cast("Tensor", own(index, choose))
    video = split.video(index)
    return video[list(choose(len(video)))]


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test splits whose sources are disjoint.

    name: as on the command line. revision: raised by hand when the videos change.
    fingerprint: changes whenever any video, label or split changes.
    notes: shown with every result (coverage, broken files). left_out: what turned out unreadable since, if it may.
    faults: what is wrong with each video or picture that its lists name and it does not hold.
    """

    name: str
    revision: int
    fingerprint: str
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()
    left_out: LeftOut | None = None
    faults: Sequence[DataError] = ()

    def all_notes(self) -> tuple[str, ...]:
        """The notes, and those on what turned out unreadable while the dataset was used."""
        return (*self.notes, *(self.left_out.notes() if self.left_out else ()))
