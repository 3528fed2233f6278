"""One convolution in the fastest form known for its device, normalisation folded in and ReLU fused."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.cost import counting, register_formula
from bench.inference.products import frame_products, plain_taps

Form = Callable[[Tensor], Tensor]
HAS_ONEDNN = torch._C._has_mkldnn and platform.machine() in ("x86_64", "AMD64")
LAPS, FEWEST, LONG = 3, 2, 0.3
AGREES = 0.1  # of the norm of an answer: what rounding makes of it is less in any precision


class Fastest:
    """Forms of one computation; for each kind of input the one that was the fastest when such input came first.

    A form that does not run, or disagrees with the first that does, is left out. On a GPU, while operations are
    counted, what was not tried yet is not tried.
    """

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = forms
        self.chosen: dict[tuple[int, ...], Form] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """The answer of the chosen form."""
        if len(self.forms) == 1:
            return self.forms[0](x)
        kind = _kind(x)
        form = self.chosen.get(kind)
        if form is None:
            if x.is_cuda and counting():
                return self.forms[0](x)
            forms = _running(self.forms, x)
            taken = _laps(forms, x)
            form = self.chosen[kind] = forms[taken.index(min(taken))]
        return form(x)


def _kind(x: Tensor) -> tuple[int, ...]:
    """On a CPU the shape of a sample. On a GPU the size of the batch decides as well which form is the fastest; to the
    next power of two, since the batches of some methods change.
    """
    return (1 << (len(x) - 1).bit_length(), *x.shape[1:]) if x.is_cuda else x.shape[1:]


def _running(forms: Sequence[Form], x: Tensor) -> list[Form]:
    """Those that run, after a lap that lays weights out, and answer as the first of them does.

    Raises:
        RuntimeError: as the last of them, if none does.
    """
    running, first, failed = list[Form](), None, RuntimeError()
    for form in forms:
        try:
            found = form(x)
            settle(x)
        except RuntimeError as error:  # torch's own: this device, precision or shape has no such form
            failed = error
            continue
        first = found if first is None else first
        if found is first or _agree(found, first):
            running.append(form)
    if not running:
        raise failed
    return running


def _agree(found: Any, first: Any) -> bool:
    """Whether two answers are the same but for rounding, as far as they are tensors; what is no number is not."""
    if not isinstance(first, Tensor):
        return True
    exact = torch.promote_types(first.dtype, torch.float32)  # squares overflow half precision
    off, size = (torch.linalg.vector_norm(one, dtype=exact) for one in (found - first, first))
    return bool(off <= AGREES * size)


def race(forms: Sequence[Callable[[Tensor], object]], x: Tensor) -> list[float]:
    """The best seconds of each form, after a lap that lays weights out."""
    for form in forms:
        form(x)
    return _laps(forms, x)


def _laps(forms: Sequence[Callable[[Tensor], object]], x: Tensor) -> list[float]:
    """The best seconds of each form. They run in turns, so that what slows the machine for a while slows all; of what
    takes long there are fewer laps.
    """
    best, spent = [math.inf] * len(forms), 0.0
    for lap in range(LAPS):
        if lap >= FEWEST and spent > LONG * len(forms):
            break
        for number, form in enumerate(forms):
            settle(x)
            start = time.perf_counter()
            form(x)
            settle(x)
            took = time.perf_counter() - start
            best[number], spent = min(best[number], took), spent + took
    return best


def settle(x: Tensor) -> None:
    """Waits until what was asked of the device of `x` is done."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


