"""What makes one answer of the feature maps of a video's clips: FAST-GRU, and what the paper compares it with."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Aggregation = Literal["average", "concatenation", "lstm", "gru", "fast_gru"]


def pool(maps: Tensor) -> Tensor:
    """Mean over time and space: (..., T, H, W) to (...)."""
    return maps.mean((-3, -2, -1))


class FastGRU(nn.Module):
    """FAST-GRU: a gated recurrent unit on feature maps (B, C, T, H, W), whose layout survives.

    All its convolutions are 1×1×1. The read and the update gate see input and state through a bottleneck of
    h = ⌊C/reduction⌋ channels, with normalisation; the candidate sees input and what is read of the state. One step
    costs 2C² + 6Ch multiply-adds a position. The paper is not known to name the candidate's activation: tanh, as in a
    GRU.

    Raises:
        ValueError: no channel would be left in the bottleneck, or the reduction is below 1.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction must be in 1..{channels}, the channels of the feature maps, got {reduction}")
        self.read = self._gate(channels, channels // reduction)
        self.update = self._gate(channels, channels // reduction)
        self.candidate = nn.Conv3d(2 * channels, channels, 1)

    @staticmethod
    def _gate(channels: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(2 * channels, hidden, 1, bias=False),
            nn.BatchNorm3d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv3d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The state after `x`: exactly the `state` before where the update gate is 0."""
        both = torch.cat([x, state], 1)
        candidate = self.candidate(torch.cat([x, self.read(both) * state], 1)).tanh()
        out: Tensor = state + self.update(both) * (candidate - state)
        return out


class MapRecurrence(nn.Module):
    """FAST-GRU over the maps of N clips, from zeros, its last state pooled: (B, N, C, T, H, W) to (B, classes)."""

    def __init__(self, channels: int, reduction: int, classes: int) -> None:
        super().__init__()
        self.cell = FastGRU(channels, reduction)
        self.head = nn.Linear(channels, classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Class logits."""
        state = torch.zeros_like(maps[:, 0])
        for step in maps.unbind(1):
            state = self.cell(step, state)
        out: Tensor = self.head(pool(state))
        return out


class VectorRecurrence(nn.Module):
    """An LSTM or GRU over the pooled maps of N clips, as wide as they are: (B, N, C, T, H, W) to (B, classes)."""

    def __init__(self, cell: type[nn.LSTMCell | nn.GRUCell], channels: int, classes: int) -> None:
        super().__init__()
        self.cell = cell(channels, channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Class logits."""
        state = None
        for step in pool(maps).unbind(1):
            state = self.cell(step, state)
        out: Tensor = self.head(state[0] if isinstance(state, tuple) else state)  # of (hidden, memory) the hidden
        return out


class Concatenation(nn.Module):
    """A linear layer on the pooled maps of N clips side by side: (B, N, C, T, H, W) to (B, classes)."""

    def __init__(self, channels: int, clips: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(clips * channels, classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Class logits."""
        out: Tensor = self.head(pool(maps).flatten(1))
        return out


def aggregate(aggregation: Aggregation, channels: int, clips: int, classes: int, reduction: int) -> nn.Module:
    """The aggregator of that name for maps of `channels` channels; the average, of logits, has none.

    Raises:
        ValueError: no such aggregator, or as `FastGRU`.
    """
    if aggregation == "concatenation":
        return Concatenation(channels, clips, classes)
    if aggregation == "fast_gru":
        return MapRecurrence(channels, reduction, classes)
    if aggregation in ("lstm", "gru"):
        return VectorRecurrence(nn.LSTMCell if aggregation == "lstm" else nn.GRUCell, channels, classes)
    raise ValueError(f"aggregation must be one of {', '.join(get_args(Aggregation))}, got {aggregation!r}")
