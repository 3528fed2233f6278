"""What experiments will take on this machine, from a few steps of each: time and memory, before they are run."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from bench.data.sampling import test_batches, train_batches, train_steps
from bench.experiment.plan import Experiment
from bench.experiment.run import Run
from bench.flow import to_device
from bench.inference.convolution import settle
from bench.method import Batch
from bench.profiles import Profile

STEPS, TOGETHER = 3, 4


@dataclass(frozen=True)
class Estimate:
    """One experiment, as measured on one device with one process that reads and computes in turns.

    Seconds of reading and computing a batch of the training and a test clip, and how many steps and clips there are.
    batch: samples of a step. gradients: their bytes, single precision. memory: the most in bytes so far, of the GPU
    where there is one, else of the process.
    """

    experiment: Experiment
    reading: float
    computing: float
    steps: int
    clip_reading: float
    clip_computing: float
    clips: int
    batch: int
    gradients: int
    memory: int

    @property
    def step(self) -> float:
        """Seconds of a training step, reading its batch included."""
        return self.reading + self.computing

    @property
    def clip(self) -> float:
        """Seconds of a test clip, reading included."""
        return self.clip_reading + self.clip_computing

    @property
    def hours(self) -> float:
        """Of training and one reading of the test set, on one device of this kind."""
        return (self.step * self.steps + self.clip * self.clips) / 3600


def estimate(
    experiments: Sequence[Experiment], profile: Profile, data_root: Path | None, folder: Path
) -> list[tuple[Estimate, int]]:
    """An estimate for each kind of experiment, and for how many seeds it stands.

    Raises:
        DataError: the data cannot be read.
    """
    seeds: dict[Experiment, int] = {}
    for one in experiments:
        kind = Experiment(one.method, one.options, one.frames, 0)
        seeds[kind] = seeds.get(kind, 0) + 1
    return [(_one(Run(kind, profile, folder, data_root)), count) for kind, count in seeds.items()]


def _one(run: Run) -> Estimate:
    """From a few steps of the first stage, and a few test clips."""
    recipe, views, data = run.profile.recipe, run.profile.views, run.dataset
    reading, computing = _step(run)
    clip_reading, clip_computing = _clip(run)
    shown = views.video_videos or len(data.test)
    return Estimate(
        run.experiment,
        reading,
        computing,
        sum(train_steps(stage.view(data.train), recipe.batch) * stage.epochs for stage in run.method.stages(recipe)),
        clip_reading,
        clip_computing,
        (views.clip_videos or len(data.test)) + shown * views.clips * views.crops,
        recipe.batch,
        4 * run.method.parameter_count,
        _memory(run.method.device),
    )


def _step(run: Run) -> tuple[float, float]:
    """Seconds of reading and of computing a training step; the first, which warms up, is left out."""
    recipe = run.profile.recipe
    stage = next(stage for stage in run.method.stages(recipe) if stage.epochs)
    stage.begin(STEPS)
    view = stage.view(run.dataset.train)
    batches = train_batches(view, run.method.spec, run.sampling, recipe.batch, 0, 0, workers=0)
    taken = _timed(islice(batches, STEPS), run.method.device, stage.step)
    return min(taken[1:] or taken, key=sum)


@torch.no_grad()
def _clip(run: Run) -> tuple[float, float]:
    """Seconds of reading and of computing a test clip."""
    method, data = run.method.eval(), run.dataset.test
    order = torch.arange(len(data)).numpy()
    taken = list[tuple[float, float]]()
    for rows in (order[:TOGETHER], order[-TOGETHER:]):  # others than those that warmed up: a reader may keep those
        batches = test_batches(data, method.spec, run.sampling, 1, 1, TOGETHER, rows, workers=0)
        taken += _timed(batches, method.device, lambda batch: method(batch.sample))
    reading, computing = taken[-1]
    return reading / len(rows), computing / len(rows)


def _timed(
    batches: Iterator[Batch], device: torch.device, work: Callable[[Batch], object]
) -> list[tuple[float, float]]:
    """Seconds of reading each batch, and of the work on it, its way to the device included."""
    taken, start = list[tuple[float, float]](), time.perf_counter()
    for batch in batches:
        read = time.perf_counter()
        work(placed := to_device(batch, device))
        settle(placed.sample)
        now = time.perf_counter()
        taken, start = [*taken, (read - start, now - read)], now
    return taken


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
