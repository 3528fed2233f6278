"""Training: stages in order, with checkpoints that survive any kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import distributed
from bench.checkpoint import Checkpoint, CheckpointError, Log, restore_random
from bench.data.sampling import Sampling, train_steps
from bench.data.split import Split
from bench.flow import Waiting, stage_batches
from bench.logged import LogError, hold
from bench.method import Batch, Method, Recipe, Stage
from bench.not_finite import Moment, keep
from bench.whole_batch import synced_norms

ACCUMULATE = "accumulate"
"""Beside the stage's state in a checkpoint: the parts that batches are computed in."""

UNREADABLE = "left_out"
"""Beside what a step logs, until all processes have heard: whether one of them found unreadable videos."""


class TrainingError(Exception):
    """Training cannot go on; the message says where and why. accumulate: as it was in force, 0 outside a step."""

    def __init__(self, message: str, accumulate: int = 0) -> None:
        super().__init__(message)
        self.accumulate = accumulate


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
) -> int:
    """Runs every stage of `method`, or goes on from `folder`/checkpoint.pt; ends with the trained weights there.

    Gives in how many parts each process computed its batches in the end: `recipe.accumulate`, or more where memory did
    not suffice. It is kept with the checkpoint, so that what goes on does not fail first.

    save_every: seconds between checkpoints. progress: called with the share done. stop_after: steps after which to
    return early, checkpoint written (to spread a training over several calls).

    Raises:
        TrainingError: the loss or its gradient is not finite; the batch is kept (`bench.not_finite`).
        MemoryShortError: memory does not suffice for a single sample.
        CheckpointError: the checkpoint cannot be used.
        DataError: too many videos turn out unreadable, in all processes together.
    """
    course = _Course(method, split, sampling, recipe, seed, folder, progress, save_every, log_every, stop_after)
    return course.run()


@dataclass
class _Course:
    """A training under way: what is asked for, as `train` says it, and what stages leave to those after them."""

    method: Method
    split: Split
    sampling: Sampling
    recipe: Recipe
    seed: int
    folder: Path
    progress: Callable[[float], None]
    save_every: float
    log_every: int
    stop_after: int | None

    def run(self) -> int:
        """Runs what is left; gives in how many parts batches were computed in the end."""
        self.checkpoint, self.stages = Checkpoint(self.folder / "checkpoint.pt"), self.method.stages(self.recipe)
        self.last = self.checkpoint.load(self.method)
        self.at_stage, self.at_step = self.last.get("stage", 0), self.last.get("step", 0)
        self.state = dict(self.last.get("state", {}))
        self.accumulate = int(self.state.pop(ACCUMULATE, self.recipe.accumulate))
        self.views = [stage.view(self.split) for stage in self.stages]
        self.sizes = [train_steps(view, self.recipe.batch) for view in self.views]
        self._check_position()
        self.log = Log(self.folder / "log.jsonl", self.at_stage, self.at_step)
        if self.at_stage == len(self.stages):  # to the end already
            restore_random(self.last["random"])
            return self.accumulate
        self.saved, self.ran, self.waiting = time.monotonic(), 0, Waiting()
        if all(self._stage(number) for number in range(self.at_stage, len(self.stages))):
            self.checkpoint.save(self.method, len(self.stages), 0, {ACCUMULATE: self.accumulate})
            self.waiting.tell()
        distributed.wait()
        return self.accumulate

    def _check_position(self) -> None:
        """Refuses a checkpoint that stands where this course does not lead, as one of an earlier version may."""
        steps = [size * stage.epochs for size, stage in zip(self.sizes, self.stages, strict=True)]
        known = dict(enumerate([*steps, 0]))
        if not 0 <= self.at_step <= known.get(self.at_stage, -1):
            place = f"step {self.at_step} of stage {self.at_stage}, where the stages have {steps} steps"
            raise CheckpointError(f"{self.checkpoint.path}: stands at {place}; delete it to start anew")

    def _stage(self, number: int) -> bool:
        """Runs one stage, or what is left of it; whether it came to its end."""
        stage, view, size = self.stages[number], self.views[number], self.sizes[number]
        first = self._begun(number)
        steps = [size * stage.epochs for size, stage in zip(self.sizes, self.stages, strict=True)]
        before, total = sum(steps[:number]), max(1, sum(steps))
        seed = self.seed + 1000 * number
        batches = stage_batches(stage, view, self.method, self.sampling, self.recipe, seed, first, size)
        for step, batch in self.waiting.over(batches):
            moment = Moment(stage.name, step, step // size)
            values = _stepped(stage, self.method, view, batch, moment, self.folder)
            self.accumulate, done, self.ran = stage.accumulate, step + 1, self.ran + 1
            self.progress((before + done) / total)
            if done % self.log_every == 0:
                waited = round(self.waiting.lap(), 3)
                self.log.write(stage=number, name=stage.name, step=done, **values, waited=waited)
            stopping = self.ran == self.stop_after
            if stopping or time.monotonic() - self.saved > self.save_every:
                state = {**stage.state_dict(), ACCUMULATE: self.accumulate}
                self.checkpoint.save(self.method, number, done, state)
                self.saved = time.monotonic()
            if stopping:
                return False
        stage.end()
        distributed.share_state(self.method)
        return True

    def _begun(self, number: int) -> int:
        """Begins a stage, with what a checkpoint left of it; gives its first step."""
        stage, resumed = self.stages[number], number == self.at_stage and bool(self.last)
        stage.begin(self.sizes[number] * stage.epochs)
        stage.accumulate = max(stage.accumulate, self.accumulate)
        if resumed:
            if self.state:
                stage.load_state_dict(self.state)
            restore_random(self.last["random"])  # last: what `begin` draws must not move it
        distributed.share_state(self.method)
        distributed.part_random()
        return self.at_step if resumed else 0


def _stepped(stage: Stage, method: Method, view: Split, batch: Batch, moment: Moment, folder: Path) -> dict[str, float]:
    """One step, in all processes together; gives the means of what they log.

    Raises:
        TrainingError: a value is not finite, or the log cannot take it.
        DataError: too many videos turned out unreadable.
    """
    with synced_norms(method):
        try:
            own = stage.step(batch)
            hold(own)
        except LogError as error:
            raise TrainingError(f"{moment}: {error}", stage.accumulate) from error
    values = distributed.average_values({**own, UNREADABLE: float(distributed.unheard_of(view))})
    if values.pop(UNREADABLE):
        distributed.agree_on_left_out(view)
    if not all(math.isfinite(value) for value in values.values()):
        where = keep(folder, moment, batch, view, own)
        wrong = ", ".join(f"{name} {value}" for name, value in values.items() if not math.isfinite(value))
        raise TrainingError(f"{moment}: not finite: {wrong}; {where}", stage.accumulate)
    return values
