"""What the GPU itself says while it is timed: clocks, power, temperature, memory, throttling and energy, by NVML.

A watch that cannot see says so and never fails: there may be no GPU, no driver's library, no right to ask, and what a
GPU does not support differs from model to model.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

IDLE_SECONDS = 2.0
ENERGY_WINDOW = 5.0
"""Seconds under which no energy per clip is stated: NVML's power is an average of up to a second."""

THROTTLES = {
    "power cap": 0x4,
    "hardware slow-down": 0x8,
    "thermal (software)": 0x20,
    "thermal (hardware)": 0x40,
    "power brake": 0x80,
    "board limit": 0x200,
    "reliability": 0x400,
}
"""Reasons of NVML for a clock below what was asked for, by bit. Idleness and clocks set by a user are none."""

Query = Callable[[Any, Any], float]
"""(pynvml, handle) -> value."""


def _throttle_bits(nvml: Any, handle: Any) -> float:
    """Under its older name where the newer is missing."""
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        if hasattr(nvml, name):
            return int(getattr(nvml, name)(handle))
    raise AttributeError("this pynvml has no clock event reasons")


FIELDS: dict[str, Query] = {
    "sm_clock_mhz": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
    "power_watts": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    "temperature_celsius": lambda nvml, handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    "memory_used_bytes": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).used,
}
"""What is summarised by median, minimum and maximum."""
_COUNTERS: dict[str, Query] = {
    "energy_joules": lambda nvml, handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,
    "throttle_bits": _throttle_bits,
}


@dataclass(frozen=True)
class Sample:
    """One look at the GPU: seconds of a monotonic clock, and the values that it told."""

    at: float
    values: dict[str, float]


class Watch:
    """Samples the GPU `device` every `interval` seconds in a thread while it is open: the shorter, the more it disturbs
    what is timed meanwhile.

    Open it (once) and close it with nothing queued on the GPU, after a synchronisation: opening takes IDLE_SECONDS, in
    which the power of the idle GPU is read.
    """

    def __init__(self, device: torch.device, interval: float = 0.5) -> None:
        self._device, self._interval = device, interval
        self._unavailable = "not opened yet"
        self._missing: dict[str, str] = {}
        self._idle: list[Sample] = []
        self._samples: list[Sample] = []
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        try:
            self._nvml, self._handle = _open(self._device)
        except Exception as error:  # whatever the library, the driver or the system refuses with
            self._unavailable = f"{error}" or type(error).__name__
            return self
        self._unavailable = ""
        start = time.monotonic()
        while not self._idle or time.monotonic() - start < IDLE_SECONDS:
            self._idle.append(self._look())
            time.sleep(self._interval)
        self._samples.append(self._look())
        self._thread = threading.Thread(target=self._follow, name="telemetry", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        self._closed.set()
        self._thread.join()
        self._samples.append(self._look())
        try:
            self._nvml.nvmlShutdown()
        except Exception as error:
            self._missing["shutdown"] = str(error)

    def _follow(self) -> None:
        while not self._closed.wait(self._interval):
            self._samples.append(self._look())

    def _look(self) -> Sample:
        values = {}
        at = time.monotonic()
        for name, query in {**FIELDS, **_COUNTERS}.items():
            try:
                values[name] = query(self._nvml, self._handle)
            except Exception as error:  # not supported here, or no right to ask
                self._missing.setdefault(name, str(error))
        return Sample(at, values)

    @property
    def throttled(self) -> bool:
        """Whether the GPU was seen to run below the clock asked for; False also where it cannot tell."""
        return bool(self._reasons())

    def _reasons(self) -> dict[str, float]:
        """Reason of throttling -> share of the samples that show it."""
        bits = [int(value) for value in column(self._samples, "throttle_bits")]
        shares = {name: sum(bool(b & mask) for b in bits) / len(bits) for name, mask in THROTTLES.items() if bits}
        return {name: share for name, share in shares.items() if share}

    def summary(self) -> dict[str, Any]:
        """What was seen, as JSON can hold it, of whatever ran in the window.

        A field that could not be read is None; `missing` says why, also of one that could not be read at times.
        `throttle_reasons` gives the share of samples that show each.
        """
        if self._unavailable:
            return {"available": False, "reason": self._unavailable}
        known = bool(column(self._samples, "throttle_bits"))
        return {
            "available": True,
            "seconds": self._seconds,
            "samples": len(self._samples),
            **{name: _spread(column(self._samples, name)) for name in FIELDS},
            "throttled": self.throttled if known else None,
            "throttle_reasons": self._reasons() if known else None,
            "missing": dict(self._missing),
        }

    @property
    def _seconds(self) -> float:
        return self._samples[-1].at - self._samples[0].at

    def energy(self, clips: int) -> dict[str, Any]:
        """Joules of the window, by the GPU's own counter where it has one, and of a clip, less the idle power.

        clips: how many it processed, all of one arm; or samples, where one is more than a clip. What cannot be told
        is None, and `reason` says why.
        """
        if self._unavailable:
            return {"joules": None, "joules_per_clip": None, "reason": self._unavailable}
        counter, power = column(self._samples, "energy_joules"), column(self._idle, "power_watts")
        counted = len(counter) == len(self._samples)  # not where it failed now and then, perhaps at the end
        joules = counter[-1] - counter[0] if counted else integral(self._samples)
        source = None if joules is None else "counter" if counted else "power"
        idle = min(power, default=None)  # the lowest: after load it takes a second to fall
        found = {"joules": joules, "source": source, "idle_watts": idle, "joules_per_clip": None}
        if joules is None or idle is None:
            return {**found, "reason": f"the GPU tells no {'energy' if joules is None else 'power'}"}
        if self._seconds < ENERGY_WINDOW:
            return {**found, "reason": f"the window of {self._seconds:.1f} s is shorter than {ENERGY_WINDOW:g} s"}
        return {**found, "joules_per_clip": (joules - idle * self._seconds) / clips, "reason": ""}


def column(samples: Sequence[Sample], name: str) -> list[float]:
    """The values of one field, where it was told."""
    return [sample.values[name] for sample in samples if name in sample.values]


def integral(samples: Sequence[Sample]) -> float | None:
    """Joules of power over time by the trapezoidal rule; None with fewer than two values."""
    points = [(sample.at, sample.values["power_watts"]) for sample in samples if "power_watts" in sample.values]
    if len(points) < 2:
        return None
    return sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in itertools.pairwise(points))


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


