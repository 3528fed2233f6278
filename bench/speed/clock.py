"""Clocks: how long one call takes until everything that it started is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Timed:
    """One call. seconds: as the device saw it; wall: as its caller did; on a CPU the same.

    processor: on a CPU, what all threads of the process got of its cores meanwhile, in seconds; else None.
    """

    seconds: float
    wall: float
    answer: Any
    processor: float | None = None


class Clock(Protocol):
    """Times calls."""

    name: str

    def time(self, call: Callable[[Any], Any], given: Any) -> Timed:
        """Calls once with `given`."""
        ...


class HostClock:
    """The system's monotonic clock."""

    name = "monotonic"

    def time(self, call: Callable[[Any], Any], given: Any) -> Timed:
        """Calls once with `given`."""
        processor, start = process_time(), perf_counter()
        answer = call(given)
        seconds = perf_counter() - start
        return Timed(seconds, seconds, answer, process_time() - processor)


class DeviceClock:
    """Events of a CUDA device around the call, the whole device idle before and after.

    The wall time beside it holds what the events of one stream cannot see: work on other streams.
    """

    name = "CUDA events, device-wide synchronisation before and after"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time(self, call: Callable[[Any], Any], given: Any) -> Timed:
        """Calls once with `given`."""
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(self.device)
        start = perf_counter()
        first.record()
        answer = call(given)
        last.record()
        torch.cuda.synchronize(self.device)
        wall = perf_counter() - start
        return Timed(first.elapsed_time(last) / 1e3, wall, answer)


def clock_of(device: torch.device) -> Clock:
    """The clock for what runs on `device`."""
    return DeviceClock(device) if device.type == "cuda" else HostClock()
