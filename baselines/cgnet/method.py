"""CGNet as a method of the harness (Hua et al., "Channel Gating Neural Networks", NeurIPS 2019): any network, gated.

Gates are per value of a map, which dense kernels cannot skip: accounted is what the open gates need, executed is more
(`exact` is False), but never more than the plain network.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from baselines.cgnet.gated_conv import GatedConv, Session
from bench import registry
from bench.chains import find_chains
from bench.cost import count_meta
from bench.data.split import Split
from bench.data.subset import held_out
from bench.gradient_stage import GradientStage
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy
from bench.task import logged_loss, task_of
from bench.weights import spec_of

SHORTCUTS = {"shortcut", "downsample"}  # what networks call the projection beside a residual branch
REACH = 8.0  # thresholds, in standard deviations, beyond which practically every gate is open or closed
HALVINGS = 14  # of ±REACH, to 0.001 of a standard deviation


class CGNet(Method):
    """A classifier whose convolutions skip values that a part of their input already tells to be small.

    network: changed in place. groups: p. target: T, which thresholds are drawn to (published: 0.6 to 1; larger is
    sparser). grouped: the base path is block-diagonal. shuffle: see `gated_conv.divide`. alpha: steepness of the
    sigmoid whose gradient the gates have. weight: of the loss on thresholds. which: only convolutions in whose
    qualified name this is one component ("conv1": the first half of a block, as the released recipe for residual
    networks has it). budget: share of the plain network's multiply-adds that the mean sample may cost.

    With a budget (ours: VA-RED² Table 7 prints costs, but neither p nor T) thresholds start, and are drawn to, where
    normally distributed values would meet it, and a last stage moves all of them by one offset, so that training data
    held out of the first stage meets it. A recipe of one epoch leaves none for that.

    Raises:
        ValueError: an option that cannot be, or no convolution that could be gated.
    """

    exact = False

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        *,
        groups: int = 4,
        target: float | None = None,
        grouped: bool = False,
        shuffle: bool = False,
        alpha: float = 2.0,
        weight: float = 1e-4,
        which: str | None = None,
        budget: float | None = None,
    ) -> None:
        super().__init__()
        if groups < 2 or not alpha > 0 or not weight >= 0:
            raise ValueError(
                f"groups must be 2 or more, alpha above 0, weight 0 or more; got {groups}, {alpha}, {weight}"
            )
        self.network, self.spec, self.weight, self.budget = network, spec, weight, budget
        self.task = task_of(network)
        self.static_macs = count_meta(network, spec.shape(1)).macs
        self.session = Session()
        gate: Callable[..., GatedConv] = partial(
            GatedConv, session=self.session, groups=groups, grouped=grouped, shuffle=shuffle, alpha=alpha
        )
        found = eligible(network, spec, groups, grouped, which)
        self.units = [gate(name, network.get_submodule(name), positions) for name, positions in found.items()]
        for unit in self.units:
            network.set_submodule(unit.point, unit)
        self.rest_macs = sum(unit.values * unit.macs_rest for unit in self.units)
        self.fixed_macs = self.static_macs - self.rest_macs - sum(unit.macs_base for unit in self.units)
        start = 0.0 if budget is None else self._normal_threshold(budget)
        self.target = target if target is not None else 1.0 if budget is None else start
        for unit in self.units:
            nn.init.constant_(unit.threshold, start)

    def _normal_threshold(self, budget: float) -> float:
        """The threshold at which standard normal values would make the mean sample cost `budget`."""
        least = 1 - self.rest_macs / self.static_macs
        if not least < budget <= 1:
            raise ValueError(f"budget must be above {least:.3f}, what closed gates leave, and at most 1, got {budget}")
        density = (budget - least) / (1 - least)
        return -statistics.NormalDist().inv_cdf(min(max(density, 0.01), 0.99))

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """The answer of the network's task; skips what closed gates allow to skip, unless training."""
        self.session.start(policy or Learned(), dense=self.training)
        answer = self.task.answer(self.network(sample))
        return Prediction(self._total(self.session.macs), self.session.trace, **answer)

    def account(self, trace: Trace) -> Tensor:
        """What is not gated, every base path, and the rest for the share of values whose gate is open; exact."""
        return self._total({unit.point: unit.macs(trace[unit.point]) for unit in self.units})

    def _total(self, macs: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(macs.values())).sum(0).cpu() + self.fixed_macs

    def decisions(self) -> Mapping[str, Tensor]:
        """All gates of a layer open, or closed; a trace holds one for every value of the layer's output."""
        options = torch.tensor([1.0, 0.0], device="cpu")
        return {unit.point: options.view(2, *(1,) * (unit.weight.dim() - 1)) for unit in self.units}

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Training with the loss on thresholds; with a budget, one last epoch of calibration."""
        last = 0 if self.budget is None else min(1, recipe.epochs - 1)
        thresholds = [unit.threshold for unit in self.units]
        known = {id(threshold) for threshold in thresholds}
        others = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in known]
        groups = [{"params": others}, {"params": thresholds}]
        train = Training("train", self, groups, self._loss, recipe, recipe.epochs - last)
        train.spares = last > 0
        return [train, Calibration(self, self.budget, recipe.batch, last)] if self.budget and last else [train]

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The task's loss + weight · Σ (Δ − T)² over all thresholds."""
        self.session.start(Learned(), dense=True)
        loss, logged = logged_loss(self.network, batch)
        penalty = torch.stack([(unit.threshold - self.target).square().sum() for unit in self.units]).sum()
        return loss + self.weight * penalty, {**logged, "share": self._share()}

    def _share(self) -> float:
        """Mean cost of the last pass, as a share of the plain network's."""
        return float(self._total(self.session.macs).double().mean()) / self.static_macs

    @torch.no_grad()
    def share(self, sample: Tensor, offset: float) -> float:
        """Mean cost of samples in evaluation, as a share of the plain network's, with `offset` on every threshold."""
        self.eval()
        self.session.start(Learned(), dense=True, offset=offset)
        self.network(sample)
        return self._share()


