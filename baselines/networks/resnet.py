"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016), for images and for clips.

`ResNet` maps images to logits and is what adaptive methods build on; the builders run it on clips, frame by frame. The
stride of a bottleneck is on its 3×3 convolution, as in every public release. Parameters carry the public names (conv1,
bn1, layer1.0.conv1, ..., fc).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.networks.frames import Frames
from baselines.networks.initialise import initialise


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut, (B, C, H, W) to (B, planes, H/stride, W/stride).

    shift: what the residual branch sees of the input; the input itself unless something else is put there.
    """

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.shift: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = shortcut(inputs, planes, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Residual of two convolutions."""
        y = self.relu1(self.bn1(self.conv1(self.shift(x))))
        out: Tensor = self.relu(self.bn2(self.conv2(y)) + self.downsample(x))
        return out


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a shortcut, (B, C, H, W) to (B, 4·planes, H/stride, W/stride).

    shift: what the residual branch sees of the input; the input itself unless something else is put there.
    """

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.shift: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Residual of three convolutions."""
        y = self.relu1(self.bn1(self.conv1(self.shift(x))))
        y = self.relu2(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The input as it is, or projected by a 1×1 convolution where its shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """ResNet on images: (B, 3, H, W) to (B, classes).

    block: `BasicBlock` or `Bottleneck`. blocks: how many in each stage. width: channels of the stem; every stage after
    the first doubles them. channels: of the feature map.
    """

    def __init__(
        self, block: type[BasicBlock | Bottleneck], blocks: Sequence[int], classes: int, width: int = 64
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.channels = width
        for number, depth in enumerate(blocks):
            stage = []
            for position in range(depth):
                stride = 2 if number > 0 and position == 0 else 1
                stage.append(block(self.channels, width * 2**number, stride))
                self.channels = width * 2**number * block.expansion
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        self.stages = len(blocks)
        self.fc = nn.Linear(self.channels, classes)
        self.apply(initialise)

    def features(self, images: Tensor) -> Tensor:
        """The feature map (B, channels, ⌈H/32⌉, ⌈W/32⌉) of images (B, 3, H, W)."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(self.stages):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return x

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (B, classes) of a feature map (B, channels, h, w)."""
        logits: Tensor = self.fc(pooled(features))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        return self.classify(self.features(images))


def pooled(features: Tensor) -> Tensor:
    """Feature maps averaged over space: (B, C, h, w) to (B, C), and of clips, (B, C, T, h, w) to (B, T, C)."""
    return features.mean((-2, -1)).transpose(1, -1)


def resnet18(frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)) -> Frames:
    """ResNet-18 frame by frame: 11,176,512 parameters and a classifier; `frames` and `size` do not change them."""
    return Frames(ResNet(BasicBlock, blocks, classes, width))


def resnet34(frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> Frames:
    """ResNet-34 frame by frame: 21,284,672 parameters and a classifier; `frames` and `size` do not change them."""
    return Frames(ResNet(BasicBlock, blocks, classes, width))


def resnet50(frames: int, size: int, classes: int, *, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> Frames:
    """ResNet-50 frame by frame (TSN): 23,508,032 parameters and a classifier, 23,917,832 at 200 classes.

    `width` and `blocks` (a stage) shrink it for small data; `frames` and `size` change nothing.
    """
    return Frames(ResNet(Bottleneck, blocks, classes, width))
