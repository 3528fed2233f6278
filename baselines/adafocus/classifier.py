"""Answers from prefixes of a video: running maxima of frame features, one classifier for each number of frames seen.

After FrameExit (Ghodrati et al., CVPR 2021), as AdaFocus V2 and Uni-AdaFocus use it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Embedding(nn.Module):
    """A layer of perceptrons, normalised: (..., inputs) to (..., outputs), every vector a sample of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Linear, batch normalisation, ReLU."""
        y: Tensor = self.norm(self.linear(x.flatten(0, -2)))
        return y.relu().view(*x.shape[:-1], -1)


class PrefixClassifier(nn.Module):
    """One linear classifier for each of `prefixes` numbers of frames seen."""

    def __init__(self, features: int, classes: int, prefixes: int) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(features, classes) for _ in range(prefixes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of every prefix, (N, prefixes, classes), from what is known after it, (N, prefixes, features)."""
        return torch.stack([fc(features[:, prefix]) for prefix, fc in enumerate(self.fc)], 1)

    def at(self, prefix: int, features: Tensor) -> Tensor:
        """Logits (N, classes) of one prefix, from features (N, features)."""
        logits: Tensor = self.fc[prefix](features)
        return logits

    @property
    def macs(self) -> int:
        """Multiply-adds of one prefix."""
        weight = self.fc[0].weight
        assert isinstance(weight, Tensor)
        return weight.numel()


def running_max(features: Tensor) -> Tensor:
    """The element-wise maximum over each frame and those before it, (N, T, C) to the same."""
    return features.cummax(1).values


def coarse_to_fine(frames: int) -> list[int]:
    """All frames in an order whose every prefix covers the video: middle, first, last, then midpoints again and again.

    Of each round's gaps the earliest is halved first; of two middles the later is taken for the first frame, the
    earlier for the others.
    """
    order = list(dict.fromkeys((frames // 2, 0, frames - 1)))
    while len(order) < frames:
        seen = sorted(order)
        order += [(low + high) // 2 for low, high in pairwise(seen) if high - low > 1]
    return order


def frame_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, T, classes), the target (N,) holding for every frame."""
    return F.cross_entropy(logits.flatten(0, 1), target.repeat_interleave(logits.shape[1]))
