"""Rows that are key frames of annotated videos: a row's video is the clip that ends with its key frame.

What the sets of boxes share, and what can be answered without looking at a picture (`no_skill`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bench.accuracy.detection import ENOUGH, box_iou
from bench.data.split import AnnotatedSplit, DataError

PLACES = 5  # that the best blind rule answers, for each class
STUDIED = 400  # boxes of a class that the blind rules learn from, spread over the training rows

Floats = NDArray[np.float64]


@dataclass
class KeyFrames:
    """A split with boxes, as `bench.data.AnnotatedSplit` describes it.

    name: of the set, for messages. clip: the clip of a row, uint8 (frames, H, W, C). boxes: of each row, float32
    (m, 5) on the last frame of its clip and inside it; m may be 0, where a key frame is known to hold nothing.
    reads_files: as in `Split`.
    """

    name: str
    clip: Callable[[int], Tensor]
    boxes: Sequence[NDArray[np.float32]]
    classes: Sequence[str]
    groups: NDArray[np.str_]
    attributes: pd.DataFrame
    flip: bool
    targets: NDArray[np.int64] = field(init=False)
    task: Literal["boxes"] = "boxes"
    reads_files: bool = False

    def __post_init__(self) -> None:
        """A row's target is the class of its first box, 0 where there is none."""
        self.targets = np.array([int(boxes[0, 4]) if len(boxes) else 0 for boxes in self.boxes], np.int64)

    def __len__(self) -> int:
        """Key frames."""
        return len(self.boxes)

    def video(self, index: int) -> Tensor:
        """The clip that ends with the key frame, uint8 (frames, H, W, C).

        Raises:
            DataError: there is no such row, or a file cannot be read; the message names it.
        """
        return self.clip(self._checked(index))

    def annotation(self, index: int) -> Tensor:
        """Boxes float32 (m, 5) as x1, y1, x2, y2, class, in pixels of the clip's last frame.

        Raises:
            DataError: there is no such row.
        """
        return torch.tensor(self.boxes[self._checked(index)], dtype=torch.float32).reshape(-1, 5)

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise DataError(f"{self.name}: has no key frame {index}, only 0 to {len(self) - 1}")
        return index


def clip_frames(key: int, frames: int, first: int = 0) -> list[int]:
    """The numbers of the frames of the clip that ends with frame `key`; before the first frame it is repeated."""
    return [max(first, number) for number in range(key - frames + 1, key + 1)]


def squared(corners: ArrayLike, width: float, height: float, size: int) -> Floats:
    """Corners (m, 4) in a picture of this shape, as they are resized straight to a square, clipped to the picture."""
    scale = size / np.array([width, height, width, height])
    return np.clip(np.asarray(corners, np.float64).reshape(-1, 4) * scale, 0, size)


def labelled(corners: Floats, label: int) -> NDArray[np.float32]:
    """Boxes float32 (m, 5) of one class."""
    return np.column_stack([corners, np.full(len(corners), label)]).astype(np.float32)


def share_covered(boxes: NDArray[Any], size: int) -> float:
    """Share of a square picture that the boxes (m, 5) cover together, those that overlap counted each."""
    return float(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()) / size**2


def no_skill(train: AnnotatedSplit) -> dict[str, NDArray[np.float64]]:
    """What can be answered blind: rule -> boxes (n, 7), the same for every picture.

    Boxes are x1, y1, x2, y2, confidence, share, class, as in `bench.method.Prediction`; the share of a class is its
    frequency among the training boxes. mean: the mean training box of each class. best: of each class, the one training
    box that finds the most others (IoU above 0.5), its confidence the share that it finds. places: five such, each
    chosen for what those before it did not find. The skill of a detector starts above the best of these.

    Raises:
        DataError: no training row has a box.
    """
    found = [train.annotation(index).numpy() for index in range(len(train))]
    boxes = np.concatenate([np.zeros((0, 5)), *found])
    if not len(boxes):
        raise DataError("no training row has a box")
    rules: dict[str, list[Floats]] = {"mean": [], "best": [], "places": []}
    for label in np.unique(boxes[:, 4]):
        own = boxes[boxes[:, 4] == label, :4]
        named = np.array([len(own) / len(boxes), label])
        places, share = _places(own[np.linspace(0, len(own) - 1, min(len(own), STUDIED)).astype(int)])
        ranked = np.column_stack([places, share, np.tile(named, (len(places), 1))])
        rules["mean"].append(np.concatenate([own.mean(0), [1.0], named])[None])
        rules["best"].append(ranked[:1])
        rules["places"].append(ranked)
    return {rule: np.concatenate(answers) for rule, answers in rules.items()}


def _places(boxes: Floats) -> tuple[Floats, Floats]:
    """Up to `PLACES` of the boxes (n, 4) that together find the most, and the share that each adds."""
    near = box_iou(boxes, boxes) > ENOUGH
    left, chosen, shares = np.ones(len(boxes), bool), list[int](), list[float]()
    while left.any() and len(chosen) < PLACES:
        chosen.append(int((near & left).sum(1).argmax()))
        shares.append((near[chosen[-1]] & left).sum() / len(boxes))
        left &= ~near[chosen[-1]]
    return boxes[chosen], np.array(shares)
