"""Dilated ResNet-18 for semantic segmentation, with the decoders of the ADE20K benchmark (Zhou et al., IJCV 2019).

The encoder has a stem of three convolutions and keeps an eighth of the input's size: its last two stages, in place of
striding, look at places further apart. At 224 × 224 it costs 10.64 G multiply-adds (VA-RED² Table 11 prints 10.6); with
150 classes decoders add 0.48 G (C1) or 9.32 G (PPM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.networks.convolution import convolution
from baselines.networks.initialise import initialise
from baselines.networks.resnet import BasicBlock
from bench.task import Task
from bench.whole_batch import mean_of_all

Decoder = Literal["c1", "c1_deepsup", "ppm", "ppm_deepsup"]
AUXILIARY_WEIGHT = 0.4  # of the loss of what layer3 alone says, beside the decoder's 1
VOID = -1
DROPOUT = 0.1  # of whole maps, in PPM
SCALES = (1, 2, 3, 6)


class Segmentation(Task):
    """A class for every pixel: output (B, K, H, W) logits, target int64 (B, H, W), -1 where any answer will do."""

    kind = "masks"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, the mean over pixels that are not void, of all processes' parts together; 0 if all are."""
        total = F.cross_entropy(output, target, ignore_index=VOID, reduction="sum")
        return total / mean_of_all((target != VOID).sum().to(total.dtype)).clamp(min=1)

    @torch.no_grad()
    def right(self, output: Tensor, target: Tensor) -> Tensor:
        """The share of pixels that are right, of those that are not void; 0 if all are."""
        known = (target != VOID).sum((1, 2)).clamp(min=1)
        return (output.argmax(1) == target).sum((1, 2)) / known

    def answer(self, output: Tensor) -> dict[str, Any]:
        """The logits."""
        return {"masks": output}


class Encoder(nn.Module):
    """Images (B, 3, H, W) to layer3 (B, 4·width, ⌈H/8⌉, ⌈W/8⌉) and layer4 (B, 8·width, ⌈H/8⌉, ⌈W/8⌉).

    Raises:
        ValueError: `width` below 1, or not four stages of at least one block.
    """

    def __init__(self, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        if width < 1 or len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"width of 1 or more, four stages of a block or more: got {width}, {tuple(blocks)}")
        self.stem = nn.Sequential(
            convolution(3, width, 3, 2),
            convolution(width, width, 3),
            convolution(width, 2 * width, 3),
            nn.MaxPool2d(3, 2, 1),
        )
        inputs, stages = 2 * width, []
        for number, depth in enumerate(blocks):
            planes, stage = width * 2**number, nn.Sequential()
            for position in range(depth):
                stage.append(BasicBlock(inputs, planes, 2 if number and not position else 1))
                inputs = planes
            stages.append(stage)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        _dilate(self.layer3, 2)
        _dilate(self.layer4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two deepest stages."""
        layer3 = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return layer3, self.layer4(layer3)


def _dilate(stage: nn.Module, dilation: int) -> None:
    """A stage that does not stride: its 3×3 convolutions see places `dilation` apart, the one that strode half that."""
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d):
            apart = dilation // 2 if conv.stride == (2, 2) else dilation
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (apart, apart)


class Pyramid(nn.Module):
    """(B, C, h, w) beside what its means over 1, 2 × 2, 3 × 3 and 6 × 6 parts say: (B, C + 4·planes, h, w)."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), convolution(inputs, planes, 1)) for scale in SCALES
        )

    def forward(self, x: Tensor) -> Tensor:
        """Channels side by side."""
        return torch.cat([x, *(_resized(level(x), x.shape[-2:]) for level in self.levels)], 1)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, (size[0], size[1]), mode="bilinear", align_corners=False)


def _classifier(inputs: int, planes: int, classes: int, dropout: float) -> nn.Sequential:
    """A 3×3 convolution, then logits place by place; C1 is this alone."""
    return nn.Sequential(convolution(inputs, planes, 3), nn.Dropout2d(dropout), nn.Conv2d(planes, classes, 1))


def _initialise(module: nn.Module) -> None:
    """As every network; the convolutions that classify, which alone have a bias, as linear classifiers do."""
    initialise(module)
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


class Segmenter(nn.Module):
    """Images (B, 3, H, W) to logits (B, classes, H, W).

    Raises:
        ValueError: no such decoder, or as `Encoder`.
    """

    input_kind = "image"

    def __init__(self, width: int, blocks: Sequence[int], decoder: Decoder, classes: int) -> None:
        super().__init__()
        if decoder not in get_args(Decoder):
            raise ValueError(f"no decoder {decoder!r}; there are {', '.join(get_args(Decoder))}")
        self.task = Segmentation()
        self.encoder, features = Encoder(width, blocks), 8 * width
        if decoder.startswith("ppm"):
            seen = features * (1 + len(SCALES))
            pyramid = Pyramid(features, features)
            self.decoder = nn.Sequential(pyramid, _classifier(seen, features, classes, DROPOUT))
        else:
            self.decoder = _classifier(features, features // 4, classes, 0.0)
        self.auxiliary: nn.Module | None = None
        if decoder.endswith("deepsup"):
            dropout = DROPOUT if decoder.startswith("ppm") else 0.0
            self.auxiliary = _classifier(features // 2, features // 4, classes, dropout)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, resized bilinearly to the images; the auxiliary classifier does not run."""
        _, layer4 = self.encoder(x)
        return _resized(self.decoder(layer4), x.shape[-2:])

    def training_logits(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """The logits of every classifier, each with the weight of its loss; `forward`'s first, with weight 1."""
        layer3, layer4 = self.encoder(x)
        found = [(1.0, self.decoder(layer4))]
        if self.auxiliary is not None:
            found.append((AUXILIARY_WEIGHT, self.auxiliary(layer3)))
        return [(weight, _resized(logits, x.shape[-2:])) for weight, logits in found]


def resnet18_dilated(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    decoder: Decoder = "c1_deepsup",
) -> Segmenter:
    """Dilated ResNet-18 for images: 11.32 M parameters in the encoder, 0.61 M in C1, 12.93 M in PPM.

    `frames` is there because every builder takes it: an image has one, and nothing depends on it, nor on `size`.
    `width` and `blocks` (a stage) shrink it for small data. `decoder`: "c1" or "ppm" (pyramid pooling), with "_deepsup"
    a classifier on layer3 as well, in training only.

    Raises:
        ValueError: no such decoder, `width` below 1, or not four stages of at least one block.
    """
    return Segmenter(width, blocks, decoder, classes)
