"""Weights for input of which only a part is stored: what falls on the same stored value adds up, which is exact."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNED = 16
"""Rows of values begin at multiples of so many, so that a GPU moves them in wide words."""


def fold_channels(weight: Tensor, scale: Tensor) -> Tensor:
    """Filters over computed channels, of filters over these and those that `scale` makes of them."""
    count = weight.shape[1] - len(scale)
    made = torch.arange(len(scale), device=weight.device) % count
    shape = (1, -1, *(1,) * (weight.dim() - 2))
    return weight[:, :count].index_add(1, made, weight[:, count:] * scale.to(weight).view(shape))


def fold_frames(weight: Tensor, start: int, repeat: int) -> tuple[Tensor, int]:
    """Taps that fall on one computed frame added up, and the computed frame of the first; `start`: where taps begin."""
    places = [(start + tap) // repeat for tap in range(weight.shape[2])]
    index = torch.tensor(places, device=weight.device) - places[0]
    shape = list(weight.shape)
    shape[2] = places[-1] - places[0] + 1
    return weight.new_zeros(shape).index_add(2, index, weight), places[0]


def every_fold(weight: Tensor, scales: Tensor | None, copies: bool) -> Tensor:
    """A convolution's weights (C', C, K, H, W) for whatever its samples may store: (options, spans, H·W, C, C'').

    scales: (options, C), of what each option makes, as `vared.runtime.device.Stored`; None: all channels are there.
    Spans: single taps, then, if frames may be copies, two neighbours added up, then three, and so on. C'': aligned.
    """
    exact, channels = weight.float(), weight.shape[1]
    options = [exact]
    for option in range(1, 0 if scales is None else len(scales)):
        assert scales is not None
        folded = fold_channels(exact, scales[option, halved(channels, option) :])
        options.append(F.pad(folded, (0, 0) * 3 + (0, channels - folded.shape[1])))
    taps = weight.shape[2]
    spans = [(begin, begin + longer + 1) for longer in range(taps if copies else 1) for begin in range(taps - longer)]
    every = torch.stack([torch.stack([each[:, :, low:high].sum(2) for low, high in spans]) for each in options])
    every = every.permute(0, 1, 4, 5, 3, 2).flatten(2, 3)
    return F.pad(every, (0, -every.shape[-1] % ALIGNED)).to(weight.dtype).contiguous()


def halved(count: int, times: int) -> int:
    """⌈count / 2^times⌉."""
    return -(-count // (1 << times))