class Training(GradientStage):
    """Thresholds, the second group, know no weight decay. spares: whether it leaves videos for the calibration."""

    spares = False

    def begin(self, steps: int) -> None:
        """Makes the optimiser."""
        super().begin(steps)
        self.optimiser.param_groups[1]["weight_decay"] = 0.0

    def view(self, split: Split) -> Split:
        """All of it, where nothing is calibrated."""
        return held_out(split, least=self.recipe.batch)[0] if self.spares else split


class Calibration(Stage):
    """Without gradients: the offset on all thresholds with which each batch meets the budget; their mean is kept."""

    name = "calibrate"

    def __init__(self, method: CGNet, budget: float, batch: int, epochs: int) -> None:
        self.method, self.budget, self.batch, self.epochs = method, budget, batch, epochs

    def view(self, split: Split) -> Split:
        """What training did not see."""
        return held_out(split, least=self.batch)[1]

    def begin(self, steps: int) -> None:
        """Nothing found yet."""
        self.offsets = list[float]()

    def step(self, batch: Batch) -> dict[str, float]:
        """Bisection: larger offsets close gates."""
        low, high = -REACH, REACH
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            share = self.method.share(batch.sample, middle)
            low, high = (middle, high) if share > self.budget else (low, middle)
        self.offsets.append((low + high) / 2)
        return {"offset": self.offsets[-1], "share": share}

    @torch.no_grad()
    def end(self) -> None:
        """Moves the thresholds."""
        if self.offsets:
            for unit in self.method.units:
                unit.threshold.add_(statistics.fmean(self.offsets))

    def state_dict(self) -> dict[str, Any]:
        """The offsets found so far."""
        return {"offsets": self.offsets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.offsets = list(state["offsets"])


def eligible(network: nn.Module, spec: InputSpec, groups: int, grouped: bool, which: str | None) -> dict[str, int]:
    """The convolutions to gate, and the positions of each one's output.

    Dense ones whose inputs (and, `grouped`, outputs) `groups` divides, but for the first, which sees pixels, those of
    shortcuts, and those on a single position. Of these the ones with a kernel; if none has one (in X3D and MobileNetV2
    kernels are depthwise), the pointwise ones. Layers that run twice or only in training, or whose batch is not the
    samples', stay as they are.

    Raises:
        ValueError: there are none.
    """
    found, kernels = {}, {}
    for name, conv, positions in _maps(network, spec):
        components = name.split(".")
        divisible = conv.in_channels % groups == 0 and (not grouped or conv.out_channels % groups == 0)
        if conv.groups > 1 or conv.in_channels <= spec.channels or not divisible or positions == 1:
            continue
        if SHORTCUTS.isdisjoint(components) and (which is None or which in components):
            found[name], kernels[name] = positions, max(conv.kernel_size)
    if not found:
        named = "" if which is None else f" named {which!r}"
        raise ValueError(f"{type(network).__name__}: no convolution{named} whose channels {groups} groups divide")
    return {name: places for name, places in found.items() if kernels[name] > 1} or found


def _maps(network: nn.Module, spec: InputSpec) -> Iterator[tuple[str, nn.Conv2d | nn.Conv3d, int]]:
    """Plain convolutions that run once a pass on a batch of samples, in order, and the positions of their output."""
    for chain in find_chains(network, spec.shape(2)):
        conv = network.get_submodule(chain.conv)
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        plain = type(conv) in (nn.Conv2d, nn.Conv3d) and conv.padding_mode == "zeros"
        if plain and not isinstance(conv.padding, str) and chain.outputs[0] == 2:
            yield chain.conv, conv, math.prod(chain.outputs[2:])


def cgnet(
    network: str,
    *,
    frames: int,
    size: int,
    classes: int,
    network_options: Mapping[str, Any],
    groups: int = 4,
    target: float | None = None,
    grouped: bool = False,
    shuffle: bool = False,
    alpha: float = 2.0,
    weight: float = 1e-4,
    which: str | None = None,
    budget: float | None = None,
) -> CGNet:
    """CGNet on the registered network `network`; options and errors as of `CGNet`."""
    module = registry.build_network(network, frames=frames, size=size, classes=classes, **network_options)
    return CGNet(
        module,
        spec_of(module, size, frames),
        groups=groups,
        target=target,
        grouped=grouped,
        shuffle=shuffle,
        alpha=alpha,
        weight=weight,
        which=which,
        budget=budget,
    )
