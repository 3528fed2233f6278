"""Cutting patches out of frames, differentiably in their place and extent.

The affine sampling of spatial transformers (Jaderberg et al., NeurIPS 2015), as AdaFocus V2 uses it (Wang et al., CVPR
2022, Sec. 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.adafocus.precision import at_least_single


def crop(frames: Tensor, place: Tensor, extent: Tensor, out: int) -> Tensor:
    """Patches (N, C, out, out) of frames (N, C, H, W), bilinear, beyond an edge repeating it.

    place: (N, 2) in 0..1 as (y, x), of the room there is: the top left corner lies at place · (size − extent). extent:
    (N, 2) in pixels, height and width of what is cut. Where the extent is `out` and the corner whole this is slicing.

    Pixels are areas (not aligned corners): an extent of n covers n whole pixels.
    """
    pictures = at_least_single(frames)
    size = torch.tensor(frames.shape[-2:], dtype=pictures.dtype, device=frames.device)
    place, extent = place.to(pictures), extent.to(pictures)
    centres = (torch.arange(out, dtype=pictures.dtype, device=frames.device) + 0.5) / out
    pixels = (place * (size - extent))[:, :, None] + extent[:, :, None] * centres  # (N, 2, out), from the edge
    rows, columns = (pixels * (2 / size[:, None]) - 1).unbind(1)  # -1 and 1 are the frame's edges
    grid = torch.stack(
        [columns[:, None, :].expand(-1, out, -1), rows[:, :, None].expand(-1, -1, out)], -1
    )  # (N, out, out, 2) as (x, y)
    cut = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.to(frames.dtype)


def patches(clips: Tensor, place: Tensor, extent: Tensor, out: int) -> Tensor:
    """`crop` of every frame of clips (N, C, T, H, W) at place and extent (N, T, 2): (N, C, T, out, out)."""
    frames = clips.transpose(1, 2)
    cut = crop(frames.flatten(0, 1), place.flatten(0, 1), extent.flatten(0, 1), out)
    return cut.view(*frames.shape[:3], out, out).transpose(1, 2)


def scaled(pixels: int, size: int) -> int:
    """What `pixels` of the published 224 are at `size`: to the nearest multiple of 8, at least 8, at most `size`."""
    return min(size, max(8, int(pixels * size / 224 / 8 + 0.5) * 8))
