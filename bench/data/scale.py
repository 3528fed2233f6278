"""Pictures and what is annotated on them at another scale, padded, and cut into the windows that cover them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def rescaled(pictures: Tensor, factor: float) -> Tensor:
    """Pictures uint8 (T, H, W, C) with both sides `factor` times as long, rounded, one pixel at least."""
    height, width = (max(1, round(side * factor)) for side in pictures.shape[1:3])
    return resized(pictures, height, width)


def resized(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures uint8 (T, H, W, C) as (T, height, width, C), bilinear, antialiased where they shrink."""
    if pictures.shape[1:3] == (height, width):
        return pictures
    planes = pictures.permute(0, 3, 1, 2)
    return F.interpolate(planes, (height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1).contiguous()


def rescaled_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask int64 (H, W) as (height, width): of every pixel the class at its centre, so that none is invented."""
    if mask.shape == (height, width):
        return mask
    rows, columns = (
        (2 * torch.arange(new) + 1) * old // (2 * new) for old, new in zip(mask.shape, (height, width), strict=True)
    )
    return mask.index_select(0, rows).index_select(1, columns)


def rescaled_boxes(boxes: Tensor, across: float, down: float) -> Tensor:
    """Boxes float32 (m, 5), x1, y1, x2, y2, class, of a picture `across` times as wide and `down` times as high."""
    return boxes * torch.tensor([across, down, across, down, 1.0])


def rescaled_annotation(annotation: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Boxes or a mask of the pictures `before` (T, H, W, C) as of the same pictures at another size, `after`."""
    height, width = after.shape[1:3]
    if annotation.is_floating_point():
        return rescaled_boxes(annotation, width / before.shape[2], height / before.shape[1])
    return rescaled_mask(annotation, height, width)


def padded(planes: Tensor, size: int, value: float) -> Tensor:
    """Planes (..., H, W) filled up with `value` at the bottom and on the right until both sides have `size` pixels.

    A mask is filled up with -1, so that nothing is learnt or counted there.
    """
    height, width = planes.shape[-2:]
    return F.pad(planes, (0, max(0, size - width), 0, max(0, size - height)), value=value)


def windows(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Corners (y, x) of the fewest windows, size x size and equally spread, that cover a picture.

    Raises:
        ValueError: the picture is smaller than a window.
    """
    if size < 1 or min(height, width) < size:
        raise ValueError(f"windows of {size} pixels do not fit a picture of {width}x{height}; pad it first")
    return [(y, x) for y in _starts(height, size) for x in _starts(width, size)]


def _starts(side: int, size: int) -> list[int]:
    """Where along one side the windows start: the first at 0, the last ending with the side."""
    count = -(-side // size)
    return [k * (side - size) // max(count - 1, 1) for k in range(count)]
