"""A mixed batch in one launch a layer: what each sample decided is read on the device, by the kernels themselves.

`Stored` stands for a tensor of which, of each sample, only what its dearest open options need is written, in a buffer
of the full size. The next convolution sums over the open options within its own sums, since both are linear, so that
nothing is rebuilt or mixed between two convolutions; everything else gets the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from bench.cost import counting
from bench.inference.convolution import Convolution, race
from vared.runtime import decided
from vared.runtime.compact import Standing
from vared.runtime.folding import ALIGNED, every_fold

LARGEST = 2**30
"""Values of one sample, in one tensor, that kernels can address."""


@dataclass(frozen=True)
class Decision:
    """What the samples of a batch follow, on their device.

    weights: (B, options), those above zero open, channels from column 0, frames from column `split`. channels, frames:
    how many options, dearest first, of which the i-th computes ⌈C/2ⁱ⌉ channels or every 2ⁱ-th frame.
    """

    weights: Tensor | None = None
    split: int = 0
    channels: int = 1
    frames: int = 1

    @property
    def options(self) -> list[int]:
        """As the kernels take them."""
        return [self.split, self.channels, self.frames]


EVERYTHING = Decision()


class Stored(Standing):
    """Stands for (B, C, T, H, W), or (B, C, H, W) of images: the sum over the open options of what was computed.

    values: (B, T, H, W, C), written as far as the dearest open options of `decision` need. scales: (options, C), what
    each channel option multiplies channel c mod ⌈C/2ⁱ⌉ by to make channel c. steps: (B,), every how many frames.
    """

    __slots__ = ("decision", "image", "scales", "steps", "values")

    def __init__(self, values: Tensor, scales: Tensor, steps: Tensor, decision: Decision, image: bool) -> None:
        self.values, self.scales, self.steps, self.decision, self.image = values, scales, steps, decision, image

    @property
    def shape(self) -> torch.Size:
        """Of the whole."""
        batch, frames, height, width, channels = self.values.shape
        return torch.Size((batch, channels, *(() if self.image else (frames,)), height, width))

    def whole(self, other: Tensor | None = None) -> Tensor:
        """The tensor, rebuilt; plus another of its shape."""
        weights, options = self.decision.weights, self.decision.options
        addend = None if other is None else _channels_last(other)
        out: Tensor = decided.rebuilt(self.values, self.scales, addend, weights, self.steps, options).movedim(-1, 1)
        return out.squeeze(2) if self.image else out

    def each(self, function: Callable[[Tensor], Tensor]) -> None:
        """Applies an element-wise function to what is stored."""
        self.values = function(self.values)

    def mean(self, *dimensions: Any, **options: Any) -> Tensor:
        """As of the whole; over places from what is stored."""
        if dimensions != ((-2, -1),) or options:
            return self.whole().mean(*dimensions, **options)
        places = self.values.mean((2, 3), keepdim=True)
        return Stored(places, self.scales, self.steps, self.decision, self.image).whole()[..., 0, 0]

    def __add__(self, other: Any) -> Any:
        other = other.whole() if isinstance(other, Stored) else other
        fits = isinstance(other, Tensor) and other.shape == self.shape and other.dtype == self.values.dtype
        return self.whole(other) if fits else self.whole() + other

    __radd__ = __add__


def _channels_last(x: Tensor) -> Tensor:
    """(B, C, T, H, W), or (B, C, H, W) as one frame, to (B, T, H, W, C), contiguous."""
    return (x if x.dim() == 5 else x.unsqueeze(2)).movedim(1, -1).contiguous()


class DecidedConvolution:
    """A convolution as `Convolution`, of a tensor or of what is stored, for samples that decide each for itself."""

    def __init__(self, convolution: Convolution) -> None:
        self.convolution = convolution
        self._weights: dict[tuple[int, bool], Tensor] = {}
        self._blocks: dict[tuple[torch.Size, bool], int] = {}

    def __call__(self, x: Tensor | Stored, decision: Decision = EVERYTHING, scales: Tensor | None = None) -> Any:
        """What is decided of the output. scales: as of `Stored`; only where there are decisions.

        Where no kernel fits, all of the output by the library.
        """
        if not self.fits(x):
            return self._by_library(x.whole() if isinstance(x, Stored) else x, decision, scales)
        image, geometry = len(self.convolution.stride) == 2, self._geometry()
        values = x.values if isinstance(x, Stored) else _channels_last(x)
        given = x.decision if isinstance(x, Stored) else EVERYTHING
        arguments = (
            *(values, self._laid_out(x), self.convolution.bias),
            *(given.weights, x.steps if isinstance(x, Stored) else None, decision.weights),
            *([*given.options, *decision.options], geometry, self.convolution.relu),
        )
        out, steps = decided.convolution(*arguments, self._chosen(isinstance(x, Stored), *arguments))
        if decision is EVERYTHING and not (isinstance(x, Stored) and decided.inherits(geometry)):
            whole = out.movedim(-1, 1)
            return whole.squeeze(2) if image else whole
        return Stored(out, _ones(out) if scales is None else scales, steps, decision, image)

    def fits(self, x: Tensor | Stored) -> bool:
        """Whether there is a kernel for it: no groups, no gaps between frames, a type and a size that it takes."""
        conv = self.convolution
        together = conv.groups == 1 and (len(conv.stride) == 2 or conv.dilation[0] == 1)
        dtype = x.values.dtype if isinstance(x, Stored) else x.dtype
        return (
            together and self._largest(x.shape) <= LARGEST and dtype in (torch.float32, torch.bfloat16, torch.float16)
        )

    def _largest(self, shape: Sequence[int]) -> int:
        """Values that one sample of input or output spans in memory, at the most; `shape` as torch has it."""
        still = [1] * (5 - len(shape))
        places = [*still, *shape[2:]]
        outputs = decided.sizes([shape[0], *places, shape[1]], self._geometry())
        channels = max(shape[1], len(self.convolution.weight))
        return max(prod(places), prod(outputs)) * -(-channels // ALIGNED) * ALIGNED

    def _by_library(self, x: Tensor, decision: Decision, scales: Tensor | None) -> Tensor | Stored:
        out: Tensor = self.convolution(x)
        if decision is EVERYTHING:
            return out
        values = _channels_last(out)
        steps = _steps(decision, values)
        return Stored(values, _ones(values) if scales is None else scales, steps, decision, out.dim() == 4)

    def _geometry(self) -> list[int]:
        """Kernel, stride and padding over time, height and width; dilation over height and width."""
        conv, image = self.convolution, len(self.convolution.stride) == 2
        sizes: Sequence[tuple[Sequence[int], int]] = (
            (conv.weight.shape[2:], 1),
            (conv.stride, 1),
            (conv.padding, 0),
        )
        return [size for own, still in sizes for size in ([still] * image + list(own))] + list(conv.dilation[-2:])

    def _laid_out(self, x: Tensor | Stored) -> Tensor:
        """The weights for such input; scales live as long as the network, and so do their ids."""
        stored = isinstance(x, Stored)
        scales = x.scales if isinstance(x, Stored) and x.decision.channels > 1 else None
        key = (0 if scales is None else id(scales), stored)
        if key not in self._weights:
            weight = self.convolution.weight
            weight = weight if weight.dim() == 5 else weight.unsqueeze(2)
            self._weights[key] = every_fold(weight, scales, copies=stored)
        return self._weights[key]

    def _chosen(self, stored: bool, *arguments: Any) -> int:
        """Which blocks are the fastest for such input: tried when it first comes, on a GPU."""
        x: Tensor = arguments[0]
        key = (x.shape, stored)
        if not x.is_cuda or (key not in self._blocks and counting()):  # what is only tried must not be counted
            return 0
        if key not in self._blocks:
            usable = _usable(arguments)
            taken = race([partial(_again, arguments, one) for one in usable], x)
            self._blocks[key] = usable[taken.index(min(taken))]
        return self._blocks[key]


def _again(arguments: Sequence[Any], blocks: int, x: Tensor) -> object:
    return decided.convolution(*arguments, blocks)


def _usable(arguments: Sequence[Any]) -> list[int]:
    """The blocks that run; some may need more shared memory than a GPU has.

    Raises:
        Exception: as the last of them, if none does.
    """
    usable, failed = [], Exception()
    for one in range(len(decided.BLOCKS)):
        try:
            decided.convolution(*arguments, one)
            usable.append(one)
        except Exception as error:  # Triton has classes of its own, which change
            failed = error
    if not usable:
        raise failed
    return usable


def _steps(decision: Decision, values: Tensor) -> Tensor:
    """Every how many frames (B,) the dearest open option computes, the cheapest if none is open."""
    if decision.weights is None or decision.frames == 1:
        return torch.ones(len(values), dtype=torch.int32, device=values.device)
    dearer = decision.weights[:, decision.split : decision.split + decision.frames - 1]
    closed = (~(dearer > 0)).int().cumprod(1).sum(1)  # how many before the first that is open
    steps: Tensor = (2**closed).int()
    return steps


def _ones(values: Tensor) -> Tensor:
    """Scales where every channel is there."""
    return values.new_ones(1, values.shape[-1])
