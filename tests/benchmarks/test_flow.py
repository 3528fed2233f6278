"""How much of its time a training waits for data: for 0, 1 and 2 workers, nothing cached and all cached; printed.

Real videos (ut_interaction of VARED_DATA). Once a small network computes on this processor, which is then the workers'
too; once a step takes its time elsewhere, as on a GPU, and the processor is the workers' alone.
Also what it takes to start workers, and to cross from one epoch to the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.builders import build
from bench.data.loading import Loading, use
from bench.data.sampling import Sampling, train_batches
from bench.flow import Waiting
from bench.method import Batch, InputSpec

SPEC, BATCH = InputSpec("clip", 112, 8), 8
ELSEWHERE = 0.5  # seconds of a step


def small() -> Callable[[Batch], None]:
    """A training step of a small network."""
    network = nn.Sequential(
        nn.Conv3d(3, 16, (3, 7, 7), (1, 4, 4), (1, 3, 3)), nn.ReLU(), nn.Conv3d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 6),
    )  # fmt: skip
    optimiser = torch.optim.SGD(network.parameters(), 0.01)

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(batch.sample), batch.target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def epoch(step: Callable[[Batch], None], workers: int) -> tuple[float, float]:
    """The share of the time waited, and seconds, of an epoch; nothing is in memory at its start."""
    split = build("ut_interaction", data_root=None, frames=8, size=112, options={}).train
    start, waiting = time.perf_counter(), Waiting()
    for batch in waiting.over(train_batches(split, SPEC, Sampling(), BATCH, 0, 0, workers=workers)):
        step(batch)
    return waiting.lap(), time.perf_counter() - start


@pytest.mark.skipif(not os.environ.get("VARED_DATA"), reason="VARED_DATA names no folder with ut_interaction/")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_the_share_of_time_that_is_waited(benchmark: Any, tmp_path: Path, where: str) -> None:
    step = small() if where == "here" else lambda batch: time.sleep(ELSEWHERE)
    print(f"\n{len(os.sched_getaffinity(0))} cores; a step computes {where}")
    found = {}
    for cached in ("no cache", "cold", "warm"):
        for workers in (0, 1, 2):
            folder = tmp_path / (str(workers) if cached == "cold" else "0")
            use(Loading(cache=None if cached == "no cache" else folder, cache_bytes=4 * 10**9))
            share, seconds = epoch(step, workers)
            found[f"{cached}, {workers} workers"] = share
            print(f"  {cached:8}  {workers} workers: waited {share:4.0%} of {seconds:5.1f} s")
    benchmark.extra_info["waited"] = found
    benchmark.pedantic(lambda: None, rounds=1, iterations=1)


class Held:
    """A split in memory."""

    classes, groups, attributes, flip = ("a", "b"), np.arange(64).astype(str), (), False
    targets = np.arange(64) % 2

    def __len__(self) -> int:
        return 64

    def video(self, index: int) -> torch.Tensor:
        return torch.zeros(8, 112, 112, 3, dtype=torch.uint8)


def test_starting_workers_and_crossing_epochs(benchmark: Any) -> None:
    for workers in (1, 2, 8):
        start = time.perf_counter()
        batches = train_batches(Held(), SPEC, Sampling(), BATCH, 0, 0, workers=workers, epochs=3)  # type: ignore[arg-type]
        next(batches)
        first = time.perf_counter() - start
        times = [0.0]
        for _ in batches:
            times.append(time.perf_counter() - start)
        gaps = np.diff(times[1:])
        print(
            f"\n{workers} workers: the first batch after {first:.2f} s; then one in {np.median(gaps):.3f} s, ", end=""
        )
        print(f"across epochs {gaps[[6, 14]].mean():.3f} s")
    benchmark.pedantic(lambda: None, rounds=1, iterations=1)
