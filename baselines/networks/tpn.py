"""Temporal Pyramid Network (Yang et al., CVPR 2020): a neck on res4 and res5 of SlowOnly, in two builds of one class.

`tpn_r50` is the published network. `tpn`, the same neck on SlowOnly-R18, is the build that fits VA-RED² Table 3. Each
level is brought to res5's size in space and to one frame in time, so that the flows between levels need no resampling.
As in the released code, whose "parallel" flow is a cascade, bottom-up starts from what top-down made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.networks.initialise import initialise
from baselines.networks.slowonly import DROPOUT, Basic, Bottleneck, Trunk, conv_norm

GROUPS = 32  # of the modulating and of the fusing convolutions
AUXILIARY_WEIGHT = 0.5  # of the auxiliary head's loss, beside the classifier's 1


def conv_norm_act(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1), groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps its input's size, up to the stride, its normalisation and activation."""
    return nn.Sequential(*conv_norm(inputs, outputs, kernel, stride, groups), nn.ReLU(inplace=True))


class TemporalModulation(nn.Module):
    """A level (B, inputs, T, H, W) to (B, outputs, 1, H, W): a 3×1×1 convolution, then the largest over all frames."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (3, 1, 1), padding=(1, 0, 0), groups=GROUPS, bias=False)
        self.pool = nn.AdaptiveMaxPool3d((1, None, None))

    def forward(self, x: Tensor) -> Tensor:
        """The modulated level."""
        out: Tensor = self.pool(self.conv(x))
        return out


class LevelFusion(nn.Module):
    """Both levels, (B, planes, 1, H, W) each, to (B, outputs, 1, H, W)."""

    def __init__(self, planes: int, outputs: int) -> None:
        super().__init__()
        self.res4 = conv_norm_act(planes, planes, (1, 1, 1), groups=GROUPS)
        self.res5 = conv_norm_act(planes, planes, (1, 1, 1), groups=GROUPS)
        self.fuse = conv_norm_act(2 * planes, outputs, (1, 1, 1))

    def forward(self, res4: Tensor, res5: Tensor) -> Tensor:
        """The fused levels."""
        out: Tensor = self.fuse(torch.cat([self.res4(res4), self.res5(res5)], 1))
        return out


class Pyramid(nn.Module):
    """The neck: res4 (B, C, T, H, W) and res5 (B, 2C, T, ⌈H/2⌉, ⌈W/2⌉) to (B, outputs, 1, ⌈H/2⌉, ⌈W/2⌉)."""

    def __init__(self, levels: tuple[int, int], outputs: int) -> None:
        super().__init__()
        planes, top = levels
        self.spatial = conv_norm_act(planes, top, (1, 3, 3), (1, 2, 2))
        self.temporal4 = TemporalModulation(top, planes)
        self.temporal5 = TemporalModulation(top, planes)
        self.bottom_up = nn.Conv3d(planes, planes, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.fusion_down = LevelFusion(planes, top)
        self.fusion_up = LevelFusion(planes, top)
        self.fusion = conv_norm_act(2 * top, outputs, (1, 1, 1))

    def forward(self, res4: Tensor, res5: Tensor) -> Tensor:
        """Modulation, top-down and bottom-up flow, fusion."""
        res4, res5 = self.temporal4(self.spatial(res4)), self.temporal5(res5)
        res4 = res4 + res5
        down = self.fusion_down(res4, res5)
        res5 = res5 + self.bottom_up(res4)
        up = self.fusion_up(res4, res5)
        out: Tensor = self.fusion(torch.cat([down, up], 1))
        return out


def classifier(inputs: int, classes: int) -> nn.Sequential:
    """Features (B, C, T, H, W) to logits (B, classes)."""
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(inputs, classes))


class TPN(nn.Module):
    """Trunk, neck and classifier: (B, 3, T, H, W) to (B, classes), with an auxiliary classifier of res4 for training.

    features: channels that the neck gives to the classifier.

    Raises:
        ValueError: the channels of res4 cannot be grouped.
    """

    def __init__(self, trunk: Trunk, features: int, classes: int) -> None:
        super().__init__()
        planes, top = trunk.levels
        if planes % GROUPS:
            raise ValueError(
                f"width: res4 must have a multiple of {GROUPS} channels, has {planes}; take a multiple of 8"
            )
        self.trunk = trunk
        self.neck = Pyramid(trunk.levels, features)
        self.head = classifier(features, classes)
        self.auxiliary = nn.Sequential(conv_norm_act(planes, top, (1, 3, 3), (1, 2, 2)), classifier(top, classes))
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits; the auxiliary classifier does not run."""
        out: Tensor = self.head(self.neck(*self.trunk(x)))
        return out

    def training_logits(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """Logits (B, classes) of every classifier, each with the weight of its loss; `forward`'s first, with weight 1.

        A call of its own, since logits kept in the module would keep their graph, and could not be copied with it.
        """
        res4, res5 = self.trunk(x)
        return [(1.0, self.head(self.neck(res4, res5))), (AUXILIARY_WEIGHT, self.auxiliary(res4))]


def tpn_r50(frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> TPN:
    """TPN on SlowOnly-R50: 91,498,336 parameters at 400 classes, the auxiliary classifier's included.

    8 frames at 224² cost 50.28 G multiply-adds, at 256² 65.67, without the auxiliary classifier. `frames` and `size` do
    not change the weights, and any will run. `width` and `blocks` (a stage) shrink it for small data.

    Raises:
        ValueError: `width` is not a multiple of 2, or there are not four stages of at least one block.
    """
    return TPN(Trunk(Bottleneck, width, blocks), 32 * width, classes)


def tpn(frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)) -> TPN:
    """TPN on SlowOnly-R18, all convolutions of res4 and res5 blocks 3×3×3: the build that fits VA-RED² Table 3.

    At 224², 8 and 16 frames cost 28.53 and 56.92 G multiply-adds with the auxiliary convolution (28.5 and 56.8 in
    print), 28.07 and 56.00 as `forward` runs, without it. The paper's backbone is inferred from these costs alone. The
    neck gives 2048 features to the classifier on any backbone, as in the released code. `frames` and `size` do not
    change the weights, and any will run. `width` and `blocks` (a stage) shrink it for small data.

    Raises:
        ValueError: `width` is not a multiple of 8, or there are not four stages of at least one block.
    """
    return TPN(Trunk(Basic, width, blocks), 32 * width, classes)
