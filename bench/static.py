"""The plain form of any network: the static twin that every dynamic method is compared with."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench import registry
from bench.cost import both_conventions, count_meta
from bench.gradient_stage import GradientStage
from bench.inference.optimise import Batched, optimised
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage
from bench.policy import Policy
from bench.tables.static_costs import StaticCost
from bench.task import logged_loss, task_of
from bench.weights import spec_of


class Static(Method):
    """A network as it is, trained with the loss of its task."""

    steady = True

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.spec, self.task = network, spec, task_of(network)

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-adds of one sample."""
        return count_meta(self.network, self.seen).macs

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of one sample as the network gets it."""
        return self.spec.shape(1)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """The answer of the network's task, at the same cost for every sample."""
        cost = torch.full((len(sample),), self.macs, dtype=torch.int64)
        return Prediction(cost, **self.task.answer(self.network(sample)))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One stage."""
        return [GradientStage("train", self, [{"params": self.parameters()}], self._loss, recipe, recipe.epochs)]

    def optimised(self) -> Static:
        """With folded normalisation, fused ReLU and weights laid out for the device, where it is faster as a graph."""
        fast = copy.deepcopy(self)
        fast.network = Batched(optimised(self.network, self.seen))
        fast.macs = self.macs  # by the convention: products may leave out taps that see only padding
        return fast.eval()

    def details(self) -> dict[str, Any]:
        """As it is timed, on a GPU: in which form batches of each shape ran."""
        return self.network.details() if isinstance(self.network, Batched) else {}

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return logged_loss(self.network, batch)


def static(network: str, *, frames: int, size: int, classes: int, network_options: Mapping[str, Any]) -> Static:
    """The registered network `network` as a method."""
    module = registry.build_network(network, frames=frames, size=size, classes=classes, **network_options)
    return Static(module, spec_of(module, size, frames))


@functools.cache
def static_cost(network: str, frames: int, size: int, classes: int) -> StaticCost | None:
    """The cost of a registered network at an input, counted on meta tensors; None of a method, whose cost depends.

    network: its name, or "network.part" for the part of it that gets the input ("resnet18_dilated.encoder").
    """
    name, _, part = network.partition(".")
    if name in registry.methods():
        return None
    with torch.device("meta"):
        whole = registry.build_network(name, frames=frames, size=size, classes=classes)
    module = whole.get_submodule(part)
    macs, fvcore = both_conventions(module, spec_of(whole, size, frames).shape(1))
    return StaticCost(macs=macs, fvcore=fvcore, params=sum(weight.numel() for weight in module.parameters()))
