"""Everything registered keeps the promises of `bench.conformance`, and the shipped costs are what our counter gives."""

from __future__ import annotations

import json

import pytest
import torch

from bench import registry
from bench.conformance import check
from bench.cost import count_meta
from bench.tables.paths import published

NAMES = [*registry.networks(), *(f"{m}/{n}" for m in registry.methods() if m != "static" for n in registry.networks())]


@pytest.mark.parametrize("name", NAMES)
def test_registered_methods_conform(name: str) -> None:
    torch.manual_seed(0)
    small, _ = registry.split_options(name, {"width": 8, "blocks": (1, 2, 1, 1)})
    method = registry.build(name, frames=4, size=32, classes=5, network_options=small).double()
    for weight_name, weight in method.named_parameters():
        if weight_name.endswith("gate.fc2.weight"):  # gates that differ between samples, some of them closed
            weight.data.mul_(100)
        elif weight.dim() == 1 and not weight.any():  # branches and shifts that start at nothing
            weight.data.normal_(0, 0.2)
    # Twice the precision: between a batch and a sample alone rounding differs, and could turn a decision.
    sample = torch.randn(method.spec.shape(4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert check(method, sample) == []
    if method.decisions():
        with torch.no_grad():
            trace = method(sample).trace
        assert any(bool((weights <= 0).any()) for weights in trace.values()), "no option is closed"
        assert any(bool((weights[0] != weights[1:]).any()) for weights in trace.values()), "all samples decide alike"


def test_shipped_static_costs_are_ours() -> None:
    shipped = json.loads((published().parent / "reference" / "static_costs.json").read_text())
    for name, cost in shipped.items():
        network, _, given = name.partition("@")
        frames, size = map(int, given.split("x"))
        with torch.device("meta"):
            module = registry.network(network)(frames, size, 200)
        assert count_meta(module, (1, 3, frames, size, size)).macs == cost["macs"], name
        assert sum(p.numel() for p in module.parameters()) == cost["params"], name
