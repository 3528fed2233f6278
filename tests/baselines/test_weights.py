"""Import of public weights: small networks in the releases' own names and structure, against what ours make of them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.weights.importer import Source, convert
from baselines.weights.layouts import EVERY
from bench import registry
from bench.weights import METADATA, WeightsError

CLASSES = 7


class Named(nn.Module):
    """Modules under given names; `run` says how they are called."""

    def __init__(self, run: Callable[..., Tensor], **modules: nn.Module | None) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            if module is not None:
                self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def in_order(*names: str) -> Callable[..., Tensor]:
    """Calls those of the named modules that there are."""

    def run(module: nn.Module, x: Tensor) -> Tensor:
        for name in names:
            x = getattr(module, name)(x) if hasattr(module, name) else x
        return x

    return run


def conv(
    inputs: int, outputs: int, kernel: Sequence[int], stride: int | Sequence[int] = 1, groups: int = 1
) -> nn.Conv2d | nn.Conv3d:
    kind = nn.Conv3d if len(kernel) == 3 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, [size // 2 for size in kernel], groups=groups, bias=False)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs)


# torchvision.models.video.r2plus1d_18


def r2plus1d(width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2), classes: int = 400) -> nn.Module:
    def pair(inputs: int, mid: int, outputs: int, stride: int) -> nn.Sequential:
        first = conv(inputs, mid, (1, 3, 3), (1, stride, stride))
        return nn.Sequential(first, nn.BatchNorm3d(mid), nn.ReLU(), conv(mid, outputs, (3, 1, 1), (stride, 1, 1)))

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        mid = (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)
        projection = nn.Sequential(conv(inputs, outputs, (1, 1, 1), stride), nn.BatchNorm3d(outputs))
        return Named(
            lambda m, x: F.relu(m.conv2(m.conv1(x)) + (m.downsample(x) if hasattr(m, "downsample") else x)),
            conv1=nn.Sequential(pair(inputs, mid, outputs, stride), nn.BatchNorm3d(outputs), nn.ReLU()),
            conv2=nn.Sequential(pair(outputs, mid, outputs, 1), nn.BatchNorm3d(outputs)),
            downsample=projection if stride > 1 or inputs != outputs else None,
        )

    mid = 45 * width // 64
    stem = [conv(3, mid, (1, 7, 7), (1, 2, 2)), nn.BatchNorm3d(mid), nn.ReLU()]
    stem += [conv(mid, width, (3, 1, 1)), nn.BatchNorm3d(width), nn.ReLU()]
    layers, inputs = {}, width
    for number, depth in enumerate(blocks):
        outputs, first = width * 2**number, 1 if number == 0 else 2
        stage = [block(inputs if i == 0 else outputs, outputs, first if i == 0 else 1) for i in range(depth)]
        layers[f"layer{number + 1}"], inputs = nn.Sequential(*stage), outputs
    return Named(
        lambda m, x: m.fc(m.layer4(m.layer3(m.layer2(m.layer1(m.stem(x))))).mean((2, 3, 4))),
        stem=nn.Sequential(*stem),
        **layers,
        fc=linear(inputs, classes),
    )


# torchvision.models.resnet, and the TSM release's networks on it


class Shift(nn.Module):
    """TSM's: frames are folded into the batch."""

    def __init__(self, net: nn.Module, frames: int) -> None:
        super().__init__()
        self.net, self.frames = net, frames

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.frames))
        fold = x.shape[1] // 8
        following = torch.cat([clips[:, 1:, :fold], torch.zeros_like(clips[:, :1, :fold])], 1)
        before = torch.cat([torch.zeros_like(clips[:, :1, :fold]), clips[:, :-1, fold : 2 * fold]], 1)
        return self.net(torch.cat([following, before, clips[:, :, 2 * fold :]], 2).flatten(0, 1))


