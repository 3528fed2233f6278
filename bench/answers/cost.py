"""What `cost NAME` answers: multiply-adds by module and operation, every counter side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bench import registry
from bench.answers.table import print_table
from bench.cost import Count, agreement, count, count_meta
from bench.weights import spec_of


def cost_answer(
    name: str, *, frames: int, size: int, classes: int, options: Mapping[str, Any], others: bool
) -> dict[str, Any]:
    """The cost of one sample, in integers of multiply-adds; null for counters that were not run or failed.

    A network is counted without running it. A method is built untrained and counted as it decides on one random input.

    Raises:
        RegistryError: no such name or option.
    """
    module, shape = _built(name, frames, size, classes, options)
    found = _count(module, shape)
    beside = agreement(module, shape) if others else None
    return {
        "name": name,
        "input": {"frames": frames, "size": size},
        "macs": found.macs,
        "params": sum(weight.numel() for weight in module.parameters() if weight.requires_grad),
        "by_module": found.by_module,
        "by_operation": found.by_operation,
        "counters": beside.counters if beside else {"dispatch": found.macs, "fvcore": None, "ptflops": None},
        "uncounted": sorted(found.uncounted),
        "missed": beside.missed if beside else {"fvcore": [], "ptflops": []},
    }


def _built(
    name: str, frames: int, size: int, classes: int, options: Mapping[str, Any]
) -> tuple[nn.Module, Sequence[int]]:
    """A network on the meta device, or an untrained method with real weights, and the shape of one sample."""
    if name in registry.networks():
        with torch.device("meta"):
            network = registry.build_network(name, frames=frames, size=size, classes=classes, **options)
        return network, spec_of(network, size, frames).shape(1)
    for_network, for_method = registry.split_options(name, options)
    torch.manual_seed(0)
    method = registry.build(name, frames=frames, size=size, classes=classes, network_options=for_network, **for_method)
    return method, method.spec.shape(1)


def _count(module: nn.Module, shape: Sequence[int]) -> Count:
    if all(weight.is_meta for weight in module.parameters()):
        return count_meta(module, shape, strict=False)
    sample = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))  # as in `agreement`
    return count(module, sample, strict=False)


def print_cost(answer: Mapping[str, Any]) -> None:
    """The totals, then modules, operations and counters in a table each."""
    given = answer["input"]
    print(f"{answer['name']}, {given['frames']} frames of {given['size']} x {given['size']}")
    print(f"{answer['macs']:,} multiply-adds, {answer['params']:,} parameters")
    for kind in ("by_module", "by_operation"):
        rows = [[part or "(root)", f"{macs:,}"] for part, macs in answer[kind].items()]
        print_table([kind.replace("_", " "), "multiply-adds"], rows)
    totals = [f"{total:,}" if total is not None else "-" for total in answer["counters"].values()]
    missed = ["", *(", ".join(answer["missed"][tool]) for tool in ("fvcore", "ptflops"))]
    rows = [list(row) for row in zip(answer["counters"], totals, missed, strict=True)]
    print_table(["counter", "total", "did not know"], rows)
