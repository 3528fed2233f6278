"""How AR-Net is trained: decisions drawn by the straight-through Gumbel-softmax, and three stages.

Everything is computed for every frame, so that each decision's gradient knows what the others would have answered.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.arnet.networks import resized
from bench.gradient_stage import GradientStage
from bench.method import Batch, Recipe, Stage
from bench.whole_batch import mean_of_all

if TYPE_CHECKING:
    from baselines.arnet.method import ArNet

HOTTEST, DECAY, EPOCHS = 5.0, 0.045, 50
DEAREST = 4.087136  # GMACs of ResNet-50 at 224, the dearest action of the paper
CLIP = 20.0


def temperature(share: float) -> float:
    """Of the Gumbel-softmax after `share` of the joint stage: published as 5·exp(−0.045·epoch) over 50 epochs."""
    return HOTTEST * math.exp(-DECAY * EPOCHS * share)


def relaxed(model: ArNet, sample: Tensor, tau: float, frozen: bool = False) -> tuple[Tensor, Tensor]:
    """Logits (B, classes) and the decisions in force (B, T, actions), one-hot with the gradient of the relaxed ones.

    sample: (B, 3, T, H, W). tau: temperature. frozen: the policy network runs as in evaluation, no gradient.
    """
    frames = sample.transpose(1, 2)
    if frozen:
        model.policy_network.eval()
    with torch.set_grad_enabled(not frozen):
        hidden, decisions = _drawn(model, _described(model, frames), tau)
        own = model.policy_network.classify(hidden)
    logits = torch.stack([*_every(model, frames), own], 2)
    taken = decisions[..., : model.answers, None]
    return (taken * logits).sum((1, 2)) / taken.sum((1, 2)).clamp(min=1), decisions


def _drawn(model: ArNet, described: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Hidden states (B, T, hidden) and drawn decisions in force (B, T, actions) for described frames (B, T, C)."""
    network, batch = model.policy_network, len(described)
    hidden = cell = described.new_zeros(batch, network.hidden)
    wait = torch.zeros(batch, dtype=torch.int64, device=described.device)
    decision, states, decisions = described.new_zeros(batch, len(model.macs)), [], []
    for frame in described.unbind(1):
        decided = (wait == 0)[:, None]
        new_hidden, new_cell = network.lstm(frame, (hidden, cell))
        hidden, cell = torch.where(decided, new_hidden, hidden), torch.where(decided, new_cell, cell)
        drawn = straight_through(network.log_chances(hidden), tau)
        decision = torch.where(decided, drawn, decision)
        wait = model.after(wait, decision.argmax(1))
        states.append(hidden)
        decisions.append(decision)
    return torch.stack(states, 1), torch.stack(decisions, 1)


def straight_through(log_chances: Tensor, tau: float) -> Tensor:
    """Actions drawn by their chances, one-hot (n, actions), with the gradient of the Gumbel-softmax at temperature tau.

    As torch's own, except that a zero among the exponential draws does not make the loss infinite.
    """
    draws = torch.empty_like(log_chances).exponential_().clamp(min=torch.finfo(log_chances.dtype).tiny)
    soft = ((log_chances - draws.log()) / tau).softmax(1)
    return F.one_hot(soft.argmax(1), soft.shape[1]) - soft.detach() + soft


def _described(model: ArNet, frames: Tensor) -> Tensor:
    """What the LSTM sees of all frames (B, T, 3, H, W): (B, T, C)."""
    images = resized(frames.flatten(0, 1), model.resolution)
    return model.policy_network.describe(images).reshape(*frames.shape[:2], -1)


def _every(model: ArNet, frames: Tensor) -> list[Tensor]:
    """Logits of each backbone on all frames (B, T, 3, H, W): (B, T, classes) each."""
    images = frames.flatten(0, 1)
    return [backbone(images).reshape(*frames.shape[:2], -1) for backbone in model.backbones]


