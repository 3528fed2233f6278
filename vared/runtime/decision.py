"""What the gates decide, in the form in which the units follow it: for whom, which options, with what weights."""

from __future__ import annotations

import functools
import itertools
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.inference.convolution import settle
from vared.dynamic_conv import Session
from vared.gate import Gate
from vared.runtime.compact import Compact, place_means
from vared.runtime.device import Stored
from vared.runtime.folding import fold_channels, fold_frames

Weight = float | Tensor
"""Of each sample (B,), or one for all of them, which saves small operations."""


@dataclass(frozen=True)
class Side:
    """Of one dimension the open options, dearest first, their shares of the sum of their weights, and that sum."""

    options: tuple[int, ...]
    shares: tuple[Weight, ...]
    total: Weight


@dataclass(frozen=True)
class Choice:
    """What samples follow that all have the same options open. rows: which of the batch, the last perhaps several
    times; None: all of it.
    """

    rows: Tensor | None
    channel: Side
    temporal: Side


@dataclass
class Decided:
    """What a policy decided for the batch under way.

    weights: (B, options) of both dimensions, those from `split` on temporal; values: the same, read.
    """

    weights: Tensor
    values: Sequence[Sequence[float]]
    split: int

    @functools.cached_property
    def sorted(self) -> list[Choice]:
        """By which options are open."""
        patterns: dict[tuple[bool, ...], list[int]] = {}
        for row, own in enumerate(self.values):
            patterns.setdefault(tuple(value > 0 for value in own), []).append(row)
        if len(patterns) == 1:
            return [_choice(None, self.weights, self.values, self.split, *patterns)]
        found = []
        for pattern, members in patterns.items():
            if self.weights.is_cuda:
                members = padded(members, len(self.values))
            rows = torch.tensor(members, device=self.weights.device)
            values = [self.values[row] for row in members]
            found.append(_choice(rows, self.weights[rows], values, self.split, pattern))
        return found

    @functools.cached_property
    def dense(self) -> Choice:
        """As if every option were open, closed ones with weight zero."""
        return _choice(None, self.weights, self.values, self.split, [True] * self.weights.shape[1])


@dataclass
class Followed:
    """What the units of one network share.

    decided: by each policy, for the batch under way. dense: the units that compute all options for all samples.
    laps: if these are to be timed. on_device: whether decisions stay there, and those of each policy.
    """

    dense: frozenset[str] = frozenset()
    decided: dict[str, Decided] = field(default_factory=dict)
    on_device: bool = False
    weights: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    laps: Laps | None = None


class Laps:
    """Seconds from when each unit has its input until the next has its own, so that what one gives, and how long it
    takes others to read that, is its own.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._unit, self._start = "", 0.0

    def begin(self, unit: str, x: Tensor) -> None:
        """`unit` has its input."""
        settle(x)
        now = time.perf_counter()
        self.seconds[self._unit] = self.seconds.get(self._unit, 0.0) + now - self._start
        self._unit, self._start = unit, now

    def ended(self, x: Tensor) -> dict[str, float]:
        """What each unit took."""
        self.begin("", x)
        return {unit: taken for unit, taken in self.seconds.items() if unit}


def padded(members: list[int], batch: int) -> list[int]:
    """As many as a power of two or the batch, whichever is less, by the last again and again: cuDNN takes long over the
    first call of each size. What is repeated runs, and is counted.
    """
    return members + members[-1:] * (min(1 << (len(members) - 1).bit_length(), batch) - len(members))


def _choice(
    rows: Tensor | None, weights: Tensor, values: Sequence[Sequence[float]], split: int, pattern: Sequence[bool]
) -> Choice:
    opened = [column for column, is_open in enumerate(pattern) if is_open]
    channel = _side(weights, values, [column for column in opened if column < split], 0)
    return Choice(rows, channel, _side(weights, values, [column for column in opened if column >= split], split))


def _side(weights: Tensor, values: Sequence[Sequence[float]], columns: Sequence[int], first: int) -> Side:
    """Of the open options in `columns`, of which `first` is the dearest one's; of a dimension with one option none."""
    options = tuple(column - first for column in columns)
    totals = [sum(own[column] for column in columns) for own in values]
    if not columns:
        return Side((0,), (1.0,), 1.0)
    if len(values) == 1:
        return Side(options, tuple(values[0][column] / totals[0] for column in columns), totals[0])
    if len(columns) == 1:
        return Side(options, (1.0,), 1.0 if set(totals) == {1} else weights[:, columns[0]])
    own = [weights[:, column] for column in columns]
    total = sum(own[1:], own[0])
    return Side(options, tuple(part / total for part in own), 1.0 if set(totals) == {1} else total)


