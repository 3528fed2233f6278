"""Training: stages in order, checkpoints that survive any kill, a log as JSON lines."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench import distributed
from bench.data.sampling import Sampling, train_batches, train_steps
from bench.data.split import Split
from bench.events import Events
from bench.method import Batch, Method, Recipe, Stage
from bench.records import write_atomically


class TrainingError(Exception):
    """Training cannot go on; the message says where and why."""


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message names the file."""


def bf16_on_cpu() -> bool:
    """Whether the processor itself computes in bf16; where it does not, oneDNN's weight gradients come out wrong."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


class GradientStage(Stage):
    """A stage of stochastic gradient descent with Nesterov momentum, linear warm-up and the recipe's schedule to zero.

    Of a recipe's batch each of several processes takes its part, and gradients are averaged; `accumulate` cuts that
    part into as many smaller ones, whose gradients add up.

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
        half = torch.autocast(batch.sample.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
        self.optimiser.zero_grad()
        found = []
        for part in parts(batch, self.recipe.accumulate):
            with half:
                loss, logged = self.loss(part)
            share = len(part.index) / len(batch.index)
            (share * loss).backward()  # type: ignore[no-untyped-call]
            found.append((share, {"loss": float(loss.detach()), **logged}))
        trained = [weight for group in self.groups for weight in group["params"]]  # others may keep old gradients
        distributed.average_gradients(trained)
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(trained, self.recipe.clip_norm)
        self.optimiser.step()
        self.done += 1
        return {**{name: sum(share * values[name] for share, values in found) for name in found[0][1]}, "lr": rate}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's moments and the step."""
        return {"optimiser": self.optimiser.state_dict(), "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]


def parts(batch: Batch, count: int) -> list[Batch]:
    """The batch in at most `count` parts that are as equal as can be."""
    if count == 1:
        return [batch]
    edges = [number * len(batch.index) // count for number in range(count + 1)]
    spans = [slice(low, high) for low, high in pairwise(edges) if high > low]
    return [Batch(batch.sample[span], batch.target[span], batch.index[span]) for span in spans]


def schedule(share: float, warmup: float, fall: Literal["cosine", "poly"] = "cosine") -> float:
    """Learning-rate factor after `share` of the steps: linear from a hundredth, over `warmup`, then half a cosine, or
    the power 0.9 of what is left (DeepLab, Chen et al., TPAMI 2018).
    """
    if share < warmup:
        return max(0.01, share / warmup)
    gone = (share - warmup) / (1 - warmup)
    return (1 - gone) ** 0.9 if fall == "poly" else 0.5 * (1 + math.cos(math.pi * gone))


class Checkpoint:
    """The one file from which training goes on: weights, the stage's state, random state, position."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, method: Method, stage: int, step: int, state: dict[str, Any]) -> None:
        """Writes it whole or not at all; of several processes the first does."""
        if not distributed.first():
            return
        content = {"stage": stage, "step": step, "state": state, "weights": method.state_dict(), "random": _random()}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(self.path, buffer.getvalue())

    def load(self, method: Method) -> dict[str, Any]:
        """Restores the weights; gives stage, step, the stage's state and the random state ({} if there is no file).

        Raises:
            CheckpointError: the file is truncated, holds code, or belongs to another network.
        """
        if not self.path.exists():
            return {}
        try:
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            method.load_state_dict(content["weights"])
            return {key: content[key] for key in ("stage", "step", "state", "random")}
        except Exception as error:  # whatever a broken or foreign file provokes
            reason = str(error).splitlines()[0][:200]
            message = f"{self.path}: not a checkpoint of this method: {reason}; delete it to start anew"
            raise CheckpointError(message) from None


def _random() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class Log:
    """Metrics as JSON lines, with TensorBoard events beside them where that is installed.

    What was written after the checkpoint that training goes on from is dropped.
    """

    def __init__(self, path: Path, stage: int, step: int) -> None:
        self.path = path
        if not distributed.first():
            return
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _before(line, stage, step)]
        write_atomically(path, "".join(line + "\n" for line in kept).encode())
        self.events = Events(path.parent / "tensorboard", map(json.loads, kept))

    def write(self, **values: Any) -> None:
        """Appends one line."""
        if not distributed.first():
            return
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        self.events.write(values)


def _before(line: str, stage: int, step: int) -> bool:
    try:
        entry = json.loads(line)
        return (entry["stage"], entry["step"]) <= (stage, step)
    except (ValueError, KeyError):  # a line cut off by a kill
        return False


def train(
    method: Method,
    split: Split,
    sampling: Sampling,
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    progress: Callable[[float], None] = lambda share: None,
    save_every: float = 60.0,
    log_every: int = 20,
    stop_after: int | None = None,
) -> None:
    """Runs every stage of `method`, or goes on from `folder`/checkpoint.pt; ends with the trained weights there.

    save_every: seconds between checkpoints. progress: called with the share done. stop_after: steps after which to
    return early, checkpoint written (to spread a training over several calls).

    Raises:
        TrainingError: the loss is not finite.
        CheckpointError: the checkpoint cannot be used.
    """
    checkpoint, stages = Checkpoint(folder / "checkpoint.pt"), method.stages(recipe)
    last = checkpoint.load(method)
    at_stage, at_step = last.get("stage", 0), last.get("step", 0)
    log, saved, ran = Log(folder / "log.jsonl", at_stage, at_step), time.monotonic(), 0
    views = [stage.view(split) for stage in stages]
    sizes = [train_steps(view, recipe.batch) for view in views]
    total = max(1, sum(size * stage.epochs for size, stage in zip(sizes, stages, strict=True)))
    for number in range(at_stage, len(stages)):
        stage, size = stages[number], sizes[number]
        stage.begin(size * stage.epochs)
        if number == at_stage and last:
            if last["state"]:
                stage.load_state_dict(last["state"])
            _restore_random(last["random"])  # last: what `begin` draws must not move it
        distributed.share_state(method)
        distributed.part_random()
        first = at_step if number == at_stage else 0
        before = sum(size * stage.epochs for size, stage in zip(sizes[:number], stages, strict=False))
        for step, batch in _batches(stage, views[number], method, sampling, recipe, seed + 1000 * number, first, size):
            with distributed.synced_norms(method):
                values = distributed.average_values(stage.step(batch))
            if not all(math.isfinite(value) for value in values.values()):
                raise TrainingError(f"stage {stage.name}, step {step}: not finite: {values}")
            done, ran = step + 1, ran + 1
            progress((before + done) / total)
            if done % log_every == 0:
                log.write(stage=number, name=stage.name, step=done, **values)
            stopping = ran == stop_after
            if stopping or time.monotonic() - saved > save_every:
                checkpoint.save(method, number, done, stage.state_dict())
                saved = time.monotonic()
            if stopping:
                distributed.wait()
                return
        stage.end()
        distributed.share_state(method)
    checkpoint.save(method, len(stages), 0, {})
    distributed.wait()


def _batches(
    stage: Stage, view: Split, method: Method, sampling: Sampling, recipe: Recipe, seed: int, first: int, size: int
) -> Iterable[tuple[int, Batch]]:
    """Numbered batches of a stage from step `first` on, on the method's device."""
    for epoch in range(first // size, stage.epochs):
        skip = max(0, first - epoch * size)
        deal = distributed.own_part if stage.dealt else None
        batches = train_batches(view, method.spec, sampling, recipe.batch, seed, epoch, skip, deal=deal)
        for offset, batch in enumerate(batches):
            yield epoch * size + skip + offset, to_device(batch, method.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`, clips channels-last, which 3D convolutions run fastest in."""
    sample = batch.sample.to(device)
    if sample.dim() == 5:
        sample = sample.contiguous(memory_format=torch.channels_last_3d)
    target = batch.target
    if isinstance(target, Tensor):
        target = target.to(device)
    elif isinstance(target, list):  # the boxes of each sample
        target = [boxes.to(device) for boxes in target]
    return Batch(sample, target, batch.index)
