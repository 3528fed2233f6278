"""How AdaFocus learns where to look by reinforcement: an actor, a critic, and proximal policy optimisation.

Schulman et al., "Proximal Policy Optimization Algorithms", 2017, with the settings and the reward of Wang et al., ICCV
2021: what a patch adds to the confidence in the right class over a random patch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from baselines.adafocus.recurrence import unrolled
from baselines.networks.resnet import pooled
from bench.distributed import average_gradients
from bench.gradient_stage import update
from bench.method import Batch, Recipe, Stage

if TYPE_CHECKING:
    from baselines.adafocus.v1 import AdaFocusV1

CLIP, VALUE, ENTROPY = 0.2, 0.5, 0.01  # range of the ratio, weights of the critic's loss and of the entropy


class ActorCritic(nn.Module):
    """π: glance maps (N, C, T, h, w) to logits over `actions` places, frame after frame, and what each state is worth.

    A 1×1 convolution to width / 2 channels, a fully connected layer and a GRU of 16 · width, and a linear layer each
    for actor and critic. The critic acts in training only.
    """

    def __init__(self, channels: int, side: int, actions: int, width: int) -> None:
        super().__init__()
        reduced, hidden = max(1, width // 2), 16 * width
        self.conv = nn.Conv3d(channels, reduced, 1)
        self.fc = nn.Linear(reduced * side * side, hidden)
        self.gru = nn.GRUCell(hidden, hidden)
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)

    def states(self, maps: Tensor) -> Tensor:
        """The state at every frame, (N, T, 16 · width)."""
        reduced = self.conv(maps).relu().transpose(1, 2)  # (N, T, reduced, h, w)
        return unrolled(self.gru, self.fc(reduced.flatten(2)).relu())

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (N, T, actions)."""
        logits: Tensor = self.actor(self.states(maps))
        return logits

    def evaluate(self, maps: Tensor) -> tuple[Categorical, Tensor]:
        """The distribution over actions, of (N, T), and the critic's values (N, T), in single precision at least."""
        states = self.states(maps)
        logits, values = self.actor(states), self.critic(states).squeeze(2)
        precision = torch.promote_types(logits.dtype, torch.float32)
        return Categorical(logits=logits.to(precision)), values.to(precision)


class PolicyStage(Stage):
    """Trains `method.place_policy` by PPO with Adam at the recipe's constant learning rate, all else as it is.

    passes: updates on the actions of one batch; beyond the first the clipped ratio matters. One that is not finite is
    not made, nor those after it; "gradient_norm", of the last pass, tells.
    """

    def __init__(self, name: str, method: AdaFocusV1, recipe: Recipe, epochs: int, passes: int) -> None:
        self.name, self.epochs, self.dealt = name, epochs, True
        self.method, self.recipe, self.passes = method, recipe, passes

    def begin(self, steps: int) -> None:
        """Makes the optimiser."""
        self.optimiser = torch.optim.Adam(self.method.place_policy.parameters(), lr=self.recipe.lr)

    def step(self, batch: Batch) -> dict[str, float]:
        """Looks at places that the policy draws, and moves it towards those that helped."""
        method = self.method.eval()  # the normalisation of the networks that give the reward stands still
        half = torch.autocast(batch.sample.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
        with torch.no_grad(), half:
            maps = method.glance(batch.sample)
            policy, _ = method.place_policy.evaluate(maps)
            actions = policy.sample()  # type: ignore[no-untyped-call]
            before = policy.log_prob(actions)  # type: ignore[no-untyped-call]
            rewards = gains(method, batch, maps, actions)
        worth = discounted(rewards, method.discount)
        worth = (worth - worth.mean()) / (worth.std(correction=0) + 1e-5)
        weights = list(method.place_policy.parameters())
        for _ in range(self.passes):
            with half:
                policy, values = method.place_policy.evaluate(maps)
                loss = proximal_loss(policy, values, actions, before, worth)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            average_gradients(weights)
            norm = update(self.optimiser, weights, self.recipe)
            if not math.isfinite(norm):
                break
        entropy = policy.entropy().mean()  # type: ignore[no-untyped-call]
        logged = {"loss": loss, "reward": rewards.mean(), "entropy": entropy}
        return {**{name: float(value.detach()) for name, value in logged.items()}, "gradient_norm": norm}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's moments."""
        return {"optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.optimiser.load_state_dict(state["optimiser"])


def proximal_loss(policy: Categorical, values: Tensor, actions: Tensor, before: Tensor, worth: Tensor) -> Tensor:
    """PPO's clipped loss of actions (N, T), with the critic's and less the entropy; all else (N, T) as well.

    before: log-probabilities of the actions when they were drawn. worth: what came of them.
    """
    ratio = (policy.log_prob(actions) - before).exp()  # type: ignore[no-untyped-call]
    advantage = worth - values.detach()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    actor = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    entropy: Tensor = policy.entropy().mean()  # type: ignore[no-untyped-call]
    return actor + VALUE * F.mse_loss(values, worth) - ENTROPY * entropy


def gains(method: AdaFocusV1, batch: Batch, maps: Tensor, actions: Tensor) -> Tensor:
    """Rewards (B, T): confidence in the right class after the chosen patch, less that after a random one instead.

    Both follow on the same state, that after the patches chosen before.
    """
    glanced, classifier = pooled(maps), method.classifier
    chosen = torch.cat([glanced, method.look(batch.sample, actions)], 2)
    other = torch.cat([glanced, method.look(batch.sample, method.anywhere(batch.sample))], 2)
    states = classifier.states(chosen)
    earlier = F.pad(states[:, :-1], (0, 0, 1, 0))  # nothing before the first frame
    others = classifier.gru(other.flatten(0, 1), earlier.flatten(0, 1)).view_as(states)
    right = batch.target[:, None, None].expand(-1, states.shape[1], 1)
    with_chosen, with_other = (classifier.classify(s).softmax(2).gather(2, right) for s in (states, others))
    return (with_chosen - with_other).squeeze(2)


def discounted(rewards: Tensor, discount: float) -> Tensor:
    """Returns (N, T): every reward and, ever more discounted, those after it."""
    total = torch.zeros_like(rewards[:, 0])
    returns = torch.empty_like(rewards)
    for frame in reversed(range(rewards.shape[1])):
        total = rewards[:, frame] + discount * total
        returns[:, frame] = total
    return returns
