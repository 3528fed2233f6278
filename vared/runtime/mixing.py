"""The weighted sum over several open options, in place, of what was computed for the dearest.

With the absorbable Φ, option i gives channel c < C_i as computed and c ≥ C_i as computed channel c mod C_i times a
scale, and frame t as frame ⌊t/R⌋·R. Weights are (B, options); what all options have in common is left at one, so that
the caller multiplies by the sum of the weights once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from vared.runtime.compact import empty


def mix_channels(
    y: Tensor, counts: Sequence[int], scales: Sequence[Tensor | None], weights: Tensor, channels: int
) -> Tensor:
    """Options with `counts` of computed channels, most first, each with its `scales`: to (B, channels, ...)."""
    if counts[0] < channels:
        whole = empty(y, [len(y), channels, *y.shape[2:]])
        whole[:, : counts[0]].copy_(y)
        whole[:, counts[0] :].zero_()
        y = whole
    shares = weights / weights.sum(1, keepdim=True)
    edges = [channels, *(count for count in counts if count < channels)]
    for high, low in itertools.pairwise(edges):  # downwards: what is made comes of what is still as computed
        block = y[:, low:high]
        kept = sum(shares[:, i] for i, count in enumerate(counts) if count >= high)
        if isinstance(kept, Tensor):
            block.mul_(_spread(kept, y))
        for i, count in enumerate(counts):
            if count <= low:
                scale = scales[i]
                assert scale is not None  # of every option but the whole
                _add_made(y, low, high, count, scale, shares[:, i])
    return y


def _add_made(y: Tensor, low: int, high: int, count: int, scale: Tensor, share: Tensor) -> None:
    """Adds to channels low..high what an option with `count` computed channels makes there."""
    while low < high:
        source = low % count
        end = min(high, low + count - source)
        factor = share.unsqueeze(1) * scale[low - count : end - count]
        shape = (*factor.shape, *(1,) * (y.dim() - 2))
        y[:, low:end].addcmul_(y[:, source : source + end - low], factor.view(shape))
        low = end


def mix_frames(y: Tensor, periods: Sequence[int], weights: Tensor) -> Tensor:
    """Options that keep every `periods`-th frame of y (B, C, T, H, W), 1 first, and copy it to those that follow."""
    shares = weights / weights.sum(1, keepdim=True)
    longest = max(periods)
    for phase in range(min(longest, y.shape[2]) - 1, 0, -1):
        block = y[:, :, phase::longest]
        kept = sum(shares[:, i] for i, period in enumerate(periods) if phase % period == 0)
        assert isinstance(kept, Tensor)
        block.mul_(_spread(kept, y))
        for i, period in enumerate(periods):
            if phase % period:
                source = y[:, :, phase - phase % period :: longest][:, :, : block.shape[2]]
                block.addcmul_(source, _spread(shares[:, i], y))
    return y


def _spread(values: Tensor, y: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (y.dim() - 1))


def scaled(y: Tensor, totals: Sequence[float | Tensor]) -> Tensor:
    """y times each of these, a number or one a sample, in place."""
    for total in totals:
        if isinstance(total, Tensor):
            y.mul_(_spread(total, y))
        elif total != 1:
            y.mul_(total)
    return y
