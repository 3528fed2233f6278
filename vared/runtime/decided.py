"""The operations of `vared.runtime.kernels` as torch sees them: registered, with shapes, and with what they execute.

What samples decided stays on the device: weights of options (B, options), of which those above zero are open, channels
from column 0, frames from column `split`. No operation reads them on the host, except to count multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor

from bench.cost import register_formula
from vared.runtime.folding import ALIGNED, halved


@dataclass(frozen=True)
class Blocks:
    """How a kernel divides its work: a block of output, the channels of one step of its sum, threads, prefetch."""

    rows: int
    columns: int
    depth_bytes: int
    warps: int
    stages: int


BLOCKS = (Blocks(64, 64, 128, 4, 3), Blocks(128, 64, 128, 4, 3), Blocks(128, 128, 128, 8, 3), Blocks(64, 64, 64, 4, 2))
"""What is tried on a GPU, as far as its shared memory goes."""
TINY = Blocks(16, 16, 64, 1, 1)
"""Elsewhere, where Triton's interpreter runs on small tensors."""


def sizes(x: Sequence[int], geometry: Sequence[int]) -> list[int]:
    """Output frames, height and width of a convolution over (B, T, H, W, C)."""
    reach = [geometry[0] - 1, (geometry[1] - 1) * geometry[9], (geometry[2] - 1) * geometry[10]]
    return [(x[i + 1] + 2 * geometry[6 + i] - reach[i] - 1) // geometry[3 + i] + 1 for i in range(3)]


def _pitched(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised (B, T, H, W, C), whose channels begin at aligned places."""
    pitch = -(-shape[-1] // ALIGNED) * ALIGNED
    return like.new_empty((*shape[:-1], pitch))[..., : shape[-1]]


@torch.library.custom_op("vared::decided_convolution", mutates_args=())
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    x_weights: Tensor | None,
    x_steps: Tensor | None,
    out_weights: Tensor | None,
    options: Sequence[int],
    geometry: Sequence[int],
    relu: bool,
    blocks: int,
) -> tuple[Tensor, Tensor]:
    """What each sample decided of a convolution, (B, T, H, W, C) to (B, T', H', W', C'), and steps (B,) of its frames.

    x_weights, x_steps: of what x stores, None if all is there; out_weights: of what the output will; options:
    split, channel and temporal options of x, then of the output. weight: as `every_fold` lays it out.
    geometry: kernel, stride and padding (each time, height, width), dilation (height, width). blocks: which of BLOCKS.
    """
    return launch(x, weight, bias, x_weights, x_steps, out_weights, options, geometry, relu, blocks, None)


def launch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    x_weights: Tensor | None,
    x_steps: Tensor | None,
    out_weights: Tensor | None,
    options: Sequence[int],
    geometry: Sequence[int],
    relu: bool,
    blocks: int,
    tally: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As `convolution`; adds the multiply-adds of every block that ran to its sample's in `tally` (B,), int32."""
    from vared.runtime import kernels

    out = _pitched(x, [len(x), *sizes(x.shape, geometry), len(bias)])
    steps = torch.empty(len(x), dtype=torch.int32, device=x.device)
    shape = BLOCKS[blocks] if x.is_cuda else TINY
    x_split, x_channels, x_frames, out_split, out_channels, out_frames = options
    filters = -(-out.shape[4] // shape.columns)
    grid = (-(-out.shape[2] * out.shape[3] // shape.rows) * filters, out.shape[1], len(x))
    tf32 = x.dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        kernels.convolve[grid](
            *(x, weight, bias, out, steps, steps if tally is None else tally),
            *(_or(x_weights, bias), _or(x_steps, steps), _or(out_weights, bias)),
            *(_row(x_weights), x_split, _row(out_weights), out_split),
            *(x.stride(0), x.stride(1), x.stride(3), out.stride(0), out.stride(1), out.stride(3)),
            *(weight.stride(0), weight.stride(3)),
            *(x.shape[4], *x.shape[1:4], out.shape[4], *out.shape[1:4]),
            *(x_channels, x_frames, out_channels, out_frames),
            *(_unit(x.shape[4], x_channels), _unit(out.shape[4], out_channels)),
            *(x_steps is not None, x_steps is not None and inherits(geometry), *geometry, _run(x, x_steps, geometry)),
            *(relu, "tf32" if tf32 else "ieee", shape.rows, shape.columns, shape.depth_bytes // x.element_size()),
            *(not x.is_cuda, tally is not None),
            num_warps=shape.warps,
            num_stages=shape.stages,
        )
    return out, steps


@convolution.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    out = _pitched(x, [len(x), *sizes(x.shape, rest[4]), len(bias)])
    return out, x.new_empty(len(x), dtype=torch.int32)


def _or(value: Tensor | None, instead: Tensor) -> Tensor:
    """A kernel wants some pointer where nothing is read."""
    return instead if value is None else value


def _unit(channels: int, options: int) -> int:
    """The largest power of two, up to `ALIGNED`, that divides the channels of every option."""
    return gcd(ALIGNED, *(halved(channels, option) for option in range(options)))


def _row(weights: Tensor | None) -> int:
    return 0 if weights is None else weights.stride(0)


def inherits(geometry: Sequence[int]) -> bool:
    """Whether frames that are copies give frames that are copies: a convolution that looks at one at a time."""
    return geometry[0] == 1 and geometry[6] == 0


def _run(x: Tensor, x_steps: object, geometry: Sequence[int]) -> int:
    """How many taps of a line are summed over at once: all, where channels are few and side by side in memory."""
    few = x_steps is None and x.shape[4] < 16 and geometry[2] * x.shape[4] <= 64
    return geometry[2] if few and geometry[10] == 1 and x.stride(3) == x.shape[4] else 1


@dataclass(frozen=True)
class _Part:
    """Of one sample: the channels stored of the input, and every which frame; the same of the output."""

    channels: int
    grain: int
    count: int
    step: int


def _parts(args: tuple[Any, ...], out: Tensor) -> list[_Part]:
    """What every sample of a call of `convolution` decided, read on the host."""
    x, _, _, x_weights, x_steps, out_weights, options, geometry = args[:8]
    found = []
    for sample in range(len(x)):
        channels = halved(x.shape[4], _dearest(x_weights, sample, 0, options[1]))
        grain = 1 if x_steps is None else int(x_steps[sample])
        count = halved(out.shape[4], _dearest(out_weights, sample, 0, options[4]))
        step = 2 ** _dearest(out_weights, sample, options[3], options[5])
        if x_steps is not None and inherits(geometry):
            step = max(step, grain // geometry[3] if grain % geometry[3] == 0 else 1)
        found.append(_Part(channels, grain, count, step))
    return found


def _formula(args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> list[int]:
    """Multiply-adds of each sample: computed channels and frames of what is asked, over stored ones of what is there.

    Taps on one stored frame are one product; those in time that fall on padding are none.
    """
    frames, geometry, out, found = args[0].shape[1], args[7], output[0], []
    place = out.shape[2] * out.shape[3] * geometry[1] * geometry[2]
    for part in _parts(args, out):
        products = sum(_groups(frame, part.grain, frames, geometry) for frame in range(0, out.shape[1], part.step))
        found.append(products * place * part.channels * part.count)
    return found


def _moved(args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> int:
    """Bytes at the least: what is stored of the input under the windows, the filters once, what is written."""
    x, bias, geometry, out = args[0], args[2], args[7], output[0]
    met = [min(x.shape[2 + i], out.shape[2 + i] * geometry[1 + i]) for i in range(2)]
    parts = _parts(args, out)
    values = len(bias) + max(part.channels * part.count for part in parts) * prod(geometry[:3])
    for part in parts:
        written = -(-out.shape[1] // part.step)
        read = min(-(-x.shape[1] // part.grain), written * geometry[0])
        values += read * prod(met) * part.channels + written * prod(out.shape[2:4]) * part.count
    return int(values * x.element_size())


def _dearest(weights: Tensor | None, sample: int, first: int, options: int) -> int:
    """The dearest open option, the cheapest if none is."""
    if weights is None or options == 1:
        return 0
    own = weights[sample, first : first + options].tolist()
    return next((option for option, value in enumerate(own) if value > 0), options - 1)


def _groups(frame: int, grain: int, frames: int, geometry: Sequence[int]) -> int:
    """How many stored frames an output frame needs."""
    start = frame * geometry[3] - geometry[6]
    return len({place // grain for place in range(start, start + geometry[0]) if 0 <= place < frames})


def rebuild(
    x: Tensor, scales: Tensor, other: Tensor | None, weights: Tensor | None, steps: Tensor, options: Sequence[int]
) -> Tensor:
    """The whole (B, T, H, W, C) of what is stored, plus another whole where there is one.

    scales: (options, C). options: split, channel and temporal options.
    """
    from vared.runtime import kernels

    out = x.new_empty(x.shape)
    shape = BLOCKS[0] if x.is_cuda else TINY
    pixels, channels = x.shape[2] * x.shape[3], x.shape[4]
    added = _or(other, x)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        kernels.rebuild[-(-pixels // shape.rows) * -(-channels // shape.columns), x.shape[1], len(x)](
            *(x, scales, added, out, _or(weights, steps), steps, _row(weights), options[0]),
            *(each.stride(dimension) for each in (x, added, out) for dimension in (0, 1, 3)),
            *(pixels, channels, *options[1:], other is not None, shape.rows, shape.columns),
            num_warps=shape.warps,
        )
    return out


rebuilt = torch.library.custom_op("vared::rebuilt", rebuild, mutates_args=())


@rebuilt.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


def _rebuilt_formula(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> list[int]:
    """One multiply-add for every value that an open option makes of another channel."""
    x, _, _, weights, _, options = args
    made = [x.shape[4] - halved(x.shape[4], option) for option in range(options[1])]
    rows = [[1.0]] * len(x) if weights is None or options[1] == 1 else weights[:, : options[1]].tolist()
    values = x.shape[1] * x.shape[2] * x.shape[3]
    return [values * sum(each for each, value in zip(made, row, strict=True) if value > 0) for row in rows]


def _rebuilt_moved(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> int:
    """Bytes at the least: what is stored, what is added, the whole."""
    x, _, other, weights, steps, options = args
    values = output.numel() * (1 if other is None else 2)
    for sample, grain in enumerate(steps.tolist()):
        channels = halved(x.shape[4], _dearest(weights, sample, 0, options[1]))
        values += -(-x.shape[1] // grain) * prod(x.shape[2:4]) * channels
    return int(values * x.element_size())


register_formula(torch.ops.vared.decided_convolution, _formula, _moved)
register_formula(torch.ops.vared.rebuilt, _rebuilt_formula, _rebuilt_moved)
