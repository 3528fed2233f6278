"""How public releases name what they trained: explicit maps from their modules to ours.

A map is written from the structure that a release documents; whatever it does not name is left over, and an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from baselines.networks.i3d import INCEPTION

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # torchvision's video networks
PYTORCHVIDEO = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Layout:
    """The names of one release's weights, without the "module." of `DataParallel`.

    mark: a key by which the layout is known; no other has it. modules: their modules and ours, the first that fits
    counts; "{n}" is any number, and on our side "{n-1}" the one before it. head: our classifier. normalisation: mean
    and standard deviation of red, green and blue in 0..1 that the release was trained with. arch: what the name that
    the file gives its own network must contain, where it gives one and where keys do not tell the networks apart.
    differs: why no map can make our network give the release's output.
    """

    name: str
    mark: str
    modules: Mapping[str, str]
    head: str
    normalisation: tuple[Sequence[float], Sequence[float]]
    arch: str = ""
    differs: str = ""

    def ours(self, key: str) -> str | None:
        """Our name of their key, if they have such a module."""
        module, _, tensor = key.rpartition(".")
        for theirs, ours in self.modules.items():
            if found := _pattern(theirs).fullmatch(module):
                return f"{_filled(ours, found.groupdict())}.{tensor}"
        return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """A template with "{n}" as the expression that its names match."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(template)))


def _filled(template: str, numbers: Mapping[str, str]) -> str:
    """A template with "{n}", "{n-1}" or "{n+1}" as the name that the numbers make of it."""
    return re.sub(r"\{(\w+)([+-]\d+)?\}", lambda field: str(int(numbers[field[1]]) + int(field[2] or 0)), template)


def _within(theirs: str, ours: str, parts: Mapping[str, str]) -> dict[str, str]:
    """The map of a module's parts."""
    return {f"{theirs}.{part}": f"{ours}.{mine}" for part, mine in parts.items()}


def _resnet(prefix: str, conv1: str, classifier: str) -> dict[str, str]:
    """ResNet as torchvision names it, under `prefix`; conv1: the first convolution of a block."""
    block = {conv1: "conv1", "conv2": "conv2", "conv3": "conv3", "bn{i}": "bn{i}", "downsample.{i}": "downsample.{i}"}
    parts = {"conv1": "conv1", "bn1": "bn1", **_within("layer{s}.{b}", "layer{s}.{b}", block)}
    return {**{prefix + theirs: f"network.{ours}" for theirs, ours in parts.items()}, classifier: "network.fc"}


def _flat_mobilenet(shifted: Sequence[int]) -> dict[str, str]:
    """MobileNetV2 with the layers of a block in one row; shifted: the blocks whose first layer sits in a shift."""
    row = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
    first = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}  # the first block does not expand
    parts = {
        "features.{n}.{i}": "features.{n}.{i}",
        **_within("features.1.conv", "features.1.conv", first),
        **{f"features.{n}.conv.0{'.net' * (n in shifted)}": f"features.{n}.conv.0.0" for n in range(2, 18)},
        **_within("features.{n}.conv", "features.{n}.conv", {key: row[key] for key in row if key != "0"}),
        "classifier": "classifier.1",
    }
    named = {f"base_model.{theirs}": f"network.{ours}" for theirs, ours in parts.items()}
    return {**named, "new_fc": "network.classifier.1"}


def _inception(name: str) -> dict[str, str]:
    """An Inception block of IBM's I3D."""
    parts = {"branch1.conv": "branch1.0", "branch1.bn": "branch1.1"}
    parts |= {"branch{k}.{i}.conv": "branch{k}.{i}.0", "branch{k}.{i}.bn": "branch{k}.{i}.1"}
    return _within(name, f"blocks.{name}", parts)


