"""What skipping saves on the clock: η = (speed-up - 1) / (multiply-add ratio - 1) of a batch of which half is skipped.

Every method is timed in the form in which users run it, `optimised()`, against the same with nothing skipped. Printed
and kept in `extra_info`; nothing here is asserted. Run by name: `nox -s tests -- tests/benchmarks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_ratios import built, ratio

from bench.method import Method, Recipe
from bench.policy import Policy, everything, matched

BATCH = 4

WARM = 4
"""Batches in which a form may try what is the fastest."""


def call(method: Method, policy: Policy | None) -> Callable[[], object]:
    sample = torch.randn(method.spec.shape(BATCH), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def run() -> object:
        return method(sample, policy)

    return run


def cost(method: Method, policy: Policy | None) -> float:
    with torch.no_grad():
        return float(method(torch.zeros(method.spec.shape(BATCH)), policy).cost.double().mean())


def report(benchmark: Any, half: tuple[Method, Policy | None], whole: tuple[Method, Policy | None]) -> None:
    """Times both in turn, each as users run it, and prints η."""
    saved = cost(*whole) / cost(*half)
    half, whole = ((method.optimised(), policy) for method, policy in (half, whole))
    for _ in range(WARM):
        call(*half)(), call(*whole)()
    speedup = 1 / ratio(benchmark, call(*half), call(*whole), rounds=5)
    eta = (speedup - 1) / (saved - 1)
    benchmark.extra_info |= {"multiply-add ratio": saved, "speed-up": speedup, "eta": eta}
    print(f"{benchmark.name}: multiply-adds {saved:.2f}x fewer, {speedup:.2f}x faster, eta {eta:.2f}")


@pytest.mark.parametrize(
    ("name", "options"),
    [("arnet", {}), ("adafocus_v2", {"exits": True}), ("uni_adafocus", {"exits": True}), ("vared/r2plus1d_18", {})],
)
def test_half_skipped_over_nothing_skipped(benchmark: Any, name: str, options: dict[str, Any]) -> None:
    """Decisions at random that cost half of everything, on full-width networks at 112², 8 frames, batch 4."""
    network = {"network_options": {}} if "/" in name else {}
    method = built(name, {"frames": 8, "size": 112, **network, **options}).eval()
    dear = everything(method)
    cheapest = int(method.account({point: options[[-1]] for point, options in method.decisions().items()}))
    target = max(int(cost(method, dear)) // 2, int(1.1 * cheapest))
    report(benchmark, (method, matched(method, target, draws=64, tolerance=0.05)), (method, dear))


def test_faster_with_one_expensive_clip_in_four(benchmark: Any) -> None:
    """The published pattern against the expensive network on every clip; 4 clips of 8 frames at 112²."""
    half, whole = (
        built("faster", {"frames": 8, "size": 112, "pattern": pattern}).eval() for pattern in ("ECCC", "EEEE")
    )
    report(benchmark, (half, None), (whole, None))


def test_pruned_filters_against_the_dense_network(benchmark: Any) -> None:
    """Structured pruning to half the multiply-adds."""
    setting = {"frames": 8, "size": 112, "network_options": {}}
    pruned = built("pruned/r2plus1d_18", {**setting, "kind": "channels", "budget": 0.5}).eval()
    for stage in pruned.stages(Recipe(epochs=10)):
        stage.begin(1)
    report(benchmark, (pruned, None), (built("r2plus1d_18", setting).eval(), None))
