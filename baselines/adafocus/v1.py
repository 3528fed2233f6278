"""AdaFocus (Wang et al., "Adaptive Focus for Efficient Video Recognition", ICCV 2021), the first version.

A cheap network glances at every frame, a recurrent policy chooses from a grid where a costly one looks closely, and a
recurrent classifier answers after the last frame. Where to look is learned by reinforcement, after the networks.
Of the published accounting only the classifier of the last frame runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from baselines.adafocus.classifier import frame_cross_entropy
from baselines.adafocus.crop import patches, scaled
from baselines.adafocus.extractors import Extractor, extractor
from baselines.adafocus.ppo import ActorCritic, PolicyStage
from baselines.adafocus.recurrence import unrolled
from baselines.networks.resnet import pooled
from bench.cost import count_meta
from bench.gradient_stage import GradientStage
from bench.inference.optimise import with_optimised
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage
from bench.policy import Policy

SHARES = (15.0, 50.0, 50.0, 10.0)
"""Published epochs of the four stages: each network alone, with random patches, the policy, the classifier alone."""

CLASSIFIER_RATE = 0.05
"""The published learning rate that the recipe's stands for, that of the new classifier; all others are shares of it."""


class RecurrentClassifier(nn.Module):
    """f_C: a GRU of 16 · width over frame features, dropout, and a linear classifier of every state."""

    def __init__(self, features: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRUCell(features, 16 * width)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(16 * width, classes)

    def states(self, features: Tensor) -> Tensor:
        """The state after every frame, (N, T, 16 · width), of features (N, T, C)."""
        return unrolled(self.gru, features)

    def classify(self, states: Tensor) -> Tensor:
        """Logits (..., classes) of states (..., 16 · width)."""
        logits: Tensor = self.fc(self.dropout(states))
        return logits

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, classes) after the last frame."""
        return self.classify(self.states(features)[:, -1])


class AdaFocusV1(Method):
    """Glance, policy over a grid of places, focus and a recurrent classifier; the same cost for every sample.

    patch: pixels of what is looked at. grid: places along each axis. dropout: before the classifier. discount: γ of
    the policy's rewards. passes: updates of the policy on each batch. shares: of the epochs, for each stage; the
    published ones count on networks that have been trained on ImageNet, from scratch the first stage needs more.

    Raises:
        ValueError: a patch larger than the frame, a grid below 2 or passes below 1, dropout or discount not in 0..1, or
            not four shares.
    """

    def __init__(
        self,
        spec: InputSpec,
        classes: int,
        glance: Extractor,
        focus: Extractor,
        *,
        patch: int,
        width: int,
        grid: int,
        dropout: float,
        discount: float,
        passes: int,
        shares: Sequence[float],
    ) -> None:
        super().__init__()
        if not 1 <= patch <= spec.size or grid < 2 or passes < 1 or spec.frames < 1:
            raise ValueError(
                f"patch must be in 1..{spec.size}, grid 2, frames and passes 1 or more, got {patch}, {grid}, "
                f"{spec.frames} and {passes}"
            )
        if len(shares) != len(SHARES) or min(shares) < 0 or not sum(shares) > 0:
            raise ValueError(f"shares must be four numbers, 0 or more and one of them above, got {tuple(shares)}")
        if not 0 <= dropout < 1 or not 0 <= discount <= 1:
            raise ValueError(f"dropout and discount must be in 0..1, got {dropout} and {discount}")
        self.spec, self.patch, self.grid = spec, patch, grid
        self.discount, self.passes, self.shares = discount, passes, tuple(shares)
        self.glance, self.focus = glance, focus
        self.place_policy = ActorCritic(glance.channels, glance.side(spec.size), grid**2, width)
        self.classifier = RecurrentClassifier(glance.channels + focus.channels, classes, width, dropout)
        self.glance_head = nn.Linear(glance.channels, classes)
        self.focus_head = nn.Linear(focus.channels, classes)
        self.macs = self._macs()

    def _macs(self) -> int:
        """Multiply-adds of a video."""
        frames, size, side = self.spec.frames, self.spec.size, self.glance.side(self.spec.size)
        glanced, looked = self.glance.channels, self.focus.channels
        shapes: Mapping[nn.Module, tuple[int, ...]] = {
            self.glance: (1, 3, frames, size, size),
            self.focus: (1, 3, frames, self.patch, self.patch),
            self.place_policy: (1, glanced, frames, side, side),
            self.classifier: (1, frames, glanced + looked),
        }
        return sum(count_meta(part, shape).macs for part, shape in shapes.items())

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits after the last frame, every patch where the policy thinks best."""
        maps: Tensor = self.glance(sample)
        looked = self.look(sample, self.place_policy(maps).argmax(2))
        logits: Tensor = self.classifier(torch.cat([pooled(maps), looked], 2))
        return Prediction(torch.full((len(sample),), self.macs), logits=logits)

    def optimised(self) -> AdaFocusV1:
        """With glance and focus in their fastest form."""
        frames, size = self.spec.frames, self.spec.size
        shapes = {"glance": (1, 3, frames, size, size), "focus": (1, 3, frames, self.patch, self.patch)}
        return with_optimised(self, shapes)

    def look(self, sample: Tensor, actions: Tensor) -> Tensor:
        """Features (B, T, C) of the patches at the places numbered `actions` (B, T), row by row of the grid."""
        room = self.spec.size - self.patch
        steps = torch.stack([actions // self.grid, actions % self.grid], 2)
        corner = steps * room // (self.grid - 1)  # in whole pixels
        place = corner.double() / max(room, 1)
        return pooled(self.focus(patches(sample, place, torch.full_like(place, self.patch), self.patch)))

    def anywhere(self, sample: Tensor) -> Tensor:
        """Uniformly random actions (B, T)."""
        return torch.randint(self.grid**2, (len(sample), self.spec.frames), device=sample.device)

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The networks alone, both with the classifier on random patches, the policy, and the classifier alone.

        The recipe's learning rate stands for the published 0.05 of the classifier.
        """
        alone, random, policy, classifier = recipe.divided(self.shares)
        adam = replace(recipe, lr=recipe.lr * 3e-4 / CLASSIFIER_RATE)
        return [
            self._stage(
                "networks",
                self._networks_loss,
                recipe,
                alone,
                {self.glance: 0.01, self.glance_head: 0.01, self.focus: 0.01, self.focus_head: 0.01},
            ),
            self._stage("random", self._random_loss, recipe, random, {self.focus: 5e-4, self.classifier: 0.05}),
            PolicyStage("policy", self, adam, policy, self.passes),
            self._stage("classifier", self._classifier_loss, recipe, classifier, {self.classifier: 5e-3}),
        ]

    def _stage(
        self,
        name: str,
        loss: Callable[[Batch], tuple[Tensor, dict[str, float]]],
        recipe: Recipe,
        epochs: int,
        rates: Mapping[nn.Module, float],
    ) -> Stage:
        """A stage that trains the parts of `rates`, each at its published learning rate."""
        groups: list[dict[str, Any]] = [
            {"params": part.parameters(), "scale": rate / CLASSIFIER_RATE} for part, rate in rates.items()
        ]
        return GradientStage(name, self, groups, loss, recipe, epochs)

    def _networks_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Both networks alone, the costly one on random patches; two losses that share nothing."""
        glanced = self.glance_head(pooled(self.glance(batch.sample)))
        looked = self.focus_head(self.look(batch.sample, self.anywhere(batch.sample)))
        one, other = frame_cross_entropy(glanced, batch.target), frame_cross_entropy(looked, batch.target)
        return one + other, {"glance": float(one.detach()), "focus": float(other.detach())}

    def _random_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The classifier after every frame, on random patches, the glance as it is."""
        glanced = pooled(self.glanced(batch.sample))
        looked = self.look(batch.sample, self.anywhere(batch.sample))
        return self._classified(glanced, looked, batch.target)

    def _classifier_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The classifier alone, on the patches that the policy thinks best."""
        maps = self.glanced(batch.sample)
        self.focus.eval()
        with torch.no_grad():
            looked = self.look(batch.sample, self.place_policy(maps).argmax(2))
        return self._classified(pooled(maps), looked, batch.target)

    @torch.no_grad()
    def glanced(self, sample: Tensor) -> Tensor:
        """Glance maps from a network that is no longer trained, its normalisation included."""
        maps: Tensor = self.glance.eval()(sample)
        return maps

    def _classified(self, glanced: Tensor, looked: Tensor, target: Tensor) -> tuple[Tensor, dict[str, float]]:
        logits = self.classifier.classify(self.classifier.states(torch.cat([glanced, looked], 2)))
        correct = (logits[:, -1].argmax(1) == target).float().mean()
        return frame_cross_entropy(logits, target), {"correct": float(correct)}


def adafocus_v1(
    *,
    frames: int = 16,
    size: int = 224,
    classes: int,
    width: int = 64,
    patch: int | None = None,
    glance: str = "mobilenet_v2",
    focus: str = "resnet50",
    glance_blocks: Sequence[int] | None = None,
    focus_blocks: Sequence[int] | None = None,
    grid: int = 7,
    dropout: float = 0.8,
    discount: float = 0.7,
    passes: int = 1,
    shares: Sequence[float] = SHARES,
) -> AdaFocusV1:
    """AdaFocus on `frames` segments of a video; options as of `AdaFocusV1` and `extractor`.

    patch: by default 128 of 224 pixels.

    Raises:
        ValueError: an option that cannot be.
    """
    return AdaFocusV1(
        InputSpec("clip", size, frames),
        classes,
        extractor(glance, width, glance_blocks, frames),
        extractor(focus, width, focus_blocks, frames),
        patch=scaled(128, size) if patch is None else patch,
        width=width,
        grid=grid,
        dropout=dropout,
        discount=discount,
        passes=passes,
        shares=shares,
    )
