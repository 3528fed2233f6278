"""Temporal shift (Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019).

A network for frames whose residual branches see an eighth of their channels from the next frame and an eighth from the
one before. It adds neither parameters nor multiply-adds, and its weights are laid out as those of the network alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.networks.frames import Frames
from baselines.networks.mobilenet import LAST, STEM, InvertedResidual, mobilenet_v2
from baselines.networks.resnet import BasicBlock, Bottleneck, resnet18, resnet50


class TemporalShift(nn.Module):
    """Shifts channels between frames, (B, C, T, H, W) to the same.

    Of the C channels the first ⌊C/shift_div⌋ come from the next frame and the second ⌊C/shift_div⌋ from the one before;
    beyond either end of the clip there are zeros.

    Raises:
        ValueError: shift_div is less than 2.
    """

    def __init__(self, shift_div: int) -> None:
        super().__init__()
        if shift_div < 2:
            raise ValueError(f"shift_div must be at least 2, for two shares of the channels; got {shift_div}")
        self.shift_div = shift_div

    def forward(self, x: Tensor) -> Tensor:
        """The shifted clip."""
        share = x.shape[1] // self.shift_div
        out = torch.zeros_like(x)
        out[:, :share, :-1] = x[:, :share, 1:]
        out[:, share : 2 * share, 1:] = x[:, share : 2 * share, :-1]
        out[:, 2 * share :] = x[:, 2 * share :]
        return out


def shifted(network: Frames, shift_div: int) -> Frames:
    """`network`, in place, with a shift before every residual branch; of MobileNetV2 only where the input is added."""
    for block in network.modules():
        if isinstance(block, BasicBlock | Bottleneck) or (isinstance(block, InvertedResidual) and block.residual):
            block.shift = TemporalShift(shift_div)
    return network


def tsm_resnet18(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    shift_div: int = 8,
) -> Frames:
    """`resnet18` with temporal shifts, for any number of frames; parameters and cost are the same."""
    return shifted(resnet18(frames, size, classes, width=width, blocks=blocks), shift_div)


def tsm_resnet50(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (3, 4, 6, 3),
    shift_div: int = 8,
) -> Frames:
    """`resnet50` with temporal shifts, for any number of frames; parameters and cost are the same."""
    return shifted(resnet50(frames, size, classes, width=width, blocks=blocks), shift_div)


def tsm_mobilenet_v2(
    frames: int, size: int, classes: int, *, width: int = STEM, last: int = LAST, shift_div: int = 8
) -> Frames:
    """`mobilenet_v2` with temporal shifts, for any number of frames; parameters and cost are the same."""
    return shifted(mobilenet_v2(frames, size, classes, width=width, last=last), shift_div)
