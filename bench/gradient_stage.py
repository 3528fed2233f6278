"""The stage that most methods train in: stochastic gradient descent, with what it needs to make an update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench import distributed
from bench.gradients import convolution_gradients
from bench.logged import OF_GRADIENTS, OF_LINES, hold
from bench.memory import Before, MemoryShortError, fitting_everywhere, parts, tell
from bench.method import Batch, Method, Recipe, Stage


class GradientStage(Stage):
    """A stage of stochastic gradient descent with Nesterov momentum, linear warm-up and the recipe's schedule to zero.

    Of a recipe's batch each of several processes takes its part, and gradients are averaged; `accumulate` cuts that
    part into as many smaller ones, whose gradients add up: as many as the recipe says, and twice as many whenever
    memory does not suffice in one of the processes. An update that is not finite is not made (`update`);
    "gradient_norm" tells.

    groups: parameter groups, each with an optional "scale" of the learning rate. loss: batch to (loss, what to log).
    span: the part of the schedule that this stage goes through, (0, 1) for a schedule of its own.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        groups: Iterable[dict[str, Any]],
        loss: Callable[[Batch], tuple[Tensor, dict[str, float]]],
        recipe: Recipe,
        epochs: int,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.span, self.dealt = span, True
        self.name, self.method, self.loss, self.recipe, self.epochs = name, method, loss, recipe, epochs
        self.accumulate = recipe.accumulate
        self.groups = [{**group, "params": list(group["params"])} for group in groups]

    def begin(self, steps: int) -> None:
        """Makes the optimiser."""
        self.steps, self.done = steps, 0
        self.optimiser = torch.optim.SGD(
            [{"params": group["params"], "scale": group.get("scale", 1.0)} for group in self.groups],
            lr=self.recipe.lr,
            momentum=self.recipe.momentum,
            nesterov=True,
            weight_decay=self.recipe.weight_decay,
        )

    def step(self, batch: Batch) -> dict[str, float]:
        """One update."""
        self.method.train()
        first, last = self.span
        gone = first + (last - first) * self.done / self.steps
        rate = self.recipe.lr * schedule(gone, self.recipe.warmup, self.recipe.schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        values = self._gradients(batch)
        trained = [weight for group in self.groups for weight in group["params"]]  # others may keep old gradients
        distributed.average_gradients(trained)
        norm = update(self.optimiser, trained, self.recipe)
        self.done += 1
        return {**values, "gradient_norm": norm, "lr": rate}

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Leaves the gradients of a batch, computed in parts that memory takes, in all processes alike.

        A part that is too large leaves nothing behind: the batch is begun anew from where it was begun before.

        Raises:
            MemoryShortError: memory does not suffice for one sample.
        """
        before = Before(self.method)
        while True:
            cut = parts(batch, self.accumulate)
            small = [parts(part, len(part.index))[0] for part in cut]
            found = fitting_everywhere(lambda cut=cut: self._added(cut), lambda small=small: self._added(small))  # type: ignore[misc]
            if not isinstance(found, MemoryShortError):
                return found
            before.restore()
            self._halve(len(batch.index), found)

    def _halve(self, samples: int, short: MemoryShortError) -> None:
        if self.accumulate >= samples:
            raise MemoryShortError(f"stage {self.name}, step {self.done}: out of memory with a single sample: {short}")
        self.accumulate = min(2 * self.accumulate, samples)
        tell(
            f"stage {self.name}, step {self.done}: out of memory: from here on {samples} samples are computed in "
            f"{self.accumulate} parts of at most {-(-samples // self.accumulate)}, whose gradients add up; batch "
            "normalisation sees one part at a time"
        )

    def _added(self, cut: list[Batch]) -> dict[str, float]:
        """Adds up the gradients of parts; gives the means over their samples of what they log."""
        half = torch.autocast(cut[0].sample.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
        samples, found = sum(len(part.index) for part in cut), list[tuple[float, dict[str, float]]]()
        self.optimiser.zero_grad()
        for part in cut:
            with half:
                loss, logged = self.loss(part)
            hold(logged, (*OF_LINES, *OF_GRADIENTS))
            share = len(part.index) / samples
            with convolution_gradients(self.method.device):
                (share * loss).backward()  # type: ignore[no-untyped-call]
            found.append((share, {"loss": float(loss.detach()), **logged}))
        return {name: sum(share * values[name] for share, values in found) for name in found[0][1]}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's moments and the step."""
        return {"optimiser": self.optimiser.state_dict(), "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]


def update(optimiser: torch.optim.Optimizer, weights: Sequence[Tensor], recipe: Recipe) -> float:
    """Makes an update with the gradients of `weights`, clipped as the recipe says; gives their norm before that.

    One whose norm is not finite, also because the sum of squares overflows, is not made.
    """
    norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if math.isfinite(found := float(norm)):
        if recipe.clip_norm:
            nn.utils.clip_grads_with_norm_(weights, recipe.clip_norm, norm)
        optimiser.step()
    return found


def schedule(share: float, warmup: float, fall: Literal["cosine", "poly"] = "cosine") -> float:
    """Learning-rate factor after `share` of the steps: linear from a hundredth, over `warmup`, then half a cosine, or
    the power 0.9 of what is left (DeepLab, Chen et al., TPAMI 2018).
    """
    if share < warmup:
        return max(0.01, share / warmup)
    gone = (share - warmup) / (1 - warmup)
    return (1 - gone) ** 0.9 if fall == "poly" else 0.5 * (1 + math.cos(math.pi * gone))