def _open(device: torch.device) -> tuple[Any, Any]:
    """pynvml, started, and its handle of the GPU.

    Raises:
        Exception: whatever stands in the way, said in one line.
    """
    if device.type != "cuda":
        raise RuntimeError(f"device {str(device)!r} has no NVML; telemetry is for CUDA GPUs")
    try:
        nvml = importlib.import_module("pynvml")
    except Exception as error:
        raise RuntimeError(f"pynvml cannot be imported ({error}); install nvidia-ml-py") from error
    try:
        nvml.nvmlInit()
    except Exception as error:
        raise RuntimeError(f"NVML refuses: {error}") from error
    try:
        return nvml, _handle(nvml, torch.cuda.get_device_properties(device))
    except Exception:
        nvml.nvmlShutdown()
        raise


def _handle(nvml: Any, properties: Any) -> Any:
    """NVML's handle of the GPU with these `properties`; its own indices ignore CUDA_VISIBLE_DEVICES.

    Raises:
        RuntimeError: NVML knows neither its UUID nor its PCI address.
    """
    ways: list[tuple[Callable[[str], Any], str]] = []
    if hasattr(properties, "uuid"):
        uuid = str(properties.uuid).removeprefix("GPU-")
        ways += [(nvml.nvmlDeviceGetHandleByUUID, f"{kind}-{uuid}") for kind in ("GPU", "MIG")]
    if hasattr(properties, "pci_bus_id"):
        address = f"{properties.pci_domain_id:08X}:{properties.pci_bus_id:02X}:{properties.pci_device_id:02X}.0"
        ways.append((nvml.nvmlDeviceGetHandleByPciBusId, address))
    refusals = []
    for look_up, key in ways:
        try:
            return look_up(key)
        except Exception as error:
            refusals.append(f"{key}: {error}")
    raise RuntimeError(f"NVML does not know this GPU ({'; '.join(refusals) or 'torch tells neither UUID nor address'})")
