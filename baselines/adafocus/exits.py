"""Sample-wise early exit: a sample leaves at the first exit that is sure enough of it.

Thresholds are set on held-out training data so that given shares of the samples leave at each exit. What is accounted
and run is up to the first exit at which a sample leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bench.data import Split
from bench.data.subset import held_out
from bench.gradient_stage import GradientStage
from bench.method import Batch, Method, Recipe, Stage, Trace
from bench.policy import Policy

Criterion = Literal["confidence", "entropy"]


class Exits(nn.Module):
    """The thresholds of K exits, 0 the first; the last one takes everybody. Until they are set nobody leaves early.

    criterion: what an exit goes by. "confidence": the largest softmax probability; "entropy": that of the softmax, the
    lower the surer. (The public code of AdaFocus V2 and Uni-AdaFocus goes by the largest raw logit under the name of
    confidence, which is not comparable between classifiers of different exits; its thresholds are per exit.)

    Raises:
        ValueError: fewer than 2 exits, or no such criterion.
    """

    thresholds: Tensor

    def __init__(self, number: int, criterion: Criterion = "confidence") -> None:
        super().__init__()
        if number < 2:
            raise ValueError(f"exits: a sample needs at least 2 to choose from, got {number}")
        if criterion not in get_args(Criterion):
            raise ValueError(f"exits: no criterion {criterion!r}; there are: {', '.join(get_args(Criterion))}")
        self.number, self.criterion = number, criterion
        self.register_buffer("thresholds", torch.tensor([torch.inf] * (number - 1) + [-torch.inf]))

    def confidence(self, logits: Tensor) -> Tensor:
        """How sure (...) logits (..., classes) are; the higher the surer."""
        if self.criterion == "confidence":
            return logits.softmax(-1).amax(-1)
        return (logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)

    def decisions(self) -> dict[str, Tensor]:
        """[go on, stop] at every exit but the last: "exit.k" -> (2, 2)."""
        return {point(exit): torch.eye(2) for exit in range(self.number - 1)}

    def reached(self, trace: Trace) -> Tensor:
        """The exit (B,) at which each sample of a trace leaves; what is said of later exits plays no part."""
        going = [trace[point(exit)][:, 0] > 0 for exit in range(self.number - 1)]
        return torch.stack(going, 1).long().cumprod(1).sum(1)


def point(exit: int) -> str:
    """The decision point's name."""
    return f"exit.{exit}"


class Remaining:
    """The samples of a batch that have not left yet; gathers their answers and the trace.

    rows: (n,), the numbers in the batch of those that are still there, ascending. trace: point -> (B, 2), zeros where
    a sample did not get to it. logits: (B, classes), of those that have left; None before the first exit.
    """

    def __init__(self, exits: Exits, policy: Policy, sample: Tensor) -> None:
        self.exits, self.policy = exits, policy
        self.rows = torch.arange(len(sample), device=sample.device)
        self.trace = {point: sample.new_zeros(len(sample), 2) for point in exits.decisions()}
        self.logits: Tensor | None = None

    def leave(self, exit: int, logits: Tensor) -> Tensor:
        """Lets samples leave with `logits` (n, classes) of the remaining; gives the positions (m,) of who goes on.

        The positions are among the n, to take along what is known of them: `state[positions]`.
        """
        if self.logits is None:
            batch = next(iter(self.trace.values())).shape[0]
            self.logits = logits.new_zeros(batch, logits.shape[1])
        go_on = self._go_on(exit, logits) if exit < self.exits.number - 1 else torch.zeros_like(self.rows).bool()
        self.logits[self.rows[~go_on]] = logits[~go_on]
        self.rows = self.rows[go_on]
        return go_on.nonzero()[:, 0]

    def _go_on(self, exit: int, logits: Tensor) -> Tensor:
        """Whether each of the remaining (n,) goes on, by the policy."""
        learned = torch.zeros_like(self.trace[point(exit)])
        stop = self.exits.confidence(logits) >= self.exits.thresholds[exit]
        learned[self.rows] = torch.stack([~stop, stop], 1).to(learned)
        decided = self.policy.decide(point(exit), learned)[self.rows]
        self.trace[point(exit)][self.rows] = decided
        return decided[:, 0] > 0


