"""What is had without looking at a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ToyBoxes, ToySplit

from bench.data.split import Dataset
from bench.floors import floors


class Halves(ToySplit):
    """Pictures whose left half is of class 0 and whose right half is of class 1, but for one void row."""

    task = "masks"
    classes = ("left", "right", "never")

    def annotation(self, index: int) -> Tensor:
        mask = torch.zeros(4, 6, dtype=torch.int64)
        mask[:, 3:] = 1
        mask[0] = -1
        return mask


def dataset(train: ToySplit, test: ToySplit) -> Dataset:
    return Dataset("toy", 1, "0", train, test, test)


def test_the_most_frequent_training_class_is_said_of_every_video() -> None:
    train, test = ToySplit(9), ToySplit(12)
    train.targets = np.array([1, 1, 1, 1, 0, 0, 2, 2, 0])
    found = floors(dataset(train, test))
    assert found["most frequent class"]["clip-1"].value == pytest.approx(1 / 3)


def test_places_tell_masks_that_are_everywhere_alike() -> None:
    found = floors(dataset(Halves(6), Halves(4)))
    assert found["most frequent class at each place"]["mIoU"].value == 1
    assert found["most frequent class"]["pixel-accuracy"].value == pytest.approx(0.5)
    assert found["most frequent class"]["mIoU"].value == pytest.approx(
        (0.5 + 0) / 2
    )  # what never occurs counts nowhere


def test_boxes_at_one_place_are_found_blind() -> None:
    class Still(ToyBoxes):
        def annotation(self, index: int) -> Tensor:
            return torch.tensor([[1.0, 1.0, 6.0, 6.0, float(self.targets[index])]])

    found = floors(dataset(Still(30), Still(30)))
    for rule in ("mean", "best", "places"):
        assert found[f"boxes: {rule}"]["recall"].value == 1
        assert found[f"boxes: {rule}"]["mAP"].value == pytest.approx(1 / 3, abs=0.02)  # each class said of every frame
