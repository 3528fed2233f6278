"""Gradients of convolutions on a CPU, where oneDNN (torch 2.13, AVX-512) is slow or wrong.

Depthwise 3D ones: the gradient of the input takes 6 to 30 times what the forward pass takes, though where nothing is
strided it is a forward pass itself: the convolution of the output's gradient with the mirrored kernel.

In bf16, where the input is smaller than the kernel (two frames, three taps; one pixel, 3×3): gradients of weights come
out as what happened to lie in memory, and memory that is not theirs may be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

BACKWARD = torch.ops.aten.convolution_backward.default
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of input, weight and bias; None where none is wanted."""


class Backward(NamedTuple):
    """What torch's operator is given. grad: of the output (B, C, T', H', W'). clips (B, C, T, H, W), or images.
    wanted: gradients of input, weight, bias.
    """

    grad: Tensor
    clips: Tensor
    weight: Tensor
    bias_sizes: list[int] | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int
    wanted: list[bool]


def convolution_gradients(device: torch.device) -> AbstractContextManager[object]:
    """What to enter around a backward pass on `device`."""
    return ConvolutionGradients() if device.type == "cpu" else nullcontext()


class ConvolutionGradients(TorchDispatchMode):
    """While it is entered, gradients on a CPU are computed as above, those in bf16 in fp32: the same to rounding.
    Everything else runs as always.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operation of torch."""
        if func is BACKWARD:
            asked = Backward(*args)
            if asked.clips.device.type == "cpu" and not asked.transposed:
                if _smaller(asked):
                    return _in_fp32(asked)
                if _depthwise(asked):
                    return _mirrored(asked)
        return func(*args, **(kwargs or {}))


def _smaller(asked: Backward) -> bool:
    sizes = zip(asked.clips.shape[2:], asked.weight.shape[2:], strict=True)
    return asked.clips.dtype == torch.bfloat16 and any(size < kernel for size, kernel in sizes)


def _in_fp32(asked: Backward) -> Gradients:
    wide = asked._replace(grad=asked.grad.float(), clips=asked.clips.float(), weight=asked.weight.float())
    found: Gradients = BACKWARD(*wide)
    clips, weight, bias = (None if one is None else one.to(torch.bfloat16) for one in found)
    return clips, weight, bias


def _depthwise(asked: Backward) -> bool:
    clips, weight = asked.clips, asked.weight
    plain = clips.dim() == 5 and max(asked.dilation) == 1 and clips.dtype == weight.dtype == torch.float32
    return plain and 1 < asked.groups == clips.shape[1] == weight.shape[0]


def _mirrored(asked: Backward) -> Gradients:
    grad, clips = (given.contiguous(memory_format=torch.channels_last_3d) for given in (asked.grad, asked.clips))
    padding = [k - 1 - p for k, p in zip(asked.weight.shape[2:], asked.padding, strict=True)]
    mirrors = asked.wanted[0] and max(asked.stride) == 1 and min(padding) >= 0
    wanted = [asked.wanted[0] and not mirrors, *asked.wanted[1:]]
    found, weight, bias = BACKWARD(*asked._replace(grad=grad, clips=clips, wanted=wanted))
    if mirrors:
        found = torch.conv3d(grad, asked.weight.flip(2, 3, 4), padding=padding, groups=asked.groups)
    return found, weight, bias
