"""Telemetry against a fake NVML: what it tells, what it refuses, and energy against closed forms, by a fake clock."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from bench.speed import telemetry, truth
from bench.speed.telemetry import THROTTLES, Sample, Watch, integral

CUDA = torch.device("cuda", 0)
NEVER = 3600.0  # seconds between the samples of the thread, where a test wants only those of opening and closing


class Refusal(Exception):
    """What the fake raises in place of pynvml.NVMLError."""


class Clock:
    """Stands in for the module `time`; sleeping moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Fake(ModuleType):
    """One GPU, known by UUID and by PCI address; 100 W, and what the tests make of it."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, clock: Clock) -> None:
        super().__init__("pynvml")
        self.clock, self.open, self.seen = clock, 0, threading.Semaphore(0)
        self.watts: Callable[[float], float] = lambda t: 100.0
        self.joules: Callable[[float], float] | None = None
        self.bits, self.sm, self.known = 0, 1500, ["GPU-abc"]

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def _look_up(self, key: str) -> str:
        if key not in self.known:
            raise Refusal("Not Found")
        return key

    nvmlDeviceGetHandleByUUID = nvmlDeviceGetHandleByPciBusId = _look_up

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {1: self.sm, 2: 2600}[kind]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> float:
        return 1000 * self.watts(self.clock.now)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 55

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=2**30)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:
        if self.joules is None:
            raise Refusal("Not Supported")
        return 1000 * self.joules(self.clock.now)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        self.seen.release()
        return self.bits


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    clock = Clock()
    fake = Fake(clock)
    properties = SimpleNamespace(uuid="abc", pci_domain_id=0, pci_bus_id=0x1B, pci_device_id=0)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(telemetry, "time", clock)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    yield fake
    assert fake.open == 0, "NVML was not given back"


def watched(nvml: Fake, seconds: float, interval: float = NEVER) -> Watch:
    """A watch whose window took `seconds` of the fake clock."""
    with Watch(CUDA, interval) as watch:
        nvml.clock.now += seconds
    return watch


def test_what_the_gpu_tells_is_summarised_and_fits_json(nvml: Fake) -> None:
    with Watch(CUDA, NEVER) as watch:
        nvml.sm = 1200
    summary = json.loads(json.dumps(watch.summary()))
    assert summary["available"] is True and summary["samples"] == 2 and summary["throttled"] is False
    assert summary["sm_clock_mhz"] == {"median": 1350, "min": 1200, "max": 1500}
    assert summary["memory_clock_mhz"]["median"] == 2600
    assert summary["power_watts"]["max"] == 100 and summary["temperature_celsius"]["min"] == 55
    assert summary["memory_used_bytes"]["median"] == 2**30
    assert list(summary["missing"]) == ["energy_joules"]


def test_the_thread_samples_while_the_watch_is_open(nvml: Fake) -> None:
    with Watch(CUDA, 0.001) as watch:
        nvml.seen = threading.Semaphore(0)
        for _ in range(5):
            assert nvml.seen.acquire(timeout=30)
    assert watch.summary()["samples"] >= 6
    last = watch.summary()
    assert not any(thread.name == "telemetry" for thread in threading.enumerate())
    assert watch.summary() == last


def test_the_thread_ends_when_the_watched_work_fails(nvml: Fake) -> None:
    with pytest.raises(KeyError), Watch(CUDA, 0.001):
        raise KeyError
    assert not any(thread.name == "telemetry" for thread in threading.enumerate())


@pytest.mark.parametrize("reason", THROTTLES)
def test_each_reason_is_named_with_its_share_of_the_samples(nvml: Fake, reason: str) -> None:
    with Watch(CUDA, NEVER) as watch:
        nvml.bits = THROTTLES[reason] | 0x1  # idle as well
    assert watch.throttled and watch.summary()["throttled"] is True
    assert watch.summary()["throttle_reasons"] == {reason: 0.5}


def test_idleness_and_set_clocks_are_no_throttling(nvml: Fake) -> None:
    nvml.bits = 0x1 | 0x2 | 0x10 | 0x100
    watch = watched(nvml, 1)
    assert not watch.throttled and watch.summary()["throttle_reasons"] == {}


def test_throttling_before_the_window_is_not_the_windows(nvml: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.bits = THROTTLES["power cap"]

    def sleep(seconds: float) -> None:
        nvml.clock.now += seconds
        nvml.bits = 0

    monkeypatch.setattr(nvml.clock, "sleep", sleep)
    assert not watched(nvml, 1).throttled


def test_the_masks_are_nvmls() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = "SwPowerCap HwSlowdown SwThermalSlowdown HwThermalSlowdown HwPowerBrakeSlowdown BoardLimit Reliability"
    for name, mask in zip(names.split(), THROTTLES.values(), strict=True):
        constant = f"nvmlClocksThrottleReason{name}"
        assert getattr(pynvml, constant, mask) == mask, constant  # older ones lack the last two


def test_the_older_name_of_the_reasons_serves(nvml: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Fake, "nvmlDeviceGetCurrentClocksEventReasons")
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: THROTTLES["power brake"]  # type: ignore[attr-defined]
    assert watched(nvml, 1).summary()["throttle_reasons"] == {"power brake": 1.0}


def test_energy_is_the_integral_of_power_less_the_idle_power(nvml: Fake) -> None:
    # Idle at 50 W for two seconds; then 50 + 30·t watts for 10 s: 50·10 + 30·10²/2 = 2000 J, of which 500 J idle.
    nvml.watts = lambda t: 50 + 30 * max(0.0, t - NEVER)  # the idle seconds end with one sleep of an interval
    watch = watched(nvml, 10)
    assert watch.summary()["seconds"] == 10
    energy = watch.energy(300)
    assert energy["source"] == "power" and energy["joules"] == pytest.approx(2000)
    assert energy["idle_watts"] == 50 and energy["joules_per_clip"] == pytest.approx(5)


def test_the_gpus_own_energy_counter_is_preferred(nvml: Fake) -> None:
    nvml.watts = lambda t: 40.0
    nvml.joules = lambda t: 1e6 + 400 * t
    energy = watched(nvml, 8).energy(80)
    assert energy["source"] == "counter" and energy["joules"] == pytest.approx(3200)
    assert energy["joules_per_clip"] == pytest.approx((400 - 40) * 8 / 80)


def test_a_counter_that_fails_at_the_end_is_not_believed(nvml: Fake) -> None:
    nvml.joules = lambda t: 400 * t
    with Watch(CUDA, 0.001) as watch:
        nvml.seen = threading.Semaphore(0)
        for _ in range(3):
            assert nvml.seen.acquire(timeout=30)
        nvml.joules, nvml.clock.now = None, nvml.clock.now + 6
    energy = watch.energy(6)
    assert energy["source"] == "power" and energy["joules"] == pytest.approx(600)


def test_idle_power_is_the_lowest_of_two_seconds(nvml: Fake) -> None:
    nvml.watts = lambda t: max(70.0, 300 - 150 * t)  # falling after load
    with Watch(CUDA, 0.25) as watch:
        started = nvml.clock.now
    assert started == pytest.approx(telemetry.IDLE_SECONDS)
    assert watch.energy(1)["idle_watts"] == 70


def test_no_energy_per_clip_of_a_short_window(nvml: Fake) -> None:
    energy = watched(nvml, 4.9).energy(10)
    assert energy["joules_per_clip"] is None and "4.9 s is shorter than 5 s" in energy["reason"]
    assert energy["joules"] == pytest.approx(100 * 4.9)


def test_energy_is_of_each_arm_in_a_window_of_its_own(nvml: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips in 0.1 s at 200 W, and in 0.2 s at 300 W, both above 50 W idle: 7.5 J and 25 J a clip."""
    used, waited = [0.0], list[Any]()
    nvml.watts, nvml.joules = lambda t: 50.0, lambda t: used[0]

    def arm(seconds: float, watts: float) -> Callable[[int], None]:
        def call(given: int) -> None:
            nvml.clock.now += seconds
            used[0] += seconds * watts

        return call

    monkeypatch.setattr(truth, "monotonic", nvml.clock.monotonic)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    pair, setting = SimpleNamespace(device=CUDA), SimpleNamespace(batch=2)
    arms: Any = SimpleNamespace(pair=pair, setting=setting, given=lambda arm, number: number)
    arms.all = {"a": arm(0.1, 200), "b": arm(0.2, 300), "b again": None}
    energy = truth.energy(arms)["energy"]
    assert {key: found["joules_per_clip"] for key, found in energy.items()} == pytest.approx({"a": 7.5, "b": 25})
    assert all(found["idle_watts"] == 50 and found["reason"] == "" for found in energy.values())
    assert energy["a"]["joules"] == pytest.approx(200 * 1.1 * telemetry.ENERGY_WINDOW, rel=0.02)
    assert len(waited) > 2 and set(waited) == {CUDA}
    pair.device = torch.device("cpu")
    assert truth.energy(arms) == {}


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock_mhz"),
        ("nvmlDeviceGetPowerUsage", "power_watts"),
        ("nvmlDeviceGetTemperature", "temperature_celsius"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "throttled"),
    ],
)
@pytest.mark.parametrize("how", ["refused", "not there"])
def test_one_unsupported_call_leaves_the_rest(
    nvml: Fake, monkeypatch: pytest.MonkeyPatch, call: str, field: str, how: str
) -> None:
    def refuse(*_: Any) -> None:
        raise Refusal("Not Supported")

    if how == "refused":
        monkeypatch.setattr(Fake, call, refuse)
    else:
        monkeypatch.delattr(Fake, call)
    watch = watched(nvml, 6)
    summary = watch.summary()
    assert summary["available"] is True and summary[field] is None and watch.throttled is False
    said = summary["missing"]["throttle_bits" if field == "throttled" else field]
    assert "Not Supported" in said or (how == "not there" and said)
    others = {"sm_clock_mhz", "power_watts", "temperature_celsius", "memory_used_bytes"} - {field}
    assert all(summary[other] for other in others)
    if field == "power_watts":
        assert watch.energy(1)["joules"] is None and watch.energy(1)["reason"]
    json.dumps(summary)


