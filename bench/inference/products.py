"""Convolutions over time alone as matrix products of frames, each written where it belongs.

A frame in channels-last layout is a matrix (H·W, C): a product per tap into the output's frame, which stays in the
cache until its last one. Frames that are the same, or zero, need no product, and outputs may lie in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from bench.cost import samples

Taps = Sequence[Sequence[tuple[int, Tensor]]]
"""For each output frame the input frames that it needs, and the weights (C, C') that they are multiplied with."""


def plain_taps(weight: Tensor, frames: int, stride: int, padding: int) -> Taps:
    """Of an ordinary convolution with `weight` (C', C, K, 1, 1) over `frames` frames padded with zeros."""
    taps = [weight[:, :, k, 0, 0].t() for k in range(weight.shape[2])]
    outputs = (frames + 2 * padding - len(taps)) // stride + 1
    starts = (output * stride - padding for output in range(outputs))
    return [[(s + k, tap) for k, tap in enumerate(taps) if 0 <= s + k < frames] for s in starts]


def frame_products(x: Tensor, taps: Taps, bias: Tensor, relu: bool) -> Tensor:
    """(B, C, T, H, W) to (B, C', len(taps), H, W), channels last."""
    batch, _, _, height, width = x.shape
    rows = x.permute(0, 2, 3, 4, 1).reshape(batch, x.shape[2], height * width, x.shape[1])
    out = x.new_empty(batch, len(taps), height * width, len(bias))
    for sample in range(batch):
        with samples([sample]) if batch > 1 else nullcontext():  # of one it is known whose it is
            for place, needed in enumerate(taps):
                _product(rows[sample], needed, bias, out[sample, place], relu)
    return out.view(batch, len(taps), height, width, len(bias)).permute(0, 4, 1, 2, 3)


def _product(frames: Tensor, needed: Sequence[tuple[int, Tensor]], bias: Tensor, out: Tensor, relu: bool) -> None:
    if not needed:
        out.copy_(bias.expand_as(out))
    for number, (frame, weight) in enumerate(needed):
        torch.addmm(out if number else bias, frames[frame], weight, out=out)
    if relu:
        out.relu_()
