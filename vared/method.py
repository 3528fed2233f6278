"""VA-RED² as a method of the harness: a reduced network, its cost, and its two stages of training."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import registry
from bench.cost import count_meta
from bench.gradient_stage import GradientStage
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy
from bench.task import task_loss, task_of
from bench.weights import spec_of
from vared.cheap import Kind
from vared.dynamic_conv import DynamicUnit, Session
from vared.efficiency_loss import efficiency_loss, step_share
from vared.gate import Pool
from vared.reduce import Choose, Dimensions, reduce, spatial
from vared.runtime.method import FastVaRed


def factorised_spatial(name: str, module: nn.Module) -> bool:
    """The 1×3×3 convolutions of a factorised network; Fig. 4 speaks of the "computational cost of 2D convolution"."""
    kernel = tuple(module.kernel_size) if isinstance(module, nn.Conv3d) else ()
    return kernel == (1, 3, 3) and not name.startswith("stem.")


def bottleneck(name: str, module: nn.Module) -> bool:
    """The three convolutions inside X3D's blocks."""
    return name.rpartition(".")[2] in ("conv_a", "conv_b", "conv_c")


def headless(name: str, module: nn.Module) -> bool:
    """The spatial convolutions of what finds features, not of the head that reads boxes or masks off them.

    Table 8 prints 21.3 and 4.85 G. What Table 2 leaves of the backbones, 26.5/56.0 and 5.03/6.20, is 21.4 and 4.88 G
    beside a head that stays whole, and 20.8 and 4.67 G if the head shrinks as well.
    """
    return spatial(name, module) and name.startswith(("backbone.", "encoder."))


def every(name: str, module: nn.Module) -> bool:
    """Every convolution."""
    return True


@dataclass(frozen=True)
class Units:
    """Which convolutions of a network are dynamic, and which of them share a policy."""

    choose: Choose = spatial
    policy: Callable[[str], str] = str


SPATIAL = Units()
FACTORISED = Units(factorised_spatial)
HEADLESS = Units(headless)
PER_BLOCK = Units(bottleneck, lambda name: name.rpartition(".")[0])  # Fig. 3 shows the "per-block policy of X3D-M"
UNITS: Mapping[str, Units] = {
    **dict.fromkeys(("r2plus1d_18", "r2plus1d_18_torchvision", "r2plus1d_26", "r2plus1d_50"), FACTORISED),
    **dict.fromkeys(("corrnet", "corrnet_26", "corrnet_50"), FACTORISED),
    **dict.fromkeys(("x3d_xs", "x3d_s", "x3d_m", "x3d_l"), PER_BLOCK),
    **dict.fromkeys(("detector_i3d", "resnet18_dilated"), HEADLESS),
    "detector_x3d_m": PER_BLOCK,  # which leaves its head out by name
    "resnet50": Units(every),  # Table 4's ratio, 0.664, is at the floor of its 3×3 convolutions alone, 0.661
}
"""Networks whose units are others than the spatial convolutions, each with a policy of its own."""


