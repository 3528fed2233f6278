"""A trained VA-RED² network as it is run when speed counts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from bench.cost import samples
from bench.inference.convolution import has_library, seconds
from bench.inference.optimise import optimised, replace
from bench.method import Method, Prediction, Recipe, Stage, Trace
from bench.policy import Forced, Learned, Policy
from vared.dynamic_conv import DynamicUnit
from vared.runtime.absorbing import Absorbing
from vared.runtime.decision import Followed
from vared.runtime.unit import FastUnit

if TYPE_CHECKING:
    from vared.method import VaRed


Way = Literal["in turn", "grouped", "dense"]
WAYS: tuple[Way, ...] = get_args(Way)
"""In turn: one sample after the other; nothing to sort, and maps that stay in a CPU's cache. Grouped: those with equal
decisions together. Dense: everything is computed and summed for all at once, where skipping does not pay.
"""


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
        self.followed = Followed()
        self.method.network = _fast(self.method.network, self.method.units, self.spec.shape(1), self.followed)
        self._ways: dict[torch.Size, Way] = {}
        self.eval()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._ways = {}  # another device or precision may have another
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits, by the way of execution that was the fastest when a batch of this shape first came."""
        policy = policy or Learned()
        if sample.shape not in self._ways:
            if has_library(sample):
                self._lay_out(sample[:1])
            took = {way: seconds(lambda x, way=way: self._found(way, x, policy), sample) for way in WAYS}  # type: ignore[misc]
            self._ways[sample.shape] = min(WAYS, key=lambda way: took[way])
        found = self._found(self._ways[sample.shape], sample, policy)
        trace = {point: torch.cat([trace[point] for _, trace in found]) for point in found[0][1]}
        return Prediction(self.account(trace), trace, logits=torch.cat([logits for logits, _ in found]))

    def _lay_out(self, one: Tensor) -> None:
        """Runs each policy's every choice after every choice of the policy before, so that what is laid out and tried
        when it first comes is so before it counts.
        """
        options = self.decisions()
        names = dict.fromkeys(point.rpartition(".")[0] for point in options)
        choices = [
            [dict(zip(points, chosen, strict=True)) for chosen in itertools.product(*(options[p] for p in points))]
            for points in ([point for point in options if point.rpartition(".")[0] == name] for name in names)
        ]
        most = max(map(len, choices))
        for first, step in itertools.product(range(most), repeat=2):
            trace: dict[str, Tensor] = {}
            for number, own in enumerate(choices):
                trace |= {point: row[None] for point, row in own[(first + step * number) % len(own)].items()}
            self._found("in turn", one, Forced(trace))

    def _found(self, way: Way, sample: Tensor, policy: Policy) -> list[tuple[Tensor, Trace]]:
        """Logits and decisions, in parts."""
        self.followed.dense = way == "dense"
        if way != "in turn" or len(sample) == 1:
            return [self._answer(sample, policy)]
        found, rows = [], torch.arange(len(sample))
        for number, one in enumerate(torch.split(sample, 1)):
            with samples([number]):
                found.append(self._answer(one, policy.rows(rows[number : number + 1])))
        return found

    def _answer(self, sample: Tensor, policy: Policy) -> tuple[Tensor, Trace]:
        self.method.session.start(policy, dense=self.followed.dense)
        return self.method.network(sample), dict(self.method.session.trace)

    def details(self) -> dict[str, Any]:
        """The way of execution chosen for each shape of batch."""
        return {"execution": {"×".join(map(str, shape)): way for shape, way in self._ways.items()}}

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


def _fast(network: nn.Module, units: Sequence[DynamicUnit], shape: Sequence[int], followed: Followed) -> nn.Module:
    """The network with units and convolutions in their fast forms; plain convolutions stand in while it is traced."""
    for unit in units:
        replace(network, unit.name, nn.Sequential(unit.conv, unit.norm, unit.act))
    network = optimised(network, shape, Absorbing)
    for unit in units:
        replace(network, unit.name, FastUnit(unit, followed) if unit.kind == "absorbable" else unit)
    return network