def spending(model: ArNet, decisions: Tensor) -> tuple[Tensor, Tensor]:
    """What the loss adds for decisions (B, T, actions): their mean cost, and how unevenly actions are used.

    The cost is in GMACs as published, the policy network's left out; with smaller networks it is scaled so that the
    dearest action keeps the weight that it has in the paper. Unevenness: ‖usage − mean usage‖₂ over the actions, of the
    batches of all processes together.
    """
    count = len(model.backbones)
    weights = torch.tensor(model.macs[:count], device=decisions.device) * (DEAREST / model.macs[0])
    usage = mean_of_all(decisions.mean((0, 1)))  # a norm of the whole batch's, not a mean of norms
    return (usage[:count] * weights).sum(), torch.linalg.vector_norm(usage - usage.mean())


class _Stage(GradientStage):
    """A stage at `rate` times the recipe's learning rate."""

    def __init__(
        self, name: str, model: ArNet, parameters: Iterable[nn.Parameter], recipe: Recipe, epochs: int, rate: float
    ) -> None:
        own = replace(recipe, lr=recipe.lr * rate, clip_norm=recipe.clip_norm or CLIP)
        super().__init__(name, model, [{"params": parameters}], self.objective, own, epochs)
        self.model = model

    def begin(self, steps: int) -> None:
        """Forgets the gradients of the stage before, which clipping would count on weights that are frozen now."""
        self.model.zero_grad()
        super().begin(steps)

    @abstractmethod
    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss, and what to log."""


class Apart(_Stage):
    """Each network as a classifier of its own at its own resolution, the policy network as one that never skips."""

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The sum of their cross-entropies: they share no weight."""
        frames, network = batch.sample.transpose(1, 2), self.model.policy_network
        state, states = None, []
        for frame in _described(self.model, frames).unbind(1):
            state = network.lstm(frame, state)
            states.append(state[0])
        each = [*_every(self.model, frames), network.classify(torch.stack(states, 1))]
        logits = [frame_logits.mean(1) for frame_logits in each]
        correct = {f"correct.{number}": _correct(own, batch) for number, own in enumerate(logits)}
        return torch.stack([F.cross_entropy(own, batch.target) for own in logits]).sum(), correct


class Together(_Stage):
    """The whole on drawn decisions. frozen: the policy is finished; the backbones adapt to what it gives them."""

    frozen = False

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """(1 − w)·cross-entropy + w·(cost + balance·unevenness)."""
        tau = temperature(1.0 if self.frozen else self.done / self.steps)
        logits, decisions = relaxed(self.model, batch.sample, tau, self.frozen)
        cost, uneven = spending(self.model, decisions)
        weight, spent = self.model.cost_weight, cost + self.model.balance * uneven
        loss = (1 - weight) * F.cross_entropy(logits, batch.target) + weight * spent
        skipped = float(decisions[..., self.model.answers :].detach().sum(2).mean())
        logged = {"cost": float(cost.detach()), "uneven": float(uneven.detach()), "skipped": skipped}
        return loss, {"correct": _correct(logits, batch), "tau": tau, **logged}


class Frozen(Together):
    """The same with the policy network frozen."""

    frozen = True


def stages(model: ArNet, recipe: Recipe) -> Sequence[Stage]:
    """Networks apart, all together, backbones alone on the decisions of the finished policy.

    Published: 10 epochs at 0.02, 50 at 0.001 and 50 at 0.0005, gradients clipped at 20 (unless the recipe clips). The
    temperature of the last stage is fixed; nothing depends on it, since which action is drawn does not, and no gradient
    passes. The published policy network starts from ImageNet; here it is trained in the first stage too, so that it can
    see something before it decides.
    """
    epochs = recipe.divided(model.shares)
    first, second, third = (rate / model.rates[0] for rate in model.rates)
    choice = {id(weight) for weight in model.policy_network.choose.parameters()}
    classifiers = [weight for weight in model.parameters() if id(weight) not in choice]
    return [
        Apart("apart", model, classifiers, recipe, epochs[0], first),
        Together("joint", model, model.parameters(), recipe, epochs[1], second),
        Frozen("frozen", model, model.backbones.parameters(), recipe, epochs[2], third),
    ]


def _correct(logits: Tensor, batch: Batch) -> float:
    return float((logits.argmax(1) == batch.target).float().mean())
