"""The dynamic unit: a convolution, its normalisation and activation, computed as far as a gate decides.

One set of weights serves every option: with r the first ⌈r·C⌉ filters run, with R every R-th frame, and what an option
leaves out is made by its Φ. The output is the sum over options, weighted by the gate, channels first, then frames.
`dense` computes everything and sums (training; of the absorbable kind as one linear map, `vared.mixing`); `skip` runs,
for each sample, only its active options (inference). Both give the same output to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import samples
from bench.policy import Learned, Policy
from bench.training import TrainingError
from vared.cheap import TAPS, Cheap, Kind, channel_form, frame_form
from vared.gate import Gate
from vared.mixing import AbsorbableMix


@dataclass
class Session:
    """What the units of one network share during one forward pass.

    explore: chance with which a sample follows, at a point, one option drawn at random instead of its gate.
    trace: gate weights (B, options) at every decision point, as followed. pre: the gates' z, for the efficiency loss.
    standing_in: samples at each point whose options were all closed, so that the cheapest stood in.
    """

    explore: float = 0.0
    policy: Policy = field(default_factory=Learned)
    dense: bool = False
    trace: dict[str, Tensor] = field(default_factory=dict)
    pre: dict[str, Tensor] = field(default_factory=dict)
    standing_in: dict[str, Tensor] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trace": {}, "pre": {}, "standing_in": {}}  # gradients of a pass cannot be copied

    def start(self, policy: Policy, dense: bool, explore: float = 0.0) -> None:
        """Forgets the last pass."""
        self.policy, self.dense, self.explore = policy, dense, explore
        self.trace, self.pre, self.standing_in = {}, {}, {}

    def decide(self, point: str, z: Tensor, weights: Tensor) -> None:
        """Notes the weights to follow. If all are zero, the cheapest option stands in, when training as when not."""
        weights = self.policy.decide(point, weights)
        if self.explore:
            weights = self._drawn(weights)
        closed = (weights <= 0).all(1)
        weights = weights + F.pad(closed.to(weights).unsqueeze(1), (weights.shape[1] - 1, 0))
        self.trace[point], self.pre[point], self.standing_in[point] = weights, z, closed

    def _drawn(self, weights: Tensor) -> Tensor:
        """A random option at weight one for the share `explore` of the samples."""
        option = torch.randint(weights.shape[1], (len(weights),)).to(weights.device, non_blocking=True)
        chosen = (torch.rand(len(weights)) < self.explore).to(weights.device, non_blocking=True)
        return torch.where(chosen.unsqueeze(1), F.one_hot(option, weights.shape[1]).to(weights), weights)


@dataclass(frozen=True)
class Geometry:
    """Output (C, T, H·W) of a unit and multiply-adds per output value; T is 1 for images."""

    channels: int
    frames: int
    pixels: int
    macs_per_value: int

    @property
    def macs(self) -> int:
        """The full convolution's multiply-adds."""
        return self.channels * self.frames * self.pixels * self.macs_per_value

    def computed(self, stride: int) -> int:
        """Frames that are computed when every `stride`-th is."""
        return -(-self.frames // stride)


class DynamicUnit(nn.Module):
    """Convolution, normalisation, activation under one policy. Input and output as of the chain it replaces.

    counts: computed channels of each channel option, strides: R of each temporal option, dearest first; one entry means
    that the dimension is not dynamic. policy: whose decisions it follows. gate: of the first unit of a policy, which
    decides, from its own input, for all of them; decides: its points and their numbers of options.
    """

    def __init__(
        self,
        name: str,
        chain: tuple[nn.Module, nn.Module | None, nn.Module | None],
        geometry: Geometry,
        counts: Sequence[int],
        strides: Sequence[int],
        kind: Kind,
        session: Session,
        *,
        policy: str,
        gate: Gate | None,
        decides: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.name, self.geometry, self.kind, self.session = name, geometry, kind, session
        self.counts, self.strides, self.gate = tuple(counts), tuple(strides), gate
        self.policy, self.decides = policy, dict(decides)
        self.conv, norm, act = chain
        self.norm, self.act = norm or nn.Identity(), act or nn.Identity()
        made = geometry.channels
        self.channel_phi = nn.ModuleList(Cheap(channel_form(kind), made - count) for count in self.counts[1:])
        self.frame_phi = nn.ModuleList(
            nn.ModuleList(Cheap(frame_form(kind), made) for _ in range(1, stride)) for stride in self.strides[1:]
        )
        self.mix = AbsorbableMix(self.counts, self.strides) if kind == "absorbable" else None

    @property
    def points(self) -> dict[str, int]:
        """The decision points that the unit follows, and their numbers of options."""
        return points(self.policy, self.counts, self.strides)

    def forward(self, x: Tensor) -> Tensor:
        """Decides, if it has the gate, then computes."""
        if self.gate is not None:
            self._decide(self.gate, x)
        follows, alone = self.points, x.new_ones(len(x), 1)
        names = (f"{self.policy}.channel", f"{self.policy}.temporal")
        channel, temporal = (self.session.trace[name] if name in follows else alone for name in names)
        if self.session.dense:
            options = (tuple(range(len(self.counts))), tuple(range(len(self.strides))))
            return self._compute(x, channel, temporal, *options, full=True)
        return self._skip(x, channel, temporal)

    def _decide(self, gate: Gate, x: Tensor) -> None:
        z, openness = gate(x)
        start = 0
        for point, size in self.decides.items():
            part = slice(start, start := start + size)
            self.session.decide(point, z[:, part], openness[:, part])

    def _skip(self, x: Tensor, channel: Tensor, temporal: Tensor) -> Tensor:
        """Samples with the same active options run together."""
        active = torch.cat([channel > 0, temporal > 0], 1)
        patterns, member = torch.unique(active, dim=0, return_inverse=True)
        parts, rows = [], []
        for number, pattern in enumerate(patterns.tolist()):
            row = (member == number).nonzero()[:, 0]
            split = len(self.counts)
            on_channel = tuple(i for i in range(split) if pattern[i])
            on_temporal = tuple(j for j in range(len(self.strides)) if pattern[split + j])
            if not on_channel or not on_temporal:  # where all are closed, the cheapest stands in
                raise TrainingError("the gates are not finite")
            with samples(row):
                part = x if len(patterns) == 1 else x[row]
                parts.append(self._compute(part, channel[row], temporal[row], on_channel, on_temporal, full=False))
            rows.append(row)
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _compute(
        self,
        x: Tensor,
        channel: Tensor,
        temporal: Tensor,
        on_channel: tuple[int, ...],
        on_temporal: tuple[int, ...],
        full: bool,
    ) -> Tensor:
        """The weighted sum over the named options, from the whole convolution or from what they need of it."""
        count = self.counts[0] if full else self.counts[on_channel[0]]
        stride = 1 if full else self.strides[on_temporal[0]]
        y = self._convolve(x, count, stride)
        if self.kind == "absorbable":
            y = self.act(self._normalise(y))
            if full and self.mix is not None:
                mixed: Tensor = self.mix(y, channel, temporal, [phi.scale for phi in self.channel_phi])
                return mixed
        if len(self.counts) > 1:
            y = self._mix_channels(y, channel, on_channel)
        if len(self.strides) > 1:
            y = self._mix_frames(y, temporal, on_temporal, stride)
        if self.kind != "absorbable":
            y = self.act(self.norm(y))
        return y

    def _convolve(self, x: Tensor, count: int, stride: int) -> Tensor:
        """The first `count` filters at every `stride`-th output frame; depthwise, of the first `count` channels."""
        conv = self.conv
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        weight, bias, groups = conv.weight, conv.bias, conv.groups
        if count < self.counts[0]:
            weight, bias = weight[:count], None if bias is None else bias[:count]
        if groups > 1 and count < self.counts[0]:
            x, groups = x[:, :count], count
        if isinstance(conv, nn.Conv2d):
            return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, groups)
        strides = (conv.stride[0] * stride, *conv.stride[1:])
        return F.conv3d(x, weight, bias, strides, conv.padding, conv.dilation, groups)

    def _normalise(self, y: Tensor) -> Tensor:
        """The normalisation of the computed channels only."""
        norm, count = self.norm, y.shape[1]
        if count == self.counts[0] or isinstance(norm, nn.Identity):
            out: Tensor = norm(y)
            return out
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
        assert norm.running_var is not None
        affine = (norm.weight[:count], norm.bias[:count]) if norm.affine else (None, None)
        mean, variance = norm.running_mean[:count], norm.running_var[:count]
        return F.batch_norm(y, mean, variance, affine[0], affine[1], training=False, eps=norm.eps)

    def _mix_channels(self, y: Tensor, weights: Tensor, options: tuple[int, ...]) -> Tensor:
        """Σᵢ V[i]·[Y'ᵢ, Φᵢ(Y'ᵢ)], (B, C', ...) to (B, C, ...), piece by piece between the options' channel counts."""
        total = self.geometry.channels
        edges = sorted({self.counts[option] for option in options} | {total})
        sizes = [high - low for low, high in zip([0, *edges], edges, strict=False)]
        own = torch.split(y, sizes[: edges.index(y.shape[1]) + 1], 1)
        made: dict[int, tuple[Tensor, ...]] = {}
        for option in options:
            upto = edges.index(self.counts[option]) + 1
            if upto < len(edges):
                source = _cycled(own[:upto], total - self.counts[option])
                made[option] = (*own[:upto], *torch.split(self.channel_phi[option - 1](source), sizes[upto:], 1))
        parts = []
        for piece, edge in enumerate(edges):
            kept = [option for option in options if self.counts[option] >= edge]
            terms = [(own[piece], sum(weights[:, option] for option in kept))] if kept else []
            terms += [(made[option][piece], weights[:, option]) for option in options if option not in kept]
            parts.append(_weighted(terms))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _mix_frames(self, y: Tensor, weights: Tensor, options: tuple[int, ...], step: int) -> Tensor:
        """Σⱼ V[j]·(frames of Y at R = strides[j], the frames between by Φⱼ), (B, C, T', H, W) to (B, C, T, H, W).

        Frame by frame within one period of the longest R: frame `phase` is computed where `step` divides it, else made.
        """
        period = self.strides[options[-1]]
        own = _phases(y, period // step)
        parts = []
        for phase in range(min(period, self.geometry.frames)):
            frames = -(-(self.geometry.frames - phase) // period)
            kept = [option for option in options if phase % self.strides[option] == 0]
            terms = [(own[phase // step], sum(weights[:, option] for option in kept))] if kept else []
            for option in (option for option in options if option not in kept):
                offset = phase % self.strides[option]
                source = own[(phase - offset) // step]
                source = source if source.shape[2] == frames else source[:, :, :frames]
                made = self.frame_phi[option - 1][offset - 1](source)  # type: ignore[index]
                terms.append((made, weights[:, option]))
            parts.append(_weighted(terms))
        return _interleaved(parts)

    def macs(self, trace: dict[str, Tensor]) -> Tensor:
        """Multiply-adds (B,) under the decisions of `trace`: the needed part of the convolution, active Φ, gate."""
        shape, rows, follows = self.geometry, len(next(iter(trace.values()))), self.points
        names = (f"{self.policy}.channel", f"{self.policy}.temporal")
        channel, temporal = (_active(trace[name] if name in follows else None, rows) for name in names)
        counts = torch.tensor(self.counts)
        frames = torch.tensor([shape.computed(stride) for stride in self.strides])
        most, longest = (channel * counts).amax(1), (temporal * frames).amax(1)
        convolution = most * longest * shape.macs_per_value
        phi = TAPS[channel_form(self.kind)] * (channel * (shape.channels - counts)).sum(1) * longest
        between = (temporal * (shape.frames - frames)).sum(1) * shape.channels
        phi = phi + TAPS[frame_form(self.kind)] * between
        return (convolution + phi) * shape.pixels + (self.gate.macs if self.gate is not None else 0)


def points(policy: str, counts: Sequence[int], strides: Sequence[int]) -> dict[str, int]:
    """The decision points of a policy over these options, and how many there are at each."""
    sizes = {f"{policy}.channel": len(counts), f"{policy}.temporal": len(strides)}
    return {point: size for point, size in sizes.items() if size > 1}


def _active(weights: Tensor | None, rows: int) -> Tensor:
    """Which options run, int64 (B, options); all closed: the cheapest; no such dimension: the only one."""
    if weights is None:
        return torch.ones(rows, 1, dtype=torch.int64)
    active = (weights.detach().cpu() > 0).long()
    active[:, -1] |= (active.sum(1) == 0).long()
    return active


def _cycled(pieces: Sequence[Tensor], maps: int) -> Tensor:
    """The first `maps` channels of y, y, y, ... side by side, where y is `pieces` side by side."""
    y = pieces[0] if len(pieces) == 1 else torch.cat(tuple(pieces), 1)
    if maps > y.shape[1]:
        y = torch.cat([y] * -(-maps // y.shape[1]), 1)
    return y if maps == y.shape[1] else y[:, :maps]


def _weighted(terms: Sequence[tuple[Tensor, Tensor | int]]) -> Tensor:
    """Σ of each tensor times its weight per sample (B,)."""
    total: Tensor | None = None
    for y, weight in terms:
        assert isinstance(weight, Tensor)
        factor = weight.view(-1, *(1,) * (y.dim() - 1))
        total = y * factor if total is None else torch.addcmul(total, y, factor)
    assert total is not None
    return total


def _phases(y: Tensor, period: int) -> Sequence[Tensor]:
    """Frames p, p + period, p + 2·period, ... of (B, C, T, H, W) for each phase p."""
    if period == 1:
        return (y,)
    if y.shape[2] % period:
        return tuple(y[:, :, phase::period] for phase in range(period))
    return torch.unflatten(y, 2, (-1, period)).unbind(3)


def _interleaved(phases: Sequence[Tensor]) -> Tensor:
    """The inverse of `_phases`, in the memory layout of its input."""
    first, period = phases[0], len(phases)
    if period == 1:
        return first
    if all(len(phase[0, 0]) == len(first[0, 0]) for phase in phases):
        if first.is_contiguous(memory_format=torch.channels_last_3d):
            stacked = torch.stack([phase.movedim(1, -1) for phase in phases], 2)
            return stacked.flatten(1, 2).movedim(-1, 1)
        return torch.stack(tuple(phases), 3).flatten(2, 3)
    shape = list(first.shape)
    shape[2] = sum(phase.shape[2] for phase in phases)
    whole = first.new_empty(shape)
    for number, phase in enumerate(phases):
        whole[:, :, number::period] = phase
    return whole
