"""The weighted sum over several open options, in place, of what was computed for the dearest.

With the absorbable Φ, option i gives channel c < C_i as computed and c ≥ C_i as computed channel c mod C_i times a
scale, and frame t as frame ⌊t/R⌋·R. Shares sum to one, so that what all options have in common stays as it is; the
caller multiplies by the sum of the weights once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor

from vared.runtime.compact import empty
from vared.runtime.decision import Weight


def mix_channels(
    y: Tensor, counts: Sequence[int], scales: Sequence[Tensor | None], shares: Sequence[Weight], channels: int
) -> Tensor:
    """Options with `counts` of computed channels, most first, each with its `scales`: to (B, channels, ...)."""
    if counts[0] < channels:
        whole = empty(y, [len(y), channels, *y.shape[2:]])
        whole[:, : counts[0]].copy_(y)
        whole[:, counts[0] :].zero_()
        y = whole
    edges = [channels, *(count for count in counts if count < channels)]
    for high, low in itertools.pairwise(edges):  # downwards: what is made comes of what is still as computed
        block = y[:, low:high]
        kept = [shares[i] for i, count in enumerate(counts) if count >= high]
        if kept:
            block.mul_(_spread(sum(kept[1:], kept[0]), y))
        for i, count in enumerate(counts):
            if count <= low:
                scale = scales[i]
                assert scale is not None  # of every option but the whole
                _add_made(y, low, high, count, scale, shares[i])
    return y


def _add_made(y: Tensor, low: int, high: int, count: int, scale: Tensor, share: Weight) -> None:
    """Adds to channels low..high what an option with `count` computed channels makes there."""
    while low < high:
        source = low % count
        end = min(high, low + count - source)
        made, factor = y[:, source : source + end - low], scale[low - count : end - count]
        if isinstance(share, Tensor):
            factor = share.unsqueeze(1) * factor
            y[:, low:end].addcmul_(made, factor.view(*factor.shape, *(1,) * (y.dim() - 2)))
        else:
            y[:, low:end].addcmul_(made, factor.view(-1, *(1,) * (y.dim() - 2)), value=share)
        low = end


def mix_frames(y: Tensor, periods: Sequence[int], shares: Sequence[Weight]) -> Tensor:
    """Options that keep every `periods`-th frame of y (B, C, T, H, W), 1 first, and copy it to those that follow."""
    longest = max(periods)
    for phase in range(min(longest, y.shape[2]) - 1, 0, -1):
        block = y[:, :, phase::longest]
        kept = [shares[i] for i, period in enumerate(periods) if phase % period == 0]
        block.mul_(_spread(sum(kept[1:], kept[0]), y))
        for i, period in enumerate(periods):
            if phase % period:
                source = y[:, :, phase - phase % period :: longest][:, :, : block.shape[2]]
                share = _spread(shares[i], y)
                block.addcmul_(source, share) if isinstance(share, Tensor) else block.add_(source, alpha=share)
    return y


def _spread(value: Weight, y: Tensor) -> Weight:
    """To be multiplied with y."""
    return value.view(-1, *(1,) * (y.dim() - 1)) if isinstance(value, Tensor) else value


def scaled(y: Tensor, totals: Sequence[Weight]) -> Tensor:
    """y times the product of these, in place."""
    total = math.prod(totals)
    return y.mul_(_spread(total, y)) if isinstance(total, Tensor) or total != 1 else y
