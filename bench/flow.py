"""Batches on their way to a method: made from videos, brought to its device, and how long the method waits for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from bench import distributed
from bench.data.sampling import Sampling, train_batches
from bench.data.split import DataError, Split
from bench.method import Batch, Method, Recipe, Stage

Item = TypeVar("Item")
MUCH, LONG = 0.2, 30.0
"""The share of the time, and the seconds, from which on waiting is worth a line."""


def stage_batches(
    stage: Stage, view: Split, method: Method, sampling: Sampling, recipe: Recipe, seed: int, first: int, size: int
) -> Iterator[tuple[int, Batch]]:
    """Numbered batches of a stage from step `first` on, `size` an epoch, on the method's device.

    All epochs come from one set of workers, which make the first batches of an epoch during the last of that before.
    """
    if first >= size * stage.epochs:
        return
    deal = distributed.own_part if stage.dealt else None
    epoch, skip = divmod(first, size)
    batches = train_batches(
        view, method.spec, sampling, recipe.batch, seed, epoch, skip, deal=deal, epochs=stage.epochs - epoch
    )
    for step, batch in enumerate(batches if distributed.place()[1] == 1 else everywhere(batches), first):
        yield step, to_device(batch, method.device)


def everywhere(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of one of several processes, each of which has as many.

    Raises:
        DataError: in all, where one could not read its next batch, or too many videos; else it would end alone, and the
            others wait for it.
    """
    waiting = iter(batches)
    while True:
        batch, fault = None, None
        try:
            batch = next(waiting, None)
        except DataError as error:
            fault = str(error)
        if distributed.anywhere(fault is not None):
            raise DataError(next(one for one in distributed.gathered(fault) if one is not None))
        if batch is None:
            return
        yield batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`, clips channels-last, which 3D convolutions run fastest in.

    From pinned memory, in which workers leave it where there is a GPU, it is copied while the device computes.
    """
    sample = batch.sample.to(device, non_blocking=True)
    if sample.dim() == 5:
        sample = sample.contiguous(memory_format=torch.channels_last_3d)
    target = batch.target
    if isinstance(target, Tensor):
        target = target.to(device, non_blocking=True)
    elif isinstance(target, list):  # the boxes of each sample
        target = [boxes.to(device, non_blocking=True) for boxes in target]
    return Batch(sample, target, batch.index)


class Waiting:
    """How much of the time of a loop goes by before it has its next item."""

    def __init__(self) -> None:
        self._began = self._lap = time.monotonic()
        self._waited = self._before = 0.0

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each waited for."""
        waiting = iter(items)
        while True:
            began = time.monotonic()
            try:
                item = next(waiting)
            except StopIteration:
                return
            finally:
                self._waited += time.monotonic() - began
            yield item

    def lap(self) -> float:
        """The share of the time since the last lap, 0..1."""
        now = time.monotonic()
        share = (self._waited - self._before) / max(now - self._lap, 1e-9)
        self._lap, self._before = now, self._waited
        return share

    def tell(self) -> None:
        """Says so in one line if it was much."""
        share = self._waited / max(time.monotonic() - self._began, 1e-9)
        if share > MUCH and self._waited > LONG:
            line = f"the model waited {share:.0%} of the time for data: --workers, --cache"
            logging.getLogger(__name__).warning("%s", line)