class Convolution(nn.Module):
    """A 2D or 3D convolution with bias, followed by ReLU or nothing: (B, C, ..., H, W) to (B, C', ..., H', W').

    Weights are laid out for the device when the first input comes. padding: zeros on both sides of each dimension.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        relu: bool,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())
        self.weight: Tensor
        self.bias: Tensor
        self.stride, self.padding, self.dilation = list(stride), list(padding), list(dilation)
        self.groups, self.relu = groups, relu
        self._packed: dict[torch.Size, tuple[Tensor, tuple[Any, ...]]] = {}
        self._fastest: Fastest | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}, "_fastest": None}  # a copy makes its own

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._packed, self._fastest = {}, None  # another device or precision needs another layout
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of `x`."""
        if self._fastest is None:
            self._fastest = Fastest(self.forms(x))
        return self._fastest(x)

    def forms(self, x: Tensor) -> list[Form]:
        """The ways to compute such an input."""
        if x.is_cuda:
            return self._on_cuda(x)
        if not has_library(x):
            return [partial(self._plain, self.weight)]
        forms: list[Form] = [self._library]
        if x.dim() == 5 and pointwise(self.weight, self.stride, self.padding, self.dilation) and self.groups == 1:
            forms.append(self._products)
        return forms

    def _on_cuda(self, x: Tensor) -> list[Form]:
        """Channels last or first, which suits most precisions and full float32; ReLU apart or, if cuDNN can, within."""
        forms: list[Form] = []
        for layout in (_channels_last(x), torch.contiguous_format):
            weight = self.weight.clone(memory_format=layout)
            for call in (self._plain, self._fused) if self.relu else (self._plain,):
                forms.append(partial(_in_layout, layout, partial(call, weight)))
        return forms

    def _plain(self, weight: Tensor, x: Tensor) -> Tensor:
        convolve = F.conv3d if x.dim() == 5 else F.conv2d
        out = convolve(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return out.relu_() if self.relu else out

    def _fused(self, weight: Tensor, x: Tensor) -> Tensor:
        """cuDNN with bias and ReLU in its epilogue."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        out: Tensor = torch.cudnn_convolution_relu(x, weight, self.bias, *geometry)
        return out

    def _library(self, x: Tensor) -> Tensor:
        """oneDNN with prepacked weights and ReLU in its epilogue."""
        x = x.contiguous(memory_format=_channels_last(x))
        call = self._packed.get(x.shape[1:])
        if call is None:
            call = self._packed[x.shape[1:]] = self._prepared(x.shape)
        weight, arguments = call
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, *arguments)
        return out

    def _prepared(self, shape: torch.Size) -> tuple[Tensor, tuple[Any, ...]]:
        """The weight as such input needs it, and what else the library is told."""
        aten = torch.ops.aten
        reorder = aten.mkldnn_reorder_conv3d_weight if len(shape) == 5 else aten.mkldnn_reorder_conv2d_weight
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        weight: Tensor = reorder(self.weight.contiguous().to_mkldnn(), *geometry, list(shape))
        return weight, (self.bias, *geometry, "relu" if self.relu else "none", [], "")

    def _products(self, x: Tensor) -> Tensor:
        taps = plain_taps(self.weight, x.shape[2], self.stride[0], self.padding[0])
        return frame_products(x, taps, self.bias, self.relu)


def _channels_last(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.dim() == 5 else torch.channels_last


def _in_layout(layout: torch.memory_format, form: Form, x: Tensor) -> Tensor:
    return form(x.contiguous(memory_format=layout))


def has_library(x: Tensor) -> bool:
    """Whether oneDNN computes such tensors fast here."""
    if not (x.device.type == "cpu" and HAS_ONEDNN):
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pointwise(weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether a 3D convolution looks at one place at a time, wherever that is in time."""
    places = (*weight.shape[3:], *stride[1:], *dilation)
    return set(places) == {1} and not any(padding[1:])


def folded(conv: nn.Conv2d | nn.Conv3d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the normalisation that follows it, by its running statistics."""
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    if not isinstance(norm, _BatchNorm):
        return conv.weight.detach(), bias.detach()
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    shape = (-1, *(1,) * (conv.weight.dim() - 1))
    return (conv.weight * scale.view(shape)).detach(), (bias * scale + shift).detach()


def fuse(conv: nn.Conv2d | nn.Conv3d, norm: nn.Module | None, relu: bool) -> Convolution:
    """A convolution, its normalisation and, where there is one, its ReLU as one."""
    assert not isinstance(conv.padding, str)
    return Convolution(*folded(conv, norm), conv.stride, conv.padding, conv.dilation, conv.groups, relu)


def _formula(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> int:
    """Weights of one filter × outputs; the packed weight keeps its shape."""
    return int(output.numel() * args[1].numel() // args[1].shape[0])


if HAS_ONEDNN:
    register_formula(torch.ops.mkldnn._convolution_pointwise, _formula)
