"""The bound: seconds that a batch takes at the least on a device with given ceilings, layer by layer.

A layer is one call of an operation that has a formula in `bench.cost`. It takes the longer of its multiply-adds at the
peak rate and its bytes at the copy rate, where its bytes are every distinct tensor argument read once, as far as it
addresses it, and every output written once. This is a bound under assumptions that are stated here:

- layers follow one another, and what one writes the next reads from main memory: where a cache holds it between them
  (small batches on a CPU with a large one), the truth can lie below;
- weights count as read in every call, also where a cache would keep them;
- every operation that counts nothing (normalisation, activation, copies, a policy's arithmetic) costs no time, as if
  fused into a layer, and so do launches and the host's own work;
- all multiply-adds run at the peak of one precision, and none is saved by a fast algorithm (Winograd, FFT).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket
from torch.utils._pytree import tree_leaves

from bench.cost import Counter
from bench.cost.formulas import MOVED
from bench.method import Method
from bench.policy import Policy
from bench.speed.ceilings import Ceilings


@dataclass(frozen=True)
class Layer:
    """One call of a counted operation.

    module: qualified name of the innermost module that called it. bytes: moved to and from main memory at the least.
    seconds: at the least. binds: what takes that long.
    """

    operation: str
    module: str
    macs: int
    bytes: int
    seconds: float
    binds: Literal["compute", "memory"]


def bound(method: Method, sample: Tensor, policy: Policy, ceilings: Ceilings) -> float:
    """Seconds that `method` takes for the batch `sample` at the least; raises as `layers`."""
    return math.fsum(layer.seconds for layer in layers(method, sample, policy, ceilings))


def layers(method: Method, sample: Tensor, policy: Policy, ceilings: Ceilings) -> list[Layer]:
    """Runs `method` once on `sample` (B, ...) and bounds each of its layers, in the order in which they ran.

    Raises:
        ValueError: the method is in training mode, in which a run would change it.
        bench.cost.UncountedError: an operation ran that has no formula.
    """
    if method.training:
        raise ValueError(f"{type(method).__name__} is in training mode; the bound is of eval()")
    with torch.no_grad(), _Calls(method, batch=len(sample)) as calls:
        method(sample, policy)
    return [_layer(*call, ceilings) for call in calls.found]


def eta_max(static_seconds: float, dynamic_seconds: float, cost_ratio: float) -> float | None:
    """The largest η = (speed-up − 1) / (1/cost_ratio − 1) that two bounds allow; None where nothing is saved or added.

    cost_ratio: multiply-adds accounted to the dynamic method over the static one's.

    Raises:
        ValueError: an argument is not positive.
    """
    if not all(value > 0 for value in (static_seconds, dynamic_seconds, cost_ratio)):  # a nan is none either
        raise ValueError(f"seconds and cost ratio must be positive: {static_seconds}, {dynamic_seconds}, {cost_ratio}")
    if cost_ratio == 1:
        return None
    return (static_seconds / dynamic_seconds - 1) / (1 / cost_ratio - 1)


class _Calls(Counter):
    """The strict counter, which also keeps (operation, module, multiply-adds, bytes) of each call that it counts."""

    def __init__(self, method: Method, batch: int) -> None:
        super().__init__(method, batch)
        self.found: list[tuple[str, str, int, int]] = []
        self._moved = 0

    def __enter__(self) -> _Calls:
        super().__enter__()
        return self

    def _record(self, operation: OpOverloadPacket, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        own = MOVED.get(operation)
        self._moved = own(args, kwargs, output) if own else bytes_moved(str(operation), args, kwargs, output)
        super()._record(operation, args, kwargs, output)

    def _add(self, operation: str, macs: int | Sequence[int]) -> None:
        super()._add(operation, macs)
        total = macs if isinstance(macs, int) else sum(macs)
        self.found.append((operation, self._running[-1], total, self._moved))


def _layer(operation: str, module: str, macs: int, moved: int, ceilings: Ceilings) -> Layer:
    compute, memory = macs / ceilings.macs_per_second, moved / ceilings.bytes_per_second
    return Layer(operation, module, macs, moved, max(compute, memory), "compute" if compute >= memory else "memory")


def bytes_moved(operation: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Bytes that a call reads and writes at the least: of a convolution's input only the places under its windows."""
    read = {_memory(tensor): _size(tensor) for tensor in _tensors((args, kwargs))}
    if "convolution" in operation and operation.startswith(("aten.", "mkldnn.")) and isinstance(output, Tensor):
        x = args[0]
        read[_memory(x)] = min(_size(x), _under_windows(args, output) * x.element_size())
    return sum(read.values()) + sum(_size(tensor) for tensor in _tensors(output))


def _under_windows(args: tuple[Any, ...], output: Tensor) -> int:
    """Elements of a convolution's input (B, C, ...) under its windows, which leave gaps where strides are longer.

    Along a dimension, outputs × taps are all that can be met. A fused addend may stand before the weight.
    """
    x: Tensor = args[0]
    kernels = [t for t in args[1:3] if isinstance(t, Tensor) and t.dim() == x.dim()]
    taps = kernels[-1].shape[2:] if kernels else x.shape[2:]
    met = [min(size, n * k) for size, n, k in zip(x.shape[2:], output.shape[2:], taps, strict=True)]
    return prod(x.shape[:2]) * prod(met)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _steps(tensor: Tensor) -> list[tuple[int, int]]:
    """(stride, size) of each dimension that moves through memory, the same for every permutation."""
    return sorted((stride, n) for stride, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1 and stride)


def _memory(tensor: Tensor) -> object:
    """Equal for tensors that address the same memory."""
    if tensor.layout != torch.strided:
        return id(tensor)
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(_steps(tensor))


def _size(tensor: Tensor) -> int:
    """Bytes of the elements that a tensor addresses: one expanded or unfolded over itself has fewer than its shape."""
    if tensor.layout != torch.strided:  # oneDNN's own layouts
        return tensor.numel() * tensor.element_size()
    steps = _steps(tensor)
    span = (
        1 + sum(stride * (n - 1) for stride, n in steps) // math.gcd(*(stride for stride, _ in steps)) if steps else 1
    )
    return min(tensor.numel(), prod(n for _, n in steps), span) * tensor.element_size()
