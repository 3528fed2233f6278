"""Everything registered keeps the promises of `bench.conformance`, and the shipped costs are what our counter gives."""

from __future__ import annotations

import re

import pytest
import torch

from bench import registry
from bench.conformance import check
from bench.cost import agreement, both_conventions
from bench.static import static_cost
from bench.tables.paths import published
from bench.tables.schema import ids, load
from bench.tables.static_costs import cost_lines, reference

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
    """Every static row of every table, recounted; and the rows that must reproduce print within 0.5 % do."""
    lines = cost_lines([load(id) for id in ids()], static_cost)
    shipped = reference(published())
    counted = [line for line in lines if line.cost is not None]
    assert {line.table for line in counted} == {"table1", "table2", "table3", "table4", "table5", "table6", "table10"}
    for line in counted:
        network, _, given = line.name.partition("@")
        frames, size, classes = map(int, re.findall(r"\d+", given))
        assert shipped(network, frames, size, classes) == line.cost, line.name
    missed = {(line.table, line.row) for line in counted if line.remark.startswith("not reproduced")}
    assert missed == {("table3", "tpn-8f"), ("table3", "tpn-16f")}


@pytest.mark.parametrize("name", [name for name in registry.networks() if not name.startswith("corrnet")])
def test_both_conventions_are_our_count_and_fvcores(name: str) -> None:
    small, _ = registry.split_options(name, {"width": 8, "blocks": (1, 2, 1, 1)})
    network = registry.build_network(name, frames=4, size=32, classes=5, **small)
    found = agreement(network, (1, 3, 4, 32, 32))
    assert both_conventions(network, (1, 3, 4, 32, 32)) == (found.counters["dispatch"], found.counters["fvcore"])
    assert found.fvcore_conv_linear == found.counters["dispatch"]
