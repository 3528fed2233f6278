"""Feature extractors: the registered networks without their classifiers, on clips of any number of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from baselines.networks.frames import Frames
from baselines.networks.mobilenet import LAST, STEM, MobileNetV2, mobilenet_v2
from baselines.networks.resnet import ResNet, resnet18, resnet50
from baselines.networks.tsm import tsm_mobilenet_v2, tsm_resnet18, tsm_resnet50
from baselines.networks.x3d import X3D, x3d_l, x3d_s
from bench.weights import Origin

PUBLISHED_WIDTH = 64
"""The `width` of the networks as published: ResNet's stem has as many channels, MobileNetV2's a half, X3D's 24."""

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "tsm_mobilenet_v2": tsm_mobilenet_v2,
    "tsm_resnet18": tsm_resnet18,
    "tsm_resnet50": tsm_resnet50,
    "x3d_l": x3d_l,
    "x3d_s": x3d_s,
}


class Extractor(nn.Module):
    """Clips (N, 3, T, H, W) to their last feature maps (N, channels, T, ⌈H/stride⌉, ⌈W/stride⌉).

    layers: maps clips to feature maps. framewise: a frame's map depends on that frame alone, so that frames can be
    computed one by one; neither temporal shifts nor 3D convolutions allow it. origins: what its parts may start from.
    """

    def __init__(
        self, layers: nn.Module, channels: int, stride: int, framewise: bool, origins: Mapping[str, Origin]
    ) -> None:
        super().__init__()
        self.origins = origins
        self.layers, self.channels, self.stride, self.framewise = layers, channels, stride, framewise

    def forward(self, clips: Tensor) -> Tensor:
        """The feature maps."""
        maps: Tensor = self.layers(clips)
        return maps

    def side(self, size: int) -> int:
        """Rows, and columns, of the map of frames of `size` pixels."""
        return -(-size // self.stride)


class Features(nn.Module):
    """The feature maps of a ResNet that runs on clips; its classifier is dropped."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        network.fc = nn.Identity()  # type: ignore[assignment]
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) to (N, channels, T, h, w)."""
        return self.network.features(clips)


def extractor(
    name: str, width: int = PUBLISHED_WIDTH, blocks: Sequence[int] | None = None, frames: int = 1
) -> Extractor:
    """The network `name` up to its last feature map; X3D's is the one before its last pool.

    width: 64 gives the published network; others scale with it. blocks: of every stage, of ResNets and X3D; with fewer
    stages the stride is smaller. frames: how many a clip has.

    Raises:
        ValueError: no such network, a width below 1, or blocks that the network has not.
    """
    if name not in BUILDERS:
        raise ValueError(f"no extractor {name!r}; there are: {', '.join(sorted(BUILDERS))}")
    if width < 1 or (blocks is not None and (not blocks or min(blocks) < 1)):
        raise ValueError(f"width and every stage's blocks must be 1 or more, got {width} and {blocks}")
    if name.endswith("mobilenet_v2") and blocks is not None:
        raise ValueError(f"{name} has no blocks to choose; a resnet18 has")
    network = BUILDERS[name](frames, 224, 1, **_sizes(name, width, blocks))  # size and classes: of the head, which goes
    if isinstance(network, X3D):
        widest, norm, act = list(network.head)[:3]
        assert isinstance(norm, nn.BatchNorm3d)
        layers = nn.Sequential(network.stem, network.stages, widest, norm, act)
        names = {id(module): name for name, module in network.named_modules()}
        origins = {f"layers.{place}": Origin(name, f"{names[id(part)]}.") for place, part in enumerate(layers)}
        return Extractor(layers, norm.num_features, 2 ** (1 + len(network.stages)), False, origins)
    assert isinstance(network, Frames)
    framewise, inside = not name.startswith("tsm_"), network.network
    if isinstance(inside, MobileNetV2):
        origins = {"layers": Origin(name, "network.features.")}
        return Extractor(inside.features, inside.channels, 32, framewise, origins)
    assert isinstance(inside, ResNet)
    origins = {"layers.network": Origin(name, "network.")}
    return Extractor(Features(inside), inside.channels, 2 ** (1 + inside.stages), framewise, origins)


def _sizes(name: str, width: int, blocks: Sequence[int] | None) -> dict[str, Any]:
    """The builder's options that give the network `width` / 64 of its published channels."""
    if name.endswith("mobilenet_v2"):
        last = LAST * min(width, PUBLISHED_WIDTH) // PUBLISHED_WIDTH  # wider, it scales up by itself
        return {"width": max(1, STEM * width // PUBLISHED_WIDTH), "last": last}
    stem = max(1, 24 * width // PUBLISHED_WIDTH) if name.startswith("x3d") else width
    return {"width": stem} if blocks is None else {"width": stem, "blocks": tuple(blocks)}
