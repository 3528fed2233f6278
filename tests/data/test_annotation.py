"""Boxes and masks go where their pixels go, whatever is cropped, mirrored and rescaled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ToyBoxes, ToyMasks

from bench.data.annotation import cropped, mirrored
from bench.data.sampling import Sampling, test_batches, train_batches
from bench.data.subset import Subset
from bench.method import InputSpec

CLIP = InputSpec("clip", 16, 4, mean=0.0, std=1.0)
IMAGE = InputSpec("image", 16, mean=0.0, std=1.0, unit="image")
SCALED = Sampling(scales=(1.0, 2.0))


def shown(picture: Tensor, box: Tensor) -> tuple[float, float]:
    """The darkest pixel well inside a box of a picture (H, W), and the brightest well outside."""
    x1, y1, x2, y2 = box[:4].tolist()
    outside = picture.clone()
    outside[max(0, int(y1) - 1) : int(np.ceil(y2)) + 1, max(0, int(x1) - 1) : int(np.ceil(x2)) + 1] = 0
    inside = picture[int(np.ceil(y1)) + 1 : int(y2) - 1, int(np.ceil(x1)) + 1 : int(x2) - 1]
    return float(inside.min()) if inside.numel() else 1.0, float(outside.max())


@pytest.mark.parametrize("sampling", [Sampling(), SCALED])
def test_boxes_follow_the_crop_the_mirror_and_the_scale(sampling: Sampling) -> None:
    split = ToyBoxes(24, (6, 22, 26))
    seen = 0
    for batch in [*train_batches(split, CLIP, sampling, 8, 0, 0), *test_batches(split, CLIP, sampling, 1, 1, 8)]:
        for clip, boxes in zip(batch.sample, batch.target, strict=True):
            assert boxes.dtype == torch.float32 and bool(((boxes[:, :4] >= 0) & (boxes[:, :4] <= 16)).all())
            for box in boxes:
                inside, outside = shown(clip[0, -1], box)
                assert inside >= 0.3 and outside < 0.01
                seen += 1
    assert seen > 24


@pytest.mark.parametrize("sampling", [Sampling(), SCALED, Sampling(scales=(0.5,))])
def test_masks_follow_the_crop_the_mirror_and_the_scale(sampling: Sampling) -> None:
    split = ToyMasks(24, (1, 20, 24))
    for batch in train_batches(split, IMAGE, sampling, 8, 0, 0):
        assert batch.target.shape == (8, 16, 16) and batch.target.dtype == torch.int64
        picture = batch.sample[:, 0]
        assert bool((picture[batch.target == 1] > 0.4).all()) and bool((picture[batch.target == 0] < 0.6).all())
        assert {-1, 0, 1} >= set(batch.target.unique().tolist())
    assert bool((batch.target == -1).any())


def test_what_a_crop_hardly_shows_is_not_to_be_found() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10, 1], [8, 8, 20, 20, 2], [30, 30, 40, 40, 0]])
    assert cropped(boxes, 8, 8, 16).tolist() == [[0, 0, 12, 12, 2]]
    assert cropped(boxes[:0], 0, 0, 8).shape == (0, 5)


def test_mirroring_twice_changes_nothing() -> None:
    boxes, mask = ToyBoxes(1, (1, 16, 16)).annotation(0), ToyMasks(1, (1, 16, 16)).annotation(0)
    for one in (boxes, mask):
        assert not torch.equal(mirrored(one, 16), one) and torch.equal(mirrored(mirrored(one, 16), 16), one)


def test_part_of_a_split_keeps_its_annotations() -> None:
    whole = ToyMasks(6, (1, 16, 18))
    part = Subset(whole, np.array([4, 1]))
    assert part.task == "masks" and torch.equal(part.annotation(0), whole.annotation(4))
