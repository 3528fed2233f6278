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
from bench.inference.optimise import Batched, optimised
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage
from bench.policy import Policy
from bench.tables.static_costs import StaticCost
from bench.training import GradientStage, cross_entropy
from bench.weights import clip_spec


class Static(Method):
    """A classifier (B, C, T, H, W) to (B, classes) as it is, trained with cross-entropy."""

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-adds of one sample."""
        return count_meta(self.network, self.seen).macs

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of one sample as the network gets it."""
        return self.spec.shape(1)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits, at the same cost for every sample."""
        cost = torch.full((len(sample),), self.macs, dtype=torch.int64)
        return Prediction(cost, logits=self.network(sample))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One stage of cross-entropy."""
        return [GradientStage("train", self, [{"params": self.parameters()}], self._loss, recipe, recipe.epochs)]

    def optimised(self) -> Static:
        """With folded normalisation, fused ReLU and weights laid out for the device."""
        fast = copy.deepcopy(self)
        fast.network = Batched(optimised(self.network, self.seen))
        fast.macs = self.macs  # by the convention: products may leave out taps that see only padding
        return fast.eval()

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, logits = cross_entropy(self.network, batch)
        return loss, {"correct": float((logits.argmax(1) == batch.target).float().mean())}


def static(network: str, *, frames: int, size: int, classes: int, network_options: Mapping[str, Any]) -> Static:
    """The registered network `network` as a method."""
    module = registry.build_network(network, frames=frames, size=size, classes=classes, **network_options)
    return Static(module, clip_spec(module, size, frames))


@functools.cache
def static_cost(network: str, frames: int, size: int, classes: int) -> StaticCost | None:
    """The cost of a registered network at an input, counted on meta tensors; None of a method, whose cost depends."""
    if network in registry.methods():
        return None
    with torch.device("meta"):
        module = registry.build_network(network, frames=frames, size=size, classes=classes)
    macs, fvcore = both_conventions(module, (1, 3, frames, size, size))
    return StaticCost(macs=macs, fvcore=fvcore, params=sum(weight.numel() for weight in module.parameters()))