def resnet(
    bottleneck: bool, blocks: Sequence[int], width: int = 64, classes: int = 1000, frames: int | None = None
) -> nn.Module:
    """frames: with a shift before every block's first convolution."""
    grow = 4 if bottleneck else 1

    def block(inputs: int, planes: int, stride: int) -> nn.Module:
        outputs, projected = planes * grow, stride > 1 or inputs != planes * grow
        first = conv(inputs, planes, (1, 1)) if bottleneck else conv(inputs, planes, (3, 3), stride)
        main: dict[str, nn.Module] = {"conv1": first if frames is None else Shift(first, frames)}
        main |= {"bn1": nn.BatchNorm2d(planes), "conv2": conv(planes, planes, (3, 3), stride if bottleneck else 1)}
        main |= {"bn2": nn.BatchNorm2d(planes)}
        if bottleneck:
            main |= {"conv3": conv(planes, outputs, (1, 1)), "bn3": nn.BatchNorm2d(outputs)}

        def run(m: Any, x: Tensor) -> Tensor:
            y = m.bn2(m.conv2(F.relu(m.bn1(m.conv1(x)))))
            y = m.bn3(m.conv3(F.relu(y))) if bottleneck else y
            return F.relu(y + (m.downsample(x) if projected else x))

        shortcut = nn.Sequential(conv(inputs, outputs, (1, 1), stride), nn.BatchNorm2d(outputs))
        return Named(run, **main, downsample=shortcut if projected else None)

    layers, inputs = {}, width
    for number, depth in enumerate(blocks):
        planes, stage = width * 2**number, []
        for position in range(depth):
            stage.append(block(inputs, planes, 2 if number and position == 0 else 1))
            inputs = planes * grow
        layers[f"layer{number + 1}"] = nn.Sequential(*stage)

    def run(m: Any, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(m.bn1(m.conv1(x))), 3, 2, 1)
        return m.fc(m.layer4(m.layer3(m.layer2(m.layer1(x)))).mean((2, 3)))

    stem = {"conv1": conv(3, width, (7, 7), 2), "bn1": nn.BatchNorm2d(width)}
    return Named(run, **stem, **layers, fc=linear(inputs, classes))


def tsn(base: nn.Module, last: str, **parallel: Any) -> nn.Module:
    """TSM's model around a network for images: its classifier is replaced, and all is wrapped in DataParallel."""
    classifier = getattr(base, last)
    setattr(base, last, nn.Dropout(0.8))
    model = Named(lambda m, x: m.new_fc(m.base_model(x)), base_model=base, new_fc=classifier)
    return Named(lambda m, x: m.module(x), module=model)


# MobileNetV2: torchvision's, and the one that the TSM release has