def test_a_gpu_is_found_by_its_address_where_its_uuid_is_unknown(nvml: Fake) -> None:
    nvml.known = ["00000000:1B:00.0"]
    assert watched(nvml, 1).summary()["available"] is True


def test_a_slice_of_a_gpu_is_found(nvml: Fake) -> None:
    nvml.known = ["MIG-abc"]
    assert watched(nvml, 1).summary()["available"] is True


def test_a_gpu_unknown_to_nvml_is_said(nvml: Fake) -> None:
    nvml.known = []
    summary = watched(nvml, 1).summary()
    assert summary["available"] is False and "GPU-abc: Not Found" in summary["reason"]


def test_nvml_that_refuses_is_said(nvml: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Fake) -> None:
        raise Refusal("Driver Not Loaded")

    monkeypatch.setattr(Fake, "nvmlInit", refuse)
    watch = watched(nvml, 1)
    assert watch.summary() == {"available": False, "reason": "NVML refuses: Driver Not Loaded"}
    assert watch.energy(1)["joules_per_clip"] is None and watch.energy(1)["reason"] == watch.summary()["reason"]
    assert watch.throttled is False


def test_a_machine_without_pynvml_is_said(nvml: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    summary = watched(nvml, 1).summary()
    assert summary["available"] is False and "nvidia-ml-py" in summary["reason"]


def test_a_torch_without_cuda_is_said(nvml: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: torch.device) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "get_device_properties", none)
    assert "not compiled" in watched(nvml, 1).summary()["reason"]


def test_a_cpu_has_no_telemetry_and_waits_for_none(nvml: Fake) -> None:
    with Watch(torch.device("cpu")) as watch:
        assert nvml.clock.now == 0 and nvml.open == 0
    assert watch.summary()["available"] is False and "'cpu'" in watch.summary()["reason"]


def test_the_integral_is_exact_for_a_polygon_and_needs_two_values() -> None:
    at = {0.0: 10.0, 1.0: 30.0, 4.0: 30.0, 6.0: 0.0}
    samples = [Sample(t, {"power_watts": p}) for t, p in at.items()]
    assert integral(samples) == 20 + 90 + 30
    assert integral([*samples[:2], Sample(2.0, {}), *samples[2:]]) == 140  # one that failed is passed over
    assert integral(samples[:1]) is None and integral([]) is None
