"""A trained VA-RED² network as it is run when speed counts."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.cost import counting, samples
from bench.inference.graph import Graphs, in_a_line
from bench.inference.optimise import optimised
from bench.inference.settings import tf32
from bench.method import Method, Prediction, Recipe, Stage, Trace
from bench.policy import Forced, Learned, Policy
from vared.dynamic_conv import DynamicUnit
from vared.runtime.absorbing import Absorbing
from vared.runtime.agreement import Agreement, agreement, every_option
from vared.runtime.decision import Followed, Laps, padded
from vared.runtime.unit import FastUnit
from vared.runtime.ways import WAYS, Trial, Way

if TYPE_CHECKING:
    from vared.method import VaRed


LAYING_OUT = 60.0
"""Seconds after which a GPU, which tries algorithms for every shape, meets what is left when it first comes."""


class Unable(RuntimeError):
    """The kernels failed; the message is their error."""


class FastVaRed(Method):
    """The same decisions, answers and accounted cost as the `VaRed` it copies, for `eval()` alone.

    With the absorbable Φ it executes fewer multiply-adds than are accounted, since later layers absorb what is left
    out. The other kinds keep their units; the network around them is made fast.
    """

    exact, steady = False, True

    def __init__(self, method: VaRed) -> None:
        super().__init__()
        self.method = copy.deepcopy(method).eval()
        self.spec, self.revision = method.spec, method.revision
        self.followed = Followed()
        self.method.network = _fast(self.method.network, self.method.units, self.spec.shape(1), self.followed)
        self._sizes = {point: len(options) for point, options in method.decisions().items()}
        self._fast_units = {module.name: module for module in self.modules() if isinstance(module, FastUnit)}
        self._forget()
        self.eval()

    def _forget(self) -> None:
        """Which way of execution is the fastest for each shape of batch, and which units then are dense."""
        self._ways: dict[torch.Size, Way] = {}
        self._trials: dict[torch.Size, Trial] = {}
        self._dense: dict[torch.Size, frozenset[str]] = {}
        self._refused: dict[torch.Size, str] = {}
        self._agreed: dict[torch.Size, Agreement] = {}
        self._graphs = Graphs()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_graphs": Graphs()}  # a copy makes its own

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._forget()  # another device or precision may have another
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """The answer of the network's task, by the way of execution that is the fastest for batches of this shape."""
        policy = policy or Learned()
        way = self._ways.get(sample.shape) or self._tried(sample, policy)
        try:
            found = self._found(way, sample, policy)
        except Unable as error:
            way, found = "grouped", self._found("grouped", sample, policy)  # fails too, if what was given is wrong
            self._refuse(sample.shape, str(error))
        trace = found[0][1]
        if len(found) > 1:
            trace = {point: torch.cat([part[point] for _, part in found]) for point in trace}
        answers = [self.method.task.answer(output) for output, _ in found]
        cost = self.account(self._on_host(trace) if way == "device" else trace)
        return Prediction(cost, trace, **{name: _joined([a[name] for a in answers]) for name in answers[0]})

    def _tried(self, sample: Tensor, policy: Policy) -> Way:
        """Tries the ways on one more batch of this shape; the fastest so far."""
        shape = sample.shape
        if shape not in self._trials:
            self._lay_out(sample)
            self._trials[shape] = Trial(self._offered(sample, policy))
        trial = self._trials[shape]
        if len(trial.ways) > 1:
            try:
                self._dense[shape] = trial.dense
                trial.run(
                    sample,
                    lambda way: self._found(way, sample, policy),
                    lambda way: self._lapped(way, sample, policy),
                )
            except Unable as error:
                self._refuse(shape, str(error))
                return self._tried(sample, policy)
            self._dense[shape] = trial.dense
        if len(trial.ways) == 1 or trial.done:
            self._ways[shape] = trial.fastest
            if trial.fastest != "device":
                self._drop(shape)
        return trial.fastest

    def _refuse(self, shape: torch.Size, reason: str) -> None:
        """Kernels that fail are not tried again; the other ways are, anew."""
        self._refused[shape] = reason
        self._ways.pop(shape, None)
        self._trials[shape] = Trial(_everywhere(shape))
        self._drop(shape)

    def _drop(self, shape: torch.Size) -> None:
        """Frees the graphs of batches of this shape, and what the last pass left in their memory."""
        self._graphs.drop(shape)
        self.followed.weights = {}
        self.method.session.trace = {}

    def _offered(self, sample: Tensor, policy: Policy) -> tuple[Way, ...]:
        """The ways that batches of this shape are tried in; `details` says why "device" is none on a GPU."""
        ways = _everywhere(sample.shape)
        if not sample.is_cuda:
            return ways
        try:
            self._refused[sample.shape] = self._doubt(sample, policy)
        except Unable as error:  # no Triton, or one that cannot compile: the other ways remain
            self._refused[sample.shape] = str(error)
        if not self._refused[sample.shape]:
            return (*ways, "device")
        self._drop(sample.shape)
        return ways

    def _doubt(self, sample: Tensor, policy: Policy) -> str:
        """What speaks against the kernels: answers that are not those of the other ways, as decided for this batch or
        where every option is followed.
        """
        if not self._fast_units:
            return "no units of the absorbable kind"
        if not all(unit.halves for unit in self._fast_units.values()):
            return "options that do not halve"
        found: list[Agreement] = []
        for asked in (policy, *every_option(self.decisions(), len(sample))):
            found.append(self._agreement(sample, asked))
            if found[-1].doubt:
                return found[-1].doubt
        self._agreed[sample.shape] = max(found, key=lambda one: one.error / one.allowed)
        return ""

    def _agreement(self, sample: Tensor, policy: Policy) -> Agreement:
        """Of the kernels with another way; where tf32 is allowed, with one that does without, as that of the others."""
        [(found, trace)] = self._found("device", sample, policy)
        followed = Forced(trace)
        [(truth, _)] = self._found("dense", sample, followed)
        others = [self._found("grouped", sample, followed)[0][0]]
        if sample.dtype == torch.float32 and torch.backends.cudnn.allow_tf32:
            others = [truth, *others]
            with tf32(False):
                [(truth, _)] = self._found("dense", sample, followed)
        return agreement(found, truth, others, sample.dtype)

    def _lapped(self, way: Way, sample: Tensor, policy: Policy) -> dict[str, float]:
        """Seconds of each unit."""
        self.followed.laps = laps = Laps()
        try:
            self._found(way, sample, policy)
        finally:
            self.followed.laps = None
        return laps.ended(sample)

    def _lay_out(self, sample: Tensor) -> None:
        """Runs each policy's every choice after every choice of the policy before, so that what is laid out and tried
        when it first comes is so before it counts: for one sample, on a GPU for groups of every size, for a while.
        """
        sizes = sorted({len(padded([0] * size, len(sample))) for size in range(1, len(sample) + 1)})
        rows = sizes if sample.is_cuda else [1]
        options = self.decisions()
        names = dict.fromkeys(point.rpartition(".")[0] for point in options)
        choices = [
            [dict(zip(points, chosen, strict=True)) for chosen in itertools.product(*(options[p] for p in points))]
            for points in ([point for point in options if point.rpartition(".")[0] == name] for name in names)
        ]
        most, began = max(map(len, choices)), time.monotonic()
        for first, step in itertools.product(range(most), repeat=2):
            trace: dict[str, Tensor] = {}
            for number, own in enumerate(choices):
                trace |= {point: row[None] for point, row in own[(first + step * number) % len(own)].items()}
            for size in rows:
                self._found("grouped", sample[:size], Forced(trace))
            if sample.is_cuda and time.monotonic() - began > LAYING_OUT:
                return

    def _found(self, way: Way, sample: Tensor, policy: Policy) -> list[tuple[Any, Trace]]:
        """Output of the network and decisions, in parts."""
        dense = {"dense": frozenset(self._fast_units), "by layer": self._dense.get(sample.shape, frozenset[str]())}
        self.followed.dense = dense.get(way, frozenset())
        self.followed.on_device = way == "device"
        if way == "device":
            try:
                return [self._on_device(sample, policy)]
            except Exception as error:  # of a compiler or a driver, which have classes of their own
                raise Unable(in_a_line(error)) from error
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

    def _on_device(self, sample: Tensor, policy: Policy) -> tuple[Any, Trace]:
        """In one go, where there can be a graph; what is counted runs as it is, since replays show no operations."""
        if not sample.is_cuda or counting():
            return self._answer(sample, policy, dense=False)
        inputs = [sample]
        if type(policy) is Forced:
            row = sample.new_empty(len(sample), 1)  # of which only precision, place and length matter
            inputs.append(torch.cat([policy.decide(point, row) for point in self._sizes], 1))
        graph = self._graphs.of(self._replayable(policy), inputs, type(policy))
        if isinstance(graph, str):
            return self._answer(sample, policy, dense=False)
        output, decided = graph(*inputs)
        return output, self._by_point(decided)

    def _replayable(self, policy: Policy) -> Callable[..., tuple[Any, Tensor]]:
        """A pass as a graph takes it: of a sample and forced decisions (B, options of all points), to such as well."""

        def run(sample: Tensor, *forced: Tensor) -> tuple[Any, Tensor]:
            if type(policy) not in (Learned, Forced):
                raise TypeError(f"a policy of another kind, {type(policy).__name__}")
            followed = Forced(self._by_point(forced[0])) if forced else policy
            output, trace = self._answer(sample, followed, dense=False)
            return output, torch.cat([trace[point] for point in self._sizes], 1)

        return run

    def _by_point(self, decided: Tensor) -> dict[str, Tensor]:
        """Views of decisions (B, options of all points)."""
        return dict(zip(self._sizes, decided.split_with_sizes(list(self._sizes.values()), 1), strict=True))

    def _on_host(self, trace: Trace) -> Trace:
        """Decisions brought to the host, all at once.

        Raises:
            RuntimeError: they are no numbers.
        """
        decided = torch.cat([trace[point] for point in self._sizes], 1).cpu()
        if bool(decided.isnan().any()):
            raise RuntimeError("the weights of a gate are no numbers")
        return self._by_point(decided)

    def details(self) -> dict[str, Any]:
        """The way of execution chosen for each shape of batch; by layer, the units that are dense; and those whose
        convolution computes more than is asked of it, since that is no slower. On a GPU, why "device" was not offered,
        or how far its answers were from the other ways' at the worst; and why it ran without a graph.
        """
        ways = {_said(shape): (way, sorted(self._dense.get(shape, ()))) for shape, way in self._ways.items()}
        refused = {_said(shape): reason for shape, reason in self._refused.items() if reason}
        agreed = {_said(shape): one._asdict() for shape, one in self._agreed.items()}
        without = {shape: reason for shape, reason in self._graphs.reasons().items() if reason}
        return {
            "execution": {shape: way for shape, (way, _) in ways.items()},
            "dense": {shape: units for shape, (way, units) in ways.items() if way == "by layer"},
            "computed whole": [name for name, unit in self._fast_units.items() if unit.conv.dense],
            **({"not on device": refused} if refused else {}),
            **({"agreement on device": agreed} if agreed else {}),
            **({"without a graph": without} if without else {}),
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


def _everywhere(shape: torch.Size) -> tuple[Way, ...]:
    """The ways in which batches of this shape can be executed on every device."""
    return WAYS if shape[0] > 1 else ("in turn",)


def _said(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _joined(parts: Sequence[Any]) -> Any:
    """One answer for all samples, of answers for some each: tensors, or lists with an item a sample."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else list(itertools.chain(*parts))


def _fast(network: nn.Module, units: Sequence[DynamicUnit], shape: Sequence[int], followed: Followed) -> nn.Module:
    """The network with units and convolutions in their fast forms; plain convolutions stand in while it is traced."""
    for unit in units:
        network.set_submodule(unit.name, nn.Sequential(unit.conv, unit.norm, unit.act))
    network = optimised(network, shape, Absorbing)
    for unit in units:
        network.set_submodule(unit.name, FastUnit(unit, followed) if unit.kind == "absorbable" else unit)
    return network
