"""Gradients of depthwise 3D convolutions on a CPU.

oneDNN (torch 2.13, AVX-512) takes for the gradient of the input 6 to 30 times what the forward pass takes, though where
nothing is strided it is a forward pass itself: the convolution of the output's gradient with the mirrored kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

BACKWARD = torch.ops.aten.convolution_backward.default
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of input, weight and bias; None where none is wanted."""


class Backward(NamedTuple):
    """What torch's operator is given. grad: of the output (B, C, T', H', W'). clips (B, C, T, H, W). wanted: gradients
    of input, weight, bias.
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


class DepthwiseGradients(TorchDispatchMode):
    """While it is entered, gradients of depthwise convolutions of fp32 clips on a CPU are computed with the channels
    last, those of the input as above: the same values to rounding. Everything else runs as always.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operation of torch."""
        if func is BACKWARD and _applies(asked := Backward(*args)):
            return _gradients(asked)
        return func(*args, **(kwargs or {}))


def _applies(asked: Backward) -> bool:
    clips, weight = asked.clips, asked.weight
    depthwise = clips.dim() == 5 and 1 < asked.groups == clips.shape[1] == weight.shape[0]
    plain = not asked.transposed and max(asked.dilation) == 1 and clips.dtype == weight.dtype == torch.float32
    return depthwise and plain and clips.device.type == "cpu"


def _gradients(asked: Backward) -> Gradients:
    grad, clips = (given.contiguous(memory_format=torch.channels_last_3d) for given in (asked.grad, asked.clips))
    padding = [k - 1 - p for k, p in zip(asked.weight.shape[2:], asked.padding, strict=True)]
    mirrors = asked.wanted[0] and max(asked.stride) == 1 and min(padding) >= 0
    wanted = [asked.wanted[0] and not mirrors, *asked.wanted[1:]]
    found, weight, bias = BACKWARD(*asked._replace(grad=grad, clips=clips, wanted=wanted))
    if mirrors:
        found = torch.conv3d(grad, asked.weight.flip(2, 3, 4), padding=padding, groups=asked.groups)
    return found, weight, bias
