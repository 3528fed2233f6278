"""Where in the frame to look, and how wide (Uni-AdaFocus): boxes from glance maps, learned on those maps.

A box is four actions in 0..1: the place (y, x) between the frame's first and last possible corner, and the extent
(height, width) between the smallest box and the whole frame.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from baselines.adafocus.crop import patches
from baselines.adafocus.precision import at_least_single


class SpatialPolicy(nn.Module):
    """Glance maps (N, channels, T, side, side) to actions (N, 4, T), or (N, 4, 1) with one box for all frames.

    Convolutions without biases, 1×1×1, twice 3×3×3 and 1×side×side (T×side×side for one box); 822.5 M multiply-adds
    for 16 maps of 1280×7×7 at the published `hidden` of 128.
    """

    def __init__(self, channels: int, frames: int, side: int, hidden: int = 128, one_box: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel, inputs in ((1, channels), (3, hidden), (3, hidden)):
            layers.append(nn.Conv3d(inputs, hidden, kernel, padding=kernel // 2, bias=False))
            layers += [nn.BatchNorm3d(hidden), nn.ReLU(inplace=True)]
        layers.append(nn.Conv3d(hidden, 4, (frames if one_box else 1, side, side), bias=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        """The actions."""
        return at_least_single(self.layers(maps).flatten(2)).sigmoid()


def over_time(actions: Tensor, frames: int) -> Tensor:
    """Actions (N, 4, T) of evenly spaced frames for each of `frames` frames: (N, 4, frames), linearly interpolated."""
    return F.interpolate(actions, frames, mode="linear", align_corners=False)


def boxes(actions: Tensor, smallest: float, largest: float) -> tuple[Tensor, Tensor]:
    """Place (N, T, 2) in 0..1 and extent (N, T, 2) of actions (N, 4, T), in the unit of `smallest` and `largest`."""
    place, share = actions.transpose(1, 2).chunk(2, -1)
    return place, smallest + share * (largest - smallest)


def interpolated_features(maps: Tensor, actions: Tensor, smallest: float, out: int) -> Tensor:
    """What the boxes show of the maps: (N, C), the mean over boxes resampled to out × out and over time.

    maps: (N, C, T, h, h). actions: (N, 4, T). smallest: extent of the smallest box in cells of the map; the largest is
    the map. Differentiable in the actions: by this, and not by the patches of the frames, the policy learns.
    """
    return patches(maps, *boxes(actions, smallest, maps.shape[-1]), out).mean((2, 3, 4))
