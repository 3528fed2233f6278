"""What experiments will take on this machine, from a few steps of each: time and memory, before they are run."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from bench.data.sampling import test_batches, train_batches, train_steps
from bench.experiment import Experiment, Run
from bench.inference.convolution import settle
from bench.profiles import Profile
from bench.training import to_device

STEPS, TOGETHER = 3, 4


@dataclass(frozen=True)
class Estimate:
    """One experiment. Seconds of a training step (reading its batch included, to one process) and of a test clip, and
    how many of each there are; the most memory in bytes, of the GPU where there is one, else of the process.
    """

    experiment: Experiment
    step: float
    steps: int
    clip: float
    clips: int
    memory: int

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
    step, views, data = _step(run), run.profile.views, run.dataset
    shown = views.video_videos or len(data.test)
    steps = sum(
        train_steps(stage.view(data.train), run.profile.recipe.batch) * stage.epochs
        for stage in run.method.stages(run.profile.recipe)
    )
    clips = (views.clip_videos or len(data.test)) + shown * views.clips * views.crops
    return Estimate(run.experiment, step, steps, _clip(run), clips, _memory(run.method.device))


def _step(run: Run) -> float:
    """Seconds of a training step; the first, which warms up, is left out."""
    recipe, device = run.profile.recipe, run.method.device
    stage = next(stage for stage in run.method.stages(recipe) if stage.epochs)
    stage.begin(STEPS)
    batches = train_batches(stage.view(run.dataset.train), run.method.spec, run.sampling, recipe.batch, 0, 0)
    taken, start = list[float](), time.perf_counter()
    for batch in islice(batches, STEPS):
        sample = to_device(batch, device)
        stage.step(sample)
        settle(sample.sample)
        now = time.perf_counter()
        taken, start = [*taken, now - start], now
    return min(taken[1:] or taken)


@torch.no_grad()
def _clip(run: Run) -> float:
    """Seconds of a test clip."""
    method, data = run.method.eval(), run.dataset.test
    order = torch.arange(len(data)).numpy()
    taken = 0.0
    for rows in (order[:TOGETHER], order[-TOGETHER:]):  # others than those that warmed up: a reader may keep those
        start = time.perf_counter()
        for batch in test_batches(data, method.spec, run.sampling, 1, 1, TOGETHER, rows):
            sample = to_device(batch, method.device).sample
            method(sample)
            settle(sample)
        taken = (time.perf_counter() - start) / len(rows)
    return taken


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
