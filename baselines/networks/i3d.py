"""I3D on Inception-v1 (Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017).

This is the build whose cost matches the published VA-RED² tables (16, 32 frames at 256²: 55.9, 111.9 G multiply-adds):
the stem keeps every frame, and the last three max-pools halve them. The I3D paper's own halves them in the stem
already and not in the second pool, so that its early layers cost half as much.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.networks.initialise import initialise

INCEPTION: Sequence[tuple[str, Sequence[int]]] = (
    ("inception3a", (64, 96, 128, 16, 32, 32)),
    ("inception3b", (128, 128, 192, 32, 96, 64)),
    ("pool3", ()),
    ("inception4a", (192, 96, 208, 16, 48, 64)),
    ("inception4b", (160, 112, 224, 24, 64, 64)),
    ("inception4c", (128, 128, 256, 24, 64, 64)),
    ("inception4d", (112, 144, 288, 32, 64, 64)),
    ("inception4e", (256, 160, 320, 32, 128, 128)),
    ("pool4", ()),
    ("inception5a", (256, 160, 320, 32, 128, 128)),
    ("inception5b", (384, 192, 384, 48, 128, 128)),
)
"""Inception-v1 after its stem: the channels of every block (see `Inception`), and where a pool halves everything."""


def conv_unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with a cubic kernel and a stride in space, normalisation, activation."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), kernel // 2, bias=False),
        nn.BatchNorm3d(outputs, eps=1e-3),
        nn.ReLU(inplace=True),
    )


class Inception(nn.Module):
    """Four branches side by side, (B, C, T, H, W) to (B, sum of their channels, T, H, W).

    channels: of the 1×1×1 branch; reduced and 3×3×3; reduced and 3×3×3 (5×5 in the paper's figure, 3×3×3 in every
    release); after the pool.
    """

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        single, reduce1, conv1, reduce2, conv2, pooled = channels
        self.branch1 = conv_unit(inputs, single, 1)
        self.branch2 = nn.Sequential(conv_unit(inputs, reduce1, 1), conv_unit(reduce1, conv1, 3))
        self.branch3 = nn.Sequential(conv_unit(inputs, reduce2, 1), conv_unit(reduce2, conv2, 3))
        self.branch4 = nn.Sequential(nn.MaxPool3d(3, 1, 1), conv_unit(inputs, pooled, 1))
        self.outputs = single + conv1 + conv2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        """The branches' channels, one after the other."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class I3D(nn.Module):
    """Inflated Inception-v1: (B, 3, T, H, W) to (B, classes), the mean of the logits of the ⌈T/8⌉ time steps left.

    width: of the stem, 64 in the paper; all others scale with it.
    """

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=conv_unit(3, width, 7, stride=2),
                pool1=nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
                conv2=conv_unit(width, width, 1),
                conv3=conv_unit(width, 3 * width, 3),
                pool2=nn.MaxPool3d(3, 2, 1),
            )
        )
        self.blocks, outputs = nn.Sequential(), 3 * width
        for name, channels in INCEPTION:
            if not channels:
                self.blocks.add_module(name, nn.MaxPool3d(3, 2, 1))
                continue
            block = Inception(outputs, [count * width // 64 for count in channels])
            self.blocks.add_module(name, block)
            outputs = block.outputs
        self.pool = nn.AdaptiveAvgPool3d((None, 1, 1))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(outputs, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits; the classifier sees time step by time step."""
        steps = self.pool(self.blocks(self.stem(x))).flatten(2).transpose(1, 2)
        out: Tensor = self.head(self.dropout(steps)).mean(1)
        return out


def i3d(frames: int, size: int, classes: int, *, width: int = 64, dropout: float = 0.5) -> I3D:
    """I3D on Inception-v1; 12,697,264 parameters at 400 classes, whatever `frames` and `size` (any run).

    `width` shrinks it for small data.

    Raises:
        ValueError: `width` below 4, at which the narrowest branch has one channel.
    """
    if width < 4:
        raise ValueError(f"width must be 4 or more, got {width}")
    return I3D(width, classes, dropout)
