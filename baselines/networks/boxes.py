"""Boxes as corners x1, y1, x2, y2 in any one unit: how much they overlap, and which of many that do are kept."""

from __future__ import annotations

import torch
from torch import Tensor


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), broadcast: (...); 0 where neither has an area."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = area(one) + area(other) - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny)


def area(boxes: Tensor) -> Tensor:
    """Of boxes (..., 4): (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def unsuppressed(boxes: Tensor, labels: Tensor, candidate: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression class by class: which boxes (B, N, 4), best first, stay; bool (B, N).

    A box goes where one of its class (labels, (B, N)) stands before it, stays itself and overlaps it by more than
    `threshold`. Only those of `candidate`, bool (B, N), take part.
    """
    meet = overlaps(boxes[:, :, None], boxes[:, None]) > threshold
    before = torch.ones_like(meet[0]).triu(1)
    beats = meet & before & (labels[:, :, None] == labels[:, None]) & candidate[:, :, None]
    # Whether a box stays hangs on those before it alone: each pass settles at least one more of every sample.
    stays = candidate
    while True:
        again = candidate & ~(beats & stays[:, :, None]).any(1)
        if torch.equal(again, stays):
            return stays
        stays = again