def calibrate(confidence: Tensor, shares: Tensor) -> Tensor:
    """Thresholds (K,) with which `shares` (K,) of the samples leave at each exit, given confidence (N, K) at all exits.

    Exit by exit, the surest of those still there leave, as many as makes the shares so far whole; the threshold lies
    halfway between the least sure of them and the surest of the others. An exit that nobody leaves at has the threshold
    +inf, the last -inf.
    """
    wanted = (shares.double().cumsum(0) / shares.double().sum() * len(confidence)).round().long().tolist()
    thresholds = torch.full((confidence.shape[1],), torch.inf, dtype=confidence.dtype)
    left = torch.zeros(len(confidence), dtype=torch.bool)
    for exit in range(confidence.shape[1] - 1):
        leaving = wanted[exit] - int(left.sum())
        if leaving > 0:
            surest = confidence[~left, exit].sort(descending=True).values
            thresholds[exit] = (surest[leaving - 1] + surest[min(leaving, len(surest) - 1)]) / 2
            left |= confidence[:, exit] >= thresholds[exit]
    thresholds[-1] = -torch.inf
    return thresholds


def decaying(exits: int, decay: float) -> Tensor:
    """Shares (K,) of the samples that shall leave at each exit, proportional to decay^k; above 1 most leave late.

    Raises:
        ValueError: the decay is not above 0, or so large that the shares could not be told apart.
    """
    if not 0 < decay < 100:
        raise ValueError(f"exit_decay must be above 0 and below 100, got {decay}")
    shares = decay ** torch.arange(1, exits + 1, dtype=torch.float64)
    return shares / shares.sum()


def end_to_end(
    method: Method,
    groups: Iterable[dict[str, Any]],
    loss: Callable[[Batch], tuple[Tensor, dict[str, float]]],
    recipe: Recipe,
    exits: Exits | None,
    logits: Callable[[Tensor], Tensor],
    shares: Tensor,
) -> list[Stage]:
    """One stage of gradient descent; with exits a last epoch on training data held out of it, which sets them.

    logits, shares: as of `CalibrationStage`. Of a single epoch nothing is held out, and nobody leaves early.
    """
    if exits is None or recipe.epochs == 1:
        return [GradientStage("train", method, groups, loss, recipe, recipe.epochs)]
    return [
        FittingStage("train", method, groups, loss, recipe, recipe.epochs - 1),
        CalibrationStage(method, exits, logits, shares, recipe.batch, 1),
    ]


class FittingStage(GradientStage):
    """A stage of gradient descent on the training data that no `CalibrationStage` sees."""

    def view(self, split: Split) -> Split:
        """The training split without what is held out."""
        return held_out(split, least=self.recipe.batch)[0]


class CalibrationStage(Stage):
    """A stage without gradients that sets the thresholds from one or more epochs of held-out training data.

    logits: samples to the logits of every exit, (B, K, classes), in evaluation. shares: (K,), who leaves where.
    batch: of the recipe. The clips are cut as for training (at random, the last incomplete batch dropped), so that on
    centre clips the shares come out somewhat otherwise; the public code calibrates so too.
    """

    def __init__(
        self,
        method: Method,
        exits: Exits,
        logits: Callable[[Tensor], Tensor],
        shares: Tensor,
        batch: int,
        epochs: int,
    ) -> None:
        self.name, self.epochs = "calibrate", epochs
        self.method, self.exits, self.logits, self.shares, self.batch = method, exits, logits, shares, batch
        self.seen: list[Tensor] = []

    def view(self, split: Split) -> Split:
        """What is held out of the training split."""
        return held_out(split, least=self.batch)[1]

    @torch.no_grad()
    def step(self, batch: Batch) -> dict[str, float]:
        """Notes how sure every exit is of every sample."""
        self.method.eval()
        confidence = self.exits.confidence(self.logits(batch.sample)).cpu()
        self.seen.append(confidence)
        return {"confidence": float(confidence.mean())}

    def end(self) -> None:
        """Sets the thresholds."""
        if self.seen:
            self.exits.thresholds.copy_(calibrate(torch.cat(self.seen), self.shares))

    def state_dict(self) -> dict[str, Any]:
        """The confidences seen."""
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.seen = list(state["seen"])
