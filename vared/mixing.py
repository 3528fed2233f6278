"""The sum over all options of a dynamic unit as one linear map, for the absorbable kind, where training needs them all.

A small matrix makes each period of frames from the computed ones, then each channel is scaled, and what is scaled from
another channel is added. Forwards and backwards go a few periods at a time over features that lie channels-last, so
that what is in between stays in the processor's cache: a training step costs little more than its convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

CACHED = 2**19
"""Values, about as many as the second-level cache of a processor core holds."""


class AbsorbableMix(nn.Module):
    """Σⱼ V[j]·Φᵗⱼ(Σᵢ V[i]·[Y'ᵢ, Φᶜᵢ(Y'ᵢ)]) over all options, where Φᶜ scales channels and Φᵗ copies frames.

    counts: computed channels of each channel option, strides: R of each temporal option, dearest first. No parameters.
    """

    kept: Tensor
    sources: Tensor

    def __init__(self, counts: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.counts, self.period = tuple(counts), strides[-1]
        kept = [[float(channel < count) for channel in range(counts[0])] for count in counts]
        sources = [[frame - frame % stride for frame in range(self.period)] for stride in strides]
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.register_buffer("sources", torch.eye(self.period)[torch.tensor(sources)].flatten(1), persistent=False)

    def forward(self, y: Tensor, channel: Tensor, temporal: Tensor, scales: Sequence[Tensor]) -> Tensor:
        """(B, C, ...) to the same, channels-last, by weights (B, options) and the scales of each cheaper option."""
        matrices = (temporal @ self.sources.to(temporal)).view(-1, self.period, self.period)
        own = channel @ self.kept.to(channel)
        made = [channel[:, option, None] * scale for option, scale in enumerate(scales, 1)]
        weights = [weight.to(y) for weight in (matrices, own, *made)]
        if y.dim() == 4:  # an image is one frame
            return mix(self.counts, y.movedim(1, -1).unsqueeze(1), *weights).squeeze(1).movedim(-1, 1)
        return self._over_time(y.movedim(1, -1), *weights).movedim(-1, 1)

    def _over_time(self, y: Tensor, matrices: Tensor, *scales: Tensor) -> Tensor:
        """`mix` of (B, T, H, W, C); of a last period cut short by the matrices' corners."""
        rest = y.shape[1] % self.period
        if not rest:
            return mix(self.counts, y, matrices, *scales)
        last = mix(self.counts, y[:, -rest:], matrices[:, :rest, :rest], *scales)
        return last if rest == y.shape[1] else torch.cat([mix(self.counts, y[:, :-rest], matrices, *scales), last], 1)


def mix(counts: Sequence[int], y: Tensor, matrices: Tensor, own: Tensor, *made: Tensor) -> Tensor:
    """out[c] = own[c]·v[c] + Σᵢ made[i][c − nᵢ]·v[(c − nᵢ) mod nᵢ] over the nᵢ ≤ c of counts[1:], v = matrix·y.

    y (B, T, H, W, C) of whole periods, matrices (B, R, R) over a period's frames, own (B, C), made[i] (B, C − nᵢ).
    """
    out: Tensor = _Mix.apply(tuple(counts), y, matrices, own, *made)  # type: ignore[no-untyped-call]
    return out


class _Mix(torch.autograd.Function):
    """`mix`; keeps its arguments only, and makes v again backwards."""

    @staticmethod
    def forward(ctx: Any, counts: tuple[int, ...], y: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(y, *weights)
        ctx.counts = counts
        out = torch.empty_like(y, memory_format=torch.contiguous_format)
        features, per_period = _by_period((y, out), weights)
        for piece in _pieces(features, per_period):
            _forwards(counts, *piece)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y, *weights = ctx.saved_tensors
        to_y = torch.empty_like(y, memory_format=torch.contiguous_format)
        features, per_period = _by_period((y, to_y, *gradients), weights)
        to_weights = [torch.empty_like(weight) for weight in per_period]
        for piece in _pieces(features, per_period, to_weights):
            _backwards(ctx.counts, *piece)
        return None, to_y, *(torch.unflatten(to, 0, (len(y), -1)).sum(1) for to in to_weights)


Group = tuple[Tensor, ...]


def _forwards(counts: tuple[int, ...], features: Group, weights: Group) -> None:
    """Writes the output of a few periods; features: they and it, (periods, R, H·W, C)."""
    (y, out), (matrix, own, *made) = features, weights
    v = torch.bmm(matrix, y.flatten(2)).view_as(y)
    torch.mul(v, own[:, None, None], out=out)
    for option, part, source, target in _runs(counts):
        out[..., target].addcmul_(v[..., source], made[option][:, None, None, part])


def _backwards(counts: tuple[int, ...], features: Group, weights: Group, to_weights: Group) -> None:
    """Writes the gradients of a few periods and of their weights; features: they, their gradient, the output's."""
    (y, to_y, to_out), (matrix, own, *made), (to_matrix, to_own, *to_made) = features, weights, to_weights
    v = torch.bmm(matrix, y.flatten(2)).view_as(y)
    torch.sum(to_out * v, (1, 2), out=to_own)
    for option, part, source, target in _runs(counts):
        torch.sum(to_out[..., target] * v[..., source], (1, 2), out=to_made[option][:, part])
    to_v = torch.mul(to_out, own[:, None, None], out=v)
    for option, part, source, target in _runs(counts):
        to_v[..., source].addcmul_(to_out[..., target], made[option][:, None, None, part])
    torch.bmm(to_v.flatten(2), y.flatten(2).transpose(1, 2), out=to_matrix)
    torch.bmm(matrix.transpose(1, 2), to_v.flatten(2), out=to_y.flatten(2))


def _runs(counts: Sequence[int]) -> Iterator[tuple[int, slice, slice, slice]]:
    """Channels that the cheaper options make: option, which of those that it makes, from which of all, and as which."""
    for option, count in enumerate(counts[1:]):
        for low in range(count, counts[0], count):
            high = min(low + count, counts[0])
            yield option, slice(low - count, high - count), slice(0, high - low), slice(low, high)


def _by_period(features: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Features (B, T, H, W, C) as (periods, R, H·W, C); weights (B, ...), the matrices first, as (periods, ...)."""
    (batch, frames, *_, channels), size = features[0].shape, weights[0].shape[-1]
    periods = frames // size
    return (
        [feature.reshape(batch * periods, size, -1, channels) for feature in features],
        [weight.repeat_interleave(periods, 0) for weight in weights],
    )


def _pieces(*groups: Sequence[Tensor]) -> Iterator[tuple[Group, ...]]:
    """The groups' tensors a few periods at a time: as many as fit the caches of a processor; elsewhere all."""
    features = groups[0][0]
    step = len(features)
    if features.device.type == "cpu":
        step = max(1, CACHED * torch.get_num_threads() * step // features.numel())
    return zip(*(zip(*(torch.split(each, step) for each in group), strict=True) for group in groups), strict=True)
