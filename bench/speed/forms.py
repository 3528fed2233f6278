"""The forms in which a method is timed, each converted to the precision asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.cost import counting
from bench.inference.settings import tf32
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


def tensor_cores(precision: Precision) -> AbstractContextManager[None]:
    """Within it float32 products and convolutions on CUDA may be computed in tf32, if that is the precision."""
    return tf32(precision == "tf32")


@contextmanager
def freezing(wanted: bool) -> Iterator[None]:
    """Within it, if wanted, what is compiled without gradients has its weights in its code, and nothing compiled before
    counts: dynamo makes sizes symbolic that it saw change, and gives up on code that it compiled too often.
    """
    if not wanted:
        yield
        return
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    with torch._inductor.config.patch(freezing=True):  # not of torch.compile's options, which come after the tracing
        yield


class Compiled(nn.Module):
    """A network that torch compiles when it is first called, whole and for that shape alone; compile within `freezing`.

    It is compiled again for another shape, and fails where torch would give up and run it as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._compiled = torch.compile(network, dynamic=False, fullgraph=True)

    def forward(self, x: Tensor) -> Any:
        """The network's answer; what is counted runs as it is, since compiled code shows no operations.

        Raises:
            RuntimeError: it was compiled too often.
        """
        if counting():
            return self.network(x)
        try:
            return self._compiled(x)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raise RuntimeError("compiled too often") from error


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
        plain.network = Compiled(plain.network)
    return plain


def channels_last(form: Form) -> bool:
    """The memory layout in which a form gets its input."""
    return form != "eager"