TORCHVISION_R2PLUS1D = Layout(
    name="torchvision's R(2+1)D",
    mark="layer1.0.conv1.0.0.weight",
    modules={
        "stem.{i}": "stem.{i}",
        "layer{s}.{b}.conv{c}.0.{i}": "stages.{s-1}.{b}.conv{c}.0.{i}",
        "layer{s}.{b}.conv{c}.1": "stages.{s-1}.{b}.conv{c}.1",
        "layer{s}.{b}.downsample.{i}": "stages.{s-1}.{b}.shortcut.{i}",
        "fc": "head",
    },
    head="head",
    normalisation=KINETICS,
)
TORCHVISION_RESNET = Layout(
    name="torchvision's ResNet",
    mark="layer1.0.conv1.weight",
    modules=_resnet("", "conv1", "fc"),
    head="network.fc",
    normalisation=IMAGENET,
)
TORCHVISION_MOBILENET = Layout(
    name="torchvision's MobileNetV2",
    mark="features.1.conv.0.0.weight",
    modules={
        "features.{n}.{i}": "network.features.{n}.{i}",
        "features.{n}.conv.{i}": "network.features.{n}.conv.{i}",
        "features.{n}.conv.{i}.{j}": "network.features.{n}.conv.{i}.{j}",
        "classifier.1": "network.classifier.1",
    },
    head="network.classifier.1",
    normalisation=IMAGENET,
)
TSM_RESNET = Layout(
    name="TSM's ResNet with shifts",
    mark="base_model.layer1.0.conv1.net.weight",
    modules=_resnet("base_model.", "conv1.net", "new_fc"),
    head="network.fc",
    normalisation=IMAGENET,
)
TSN_RESNET = Layout(
    name="TSM's ResNet without shifts (TSN)",
    mark="base_model.layer1.0.conv1.weight",
    modules=_resnet("base_model.", "conv1", "new_fc"),
    head="network.fc",
    normalisation=IMAGENET,
)
TSM_MOBILENET = Layout(
    name="TSM's MobileNetV2 with shifts",
    mark="base_model.features.3.conv.0.net.weight",
    modules=_flat_mobilenet(shifted=(3, 5, 6, 8, 9, 10, 12, 13, 15, 16)),
    head="network.classifier.1",
    normalisation=IMAGENET,
)
TSN_MOBILENET = Layout(
    name="TSM's MobileNetV2 without shifts (TSN)",
    mark="base_model.features.3.conv.0.weight",
    modules=_flat_mobilenet(shifted=()),
    head="network.classifier.1",
    normalisation=IMAGENET,
)
PYTORCHVIDEO_X3D = Layout(
    name="PyTorchVideo's X3D",  # its model ends in a softmax, ours in what goes into it
    mark="blocks.0.conv.conv_t.weight",
    modules={
        "blocks.0.conv.conv_t": "stem.0",  # names the wrong way round there: this is the 1×3×3
        "blocks.0.conv.conv_xy": "stem.1",
        "blocks.0.norm": "stem.2",
        **_within(
            "blocks.{s}.res_blocks.{b}",
            "stages.{s-1}.{b}",
            {
                "branch1_conv": "shortcut.0",
                "branch1_norm": "shortcut.1",
                "branch2.conv_a": "conv_a",
                "branch2.norm_a": "norm_a",
                "branch2.conv_b": "conv_b",
                "branch2.norm_b.0": "norm_b",
                "branch2.norm_b.1.block.0": "excite.fc1",
                "branch2.norm_b.1.block.2": "excite.fc2",
                "branch2.conv_c": "conv_c",
                "branch2.norm_c": "norm_c",
            },
        ),
        "blocks.5.pool.pre_conv": "head.conv",
        "blocks.5.pool.pre_norm": "head.norm",
        "blocks.5.pool.post_conv": "head.features",
        "blocks.5.proj": "head.classifier",
    },
    head="head.classifier",
    normalisation=PYTORCHVIDEO,
)
PYTORCHVIDEO_SLOW = Layout(
    name="PyTorchVideo's ResNet (slow_r50)",
    mark="blocks.0.conv.weight",
    modules={
        "blocks.0.conv": "trunk.stem.0",
        "blocks.0.norm": "trunk.stem.1",
        **_within(
            "blocks.{s}.res_blocks.{b}",
            "trunk.res{s+1}.{b}",
            {
                "branch1_conv": "shortcut.0",
                "branch1_norm": "shortcut.1",
                "branch2.conv_a": "residual.0",
                "branch2.norm_a": "residual.1",
                "branch2.conv_b": "residual.3",
                "branch2.norm_b": "residual.4",
                "branch2.conv_c": "residual.6",
                "branch2.norm_c": "residual.7",
            },
        ),
        "blocks.5.proj": "head",
    },
    head="head",
    normalisation=PYTORCHVIDEO,
)
IBM_I3D = Layout(
    name="IBM's I3D",
    mark="inception3a.branch1.conv.weight",
    modules={
        "conv{i}.conv": "stem.conv{i}.0",
        "conv{i}.bn": "stem.conv{i}.1",
        **{theirs: ours for name, channels in INCEPTION if channels for theirs, ours in _inception(name).items()},
        "fc": "head",
    },
    head="head",
    normalisation=HALF,
    arch="-ts-max",  # strides in time, max-pools: without either, weights have the same names
)
PIERGIAJ_I3D = Layout(
    name="piergiaj's I3D (DeepMind's)",
    mark="Conv3d_1a_7x7.conv3d.weight",
    modules={},
    head="head",
    normalisation=HALF,
    differs="its stem and not its second pool strides in time, and it pads on one side: with these weights our i3d, "
    "which is IBM's, would give other outputs",
)
EVERY = (
    *(TORCHVISION_R2PLUS1D, TORCHVISION_RESNET, TORCHVISION_MOBILENET),
    *(TSM_RESNET, TSN_RESNET, TSM_MOBILENET, TSN_MOBILENET),
    *(PYTORCHVIDEO_X3D, PYTORCHVIDEO_SLOW, IBM_I3D, PIERGIAJ_I3D),
)