class VaRed(Method):
    """A network whose convolutions decide how many channels and frames they compute (VA-RED², ICLR 2021).

    network: changed in place. units: what of it is dynamic. efficiency: λ_e. finetune: share of all epochs trained with
    the efficiency loss, after the rest without it, under one schedule. gate_scales: learning rate of the gates,
    relative, in the two stages. explore: chance of a random option in the first stage, so that every option learns to
    do without the others. Further options are those of `vared.reduce.reduce`.
    """

    revision = 3
    """1: cheap options start nearly closed, nothing is explored, λ_e = 2. 2: more is explored, closed gates stay so."""

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        *,
        units: Units = SPATIAL,
        efficiency: float = 0.6,
        finetune: float = 0.4,
        gate_scales: tuple[float, float] = (0.1, 0.5),
        explore: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__()
        if not 0 <= finetune <= 1 or not 0 <= explore <= 1 or efficiency < 0 or len(gate_scales) != 2:
            raise ValueError("finetune and explore must be in 0..1, efficiency 0 or more, gate_scales two numbers")
        static = count_meta(network, spec.shape(1)).macs
        self.session = Session()
        shape = spec.shape(1)
        self.units = reduce(network, shape, choose=units.choose, policy=units.policy, session=self.session, **options)
        self.network, self.spec, self.task = network, spec, task_of(network)
        self.efficiency, self.finetune = efficiency, finetune
        self.gate_scales, self.explore = gate_scales, explore
        self.fixed_macs = static - sum(unit.geometry.macs for unit in self.units)
        self._dense = False
        starts = itertools.accumulate((len(options) for options in self.decisions().values()), initial=0)
        self._places = dict(zip(self.decisions(), starts, strict=False))

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """The answer of the network's task; skips what the gates close, unless training."""
        self.session.start(policy or Learned(), dense=self.training or self._dense)
        answer = self.task.answer(self.network(sample))
        trace = {point: weights.detach() for point, weights in self.session.trace.items()}
        return Prediction(self.account(trace), trace, **answer)

    def account(self, trace: Trace) -> Tensor:
        """The static rest of the network, and of each unit what its decisions need."""
        # One copy to the host for all points, since each would wait for the device; then one look-up for all units.
        macs, options = self._table
        active = (torch.cat([trace[point] for point in self._places], 1) > 0).cpu()
        open_ = F.pad(active, (0, 1))[:, options].to(torch.int64)  # (B, units, options), none where there is none
        choice = (open_ << torch.arange(open_.shape[2])).sum(2)
        return macs.gather(1, choice.t()).sum(0) + self.fixed_macs

    @functools.cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Multiply-adds of each unit for every choice of open options (units, choices), bit i of the choice's number
        telling of option i; and where each unit's options stand among all (units, options), past the last if none does.
        """
        most, total = max(sum(unit.points.values()) for unit in self.units), sum(map(len, self.decisions().values()))
        macs = torch.zeros(len(self.units), 2**most, dtype=torch.int64)
        options = torch.full((len(self.units), most), total)
        for number, unit in enumerate(self.units):
            own = [self._places[point] + option for point, size in unit.points.items() for option in range(size)]
            options[number, : len(own)] = torch.tensor(own)
            bits = (torch.arange(2 ** len(own)).unsqueeze(1) >> torch.arange(len(own))) & 1
            parts = torch.split(bits, list(unit.points.values()), 1)
            macs[number, : len(bits)] = unit.macs(dict(zip(unit.points, parts, strict=True)))
        return macs, options

    def decisions(self) -> Mapping[str, Tensor]:
        """One option open, with weight one, at every point."""
        return {point: torch.eye(size) for unit in self.units for point, size in unit.points.items()}

    def details(self) -> dict[str, Any]:
        """What the decisions of every unit compute: fields of `bench.inspection.store.Unit`."""
        return {"units": [_stated(unit) for unit in self.units]}

    @contextmanager
    def dense(self) -> Any:
        """Within it, `eval()` computes everything and sums, as training does: the same output by the long way."""
        self._dense = True
        try:
            yield self
        finally:
            self._dense = False

    def optimised(self) -> FastVaRed:
        """In the form that `vared.runtime` executes."""
        return FastVaRed(self)

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Training with open gates, then fine-tuning with the efficiency loss."""
        second = round(recipe.epochs * self.finetune)
        first = recipe.epochs - second
        turn = first / recipe.epochs
        return [
            self._stage("train", recipe, first, (0.0, turn), self.gate_scales[0], explore=self.explore),
            self._stage("finetune", recipe, second, (turn, 1.0), self.gate_scales[1], efficiency=self.efficiency),
        ]

    def _stage(
        self,
        name: str,
        recipe: Recipe,
        epochs: int,
        span: tuple[float, float],
        scale: float,
        *,
        explore: float = 0.0,
        efficiency: float = 0.0,
    ) -> Stage:
        gates = [p for unit in self.units if unit.gate for p in unit.gate.parameters()]
        known = {id(p) for p in gates}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in known]

        def loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
            return self._loss(batch, explore, efficiency)

        groups: list[dict[str, Any]] = [{"params": others}, {"params": gates, "scale": scale}]
        return GradientStage(name, self, groups, loss, recipe, epochs, span=span)

    def _loss(self, batch: Batch, explore: float, efficiency: float) -> tuple[Tensor, dict[str, float]]:
        self.session.start(Learned(), dense=True, explore=explore)
        loss, correct = task_loss(self.network, batch)
        ratio = self._ratio()
        loss = loss + efficiency * efficiency_loss(ratio, correct)
        opened = torch.cat([weights > 0 for weights in self.session.trace.values()], 1)
        closed = torch.stack(list(self.session.standing_in.values()))
        logged = {"correct": correct, "ratio": ratio.detach(), "open": opened, "standing_in": closed}
        return loss, {name: float(value.float().mean()) for name, value in logged.items()}

    def _ratio(self) -> Tensor:
        """Σ_l C(f_l)/ΣC(f_k) · r_l/R_l of the last pass, (B,), with the gradient of `step_share`."""
        total = sum(unit.geometry.macs for unit in self.units)
        parts = []
        for unit in self.units:
            share: Tensor | float = unit.geometry.macs / total
            values = {"channel": unit.counts, "temporal": [unit.geometry.computed(r) for r in unit.strides]}
            for point in unit.points:
                options = values[point.rpartition(".")[2]]
                shares = (torch.tensor(options) / options[0]).to(self.device, non_blocking=True)
                share = share * step_share(self.session.pre[point], self.session.trace[point], shares)
            assert isinstance(share, Tensor)
            parts.append(share)
        return torch.stack(parts).sum(0)


def _stated(unit: DynamicUnit) -> dict[str, Any]:
    """A unit's options, as JSON can: channels and frames computed, and the points that they are decided at."""
    points = {part: f"{unit.policy}.{part}" for part in ("channel", "temporal")}
    return {
        "name": unit.name,
        **{part: point if point in unit.points else "" for part, point in points.items()},
        "counts": list(unit.counts),
        "frames": [unit.geometry.computed(stride) for stride in unit.strides],
        "macs": unit.geometry.macs,
    }


def vared(
    network: str,
    *,
    frames: int,
    size: int,
    classes: int,
    network_options: Mapping[str, Any],
    search_space: int = 2,
    dimensions: Dimensions = "both",
    kind: Kind = "absorbable",
    hidden: int = 16,
    pool: Pool = "space",
    leak: float = 0.5,
    efficiency: float = 0.6,
    finetune: float = 0.4,
    start: Sequence[float] = (1.0, 1.0),
    gate_scales: Sequence[float] = (0.1, 0.5),
    explore: float = 0.1,
) -> VaRed:
    """VA-RED² on the registered network `network`; options as of `VaRed` and `vared.reduce.reduce`."""
    module = registry.build_network(network, frames=frames, size=size, classes=classes, **network_options)
    return VaRed(
        module,
        spec_of(module, size, frames),
        units=UNITS.get(network, SPATIAL),
        efficiency=efficiency,
        finetune=finetune,
        gate_scales=tuple(gate_scales),  # type: ignore[arg-type]
        explore=explore,
        search_space=search_space,
        dimensions=dimensions,
        kind=kind,
        hidden=hidden,
        pool=pool,
        leak=leak,
        start=tuple(start),
    )
