"""The gated convolution of CGNet (Hua et al., "Channel Gating Neural Networks", NeurIPS 2019).

The base path sees 1/p of the input channels and always runs. Where its normalised output exceeds the threshold Δ of its
output channel, the gate of that value is open and the other input channels are added:
y = base + d · rest, with d = 1[σ(α · (norm(base) − Δ)) > 1/2], so that an open layer is the plain convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import samples
from bench.policy import Learned, Policy

GATHER = 16  # multiply-adds in whose time a CPU gathers one value of a window (measured: 16 to 60)

Channels: TypeAlias = "slice | list[int]"


@dataclass
class Session:
    """What the gated convolutions of one network share during one forward pass.

    dense: compute everything and multiply by the gates, instead of skipping. offset: added to every threshold.
    trace: gates as followed at every decision point, 0 or 1, (B, C, T, H, W), or of size 1 where they were forced so.
    macs: multiply-adds (B,) of every gated convolution.
    """

    policy: Policy = field(default_factory=Learned)
    dense: bool = False
    offset: float = 0.0
    trace: dict[str, Tensor] = field(default_factory=dict)
    macs: dict[str, Tensor] = field(default_factory=dict)

    def start(self, policy: Policy, dense: bool, offset: float = 0.0) -> None:
        """Forgets the last pass."""
        self.policy, self.dense, self.offset = policy, dense, offset
        self.trace, self.macs = {}, {}


@dataclass(frozen=True)
class Part:
    """Output channels whose base path sees the same input channels, and which see the others where a gate is open."""

    outputs: slice
    base: Channels
    rest: Channels


def divide(inputs: int, outputs: int, groups: int, grouped: bool, shuffle: bool) -> list[Part]:
    """Which channels see which: all outputs the first of `groups` blocks of inputs, or, `grouped`, each its own block.

    shuffle: the blocks are those after a shuffle of the inputs into `groups`, so that each takes from all of them (the
    paper's unbiased selection). The weights stay with their inputs: only the choice of channels differs.
    """
    size = inputs // groups
    order = [(place % groups) * size + place // groups if shuffle else place for place in range(inputs)]
    blocks = [order[block * size : (block + 1) * size] for block in range(groups)]
    count = groups if grouped else 1
    return [
        Part(
            slice(number * outputs // count, (number + 1) * outputs // count),
            _compact(blocks[number]),
            _compact([channel for block in blocks if block is not blocks[number] for channel in block]),
        )
        for number in range(count)
    ]


def _compact(channels: Sequence[int]) -> Channels:
    """Neighbouring channels as a slice, which copies nothing."""
    channels = sorted(channels)
    first, last = channels[0], channels[-1] + 1
    return slice(first, last) if last - first == len(channels) else channels


class GatedConv(nn.Module):
    """Stands for `conv`, with its weights under their names: (B, C_in, T, H, W) to (B, C_out, T', H', W'), or images.

    point: the name of its decisions. positions: of its output, T'·H'·W'. threshold: Δ, one an output channel.
    """

    def __init__(
        self,
        point: str,
        conv: nn.Conv2d | nn.Conv3d,
        positions: int,
        session: Session,
        *,
        groups: int,
        grouped: bool,
        shuffle: bool,
        alpha: float,
    ) -> None:
        super().__init__()
        self.point, self.positions, self.session, self.alpha = point, positions, session, alpha
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation = conv.stride, conv.dilation
        self.padding = tuple(int(pad) for pad in conv.padding)
        self.parts = divide(conv.in_channels, conv.out_channels, groups, grouped, shuffle)
        norm = nn.BatchNorm3d if conv.weight.dim() == 5 else nn.BatchNorm2d
        device, dtype = conv.weight.device, conv.weight.dtype
        self.norm = norm(conv.out_channels, affine=False, device=device, dtype=dtype)
        self.threshold = nn.Parameter(torch.zeros(conv.out_channels, device=device, dtype=dtype))
        self.values = conv.out_channels * positions
        taps = conv.weight[0].numel()
        self.macs_rest = taps - taps // groups  # of one value whose gate is open
        self.macs_base = self.values * (taps // groups)

    def forward(self, x: Tensor) -> Tensor:
        """The base path, and the rest where gates are open."""
        base = _joined([self._convolve(x[:, part.base], self._weight(part, part.base)) for part in self.parts])
        z = self.norm(base)
        threshold = self.threshold.view(-1, *(1,) * (z.dim() - 2))
        learned = (z > threshold + self.session.offset).float()  # sums and products of bool are several times slower
        opened = self.session.policy.decide(self.point, learned)
        self.session.trace[self.point], self.session.macs[self.point] = opened, self.macs(opened)
        if self.session.dense:
            rest = [self._convolve(x[:, part.rest], self._weight(part, part.rest)) for part in self.parts]
            opened = self._straight_through(opened, z - threshold)
        else:
            opened = opened.expand(base.shape)
            rest = [self._needed(part, x, opened[:, part.outputs]) for part in self.parts]
        y = base + opened.to(base.dtype) * _joined(rest)
        return y if self.bias is None else y + self.bias.view(-1, *(1,) * (y.dim() - 2))

    def macs(self, gates: Tensor) -> Tensor:
        """Multiply-adds (B,) under the decisions (B, ...): macs · (1/p + (1 − 1/p) · density), for gates of any size.

        Nothing is rounded: p divides the input channels, and single precision is exact up to 2²⁴ positions.
        """
        opened = gates.float().flatten(2).sum(2).long().sum(1) * (self.values // gates[0].numel())
        return self.macs_base + opened * self.macs_rest

    def _straight_through(self, opened: Tensor, excess: Tensor) -> Tensor:
        """The gates, with the gradient of the sigmoid: the step passes it on as it is."""
        soft = torch.sigmoid(self.alpha * excess)
        return opened + (soft - soft.detach())

    def _weight(self, part: Part, inputs: Channels) -> Tensor:
        return self.weight[part.outputs][:, inputs]

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        convolve = F.conv3d if weight.dim() == 5 else F.conv2d
        return convolve(x, weight, None, self.stride, self.padding, self.dilation)

    def _needed(self, part: Part, x: Tensor, opened: Tensor) -> Tensor:
        """What other inputs add, wherever a gate is open, running no more than the closed gates allow to skip.

        A sample runs its open channels, at all positions together with the samples that have the same ones open, or at
        its open positions alone where gathering those is worth it.
        """
        channels, positions = opened.flatten(2).amax(2) > 0, opened.flatten(2).amax(1) > 0
        together, alone = [], []
        for row, (count, places) in enumerate(torch.stack([channels.sum(1), positions.sum(1)], 1).tolist()):
            if places * (count + GATHER) < self.positions * count:
                alone.append(row)
            elif count:
                together.append(row)
        if len(together) == len(x) and bool(channels.all()):
            return self._convolve(x[:, part.rest], self._weight(part, part.rest))
        rest = torch.zeros_like(opened, dtype=x.dtype)
        for row in alone:
            self._columns(part, x[row, part.rest], channels[row], opened[row].amax(0) > 0, rest[row], row)
        if together:
            self._maps(part, x, torch.tensor(together, device=x.device), channels, rest)
        return rest

    def _maps(self, part: Part, x: Tensor, rows: Tensor, channels: Tensor, rest: Tensor) -> None:
        """Fills in the open channels of the samples `rows`, at all positions."""
        patterns, member = torch.unique(channels[rows], dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            row, opened = rows[member == number], pattern.nonzero()[:, 0]
            with samples(row):
                y = self._convolve(x[:, part.rest][row], self._weight(part, part.rest)[opened])
            rest[row[:, None], opened] = y

    def _columns(self, part: Part, x: Tensor, channels: Tensor, places: Tensor, rest: Tensor, row: int) -> None:
        """Fills in the open channels of the sample `row`, at its open positions."""
        opened = channels.nonzero()[:, 0]
        weight = self._weight(part, part.rest)[opened].flatten(2).transpose(1, 2).flatten(1)
        columns = self._windows(x, places)
        with samples([row]):
            y = columns @ weight.t()
        rest[:, places] = rest.new_zeros(len(rest), len(y)).index_copy(0, opened, y.t())

    def _windows(self, x: Tensor, places: Tensor) -> Tensor:
        """What the output positions `places` see of (C, T, H, W): (n, taps · C), whole pixels gathered at a time."""
        x = F.pad(x, [pad for pad in reversed(self.padding) for _ in range(2)])
        seen = torch.arange(x[0].numel(), device=x.device).view(x.shape[1:])
        for axis, size in enumerate(self.weight.shape[2:]):
            step = self.dilation[axis]
            seen = seen.unfold(axis, step * (size - 1) + 1, self.stride[axis])[..., ::step]
        seen = seen[places]
        pixels = x.flatten(1).t().contiguous()
        return pixels.index_select(0, seen.flatten()).view(len(seen), -1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Channels side by side."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), 1)
