"""Gradients of convolutions: those of float64, by any layout, stride and kernel; all else untouched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.gradients import BACKWARD, ConvolutionGradients, convolution_gradients


def gradients(conv: nn.Conv3d, clips: Tensor, way: TorchDispatchMode | None) -> list[Tensor]:
    """Of input, weight and, where there is one, bias, for a fixed gradient of the output that differs everywhere."""
    clips = clips.detach().requires_grad_()
    made = conv(clips)
    grad = torch.randn(made.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(made)
    leaves = [clips, *conv.parameters()]
    if way is None:
        return list(torch.autograd.grad(made, leaves, grad))
    with way:
        return list(torch.autograd.grad(made, leaves, grad))


class Seen(TorchDispatchMode):
    """Notes the shapes of the weights whose gradients torch's own operator is asked for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is BACKWARD:
            self.weights.append((*args[2].shape, *args[10]))
        return func(*args, **(kwargs or {}))


KERNELS = st.sampled_from([(3, 3, 3), (1, 3, 3), (5, 1, 1), (3, 1, 1), (2, 3, 1)])


@settings(max_examples=30, deadline=None)
@given(
    kernel=KERNELS,
    stride=st.tuples(*[st.integers(1, 2)] * 3),
    padding=st.tuples(*[st.integers(0, 3)] * 3),
    channels=st.integers(2, 5),
    last=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_are_those_of_float64(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], padding: tuple[int, int, int], channels: int,
    last: bool, bias: bool, seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    conv = nn.Conv3d(channels, channels, kernel, stride, padding, groups=channels, bias=bias)
    clips = torch.randn(2, channels, 6, 5, 7)
    if last:
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
    found = gradients(conv, clips, ConvolutionGradients())
    exact = gradients(conv.double(), clips.double(), None)
    for name, one, other in zip(("input", "weight", "bias"), found, exact, strict=False):
        assert one.shape == other.shape and one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4, msg=name)


@pytest.mark.parametrize("frozen", ["input", "weight"])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_needs_none_gets_none_and_unstrided_inputs_are_not_torchs(frozen: str, stride: int) -> None:
    conv = nn.Conv3d(4, 4, 3, stride, padding=1, groups=4)
    clips = torch.randn(1, 4, 4, 5, 5, requires_grad=frozen != "input")
    conv.weight.requires_grad_(frozen != "weight")
    made = conv(clips).sum()
    with Seen() as seen, ConvolutionGradients():
        made.backward()
    assert (clips.grad is None) == (frozen == "input") and (conv.weight.grad is None) == (frozen == "weight")
    wanted = (stride == 2 and frozen != "input", frozen != "weight", True)
    assert seen.weights == [(4, 1, 3, 3, 3, *wanted)]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv3d(4, 4, 3, padding=1),
        nn.Conv3d(4, 8, 3, groups=4),
        nn.Conv3d(4, 4, 3, dilation=2, groups=4),
        nn.ConvTranspose3d(4, 4, 3, groups=4),
        nn.Conv3d(4, 4, 3, groups=4).double(),
    ],
    ids=["dense", "two filters each", "dilated", "transposed", "float64"],
)
def test_everything_else_is_torchs_own_to_the_bit(conv: nn.Conv3d) -> None:
    clips = torch.randn(2, 4, 6, 6, 6, dtype=conv.weight.dtype)
    for one, other in zip(gradients(conv, clips, ConvolutionGradients()), gradients(conv, clips, None), strict=True):
        assert torch.equal(one, other)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 4)] * 3),
    kernel=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
    stride=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    images=st.booleans(),
    seed=st.integers(0, 99),
)
def test_bf16_of_what_is_smaller_than_the_kernel_is_right(
    size: tuple[int, int, int], kernel: tuple[int, int, int], stride: int, channels: tuple[int, int], images: bool,
    seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    start = 1 if images else 0
    padding = tuple(k // 2 for k in kernel[start:])
    conv: Any = (nn.Conv2d if images else nn.Conv3d)(*channels, kernel[start:], stride, padding, bias=False)
    sample = torch.randn(3, channels[0], *size[start:])
    wanted = gradients(conv, sample, None)
    found = gradients(conv.bfloat16(), sample.bfloat16(), ConvolutionGradients())
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.05 * float(other.abs().max()) + 1e-6)


def test_only_a_cpu_needs_it() -> None:
    assert isinstance(convolution_gradients(torch.device("cpu")), ConvolutionGradients)
    assert not isinstance(convolution_gradients(torch.device("cuda")), ConvolutionGradients)
