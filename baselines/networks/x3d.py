"""X3D-XS, S, M and L (Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020).

XS, S and M are one network, trained on 4, 13 and 16 frames at 160², 160² and 224²; L (16 frames at 312²) is deeper.
Frames are never strided; space is halved by the stem and by every stage. VA-RED² prints 6.20 and 6.42 GFLOPs for
X3D-M, which fit its 6.18 G multiply-adds of 16 frames at 256², and these with 2 a value normalised (6.39).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from baselines.networks.initialise import initialise


def squeezed(channels: int) -> int:
    """A sixteenth of `channels`, to the nearest multiple of 8, or the next where that would lose over a tenth."""
    wanted = channels / 16
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest


class SqueezeExcitation(nn.Module):
    """Channels scaled by what the whole clip says of them (Hu et al., CVPR 2018); keeps the shape (B, C, T, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc1 = nn.Conv3d(channels, squeezed(channels), 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv3d(squeezed(channels), channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """`x`, channel by channel times a weight in 0..1."""
        weight: Tensor = self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        return x * weight


class Block(nn.Module):
    """Inverted bottleneck with a depthwise 3×3×3 in the middle: (B, C, T, H, W) to the same, strided in space.

    excite: with squeeze-and-excitation after the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, excite: bool) -> None:
        super().__init__()
        inner, steps = expanded(outputs), (1, stride, stride)
        self.conv_a = nn.Conv3d(inputs, inner, 1, bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.act_a = nn.ReLU(inplace=True)
        self.conv_b = nn.Conv3d(inner, inner, 3, steps, 1, groups=inner, bias=False)
        self.norm_b = nn.BatchNorm3d(inner)
        self.excite = SqueezeExcitation(inner) if excite else nn.Identity()
        self.act_b = nn.SiLU()
        self.conv_c = nn.Conv3d(inner, outputs, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(outputs)
        self.shortcut = nn.Sequential()  # passes on what it gets
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv3d(inputs, outputs, 1, steps, bias=False))
        if inputs != outputs:  # as in PyTorchVideo: the first block of all strides by a convolution alone
            self.shortcut.append(nn.BatchNorm3d(outputs))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Residual of the bottleneck."""
        branch = self.act_a(self.norm_a(self.conv_a(x)))
        branch = self.act_b(self.excite(self.norm_b(self.conv_b(branch))))
        out: Tensor = self.act(self.norm_c(self.conv_c(branch)) + self.shortcut(x))
        return out


def expanded(channels: int) -> int:
    """Channels inside a bottleneck, and before the last pool: the paper's γ_b = 2.25 times those outside."""
    return int(2.25 * channels)


class X3D(nn.Module):
    """X3D: (B, 3, T, H, W) to (B, classes).

    width: of the stem and of the first stage, doubled by every further stage. blocks: of every stage.

    Raises:
        ValueError: a width, or a stage's blocks, below 1.
    """

    def __init__(self, width: int, classes: int, blocks: Sequence[int], dropout: float) -> None:
        super().__init__()
        if width < 1 or not blocks or min(blocks) < 1:
            raise ValueError(f"width and every stage's blocks must be 1 or more, got width {width}, blocks {blocks}")
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
            nn.Conv3d(width, width, (5, 1, 1), 1, (2, 0, 0), groups=width, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        inputs, stages = width, []
        for number, depth in enumerate(blocks):
            stage = []
            for position in range(depth):
                outputs = width * 2**number
                stage.append(Block(inputs, outputs, 1 if position else 2, excite=position % 2 == 0))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = _head(inputs, expanded(inputs), 2048 * width // 24, classes, dropout)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        out: Tensor = self.head(self.stages(self.stem(x)))
        return out


def _head(inputs: int, inner: int, features: int, classes: int, dropout: float) -> nn.Sequential:
    """The pool stands before the widest layer, so that this one runs once a clip."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv=nn.Conv3d(inputs, inner, 1, bias=False),
            norm=nn.BatchNorm3d(inner),
            act=nn.ReLU(inplace=True),
            pool=nn.AdaptiveAvgPool3d(1),
            features=nn.Conv3d(inner, features, 1, bias=False),
            act_features=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(features, classes),
        )
    )


def _initialise(module: nn.Module) -> None:
    """As every network, but every block begins as its shortcut; `apply` comes to a block after its layers."""
    initialise(module)
    if isinstance(module, Block):
        nn.init.zeros_(module.norm_c.weight)


def x3d_m(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 24,
    blocks: Sequence[int] = (3, 5, 11, 7),
    dropout: float = 0.5,
) -> X3D:
    """X3D-M; 3,794,274 parameters at 400 classes, whatever `frames` and `size` (any run).

    `width` and `blocks` (of every stage) shrink it for small data.

    Raises:
        ValueError: a width, or a stage's blocks, below 1.
    """
    return X3D(width, classes, blocks, dropout)


# The paper's XS and S are M's network on fewer frames and pixels.
x3d_xs = x3d_s = x3d_m


def x3d_l(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 24,
    blocks: Sequence[int] = (5, 10, 25, 15),
    dropout: float = 0.5,
) -> X3D:
    """X3D-L: `x3d_m` with over twice the blocks; 6,153,384 parameters at 400 classes.

    Raises:
        ValueError: a width, or a stage's blocks, below 1.
    """
    return X3D(width, classes, blocks, dropout)
