"""SlowOnly: the slow pathway of SlowFast alone (Feichtenhofer et al., "SlowFast Networks", ICCV 2019).

A 2D ResNet that looks through time only in its last two stages and never strides there. The trunk comes with
bottleneck blocks (res4 and res5: 3×1×1 first, as published) and with basic ones (res4 and res5: both 3×3×3).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.networks.initialise import initialise

DROPOUT = 0.5  # before the classifier, in the networks of both papers


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    groups: int = 1,
) -> list[nn.Module]:
    """A convolution padded to keep its input's size, up to the stride, and its normalisation."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return [
        nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm3d(outputs),
    ]


class Basic(nn.Sequential):
    """The residual of a basic block: two `taps`×3×3 convolutions, the first strided in space."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, taps: int) -> None:
        super().__init__(
            *conv_norm(inputs, planes, (taps, 3, 3), (1, stride, stride)),
            nn.ReLU(inplace=True),
            *conv_norm(planes, planes, (taps, 3, 3)),
        )


class Bottleneck(nn.Sequential):
    """The residual of a bottleneck block: `taps`×1×1, 1×3×3 (strided in space), 1×1×1 to four times the planes."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, taps: int) -> None:
        super().__init__(
            *conv_norm(inputs, planes, (taps, 1, 1)),
            nn.ReLU(inplace=True),
            *conv_norm(planes, planes, (1, 3, 3), (1, stride, stride)),
            nn.ReLU(inplace=True),
            *conv_norm(planes, planes * self.expansion, (1, 1, 1)),
        )


class Block(nn.Module):
    """A residual and its shortcut, (B, C, T, H, W) to the same; strided in space."""

    def __init__(
        self, residual: type[Basic] | type[Bottleneck], inputs: int, planes: int, stride: int, taps: int
    ) -> None:
        super().__init__()
        outputs = planes * residual.expansion
        self.residual = residual(inputs, planes, stride, taps)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*conv_norm(inputs, outputs, (1, 1, 1), (1, stride, stride)))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Their sum, rectified."""
        out: Tensor = self.act(self.residual(x) + self.shortcut(x))
        return out


class Trunk(nn.Module):
    """Clips (B, 3, T, H, W) to res4 (B, levels[0], T, ⌈H/16⌉, ⌈W/16⌉) and res5 (B, levels[1], T, ⌈H/32⌉, ⌈W/32⌉).

    width: channels of the stem. blocks: blocks in res2, res3, res4, res5.

    Raises:
        ValueError: not four stages of at least one block.
    """

    def __init__(self, residual: type[Basic] | type[Bottleneck], width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks: four stages of at least one block each, got {tuple(blocks)}")
        self.stem = nn.Sequential(
            *conv_norm(3, width, (1, 7, 7), (1, 2, 2)),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        inputs, stages = width, []
        for number, depth in enumerate(blocks):
            stage, taps = nn.Sequential(), 3 if number >= 2 else 1
            for position in range(depth):
                stride = 2 if number > 0 and position == 0 else 1
                stage.append(Block(residual, inputs, width * 2**number, stride, taps))
                inputs = width * 2**number * residual.expansion
            stages.append(stage)
        self.res2, self.res3, self.res4, self.res5 = stages
        self.levels = (inputs // 2, inputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two deepest levels."""
        res4 = self.res4(self.res3(self.res2(self.stem(x))))
        return res4, self.res5(res4)


class SlowOnly(nn.Module):
    """A trunk and a classifier: (B, 3, T, H, W) to (B, classes)."""

    def __init__(self, trunk: Trunk, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(trunk.levels[1], classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        _, res5 = self.trunk(x)
        out: Tensor = self.head(self.dropout(self.pool(res5).flatten(1)))
        return out


def slowonly_r50(
    frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)
) -> SlowOnly:
    """SlowOnly-R50: 32,454,096 parameters at 400 classes; 8×8 at 224² costs 41.74 G multiply-adds, at 256² 54.52.

    `frames` and `size` do not change the weights, and any will run. `width` and `blocks` (a stage) shrink it for small
    data.

    Raises:
        ValueError: not four stages of at least one block.
    """
    return SlowOnly(Trunk(Bottleneck, width, blocks), classes)
