"""A trained VA-RED² network as it is run when speed counts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.inference.optimise import optimised, replace
from bench.method import Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy
from vared.dynamic_conv import DynamicUnit
from vared.runtime.absorbing import Absorbing
from vared.runtime.unit import FastUnit, Followed

if TYPE_CHECKING:
    from vared.method import VaRed


class FastVaRed(Method):
    """The same decisions, answers and accounted cost as the `VaRed` it copies, for `eval()` alone.

    With the absorbable Φ it executes fewer multiply-adds than are accounted, since later layers absorb what is left
    out. The other kinds keep their units; the network around them is made fast.
    """

    exact = False

    def __init__(self, method: VaRed) -> None:
        super().__init__()
        self.method = copy.deepcopy(method).eval()
        self.spec, self.revision = method.spec, method.revision
        self.method.network = _fast(self.method.network, self.method.units, self.spec.shape(1))
        self.eval()

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits. On a CPU one sample after the other: nothing to sort, and its maps stay in the cache."""
        policy, rows = policy or Learned(), torch.arange(len(sample))
        step = 1 if sample.device.type == "cpu" else len(sample)
        found = [
            self._answer(sample[i : i + step], policy.rows(rows[i : i + step]) if step < len(sample) else policy)
            for i in range(0, len(sample), step)
        ]
        trace = {point: torch.cat([trace[point] for _, trace in found]) for point in found[0][1]}
        return Prediction(self.account(trace), trace, logits=torch.cat([logits for logits, _ in found]))

    def _answer(self, sample: Tensor, policy: Policy) -> tuple[Tensor, Trace]:
        self.method.session.start(policy, dense=False)
        return self.method.network(sample), dict(self.method.session.trace)

    def decisions(self) -> Mapping[str, Tensor]:
        """As of the method."""
        return self.method.decisions()

    def account(self, trace: Trace) -> Tensor:
        """As of the method."""
        return self.method.account(trace)

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Nothing is left that could be trained.

        Raises:
            ValueError: always.
        """
        raise ValueError("a network made for inference cannot be trained")


def _fast(network: nn.Module, units: Sequence[DynamicUnit], shape: Sequence[int]) -> nn.Module:
    """The network with units and convolutions in their fast forms; plain convolutions stand in while it is traced."""
    for unit in units:
        replace(network, unit.name, nn.Sequential(unit.conv, unit.norm, unit.act))
    network = optimised(network, shape, Absorbing)
    followed: Followed = {}
    for unit in units:
        replace(network, unit.name, FastUnit(unit, followed) if unit.kind == "absorbable" else unit)
    return network
