"""CorrNet (Wang et al., "Video Modeling with Correlation Networks", CVPR 2020): R(2+1)D with learnable correlation.

The operator compares each frame with the one before it: for every displacement in a K×K window, D pixels apart, the
mean over a group's channels of W · now · before, where the filter W has its own value for each channel, frame and
displacement. So the number of frames is part of the weights. A block around the operator ends res2, res3 and res4.

What it costs (`baselines::correlation`): every output value takes C/G multiply-adds, one for each product of the two
frames that is summed into it; B·C·T·H·W·K² in all, products with the padding included, as in a convolution. Scaling
one of the frames by W is an element-wise product, which the convention does not count (it would double the operator's
count, about 1 % of what its block costs). Each of the three gradients, of both frames and of W, costs as much again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.networks.initialise import initialise
from baselines.networks.r2plus1d import R2Plus1D, r2plus1d_18
from baselines.networks.r2plus1d_bottleneck import EXPANSION, BottleneckR2Plus1D, r2plus1d_26, r2plus1d_50
from bench.cost import register_formula


def _grouped(x: Tensor, weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Maps (B, G, C/G, T, H, W) and filters (G, C/G, T, K²), both in the precision of the filters."""
    channels, frames, *window = weight.shape
    maps = x.to(weight.dtype).contiguous().view(len(x), groups, channels // groups, *x.shape[2:])
    return maps, weight.reshape(groups, channels // groups, frames, prod(window))


def _before(now: Tensor, margin: int) -> Tensor:
    """For each frame the one before it, the first for itself, with `margin` zeros around: (..., T, H, W)."""
    earlier = torch.cat([now[..., :1, :, :], now[..., :-1, :, :]], -3)
    return F.pad(earlier, (margin,) * 4)


def _windows(kernel: int, height: int, width: int, dilation: int) -> Iterator[Any]:
    """Of every displacement, row by row, the index of the displaced map in the padded one."""
    for row in range(kernel):
        for column in range(kernel):
            top, left = dilation * row, dilation * column
            yield ..., slice(top, top + height), slice(left, left + width)


# Works displacement by displacement, so that memory holds a few maps of the input's size and never K² of them.
@torch.library.custom_op("baselines::correlation", mutates_args=())
def _correlation(x: Tensor, weight: Tensor, groups: int, dilation: int) -> Tensor:
    kernel, (batch, _, frames, height, width) = weight.shape[-1], x.shape
    now, filters = _grouped(x, weight, groups)
    before = _before(now, dilation * (kernel // 2))
    out = x.new_empty(batch, groups, kernel**2, frames, height, width)
    for number, window in enumerate(_windows(kernel, height, width, dilation)):
        out[:, :, number] = (now * filters[..., number, None, None]).mul_(before[window]).mean(2)
    return out.flatten(1, 2)


@_correlation.register_fake
def _(x: Tensor, weight: Tensor, groups: int, dilation: int) -> Tensor:
    return x.new_empty(len(x), groups * weight[0, 0].numel(), *x.shape[2:])


@torch.library.custom_op("baselines::correlation_backward", mutates_args=())
def _correlation_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, groups: int, dilation: int
) -> tuple[Tensor, Tensor]:
    kernel, (batch, _, frames, height, width) = weight.shape[-1], x.shape
    now, filters = _grouped(x, weight, groups)
    before = _before(now, dilation * (kernel // 2))
    gradient = gradient.reshape(batch, groups, kernel**2, frames, height, width)
    of_now, of_before, of_filters = torch.zeros_like(now), torch.zeros_like(before), filters.new_empty(filters.shape)
    for number, window in enumerate(_windows(kernel, height, width, dilation)):
        mean = gradient[:, :, number, None].to(now.dtype) / now.shape[2]
        scaled = mean * filters[..., number, None, None]
        of_now += scaled * before[window]
        of_before[window] += scaled * now
        of_filters[..., number] = (mean * now).mul_(before[window]).sum((0, -2, -1))
    earlier = F.pad(of_before, (-dilation * (kernel // 2),) * 4)
    of_now[..., :-1, :, :] += earlier[..., 1:, :, :]
    of_now[..., :1, :, :] += earlier[..., :1, :, :]
    return of_now.flatten(1, 2).to(x.dtype), of_filters.view(weight.shape)


@_correlation_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, groups: int, dilation: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
    x, weight, ctx.groups, ctx.dilation = inputs
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return (*_correlation_backward(gradient, *ctx.saved_tensors, ctx.groups, ctx.dilation), None, None)


_correlation.register_autograd(_gradients, setup_context=_save)


def _formula(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Elements of x × displacements, which is output values × channels per group."""
    x, weight = args[:2]
    macs: int = x.numel() * weight[0, 0].numel()
    return macs


def _backward_formula(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Three gradients."""
    return 3 * _formula(args[1:], kwargs, output)


register_formula(torch.ops.baselines.correlation, _formula)
register_formula(torch.ops.baselines.correlation_backward, _backward_formula)


def correlation(x: Tensor, weight: Tensor, groups: int, dilation: int) -> Tensor:
    """Correlates each frame with the one before it, the first with itself: (B, C, T, H, W) to (B, G·K², T, H, W).

    Channel g·K² + i·K + j of the output, with a = dilation · (i - K//2) and b = dilation · (j - K//2), is the mean over
    the channels c of group g of weight[c, t, i, j] · x[c, t, y, x] · x[c, t-1, y+a, x+b], zero outside the frame.

    weight: (C, T, K, K).

    Raises:
        ValueError: x and weight do not fit each other, K is even, or the groups do not divide the channels.
    """
    channels, frames, kernel, other = weight.shape
    if x.shape[1] != channels or x.shape[2] != frames:
        given = f"{x.shape[1]} channels of {x.shape[2]} frames"
        raise ValueError(f"this correlation has weights for {channels} channels of {frames} frames, got {given}")
    if kernel != other or kernel % 2 == 0:
        raise ValueError(f"correlation takes an odd square window, got {kernel}x{other}")
    if channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    out: Tensor = _correlation(x, weight, groups, dilation)
    return out


class Correlation(nn.Module):
    """The operator with its filters, which start at 1: plain correlation."""

    def __init__(self, channels: int, frames: int, groups: int, kernel: int, dilation: int) -> None:
        super().__init__()
        if min(frames, groups, kernel, dilation) < 1 or kernel % 2 == 0:
            given = f"frames={frames}, groups={groups}, kernel={kernel}, dilation={dilation}"
            raise ValueError(f"correlation takes an odd kernel and positive numbers, got {given}")
        # Where `groups` does not divide the channels, the next smaller number that does.
        self.groups = next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)
        self.dilation = dilation
        self.weight = nn.Parameter(torch.ones(channels, frames, kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, G·K², T, H, W)."""
        return correlation(x, self.weight, self.groups, self.dilation)


class CorrelationBlock(nn.Module):
    """The paper's "correlation-sum": 1×1×1 to C/4 channels, correlation, 1×1×1 back to C, added to the input.

    Its last normalisation starts at zero (the paper does not say), so that an untrained block changes nothing.
    frames: T of the clips (B, C, T, H, W) that it takes. groups: of C/4 channels, at most.
    """

    def __init__(self, channels: int, frames: int, groups: int, kernel: int, dilation: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        self.reduce = nn.Sequential(
            nn.Conv3d(channels, inner, 1, bias=False), nn.BatchNorm3d(inner), nn.ReLU(inplace=True)
        )
        self.correlation = Correlation(inner, frames, groups, kernel, dilation)
        outputs = self.correlation.groups * kernel**2
        norm = nn.BatchNorm3d(channels)
        self.expand = nn.Sequential(nn.Conv3d(outputs, channels, 1, bias=False), norm)
        self.act = nn.ReLU(inplace=True)
        self.apply(initialise)
        # The operator squares its input: until the norms know their statistics, three blocks give its 8th power.
        nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to the same.

        Raises:
            ValueError: T is not what the block was built for.
        """
        out: Tensor = self.act(x + self.expand(self.correlation(self.reduce(x))))
        return out


def _insert(network: R2Plus1D | BottleneckR2Plus1D, channels: int, lengths: Sequence[int], **window: int) -> None:
    """Ends every stage but the last with a correlation block; the names of the network's own weights stay as they are.

    channels: of the first stage, doubling from one to the next. lengths: frames that each of these stages gives.
    """
    for number, (stage, length) in enumerate(zip(network.stages, lengths, strict=False)):
        assert isinstance(stage, nn.Sequential)
        stage.append(CorrelationBlock(channels * 2**number, length, **window))


def corrnet(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    stem: Sequence[int] = (3, 7, 7),
    groups: int = 32,
    kernel: int = 7,
    dilation: int = 2,
) -> R2Plus1D:
    """CorrNet on `r2plus1d_18`: 16 frames at 128² cost 60.6 G multiply-adds; VA-RED² Table 4 prints 60.8 for its own.

    Takes clips of exactly `frames` frames, of any size. groups: at most; a stage whose C/4 they do not divide has
    fewer. `kernel` and `dilation` are the correlation's window; with `width`, `blocks` and `stem` they fit it to small
    data.

    Raises:
        ValueError: an even kernel, or one of `frames`, `groups`, `kernel`, `dilation` below 1.
    """
    network = r2plus1d_18(frames, size, classes, width=width, blocks=blocks, stem=stem)
    lengths = [-(-frames // 2**number) for number in range(len(blocks) - 1)]
    _insert(network, width, lengths, groups=groups, kernel=kernel, dilation=dilation)
    return network


def _on_bottlenecks(
    network: BottleneckR2Plus1D, frames: int, width: int, blocks: Sequence[int], **window: int
) -> BottleneckR2Plus1D:
    """Strides in time begin at the third stage."""
    lengths = [-(-frames // 2 ** max(0, number - 1)) for number in range(len(blocks) - 1)]
    _insert(network, EXPANSION * width, lengths, **window)
    return network


def corrnet_26(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    groups: int = 32,
    kernel: int = 7,
    dilation: int = 2,
) -> BottleneckR2Plus1D:
    """CorrNet-26: the paper's blocks in its R(2+1)D-26. Options and errors as `corrnet`."""
    network = r2plus1d_26(frames, size, classes, width=width, blocks=blocks)
    return _on_bottlenecks(network, frames, width, blocks, groups=groups, kernel=kernel, dilation=dilation)


def corrnet_50(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 64,
    blocks: Sequence[int] = (3, 4, 6, 3),
    groups: int = 32,
    kernel: int = 7,
    dilation: int = 2,
) -> BottleneckR2Plus1D:
    """CorrNet-50: the paper's blocks in its R(2+1)D-50. Options and errors as `corrnet`."""
    network = r2plus1d_50(frames, size, classes, width=width, blocks=blocks)
    return _on_bottlenecks(network, frames, width, blocks, groups=groups, kernel=kernel, dilation=dilation)
