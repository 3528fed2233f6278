"""MobileNetV2 (Sandler et al., "Inverted Residuals and Linear Bottlenecks", CVPR 2018), for images and clips.

On clips it runs frame by frame. Parameters carry the public names (features.0.0, features.1.conv.0.0, ...,
classifier.1).
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from baselines.networks.convolution import convolution
from baselines.networks.frames import Frames
from baselines.networks.initialise import initialise
from baselines.networks.resnet import pooled

STEM, LAST = 32, 1280
# Expansion, channels, blocks and the first one's stride of every stage (Table 2 of the paper).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_conv = partial(convolution, act=nn.ReLU6)


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and never less than nine tenths of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3×3 and a linear projection, (B, C, H, W) to (B, outputs, H/stride, W/stride).

    residual: whether the input is added, which it is where nothing changes its shape. shift: what the block's branch
    sees of the input; the input itself unless something else is put there.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.shift: nn.Module = nn.Identity()
        expand = [_conv(inputs, hidden, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's branch, and the input where it fits."""
        y: Tensor = self.conv(self.shift(x))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 on images: (B, 3, H, W) to (B, classes).

    features: (B, 3, H, W) to the feature map (B, channels, ⌈H/32⌉, ⌈W/32⌉). width: channels of the stem, 32 in the
    paper; all others scale with it, and all are rounded to multiples of 8. last: channels of the map, which scale up
    with `width` but, as in the paper, not down.
    """

    def __init__(self, classes: int, width: int = STEM, last: int = LAST) -> None:
        super().__init__()
        scale = width / STEM
        inputs = rounded(STEM * scale)
        layers: list[nn.Module] = [_conv(3, inputs, 3, 2)]
        for expansion, channels, blocks, first in STAGES:
            outputs = rounded(channels * scale)
            for position in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, first if position == 0 else 1, expansion))
                inputs = outputs
        self.channels = rounded(last * max(1.0, scale))
        self.features = nn.Sequential(*layers, _conv(inputs, self.channels, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.channels, classes))
        self.apply(initialise)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (B, classes) of a feature map (B, channels, h, w)."""
        logits: Tensor = self.classifier(pooled(features))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        return self.classify(self.features(images))


def mobilenet_v2(frames: int, size: int, classes: int, *, width: int = STEM, last: int = LAST) -> Frames:
    """MobileNetV2 frame by frame: 2,223,872 parameters and a classifier, 3,504,872 at 1000 classes.

    `width` and `last` as of `MobileNetV2` shrink it for small data; `frames` and `size` change nothing.
    """
    return Frames(MobileNetV2(classes, width, last))
