"""The ceilings of a device as it is now: multiply-adds and bytes a second, each the best that it sustains.

They are what the roofline (Williams et al., "Roofline", CACM 2009) divides by, so they are measured in the job whose
speed they bound, at its number of threads and under its flags (tf32, cuDNN).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

RUN = 0.02
"""Seconds of back-to-back calls in one run, many times a timer's resolution; power limits of a GPU may bite later."""
RUNS = 3
SIDES = (256, 512, 1024, 2048, 4096, 8192)
"""s of products of s³ multiply-adds, as far as one call takes no longer than a run."""
BUFFER = {"cpu": 2**28, "cuda": 2**30}
"""Bytes copied: far larger than the caches."""

Call = Callable[[], object]
Timer = Callable[[Call, int], float]
"""(call, repeats) -> seconds that the repeats take together."""


class CeilingError(Exception):
    """The ceilings of a device cannot be measured; the message says why."""


@dataclass(frozen=True)
class Ceilings:
    """What a device sustains at best: multiply-adds (not flops) a second, and bytes read or written a second."""

    macs_per_second: float
    bytes_per_second: float


def measure(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Best matrix product in `dtype` and best copy in the device's main memory; about a second.

    Of the products one is a 1×1 convolution, since convolutions may have faster kernels, or, by their own tf32 flag,
    be allowed a faster precision. A convolution by a fast algorithm (Winograd, FFT) can still pass the ceiling.

    Raises:
        CeilingError: the device is neither a CPU nor a CUDA GPU, lacks the memory, or does not multiply in `dtype`.
    """
    if device.type not in BUFFER:
        raise CeilingError(f"no clock for device {str(device)!r}: ceilings are measured on cpu and cuda")
    timer = _cpu_seconds if device.type == "cpu" else _cuda_seconds
    try:
        with torch.no_grad(), torch.device(device):
            return Ceilings(_products(timer, dtype), _copies(timer, BUFFER[device.type]))
    except (RuntimeError, AssertionError) as error:  # out of memory is the first, a torch without CUDA the second
        reason = str(error).partition("\n")[0]
        raise CeilingError(f"no ceilings in {dtype} on {str(device)!r}: {reason}") from error


def _products(timer: Timer, dtype: torch.dtype) -> float:
    """Multiply-adds a second of the best product, over forms and sizes."""
    best = 0.0
    for form in (_square, _linear, _pointwise):
        rate = 0.0
        for side in SIDES:
            if side**3 > RUN * (rate or float("inf")):
                break
            rate = max(rate, side**3 / best_seconds(timer, form(side, dtype)))
        best = max(best, rate)
    return best


def _square(side: int, dtype: torch.dtype) -> Call:
    left, right, out = (torch.randn(side, side, dtype=dtype) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def _linear(side: int, dtype: torch.dtype) -> Call:
    """Long rows of activations by a weight (out, in)."""
    x, weight = torch.randn(2 * side, side, dtype=dtype), torch.randn(side // 2, side, dtype=dtype)
    return lambda: F.linear(x, weight)


def _pointwise(side: int, dtype: torch.dtype) -> Call:
    """A 1×1 convolution over side positions, channels last."""
    x, weight = torch.randn(1, side, 32, side // 32, dtype=dtype), torch.randn(side, side, 1, 1, dtype=dtype)
    x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
    return lambda: F.conv2d(x, weight)


def _copies(timer: Timer, size: int) -> float:
    """Bytes a second, read and written, of copying `size` bytes; both buffers are touched before."""
    source, target = (torch.ones(size // 4, dtype=torch.float32) for _ in range(2))
    return 2 * size / best_seconds(timer, lambda: target.copy_(source))


def best_seconds(timer: Timer, call: Call) -> float:
    """Seconds of one call in the best of RUNS runs."""
    call()  # untimed: libraries start up and choose their kernels
    repeats = max(1, round(RUN / timer(call, 1)))
    return min(timer(call, repeats) for _ in range(RUNS)) / repeats


def _cpu_seconds(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _cuda_seconds(call: Call, repeats: int) -> float:
    with torch.cuda.device(torch.get_default_device()):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000
