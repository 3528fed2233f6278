"""Timings, as ratios of interleaved runs, printed and kept in `extra_info`; nothing here is asserted.

Run by name: `nox -s tests -- tests/benchmarks`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from bench import registry
from bench.flow import to_device
from bench.method import Batch, Method, Recipe

NARROW = {"frames": 8, "size": 24, "network_options": {"width": 8, "blocks": (1, 1, 1, 1), "stem": (3, 3, 3)}}
FULL: dict[str, Any] = {"frames": 8, "size": 64, "network_options": {}}
LARGE: dict[str, Any] = {"frames": 8, "size": 112, "network_options": {}}


def ratio(benchmark: Any, one: Callable[[], object], other: Callable[[], object], rounds: int = 9) -> float:
    """Median of paired ratios of `one` over `other`, run in turn; `benchmark` times `one` for the record."""
    one(), other()
    pairs = []
    for number in range(rounds):
        first, second = (one, other) if number % 2 else (other, one)
        times = {}
        for call in (first, second):
            start = time.perf_counter()
            call()
            times[call] = time.perf_counter() - start
        pairs.append(times[one] / times[other])
    benchmark.pedantic(one, rounds=1, iterations=1)
    benchmark.extra_info["ratio"] = statistics.median(pairs)
    benchmark.extra_info["ratios"] = sorted(pairs)
    print(f"\n{benchmark.name}: median ratio {statistics.median(pairs):.3f}, {min(pairs):.3f} to {max(pairs):.3f}")
    return statistics.median(pairs)


def built(name: str, setting: dict[str, Any]) -> Method:
    torch.manual_seed(0)
    method = registry.build(name, classes=24, **setting)
    for module in method.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return method


def training_step(name: str, setting: dict[str, Any], batch: int) -> Callable[[], object]:
    method = built(name, setting)
    stage = method.stages(Recipe(epochs=4, batch=batch))[-1]
    stage.begin(1000)
    sample = torch.randn(method.spec.shape(batch))
    item = to_device(Batch(sample, torch.arange(batch) % 24, torch.arange(batch)), method.device)
    return lambda: stage.step(item)


@pytest.mark.parametrize(
    ("network", "setting", "batch"),
    [("r2plus1d_18", NARROW, 32), ("r2plus1d_18", FULL, 4), ("r2plus1d_18", LARGE, 2), ("i3d", FULL, 4)],
    ids=["r2plus1d_18-narrow", "r2plus1d_18-full", "r2plus1d_18-large", "i3d-full"],
)
@pytest.mark.parametrize("kind", ["absorbable", "affine", "depthwise"])
def test_training_step_over_static(
    benchmark: Any, network: str, setting: dict[str, Any], batch: int, kind: str
) -> None:
    """Promise: at most 1.35 at full width, of the default kind, absorbable, on a CPU."""
    dynamic = training_step(f"vared/{network}", {**setting, "kind": kind}, batch)
    ratio(benchmark, dynamic, training_step(network, setting, batch))


@pytest.mark.parametrize("options", [{"width": 8}, {}], ids=["an eighth of the width", "full width"])
def test_x3d_step_by_torchs_gradients_over_ours(
    benchmark: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `bench.gradients` saves of a training step on a CPU."""
    ours = training_step("x3d_m", {"frames": 16, "size": 64, "network_options": options}, 16)

    def theirs() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("bench.gradient_stage.convolution_gradients", nullcontext)
            ours()

    ratio(benchmark, theirs, ours, rounds=3)


def test_evaluation_with_accounting_over_without(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: at most 1.02."""
    method = built("vared/r2plus1d_18", NARROW).eval()
    sample = torch.randn(method.spec.shape(256))
    nothing = torch.zeros(256, dtype=torch.int64)

    @torch.no_grad()
    def plain() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(type(method), "account", lambda self, trace: nothing)
            method(sample)

    @torch.no_grad()
    def accounting() -> None:
        method(sample)

    ratio(benchmark, accounting, plain, rounds=21)


def test_help(benchmark: Any) -> None:
    """Promise: 0.5 s."""
    benchmark(subprocess.run, [sys.executable, "-m", "bench", "--help"], check=True, capture_output=True)