class FastGate(nn.Module):
    """A gate with its normalisation folded in; one read of the host decides for all samples.

    What is compact is averaged as it is: weights of channels and frames that stand for others add up.
    """

    def __init__(self, gate: Gate, policy: str, decides: Mapping[str, int]) -> None:
        super().__init__()
        self.points, self.sizes = list(decides), list(decides.values())
        ends = list(itertools.accumulate(self.sizes))
        self.places = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        self.split = decides.get(f"{policy}.channel", 0)
        self.pooled, self.in_order = gate.pooled, gate.pool == "space"
        norm = gate.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        self.weight1: Tensor
        self.bias1: Tensor
        self.weight2: Tensor
        self.bias2: Tensor
        self.register_buffer("weight1", (gate.fc1.weight * scale.unsqueeze(1)).detach())
        self.register_buffer("bias1", ((gate.fc1.bias - norm.running_mean) * scale + norm.bias).detach())
        self.register_buffer("weight2", gate.fc2.weight.detach().t().contiguous())
        self.register_buffer("bias2", gate.fc2.bias.detach())
        self._laid_out: dict[tuple[int, ...], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_laid_out": {}}  # a copy makes its own

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._laid_out = {}
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor | Compact, session: Session) -> Decided:
        """Decides for every sample; if all options of a point are closed, the cheapest stands in."""
        openness = self.openness(x)
        own = openness.split_with_sizes(self.sizes, 1)
        parts: Sequence[Tensor] = [
            session.policy.decide(point, part) for point, part in zip(self.points, own, strict=True)
        ]
        weights = openness if all(map(operator.is_, parts, own)) else torch.cat(list(parts), 1)
        values = weights.tolist()
        if any(value != value for row in values for value in row):
            raise RuntimeError("the weights of a gate are no numbers")
        if any(max(row[part]) <= 0 for part in self.places for row in values):
            weights = torch.cat([_standing_in(part) for part in parts], 1)
            parts, values = weights.split_with_sizes(self.sizes, 1), weights.tolist()
        session.trace.update(zip(self.points, parts, strict=True))
        return Decided(weights, values, self.split)

    def on_device(self, x: Tensor | Stored, session: Session) -> tuple[Tensor, int]:
        """As `forward`, but nothing is read by the host: the weights, and the column from which they are temporal."""
        own = self.openness(x).split_with_sizes(self.sizes, 1)
        parts = [session.policy.decide(point, part) for point, part in zip(self.points, own, strict=True)]
        parts = [_standing_in(part) for part in parts]
        session.trace.update(zip(self.points, parts, strict=True))
        return torch.cat(parts, 1), self.split

    def openness(self, x: Tensor | Compact | Stored) -> Tensor:
        """V (B, options) of both dimensions."""
        pooled, weight = self._pooled(x)
        hidden = torch.addmm(self.bias1, pooled, weight).tanh_()
        return torch.addmm(self.bias2, hidden, self.weight2).tanh_().clamp_(min=0)

    def _pooled(self, x: Tensor | Compact | Stored) -> tuple[Tensor, Tensor]:
        """What the first layer sees (B, values), and its weights in that order."""
        if not self.in_order or isinstance(x, Stored):
            space = place_means(x).movedim(-1, 1) if isinstance(x, Tensor) else x.mean((-2, -1))
            return self.pooled(space), self.weight1.t()
        key: tuple[int, ...] = ()
        if isinstance(x, Compact):  # scales live as long as the network, and so do their ids
            key = (x.copies, x.computed.shape[1], id(x.scale))
        if key not in self._laid_out:
            self._laid_out[key] = self._folded(x)
        return place_means(x.computed if isinstance(x, Compact) else x).flatten(1), self._laid_out[key]

    def _folded(self, x: Tensor | Compact) -> Tensor:
        """The first layer's weights (values, hidden) for such input: frame by frame, of what was computed."""
        weight = self.weight1.view(len(self.weight1), x.shape[1], -1)
        if isinstance(x, Compact):
            weight = weight if x.scale is None else fold_channels(weight, x.scale)
            weight, _ = fold_frames(weight, 0, x.copies)
        return weight.transpose(1, 2).flatten(1).t().contiguous()


def _standing_in(weights: Tensor) -> Tensor:
    """The weights (B, options) of one point; where none is open, the cheapest is."""
    closed = (weights <= 0).all(1, keepdim=True).to(weights)
    return torch.cat([weights[:, :-1], weights[:, -1:] + closed], 1)
