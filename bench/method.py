"""The common interface: the one file that the author of a method must read.

A method is a module that says what it eats (`InputSpec`), answers with a `Prediction` that carries the
multiply-adds accounted to every sample, and says how it is trained (`stages`). In `eval()` it executes only what
it decided, and what it skipped changes nothing in its output.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bench.recipe import Recipe as Recipe

if TYPE_CHECKING:
    from bench.data import Split
    from bench.policy import Policy

Trace = Mapping[str, Tensor]
"""The decision of every sample at every decision point: name -> (B, ...); zeros where the sample did not get to it."""


@dataclass(frozen=True)
class InputSpec:
    """What one sample is.

    kind: "clip" (B, C, T, H, W), "clips" (B, N, C, T, H, W: a clip sequence or a video) or "image" (B, C, H, W).
    mean, std: of the normalisation applied to pixels in 0..1, for all channels or for each.
    unit: what the cost of one sample is stated per.
    """

    kind: Literal["clip", "clips", "image"]
    size: int
    frames: int = 1
    clips: int = 1
    channels: int = 3
    mean: float | tuple[float, ...] = 0.45
    std: float | tuple[float, ...] = 0.225
    unit: Literal["clip", "video", "image"] = "clip"

    def __post_init__(self) -> None:
        """Holds the unit against the kind.

        Raises:
            ValueError: what a sample is and what its cost is stated per do not go together.
        """
        units = {"clip": ("clip",), "clips": ("clip", "video"), "image": ("clip", "image")}
        if self.unit not in units[self.kind]:
            told = " or ".join(units[self.kind])
            raise ValueError(f"a sample of kind {self.kind!r} has its cost per {told}, not per {self.unit}")

    def shape(self, batch: int = 1) -> tuple[int, ...]:
        """The shape of `batch` samples."""
        image = (self.size, self.size)
        inner = {
            "clip": (self.channels, self.frames, *image),
            "clips": (self.clips, self.channels, self.frames, *image),
            "image": (self.channels, *image),
        }[self.kind]
        return (batch, *inner)


@dataclass
class Batch:
    """Samples as the network eats them, their targets, and their rows in the split (int64, (B,))."""

    sample: Tensor
    target: Any
    index: Tensor


@dataclass
class Prediction:
    """The answer for B samples: classes, boxes or masks, with what they cost.

    cost: int64 (B,), multiply-adds accounted to each sample, policies and cheap operations included.
    logits: (B, K). boxes: per sample (n, 7) as x1, y1, x2, y2 (pixels of the sample, on its last
    frame), confidence that anything is there, share of the class among classes, class. masks: (B, K, H, W) logits.
    """

    cost: Tensor
    trace: Trace = field(default_factory=dict)
    logits: Tensor | None = None
    boxes: Sequence[Tensor] | None = None
    masks: Tensor | None = None


class Stage(ABC):
    """One stage of training: its own view of the data, parameters, optimiser, step and saved state.

    A stage without gradients (pruning, threshold calibration) does its work in `step` or `end` in the same way.

    dealt: whether, of several processes, each gets its part of every batch; the stage then averages gradients over them
    (`bench.distributed.average_gradients`). Else each gets all of it.
    accumulate: parts of a batch that are computed one after the other; a stage that cannot cut its batches leaves it.
    """

    name: str
    epochs: int
    dealt: bool = False
    accumulate: int = 1

    def view(self, split: Split) -> Split:
        """The data that this stage sees of the training split; by default all of it."""
        return split

    def begin(self, steps: int) -> None:
        """Called once before the first of `steps` steps, also before a resumed stage's state is loaded."""

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, float]:
        """Does one training step and returns what to log."""

    def end(self) -> None:
        """Called once after the last step."""

    def state_dict(self) -> dict[str, Any]:
        """Everything but the method's weights that the next step depends on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""


class Method(nn.Module, ABC):
    """A network with its policy, as the harness sees it.

    revision: raised by hand whenever the method's results change; results of another revision are never mixed.
    exact: whether what is accounted is what runs. Element-wise gates and scattered zeros cannot be skipped by dense
    kernels: such a method executes more than it accounts, and says so here.
    steady: whether batches of one shape run the same few shapes within, so that a library may try its algorithms on
    each when it first comes.
    """

    spec: InputSpec
    revision: int = 1
    exact: bool = True
    steady: bool = False

    @abstractmethod
    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Predicts for samples of `spec.shape(B)`; `policy` overrides the learned decisions."""

    @abstractmethod
    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The stages of training, whose epochs add up to `recipe.epochs`."""

    def decisions(self) -> Mapping[str, Tensor]:
        """Every decision point with the decisions that can be forced there: name -> (options, ...).

        The first option is the dearest (compute everything), the last the cheapest. What is forced may have size 1 in
        dimensions in which the trace is larger. Empty: a static method.
        """
        return {}

    def account(self, trace: Trace) -> Tensor:
        """Multiply-adds (B,) that the decisions of `trace` cost, without running anything.

        Raises:
            ValueError: the method takes no decisions.
        """
        raise ValueError(f"{type(self).__name__} takes no decisions that could be accounted")

    def optimised(self) -> Method:
        """A copy in the fastest form known, for `eval()` only: the same decisions, answers and cost, to rounding.

        A static twin gets every optimisation that is not the method's own, or a ratio of speeds means nothing.
        """
        return copy.deepcopy(self).eval()

    def details(self) -> dict[str, Any]:
        """What else a record of the trained method should say, as JSON can: finite numbers, texts, lists, dictionaries.

        Also asked of a method that is not trained yet.

        "units": of a method whose convolutions decide what they compute, one `bench.inspection.store.Unit` each.
        """
        return {}

    @property
    def parameter_count(self) -> int:
        """Trainable parameters, the policy's included; those that are left, where some are cut."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
