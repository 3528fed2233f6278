"""A trained VA-RED² network as it is run when speed counts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.cost import samples
from bench.inference.optimise import optimised, replace
from bench.method import Method, Prediction, Recipe, Stage, Trace
from bench.policy import Forced, Learned, Policy
from vared.dynamic_conv import DynamicUnit
from vared.runtime.absorbing import Absorbing
from vared.runtime.decision import Followed, Laps
from vared.runtime.unit import FastUnit
from vared.runtime.ways import Trial, Way

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
        self.followed = Followed()
        self.method.network = _fast(self.method.network, self.method.units, self.spec.shape(1), self.followed)
        self._fast_units = {module.name: module for module in self.modules() if isinstance(module, FastUnit)}
        self._forget()
        self.eval()

    def _forget(self) -> None:
        """Which way of execution is the fastest for each shape of batch, and which units then are dense."""
        self._ways: dict[torch.Size, Way] = {}
        self._trials: dict[torch.Size, Trial] = {}
        self._dense: dict[torch.Size, frozenset[str]] = {}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._forget()  # another device or precision may have another
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """The answer of the network's task, by the way of execution that is the fastest for batches of this shape."""
        policy = policy or Learned()
        way = self._ways.get(sample.shape) or self._tried(sample, policy)
        found = self._found(way, sample, policy)
        trace = found[0][1]
        if len(found) > 1:
            trace = {point: torch.cat([part[point] for _, part in found]) for point in trace}
        answers = [self.method.task.answer(output) for output, _ in found]
        return Prediction(
            self.account(trace), trace, **{name: _joined([a[name] for a in answers]) for name in answers[0]}
        )

    def _tried(self, sample: Tensor, policy: Policy) -> Way:
        """Tries the ways on one more batch of this shape; the fastest so far."""
        shape = sample.shape
        if shape not in self._trials:
            self._lay_out(sample[:1])
            self._trials[shape] = Trial()
        trial = self._trials[shape]
        if len(sample) == 1:
            self._ways[shape] = "in turn"
            return "in turn"
        trial.run(sample, lambda way: self._lapped(way, sample, policy))
        self._dense[shape] = trial.dense
        if trial.done:
            self._ways[shape] = trial.fastest
        return trial.fastest

    def _lapped(self, way: Way, sample: Tensor, policy: Policy) -> dict[str, float]:
        """Seconds of each unit; how far the sample has been tried tells which are dense by layer."""
        self._dense[sample.shape] = self._trials[sample.shape].dense
        self.followed.laps = laps = Laps()
        try:
            self._found(way, sample, policy)
        finally:
            self.followed.laps = None
        return laps.ended(sample)

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

    def _found(self, way: Way, sample: Tensor, policy: Policy) -> list[tuple[Any, Trace]]:
        """Output of the network and decisions, in parts."""
        dense = {"dense": frozenset(self._fast_units), "by layer": self._dense.get(sample.shape, frozenset[str]())}
        self.followed.dense = dense.get(way, frozenset())
        if way != "in turn" or len(sample) == 1:
            return [self._answer(sample, policy, way == "dense")]
        found, rows = [], torch.arange(len(sample), device=sample.device)
        for number, one in enumerate(torch.split(sample, 1)):
            with samples([number]):
                found.append(self._answer(one, policy.rows(rows[number : number + 1]), dense=False))
        return found

    def _answer(self, sample: Tensor, policy: Policy, dense: bool) -> tuple[Any, Trace]:
        self.method.session.start(policy, dense=dense)
        return self.method.network(sample), dict(self.method.session.trace)

    def details(self) -> dict[str, Any]:
        """The way of execution chosen for each shape of batch; by layer, the units that are dense; and those whose
        convolution computes more than is asked of it, since that is no slower.
        """
        ways = {
            "×".join(map(str, shape)): (way, sorted(self._dense.get(shape, ()))) for shape, way in self._ways.items()
        }
        return {
            "execution": {shape: way for shape, (way, _) in ways.items()},
            "dense": {shape: units for shape, (way, units) in ways.items() if way == "by layer"},
            "computed whole": [name for name, unit in self._fast_units.items() if unit.conv.dense],
        }

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


def _joined(parts: Sequence[Any]) -> Any:
    """One answer for all samples, of answers for some each: tensors, or lists with an item a sample."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else list(itertools.chain(*parts))


def _fast(network: nn.Module, units: Sequence[DynamicUnit], shape: Sequence[int], followed: Followed) -> nn.Module:
    """The network with units and convolutions in their fast forms; plain convolutions stand in while it is traced."""
    for unit in units:
        replace(network, unit.name, nn.Sequential(unit.conv, unit.norm, unit.act))
    network = optimised(network, shape, Absorbing)
    for unit in units:
        replace(network, unit.name, FastUnit(unit, followed) if unit.kind == "absorbable" else unit)
    return network
