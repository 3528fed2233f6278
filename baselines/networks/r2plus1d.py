"""R(2+1)D-18 (Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018), in two builds of one class.

`r2plus1d_18` is the build whose cost matches the VA-RED² tables (8, 16, 32 frames at 128²: 27.5, 55.0, 110.1 G
multiply-adds); `r2plus1d_18_torchvision` is torchvision's layout. Neither has a max-pool.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.networks.initialise import initialise


def mid_planes(inputs: int, outputs: int) -> int:
    """Middle channels with which 1×3×3 and 3×1×1 have as many weights as one 3×3×3 (Tran et al., §3.5)."""
    return (27 * inputs * outputs) // (9 * inputs + 3 * outputs)


def factorised(inputs: int, mid: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3×3×3 convolution factorised in space and time; strides in both."""
    return nn.Sequential(
        nn.Conv3d(inputs, mid, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(mid),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class Block(nn.Module):
    """Two factorised convolutions with a shortcut, (B, C, T, H, W) to the same, strided."""

    def __init__(self, inputs: int, outputs: int, stride: int, mids: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            factorised(inputs, mids[0], outputs, stride), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(factorised(outputs, mids[1], outputs, 1), nn.BatchNorm3d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Residual of two factorised convolutions."""
        out: Tensor = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return out


class R2Plus1D(nn.Module):
    """R(2+1)D with basic blocks: (B, 3, T, H, W) to (B, classes).

    stem: layers up to the first stage, giving `width` channels. shared_mid: middle channels computed once a block from
    its outer channels (torchvision) instead of for each convolution.
    """

    def __init__(self, stem: nn.Module, width: int, classes: int, blocks: Sequence[int], shared_mid: bool) -> None:
        super().__init__()
        self.stem = stem
        inputs, stages = width, []
        for number, depth in enumerate(blocks):
            outputs = width * 2**number
            stage = []
            for position in range(depth):
                first = mid_planes(inputs, outputs)
                mids = (first, first if shared_mid else mid_planes(outputs, outputs))
                stride = 2 if number > 0 and position == 0 else 1
                stage.append(Block(inputs, outputs, stride, mids))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(inputs, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        out: Tensor = self.head(self.pool(self.stages(self.stem(x))).flatten(1))
        return out


def r2plus1d_18(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    stem: Sequence[int] = (3, 7, 7),
) -> R2Plus1D:
    """The build whose cost matches the published tables: 3×7×7 stem, middle channels per convolution.

    33,281,118 parameters at 200 classes; `frames` and `size` do not change them. `width`, `blocks` (a stage) and the
    `stem`'s kernel shrink it for small data.
    """
    _check(width, blocks, stem)
    padding = (stem[0] // 2, stem[1] // 2, stem[2] // 2)
    first = nn.Sequential(
        nn.Conv3d(3, width, (stem[0], stem[1], stem[2]), (1, 2, 2), padding, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )
    return R2Plus1D(first, width, classes, blocks, shared_mid=False)


def r2plus1d_18_torchvision(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    stem: Sequence[int] = (3, 7, 7),
) -> R2Plus1D:
    """torchvision's layout: factorised stem with 45 middle channels, middle channels per block; 31.5 M parameters."""
    _check(width, blocks, stem)
    mid = max(1, width * 45 // 64)
    space, time = (1, stem[1], stem[2]), (stem[0], 1, 1)
    first = nn.Sequential(
        nn.Conv3d(3, mid, space, (1, 2, 2), (0, stem[1] // 2, stem[2] // 2), bias=False),
        nn.BatchNorm3d(mid),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid, width, time, 1, (stem[0] // 2, 0, 0), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )
    return R2Plus1D(first, width, classes, blocks, shared_mid=True)


def _check(width: int, blocks: Sequence[int], stem: Sequence[int]) -> None:
    if width < 1 or min(blocks, default=0) < 1:
        raise ValueError(f"width and the blocks of every stage must be 1 or more, got {width} and {list(blocks)}")
    if len(stem) != 3 or min(stem) < 1:
        raise ValueError(f"the stem's kernel is frames, height and width, each 1 or more, got {list(stem)}")