def mobilenet(
    width: int = 32, classes: int = 1000, flat: bool = False, frames: int | None = None, last: int = 1280
) -> nn.Module:
    """flat: a block's layers in one row (TSM's). frames: with a shift in the blocks that add their input."""

    def rounded(channels: float) -> int:
        up = max(8, int(channels + 4) // 8 * 8)
        return up + 8 if up < 0.9 * channels else up

    def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        return [conv(inputs, outputs, (kernel, kernel), stride, groups), nn.BatchNorm2d(outputs), nn.ReLU6()]

    def block(inputs: int, outputs: int, stride: int, expansion: int) -> nn.Module:
        inner, adds = inputs * expansion, stride == 1 and inputs == outputs
        units = ([unit(inputs, inner, 1)] if expansion > 1 else []) + [unit(inner, inner, 3, stride, inner)]
        end = [conv(inner, outputs, (1, 1)), nn.BatchNorm2d(outputs)]
        row = [layer for layers in units for layer in layers] if flat else [nn.Sequential(*layers) for layers in units]
        if frames is not None and adds:
            row[0] = Shift(row[0], frames)
        return Named(lambda m, x: x + m.conv(x) if adds else m.conv(x), conv=nn.Sequential(*row, *end))

    inputs = rounded(width)
    layers: list[nn.Module] = [nn.Sequential(*unit(3, inputs, 3, 2))]
    published = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    for expansion, channels, blocks, first in [*published, (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for position in range(blocks):
            outputs = rounded(channels * width / 32)
            layers.append(block(inputs, outputs, first if position == 0 else 1, expansion))
            inputs = outputs
    layers.append(nn.Sequential(*unit(inputs, last, 1)))
    head = linear(last, classes) if flat else nn.Sequential(nn.Dropout(0.2), linear(last, classes))
    return Named(
        lambda m, x: m.classifier(m.features(x).mean((2, 3))), features=nn.Sequential(*layers), classifier=head
    )


# PyTorchVideo: x3d_* and slow_r50


def net(*blocks: nn.Module) -> nn.Module:
    return Named(lambda m, x: nn.Sequential(*m.blocks)(x), blocks=nn.ModuleList(blocks))


def res_stage(*blocks: nn.Module) -> nn.Module:
    return Named(lambda m, x: nn.Sequential(*m.res_blocks)(x), res_blocks=nn.ModuleList(blocks))


def res_block(branch: nn.Module, projection: nn.Module | None, norm: nn.Module | None) -> nn.Module:
    shortcut = in_order("branch1_conv", "branch1_norm")
    run = lambda m, x: F.relu(shortcut(m, x) + m.branch2(x))  # noqa: E731
    return Named(run, branch1_conv=projection, branch1_norm=norm, branch2=branch)


def bottleneck(**modules: nn.Module) -> nn.Module:
    return Named(in_order("conv_a", "norm_a", "act_a", "conv_b", "norm_b", "act_b", "conv_c", "norm_c"), **modules)


def x3d(width: int = 24, blocks: Sequence[int] = (3, 5, 11, 7), classes: int = 400) -> nn.Module:
    def squeeze(inner: int) -> nn.Module:
        reduced = max(8, int(inner / 16 + 4) // 8 * 8)
        reduced += 8 * (reduced < 0.9 * inner / 16)
        layers = [nn.Conv3d(inner, reduced, 1), nn.ReLU(), nn.Conv3d(reduced, inner, 1), nn.Sigmoid()]
        return Named(lambda m, x: x * m.block(x.mean((2, 3, 4), keepdim=True)), block=nn.Sequential(*layers))

    def block(inputs: int, outputs: int, stride: int, excite: bool) -> nn.Module:
        inner, steps = int(2.25 * outputs), (1, stride, stride)
        branch = bottleneck(
            conv_a=conv(inputs, inner, (1, 1, 1)),
            norm_a=nn.BatchNorm3d(inner),
            act_a=nn.ReLU(),
            conv_b=conv(inner, inner, (3, 3, 3), steps, inner),
            norm_b=nn.Sequential(nn.BatchNorm3d(inner), squeeze(inner) if excite else nn.Identity()),
            act_b=nn.SiLU(),
            conv_c=conv(inner, outputs, (1, 1, 1)),
            norm_c=nn.BatchNorm3d(outputs),
        )
        projection = conv(inputs, outputs, (1, 1, 1), steps) if stride > 1 or inputs != outputs else None
        return res_block(branch, projection, nn.BatchNorm3d(outputs) if inputs != outputs else None)

    spatial, temporal = conv(3, width, (1, 3, 3), (1, 2, 2)), conv(width, width, (5, 1, 1), groups=width)
    stem = Named(
        in_order("conv", "norm", "activation"),
        conv=Named(in_order("conv_t", "conv_xy"), conv_t=spatial, conv_xy=temporal),  # its names are swapped
        norm=nn.BatchNorm3d(width),
        activation=nn.ReLU(),
    )
    stages, inputs = [], width
    for number, depth in enumerate(blocks):
        outputs, stage = width * 2**number, []
        for position in range(depth):
            stage.append(block(inputs, outputs, 1 if position else 2, position % 2 == 0))
            inputs = outputs
        stages.append(res_stage(*stage))
    inner, features = int(2.25 * inputs), 2048 * width // 24
    pool = Named(
        lambda m, x: F.relu(m.post_conv(F.relu(m.pre_norm(m.pre_conv(x))).mean((2, 3, 4), keepdim=True))),
        pre_conv=conv(inputs, inner, (1, 1, 1)),
        pre_norm=nn.BatchNorm3d(inner),
        post_conv=conv(inner, features, (1, 1, 1)),
    )
    head = Named(lambda m, x: m.proj(m.pool(x).flatten(1)), pool=pool, proj=linear(features, classes))
    return net(stem, *stages, head)


def slow(width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3), classes: int = 400) -> nn.Module:
    def block(inputs: int, planes: int, stride: int, taps: int) -> nn.Module:
        outputs, steps = 4 * planes, (1, stride, stride)
        branch = bottleneck(
            conv_a=conv(inputs, planes, (taps, 1, 1)),
            norm_a=nn.BatchNorm3d(planes),
            act_a=nn.ReLU(),
            conv_b=conv(planes, planes, (1, 3, 3), steps),
            norm_b=nn.BatchNorm3d(planes),
            act_b=nn.ReLU(),
            conv_c=conv(planes, outputs, (1, 1, 1)),
            norm_c=nn.BatchNorm3d(outputs),
        )
        if inputs == outputs:
            return res_block(branch, None, None)
        return res_block(branch, conv(inputs, outputs, (1, 1, 1), steps), nn.BatchNorm3d(outputs))

    pooled = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    stem_conv = conv(3, width, (1, 7, 7), (1, 2, 2))
    run = in_order("conv", "norm", "activation", "pool")
    stem = Named(run, conv=stem_conv, norm=nn.BatchNorm3d(width), activation=nn.ReLU(), pool=pooled)
    stages, inputs = [], width
    for number, depth in enumerate(blocks):
        stage = []
        for position in range(depth):
            stride = 2 if number and position == 0 else 1
            stage.append(block(inputs, width * 2**number, stride, 3 if number > 1 else 1))
            inputs = 4 * width * 2**number
        stages.append(res_stage(*stage))
    head = Named(lambda m, x: m.proj(x.mean((2, 3, 4))), proj=linear(inputs, classes))
    return net(stem, *stages, head)


# IBM's I3D


def ibm_i3d(width: int = 64, classes: int = 400) -> nn.Module:
    def unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
        layer = conv(inputs, outputs, (kernel,) * 3, (1, stride, stride))
        return Named(lambda m, x: F.relu(m.bn(m.conv(x))), conv=layer, bn=nn.BatchNorm3d(outputs, eps=1e-3))

    def inception(inputs: int, *published: int) -> nn.Module:
        a, b, c, d, e, f = (channels * width // 64 for channels in published)
        return Named(
            lambda m, x: torch.cat([m.branch1(x), m.branch2(x), m.branch3(x), m.branch4(x)], 1),
            branch1=unit(inputs, a, 1),
            branch2=nn.Sequential(unit(inputs, b, 1), unit(b, c, 3)),
            branch3=nn.Sequential(unit(inputs, d, 1), unit(d, e, 3)),
            branch4=nn.Sequential(nn.MaxPool3d(3, 1, 1, ceil_mode=True), unit(inputs, f, 1)),
        )

    published = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
    blocks, inputs = {}, 3 * width
    for name, channels in published.items():
        blocks[f"inception{name}"] = inception(inputs, *channels)
        inputs = sum(channels[i] * width // 64 for i in (0, 2, 4, 5))

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.conv3(m.conv2(F.max_pool3d(m.conv1(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))))
        for name in published:
            if name in ("3a", "4a", "5a"):
                x = F.max_pool3d(x, 3, 2, 1)
            x = getattr(m, f"inception{name}")(x)
        return m.fc(x.mean((3, 4)).transpose(1, 2)).mean(1)

    stem = {"conv1": unit(3, width, 7, 2), "conv2": unit(width, width, 1), "conv3": unit(width, 3 * width, 3)}
    return Named(run, **stem, **blocks, fc=linear(inputs, classes))


# Every release, its network of ours, and both narrow


@dataclass
class Release:
    """public: the release's network at its own size. narrow: small; options: of ours, for the same size.

    wrap: what the release's training script saves of a state dict. images: the network sees frames in the batch.
    key: a key of the release, and its shape, as published.
    """

    network: str
    public: Callable[[], nn.Module]
    narrow: Callable[[], nn.Module]
    options: dict[str, Any]
    key: tuple[str, tuple[int, ...]]
    wrap: Callable[[Any], Any] = dict
    images: bool = False
    classes: int = 1000
    public_options: dict[str, Any] = field(default_factory=dict)


FRAMES, SHORT = 4, (2, 1, 1, 1)
SMALL = {"width": 8, "blocks": SHORT}
BOTTLENECKS, MOBILE = {"width": 4, "blocks": SHORT}, {"width": 16, "last": 40}


def of_tsm(state: Any) -> Any:
    return {"epoch": 50, "arch": "resnet50", "state_dict": state, "best_prec1": torch.tensor(70.1)}


def of_pytorchvideo(state: Any) -> Any:
    return {"model_state": state}


def of_ibm(state: Any) -> Any:
    arch = "kinetics400-rgb-i3d_v2-ts-max-f16-cosine-bs64-e100"
    state = {f"module.{key}": value for key, value in state.items()}
    return {"epoch": 100, "arch": arch, "state_dict": state, "best_top1": 70.0, "optimizer": {}, "scheduler": {}}


RELEASES = {
    "torchvision r2plus1d_18": Release(
        "r2plus1d_18_torchvision",
        r2plus1d,
        lambda: r2plus1d(8, SHORT, CLASSES),
        SMALL,
        ("layer2.0.conv1.0.0.weight", (230, 64, 1, 3, 3)),
        classes=400,
    ),
    "torchvision resnet18": Release(
        "resnet18",
        lambda: resnet(False, (2, 2, 2, 2)),
        lambda: resnet(False, SHORT, 8, CLASSES),
        SMALL,
        ("layer4.0.downsample.0.weight", (512, 256, 1, 1)),
        images=True,
    ),
    "torchvision resnet34": Release(
        "resnet34",
        lambda: resnet(False, (3, 4, 6, 3)),
        lambda: resnet(False, SHORT, 8, CLASSES),
        SMALL,
        ("layer3.5.conv2.weight", (256, 256, 3, 3)),
        images=True,
    ),
    "torchvision resnet50": Release(
        "resnet50",
        lambda: resnet(True, (3, 4, 6, 3)),
        lambda: resnet(True, SHORT, 4, CLASSES),
        BOTTLENECKS,
        ("layer1.0.conv3.weight", (256, 64, 1, 1)),
        images=True,
    ),
    "torchvision resnet101": Release(
        "resnet50",
        lambda: resnet(True, (3, 4, 23, 3)),
        lambda: resnet(True, (1, 1, 2, 1), 4, CLASSES),
        {"width": 4, "blocks": (1, 1, 2, 1)},
        ("layer3.22.conv1.weight", (256, 1024, 1, 1)),
        images=True,
        public_options={"blocks": (3, 4, 23, 3)},
    ),
    "torchvision mobilenet_v2": Release(
        "mobilenet_v2",
        mobilenet,
        lambda: mobilenet(16, CLASSES, last=40),
        MOBILE,
        ("features.18.0.weight", (1280, 320, 1, 1)),
        images=True,
    ),
    "TSM resnet50": Release(
        "tsm_resnet50",
        lambda: tsn(resnet(True, (3, 4, 6, 3), classes=400, frames=8), "fc"),
        lambda: tsn(resnet(True, SHORT, 4, CLASSES, FRAMES), "fc"),
        BOTTLENECKS,
        ("module.base_model.layer1.0.conv1.net.weight", (64, 64, 1, 1)),
        of_tsm,
        images=True,
        classes=400,
    ),
    "TSM resnet18": Release(
        "tsm_resnet18",
        lambda: tsn(resnet(False, (2, 2, 2, 2), frames=8), "fc"),
        lambda: tsn(resnet(False, SHORT, 8, CLASSES, FRAMES), "fc"),
        SMALL,
        ("module.base_model.layer2.0.conv1.net.weight", (128, 64, 3, 3)),
        of_tsm,
        images=True,
    ),
    "TSN resnet50": Release(
        "resnet50",
        lambda: tsn(resnet(True, (3, 4, 6, 3), classes=400), "fc"),
        lambda: tsn(resnet(True, SHORT, 4, CLASSES), "fc"),
        BOTTLENECKS,
        ("module.new_fc.weight", (400, 2048)),
        of_tsm,
        images=True,
        classes=400,
    ),
    "TSM mobilenetv2": Release(
        "tsm_mobilenet_v2",
        lambda: tsn(mobilenet(classes=400, flat=True, frames=8), "classifier"),
        lambda: tsn(mobilenet(16, CLASSES, True, FRAMES, 40), "classifier"),
        MOBILE,
        ("module.base_model.features.3.conv.0.net.weight", (144, 24, 1, 1)),
        of_tsm,
        images=True,
        classes=400,
    ),
    "TSN mobilenetv2": Release(
        "mobilenet_v2",
        lambda: tsn(mobilenet(classes=400, flat=True), "classifier"),
        lambda: tsn(mobilenet(16, CLASSES, True, last=40), "classifier"),
        MOBILE,
        ("module.base_model.features.17.conv.6.weight", (320, 960, 1, 1)),
        of_tsm,
        images=True,
        classes=400,
    ),
    "PyTorchVideo x3d_m": Release(
        "x3d_m",
        x3d,
        lambda: x3d(8, (3, 1, 1, 1), CLASSES),
        {"width": 8, "blocks": (3, 1, 1, 1)},
        ("blocks.0.conv.conv_t.weight", (24, 3, 1, 3, 3)),
        of_pytorchvideo,
        classes=400,
    ),
    "PyTorchVideo x3d_l": Release(
        "x3d_l",
        lambda: x3d(blocks=(5, 10, 25, 15)),
        lambda: x3d(8, SHORT, CLASSES),
        SMALL,
        ("blocks.4.res_blocks.14.branch2.norm_b.1.block.0.weight", (32, 432, 1, 1, 1)),
        of_pytorchvideo,
        classes=400,
    ),
    "PyTorchVideo slow_r50": Release(
        "slowonly_r50",
        slow,
        lambda: slow(4, SHORT, CLASSES),
        BOTTLENECKS,
        ("blocks.5.proj.weight", (400, 2048)),
        of_pytorchvideo,
        classes=400,
    ),
    "IBM i3d": Release(
        "i3d",
        ibm_i3d,
        lambda: ibm_i3d(8, CLASSES),
        {"width": 8},
        ("inception4e.branch3.1.conv.weight", (128, 32, 3, 3, 3)),
        of_ibm,
        classes=400,
    ),
}


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and statistics that keep activations near 1, in eval mode."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(11)
        elif isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.normal_(module.weight, 0, 1 / math.sqrt(module.weight[0].numel()))
    return network.eval()


def narrow(name: str) -> tuple[Release, nn.Module]:
    return RELEASES[name], randomised(RELEASES[name].narrow())


def imported(file: Path, release: Release, **given: Any) -> tuple[dict[str, Any], nn.Module]:
    """What the importer says, and our network with what it wrote."""
    out = file.with_name("ours.safetensors")
    said = registry.weights(release.network)(file, out, options=release.options, **given)
    network = registry.build_network(release.network, frames=FRAMES, size=32, classes=CLASSES, **release.options)
    network.load_state_dict(safetensors.torch.load_file(out))
    return said, network.eval()


@pytest.mark.parametrize("name", RELEASES)
def test_ours_gives_the_output_of_the_source(name: str, tmp_path: Path) -> None:
    release, source = narrow(name)
    file = tmp_path / "release.pth"
    torch.save(release.wrap(source.state_dict()), file)
    said, ours = imported(file, release)
    clips = torch.randn(2, 3, FRAMES, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        seen = clips.transpose(1, 2).flatten(0, 1) if release.images else clips
        theirs = source(seen).unflatten(0, (2, FRAMES)).mean(1) if release.images else source(seen)
        assert theirs.std() > 0.01  # or anything would agree
        torch.testing.assert_close(ours(clips), theirs, rtol=1e-5, atol=1e-5)
    assert (said["network"], said["classes"]) == (release.network, CLASSES)
    assert said["parameters"] == sum(weight.numel() for weight in source.parameters())
    assert said["num_batches_tracked"] == "from the file"
    assert {int(v) for k, v in ours.state_dict().items() if k.endswith("num_batches_tracked")} == {11}


@pytest.mark.parametrize("name", RELEASES)
def test_every_key_of_the_public_size_has_its_place(name: str) -> None:
    release = RELEASES[name]
    with torch.device("meta"):
        state = release.public().state_dict()
    key, shape = release.key
    assert tuple(state[key].shape) == shape
    state = {key.removeprefix("module."): value for key, value in state.items()}
    assert len([layout for layout in EVERY if layout.mark in state]) == 1
    layouts = registry.weights(release.network).args[1]
    found = convert(release.network, layouts, Source(state, "", ""), options=release.public_options)
    assert found.classes == release.classes and found.counted and len(found.state) == len(state)


def test_x3d_xs_and_s_take_what_m_takes() -> None:
    with torch.device("meta"):
        state = x3d().state_dict()
    for name in ("x3d_xs", "x3d_s"):
        assert convert(name, registry.weights(name).args[1], Source(state, "", "")).parameters == 3_794_274


@pytest.fixture
def resnet18(tmp_path: Path) -> tuple[Release, dict[str, Tensor], Path]:
    release, source = narrow("torchvision resnet18")
    return release, source.state_dict(), tmp_path / "resnet18.pth"


def refused(release: Release, file: Path, content: Any, **given: Any) -> str:
    """The one line about a file that is refused, after which there is no output."""
    torch.save(content, file)
    with pytest.raises(WeightsError) as raised:
        imported(file, release, **given)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]
    line = str(raised.value)
    assert line.startswith(f"{file}: ") and "\n" not in line
    return line


def test_missing_counters_are_zero_and_said(resnet18: tuple[Release, dict[str, Tensor], Path]) -> None:
    release, state, file = resnet18
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, file)
    said, ours = imported(file, release)
    assert said["num_batches_tracked"] == "0 where the file has none"
    assert {int(v) for k, v in ours.state_dict().items() if k.endswith("num_batches_tracked")} == {0}


def test_safetensors_half_precision_and_shared_or_strided_tensors(
    resnet18: tuple[Release, dict[str, Tensor], Path],
) -> None:
    release, state, file = resnet18
    torch.save(state, file)
    _, plain = imported(file, release)
    for key in [key for key in state if key.endswith("running_mean")]:
        state[key] = state[key].clone()
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].contiguous(memory_format=torch.channels_last)
    state["layer1.1.bn2.bias"] = state["layer1.0.bn2.bias"]
    torch.save(state, file)
    _, odd = imported(file, release)
    torch.testing.assert_close(odd.network.layer1[0].conv1.weight, plain.network.layer1[0].conv1.weight)
    torch.testing.assert_close(odd.network.layer1[1].bn2.bias, plain.network.layer1[0].bn2.bias)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    safe = file.with_name("half.safetensors")
    safetensors.torch.save_file({key: value.contiguous().clone() for key, value in halves.items()}, safe)
    _, half = imported(safe, release)
    assert half.network.fc.weight.dtype == torch.float32
    torch.testing.assert_close(half.network.fc.weight, plain.network.fc.weight, rtol=1e-3, atol=1e-3)


def test_equal_weights_are_equal_files_that_say_what_they_are(
    resnet18: tuple[Release, dict[str, Tensor], Path],
) -> None:
    release, state, file = resnet18
    torch.save(state, file)
    first, second = (imported(file, release)[0] for _ in range(2))
    assert first == second
    with safetensors.safe_open(first["out"], "pt") as written:
        metadata = json.loads(written.metadata()[METADATA])
    assert metadata["network"] == "resnet18" and metadata["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert metadata["source_sha256"] == first["source_sha256"] != first["sha256"]


def test_leftover_keys_on_either_side_are_named(resnet18: tuple[Release, dict[str, Tensor], Path]) -> None:
    release, state, file = resnet18
    extra = refused(release, file, {**state, "layer1.0.attention.weight": torch.ones(1)})
    assert "1 of its keys have no place in resnet18 (layer1.0.attention.weight)" in extra
    less = {key: value for key, value in state.items() if key not in ("bn1.bias", "fc.bias")}
    assert "2 of resnet18 are not in it (network.bn1.bias, network.fc.bias)" in refused(release, file, less)
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert "network.fc.weight, network.fc.bias" in refused(release, file, headless)


def test_classes_and_other_shapes_are_named(resnet18: tuple[Release, dict[str, Tensor], Path]) -> None:
    release, state, file = resnet18
    line = refused(release, file, state, classes=5)
    assert "fc.weight is (7, 64) in the file and (5, 64) in resnet18" in line and "with 5 classes" in line
    wide = randomised(resnet(False, SHORT, 16, CLASSES)).state_dict()
    assert "conv1.weight is (16, 3, 7, 7)" in refused(release, file, wide)
    state["bn1.running_var"] = state["bn1.running_var"].to(torch.complex64)
    assert "bn1.running_var is (8,) torch.complex64" in refused(release, file, state)


@pytest.mark.parametrize("name", [name for name in RELEASES if "resnet18" not in name and "resnet34" not in name])
def test_a_file_of_another_network_gets_one_line(name: str, resnet18: tuple[Release, dict[str, Tensor], Path]) -> None:
    release, _, file = resnet18
    other, source = narrow(name)
    line = refused(release, file, other.wrap(source.state_dict()))
    assert ("these are weights of " in line and "resnet18 takes torchvision's ResNet or" in line) or (
        "not the weights of resnet18: " in line
    )


def test_shifted_and_plain_weights_are_not_taken_for_each_other(tmp_path: Path) -> None:
    file = tmp_path / "release.pth"
    for shifted, plain in (("TSM resnet50", "TSN resnet50"), ("TSM mobilenetv2", "TSN mobilenetv2")):
        for wanted, given in ((shifted, plain), (plain, shifted)):
            other, source = narrow(given)
            line = refused(RELEASES[wanted], file, other.wrap(source.state_dict()))
            assert "shifts" in line and f"{RELEASES[wanted].network} takes" in line


def test_blocks_without_their_shift_are_left_over(tmp_path: Path) -> None:
    """TSM shifts only every second block of a ResNet-101; ours would shift all of them."""
    release, source = narrow("TSM resnet50")
    state = {key.replace("layer1.1.conv1.net", "layer1.1.conv1"): v for key, v in source.state_dict().items()}
    assert "base_model.layer1.1.conv1.weight" in refused(release, tmp_path / "tsm.pth", of_tsm(state))


def test_tsm_classifiers_under_the_base_model_are_known(tmp_path: Path) -> None:
    release, source = narrow("TSM mobilenetv2")
    state = {key.replace("new_fc", "base_model.classifier"): value for key, value in source.state_dict().items()}
    torch.save(of_tsm(state), tmp_path / "tsm.pth")
    said, _ = imported(tmp_path / "tsm.pth", release)
    assert said["classes"] == CLASSES
    (tmp_path / "ours.safetensors").unlink()
    state["module.new_fc.bias"] = torch.zeros(CLASSES)  # a second one
    assert "no place in tsm_mobilenet_v2 (new_fc.bias)" in refused(release, tmp_path / "tsm.pth", of_tsm(state))


def test_structures_that_no_map_can_bridge_are_refused(tmp_path: Path) -> None:
    release, source = narrow("IBM i3d")
    file = tmp_path / "i3d.pth"
    deepmind = {"Conv3d_1a_7x7.conv3d.weight": torch.zeros(64, 3, 7, 7, 7), "logits.conv3d.bias": torch.zeros(400)}
    assert "its stem and not its second pool strides in time" in refused(release, file, deepmind)
    unstrided = {**of_ibm(source.state_dict()), "arch": "kinetics400-rgb-i3d_v2-f16"}
    assert "'kinetics400-rgb-i3d_v2-f16', not one with '-ts-max'" in refused(release, file, unstrided)


def test_unknown_layouts_and_no_state_dicts(resnet18: tuple[Release, dict[str, Tensor], Path]) -> None:
    release, state, file = resnet18
    assert "(s1.conv.weight) are of no known layout" in refused(release, file, {"s1.conv.weight": torch.ones(1)})
    assert "(none) are of no known layout" in refused(release, file, {})
    assert "not a state dict but a list" in refused(release, file, [1, 2])
    assert "its entry 'epoch' is no tensor" in refused(release, file, {"epoch": 3, **state})
    assert "its entry 0 is no tensor" in refused(release, file, {0: torch.ones(1)})
    meta = {key: value.to("meta") for key, value in state.items()}
    assert "is no tensor with values" in refused(release, file, meta)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(zipped: bool, tmp_path: Path) -> None:
    file, mark = tmp_path / "bomb.pth", tmp_path / "ran"
    release, source = narrow("torchvision resnet18")
    torch.save({"state_dict": source.state_dict(), "more": Bomb(mark)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"without running code: holds [\w.]+, more than tensors") as raised:
        imported(file, release)
    assert not mark.exists() and "\n" not in str(raised.value)
    torch.load(file, weights_only=False)
    assert mark.exists()  # the file does hold code


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "module.pth"
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(WeightsError, match=r"holds torch.nn.modules.linear.Linear, more than tensors"):
        imported(file, RELEASES["torchvision resnet18"])


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_broken_files_are_one_line_and_harm_nothing(kind: str, share: float, tmp_path: Path) -> None:
    release, source = narrow("torchvision resnet18")
    buffer = io.BytesIO()
    torch.save(source.state_dict(), buffer)
    data = buffer.getvalue() if kind == "torch" else safetensors.torch.save(source.state_dict())
    file, out = tmp_path / "broken", tmp_path / "ours.safetensors"
    file.write_bytes(data[: int(len(data) * share)])
    out.write_text("before")
    with pytest.raises(WeightsError, match=r"broken: cannot be read .*broken, or no state dict") as raised:
        imported(file, release)
    assert "\n" not in str(raised.value) and "weights_only" not in str(raised.value)
    assert out.read_text() == "before"


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    release, source = narrow("torchvision resnet18")
    file = tmp_path / "ours.safetensors"
    safetensors.torch.save_file(source.state_dict(), file)
    before = file.read_bytes()
    with pytest.raises(WeightsError, match="a file of their own"):
        imported(file, release)
    assert file.read_bytes() == before


def test_every_importer_is_of_a_registered_network_that_it_names() -> None:
    from baselines import WEIGHTS

    names = [target.rpartition(":")[2] for target in WEIGHTS]
    assert set(names) <= set(registry.networks())
    assert [registry.weights(name).args[0] for name in names] == names
    assert {release.network for release in RELEASES.values()} == set(names) - {"x3d_xs", "x3d_s"}


def test_weights_of_other_networks_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(registry.RegistryError, match="no public weights of 'resnet5'; did you mean 'resnet50'"):
        registry.weights("resnet5")
    with pytest.raises(registry.RegistryError, match="no public weights of 'corrnet'"):
        registry.weights("corrnet")
