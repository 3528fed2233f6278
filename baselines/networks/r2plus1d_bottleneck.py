"""R(2+1)D with bottlenecks: the backbone of CorrNet (Wang et al., CVPR 2020) and FASTER (Zhu et al., AAAI 2020).

Against R(2+1)D-18: bottleneck blocks whose 1×3×3 and 3×1×1 have as many channels as the block (no matching of 3D
weights), a max-pool after the stem, and strides in time at res4 and res5 only: stages give T, T, T/2, T/4 frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.networks.initialise import initialise

EXPANSION = 4


def _unit(inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> nn.Sequential:
    """Convolution that keeps the size but for its stride, normalisation, activation."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """1×1×1, 1×3×3, 3×1×1, 1×1×1 with a shortcut: (B, inputs, T, H, W) to (B, 4·planes, T/time, H/space, W/space)."""

    def __init__(self, inputs: int, planes: int, time: int, space: int) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.reduce = _unit(inputs, planes, (1, 1, 1), (1, 1, 1))
        self.spatial = _unit(planes, planes, (1, 3, 3), (1, space, space))
        self.temporal = _unit(planes, planes, (3, 1, 1), (time, 1, 1))
        self.expand = nn.Sequential(nn.Conv3d(planes, outputs, 1, bias=False), nn.BatchNorm3d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or (time, space) != (1, 1):
            projection = nn.Conv3d(inputs, outputs, 1, (time, space, space), bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm3d(outputs))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Residual of the four convolutions."""
        out: Tensor = self.act(self.expand(self.temporal(self.spatial(self.reduce(x)))) + self.shortcut(x))
        return out


class BottleneckR2Plus1D(nn.Module):
    """R(2+1)D of bottlenecks: (B, 3, T, H, W) to (B, classes).

    blocks: bottlenecks in each stage; stage n has width · 2ⁿ planes and four times as many output channels.
    """

    def __init__(self, width: int, classes: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_unit(3, width, (1, 7, 7), (1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        inputs, stages = width, []
        for number, depth in enumerate(blocks):
            planes, stage = width * 2**number, []
            for position in range(depth):
                time = 2 if number > 1 and position == 0 else 1
                space = 2 if number > 0 and position == 0 else 1
                stage.append(Bottleneck(inputs, planes, time, space))
                inputs = EXPANSION * planes
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(inputs, classes)
        self.apply(initialise)

    def features(self, x: Tensor) -> Tensor:
        """The map before pooling, (B, 32·width, ⌈T/4⌉, ⌈H/32⌉, ⌈W/32⌉) with four stages; FASTER aggregates these."""
        out: Tensor = self.stages(self.stem(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        out: Tensor = self.head(self.pool(self.features(x)).flatten(1))
        return out


def r2plus1d_26(
    frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)
) -> BottleneckR2Plus1D:
    """R(2+1)D-26, FASTER's cheap network: 31.6 G multiply-adds for 16 frames at 224².

    Any number of frames and any size run; neither changes the weights. `width` and `blocks` shrink it for small data.
    """
    return BottleneckR2Plus1D(width, classes, blocks)


def r2plus1d_50(
    frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)
) -> BottleneckR2Plus1D:
    """R(2+1)D-50, FASTER's expensive network: 53.2 G multiply-adds for 16 frames at 224². Options as `r2plus1d_26`."""
    return BottleneckR2Plus1D(width, classes, blocks)
