"""Everything registered keeps the promises of `bench.conformance`, and the shipped costs are what our counter gives."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from functools import partial
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn
from toys import ToyBoxes, ToyMasks, ToySplit

from bench import registry
from bench.conformance import check, check_training
from bench.cost import agreement, both_conventions
from bench.data.sampling import Sampling
from bench.method import Method, Recipe
from bench.policy import everything
from bench.static import static_cost
from bench.tables.paths import published
from bench.tables.schema import ids, load
from bench.tables.static_costs import cost_lines, reference
from bench.weights import spec_of

BLOCKS = {"blocks": (1, 1, 1, 1)}
SMALL = {
    "width": 8,
    "head_width": 16,
    **BLOCKS,
    "focus_blocks": (1, 1, 1, 1),
    "expensive_options": BLOCKS,
    "cheap_options": BLOCKS,
}
"""Options that make networks small, for what has them."""

FAMILIES = {registry.network(name).__module__: name for name in registry.networks()}
"""One network of each module; the others of it differ in depth and input, which are here the same for all."""

TARGETS = [target for provider in registry.PROVIDERS for target in import_module(provider).METHODS]
BUILDERS = {name: getattr(import_module(module), name) for module, _, name in (t.partition(":") for t in TARGETS)}
OPTIONS = {name: inspect.signature(builder).parameters.keys() for name, builder in BUILDERS.items()}


def names(networks: Iterable[str], alone: bool = True) -> list[str]:
    """Every registered method, those that wrap a network on each of `networks`; without the others if not `alone`."""
    on = [f"{method}/{network}" for method, options in OPTIONS.items() if "network" in options for network in networks]
    able = [name for name in on if name != "subsampled/resnet18_dilated"]  # images have no frames to leave out
    return [*able, *(method for method, options in OPTIONS.items() if alone and "network" not in options)]


def build(name: str) -> Method:
    """Small."""
    if name in OPTIONS:
        options = {option: value for option, value in SMALL.items() if option in OPTIONS[name]}
    else:
        options = {"network_options": registry.split_options(name, SMALL)[0]}
    return registry.build(name, frames=4, size=32, classes=5, **options)


def dense(name: str, method: Method) -> int | None:
    """Multiply-adds of the network under a method that is not exact: what it may execute at most."""
    under = name.partition("/")[2]
    return int(build(under).eval()(torch.zeros(method.spec.shape(1))).cost) if under and not method.exact else None


def varied(name: str) -> tuple[Method, Tensor]:
    """A method, untrained, and samples for which it decides differently.

    Twice the precision: between a batch and a sample alone rounding differs, and could turn a decision.
    """
    torch.manual_seed(0)
    method = build(name).double().eval()
    sample = torch.randn(method.spec.shape(3), dtype=torch.float64) + 1
    sample *= torch.linspace(0.3, 3, 3).view(-1, *(1,) * (sample.dim() - 1))
    for weight in method.parameters():
        if weight.dim() == 1 and not weight.any():  # branches and shifts that start at nothing
            weight.data.normal_(0, 0.2)
    for norm in method.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):  # takes on the statistics of the samples
            norm.momentum = 1.0
            norm.train()
    for buffer_name, buffer in method.named_buffers():
        if buffer_name.endswith("thresholds"):  # by default nobody leaves before the last exit
            buffer.fill_(0.5)
    with torch.no_grad():
        method(sample, everything(method) if method.decisions() else None)
    return method.eval(), sample


def decides_alike(method: Method, sample: Tensor) -> bool:
    with torch.no_grad():
        return len(set(method(sample).cost.tolist())) == 1


@pytest.mark.parametrize("name", [*registry.networks(), *names(FAMILIES.values())])
def test_registered_methods_conform(name: str) -> None:
    method, sample = varied(name)
    if method.decisions():
        for _ in range(6):
            if not decides_alike(method, sample):
                break
            for weight in method.parameters():
                if weight.dim() == 2:  # what policies are made of: surer of what they decide
                    weight.data.mul_(5)
        else:
            pytest.fail("all samples decide alike")
    assert check(method, sample, dense=dense(name, method)) == []


OTHER_TASKS = {"detector_i3d": ToyBoxes, "detector_x3d_m": ToyBoxes, "resnet18_dilated": ToyMasks}


@pytest.mark.parametrize(
    "name", ["r2plus1d_18", *names(["r2plus1d_18"]), *OTHER_TASKS, *names(OTHER_TASKS, alone=False)]
)
def test_registered_methods_train(name: str) -> None:
    method = build(name)
    recipe = Recipe(epochs=len(method.stages(Recipe(epochs=9))) + 1, batch=4, lr=0.02)
    toys = OTHER_TASKS.get(name.rpartition("/")[2], ToySplit)
    split = toys(8, (8, 34, 36), sources=2)  # what is held out of it is a batch as well
    assert check_training(partial(build, name), split, Sampling(), recipe, dense=dense(name, method)) == []


def test_shipped_static_costs_are_ours() -> None:
    """Every static row of every table, recounted; and the rows that must reproduce print within 0.5 % do."""
    lines = cost_lines([load(id) for id in ids()], static_cost)
    shipped = reference(published())
    counted = [line for line in lines if line.cost is not None]
    assert {line.table for line in counted} == {
        *("table1", "table2", "table3", "table4", "table5", "table6", "table8", "table10", "table11")
    }
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
    shape = spec_of(network, 32, 4).shape(1)
    network = getattr(network, "encoder", network)  # not a segmenter's resizing, which fvcore counts and we do not
    found = agreement(network, shape)
    assert both_conventions(network, shape) == (found.counters["dispatch"], found.counters["fvcore"])
    assert found.fvcore_conv_linear == found.counters["dispatch"]
