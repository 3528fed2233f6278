"""What the output of a network answers: classes, boxes or masks; its loss, and how right an answer is.

A network that is no plain classifier carries its task as an attribute `task`; everything that trains or evaluates a
network asks `task_of`, so that a method written for classifiers also trains a detector or a segmenter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.method import Batch


class Task(ABC):
    """What the output of a network answers. Targets are as in `bench.data.sampling`."""

    kind: Literal["classes", "boxes", "masks"]

    @abstractmethod
    def loss(self, output: Any, target: Any) -> Tensor:
        """The mean loss of a batch."""

    @abstractmethod
    def right(self, output: Any, target: Any) -> Tensor:
        """How right each sample's answer is, float (B,) in 0..1, without a gradient."""

    @abstractmethod
    def answer(self, output: Any) -> dict[str, Any]:
        """The fields of a `Prediction` that answer."""


class Classification(Task):
    """One of K classes: output (B, K) logits, target int64 (B,)."""

    kind = "classes"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(output, target)

    @torch.no_grad()
    def right(self, output: Tensor, target: Tensor) -> Tensor:
        """1 where the largest logit names the class."""
        return (output.argmax(1) == target).float()

    def answer(self, output: Tensor) -> dict[str, Any]:
        """Class logits."""
        return {"logits": output}


CLASSIFICATION = Classification()


def task_of(network: nn.Module) -> Task:
    """The task that a network says it has; a classifier says none."""
    task: Task = getattr(network, "task", CLASSIFICATION)
    return task


def task_loss(network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss of a batch under the network's task, and how right each answer is, (B,).

    A network with heads that act in training only has `training_logits(x)`: the weight of its loss and the output of
    each, its own first (TPN's auxiliary head, deep supervision).
    """
    task, every = task_of(network), getattr(network, "training_logits", None)
    heads = every(batch.sample) if every else [(1.0, network(batch.sample))]
    loss = torch.stack([weight * task.loss(output, batch.target) for weight, output in heads]).sum()
    return loss, task.right(heads[0][1], batch.target)


def logged_loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """As a `GradientStage` takes it: `task_loss`, and "correct", how right the answers are on average."""
    loss, right = task_loss(network, batch)
    return loss, {"correct": float(right.mean())}
