"""The forms in which a method is timed, each converted to the precision asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from bench.method import Method
from bench.speed.record import Form, Precision, SpeedError
from bench.static import Static

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
PLAIN: tuple[Form, ...] = ("eager", "channels_last", "compiled")
"""What a static network is without this suite's own optimisations."""


def refuse(precision: Precision, device: torch.device) -> None:
    """Only what the device is made for.

    Raises:
        SpeedError: tf32 or fp16 on a CPU.
    """
    if device.type == "cpu" and precision in ("tf32", "fp16"):
        raise SpeedError(f"precision {precision}: a CPU computes fp32 and bf16")


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Within it float32 products and convolutions on CUDA may be computed in tf32, if that is the precision."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def built(method: Method, form: Form, precision: Precision) -> Method:
    """A copy of `method` in a form; the compiled one compiles when it is first called.

    Raises:
        SpeedError: a plain form of what is no static network.
    """
    if form == "optimised":
        return method.optimised().eval().to(DTYPES[precision])
    if not isinstance(method, Static):
        raise SpeedError("only a static network has plain forms")
    plain = copy.deepcopy(method).eval().to(DTYPES[precision])
    for module in plain.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d if channels_last(form) else torch.contiguous_format)  # type: ignore[call-overload]
    if form == "compiled":
        plain.network = cast(Any, torch.compile(plain.network, options={"freezing": True}))
    return plain


def channels_last(form: Form) -> bool:
    """The memory layout in which a form gets its input."""
    return form != "eager"
