"""Real clips, dealt to the rounds of a timing: those of the warm-up apart, and every batch a new one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.sampling import Sampling, test_batches
from bench.data.split import Split
from bench.flow import to_device
from bench.method import Batch, InputSpec, Method
from bench.policy import Forced, Policy
from bench.speed.record import SpeedError

Stream = Literal["warm", "timed"]
POOL_BYTES = 512 << 20  # of different clips, as float32
DIMMED = 127 / 128  # by which a clip is darker every time it comes again: new to any cache, the same to a network


@dataclass(frozen=True)
class Given:
    """What an arm is called with: the round's batch, or what reads it, and row for row its decisions."""

    sample: Tensor | Callable[[], Tensor]
    policy: Policy


@dataclass(frozen=True)
class Videos:
    """Rows of a split, those of the warm-up apart from those that are timed."""

    split: Split
    warm: NDArray[np.int64]
    timed: NDArray[np.int64]


def choose(split: Split, specs: Iterable[InputSpec], clips: int, seed: int) -> Videos:
    """Enough videos for `clips` different clips of each spec, as far as there are any and memory allows.

    Raises:
        SpeedError: the split has a single video.
    """
    size = max(4 * math.prod(spec.shape(1)) for spec in specs)
    rows = np.random.default_rng(seed).permutation(len(split))[: max(4, min(clips * 4 // 3, POOL_BYTES // size))]
    if len(rows) < 2:
        raise SpeedError(f"a split of {len(split)} videos cannot be parted into warm-up and timing")
    warm = max(1, len(rows) // 4)
    return Videos(split, rows[:warm], rows[warm:])


class Inputs:
    """The centre clips of some videos as samples of one spec, in batches.

    Batch n of either stream holds its clips n·B to (n+1)·B - 1; where there are no more it starts again, darker.
    """

    def __init__(self, videos: Videos, spec: InputSpec, sampling: Sampling, batch: int, device: torch.device) -> None:
        self.videos, self.spec, self.sampling, self.batch, self.device = videos, spec, sampling, batch, device
        self.clips = {"warm": self._read(videos.warm).to(device), "timed": self._read(videos.timed).to(device)}

    def positions(self, number: int) -> Tensor:
        """The place of each sample of batch `number` in the whole sequence, (B,): what decisions are dealt by."""
        return torch.arange(number * self.batch, (number + 1) * self.batch)

    def dealt(self, number: int, stream: Stream) -> Tensor:
        """A fresh copy of batch `number` of a stream."""
        clips, places = self.clips[stream], self.positions(number)
        return _dimmed(clips[(places % len(clips)).to(self.device)], places // len(clips))

    def decoded(self, number: int) -> Tensor:
        """Batch `number` of the timed stream, the same as it is dealt, read from the videos now."""
        rows, places = self.videos.timed, self.positions(number)
        sample = self._read(rows[places.numpy() % len(rows)]).to(self.device)
        return _dimmed(sample, places // len(rows))

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        batches = test_batches(self.videos.split, self.spec, self.sampling, 1, 1, 16, rows)
        return torch.cat([batch.sample for batch in batches])


def _dimmed(sample: Tensor, turn: Tensor) -> Tensor:
    """Clips (B, ...) that have come `turn` times before, (B,), each as dark as that makes it."""
    if not bool(turn.any()):
        return sample
    return sample * DIMMED ** turn.view(-1, *(1,) * (sample.dim() - 1)).to(sample.device)


def laid_out(sample: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """The same clips in the precision and memory layout that an arm takes; a copy of its own unless nothing changes."""
    sample = sample.to(dtype)
    return to_device(Batch(sample, None, torch.empty(0)), sample.device).sample if channels_last else sample


def placed(policy: Policy, method: Method, dtype: torch.dtype) -> Policy:
    """Forced decisions where the method computes, so that no transfer is timed; others as they are."""
    if not isinstance(policy, Forced):
        return policy
    return Forced({point: rows.to(method.device, dtype) for point, rows in policy.trace.items()})
