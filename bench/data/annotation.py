"""Boxes and masks of a picture, cut and mirrored as the picture is.

Boxes are float32 (m, 5): x1, y1, x2, y2 in pixels, class. A mask is int64 (H, W): classes, -1 where nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VISIBLE = 0.25
"""A box of which a crop shows no more than this share is not to be found there."""


def cropped(annotation: Tensor, y: int, x: int, size: int) -> Tensor:
    """What the crop of `size` at (y, x) shows; boxes are clipped to it."""
    if not annotation.is_floating_point():
        return annotation[y : y + size, x : x + size]
    corners = annotation[:, :4] - torch.tensor([x, y, x, y])
    shown = corners.clamp(0, size)
    return torch.cat([shown, annotation[:, 4:]], 1)[_area(shown) > VISIBLE * _area(corners)]


def mirrored(annotation: Tensor, size: int) -> Tensor:
    """Left and right of a picture `size` wide exchanged."""
    if not annotation.is_floating_point():
        return annotation.flip(1)
    x1, y1, x2, y2, label = annotation.unbind(1)
    return torch.stack([size - x2, y1, size - x1, y2, label], 1)


def collated(annotations: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Masks of one size as (B, H, W); boxes as they are, since each sample has its own number of them."""
    return list(annotations) if annotations[0].is_floating_point() else torch.stack(list(annotations))


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
