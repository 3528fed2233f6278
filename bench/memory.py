"""Too little memory on a device: what is computed at once is halved and computed again, the rest stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Generic, TypeVar

import torch

from bench.checkpoint import random_state, restore_random
from bench.distributed import EXCHANGES, anywhere, first, gathered, place
from bench.lost_gpu import gpu_lost
from bench.method import Batch, Method
from bench.short_of_memory import short_of_memory

Answer = TypeVar("Answer")


class MemoryShortError(Exception):
    """Memory does not suffice for a single sample; one line. No result is stored: a larger device may have one."""


def parts(batch: Batch, count: int) -> list[Batch]:
    """The batch in at most `count` parts that are as equal as can be."""
    if count == 1:
        return [batch]
    edges = [number * len(batch.index) // count for number in range(count + 1)]
    spans, target = [slice(low, high) for low, high in pairwise(edges) if high > low], batch.target
    return [Batch(batch.sample[span], None if target is None else target[span], batch.index[span]) for span in spans]


class Before:
    """What computing gradients changes besides them, random numbers and running statistics, as it was."""

    def __init__(self, method: Method) -> None:
        self.method, self.random = method, random_state()
        self.buffers = [buffer.clone() for buffer in method.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Puts it back."""
        restore_random(self.random)
        for buffer, value in zip(self.method.buffers(), self.buffers, strict=True):
            buffer.copy_(value)


def fitting(work: Callable[[], Answer]) -> Answer | MemoryShortError:
    """The answer, or where memory did not suffice for it, an error that says what torch said."""
    try:
        return work()
    except RuntimeError as error:
        if not short_of_memory(error) or gpu_lost():  # then cuBLAS says so too
            raise
        short = MemoryShortError(str(error).partition("\n")[0][:200])
    # above, the error still held on to what was computed
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return short


def fitting_everywhere(work: Callable[[], Answer], motions: Callable[[], object]) -> Answer | MemoryShortError:
    """The answer, or in every process an error, where memory did not suffice in one of them.

    Inside `work` processes exchange figures (`bench.distributed.Exchanges`), and each waits for all. One that fails
    half-way therefore goes through the `motions`: the same exchanges in the same order, with hardly any data, and
    without those that it has made already. What the others get from it means nothing, and all forget it.

    Raises:
        RuntimeError: not even the motions can be gone through (`bench.short_of_memory`).
    """
    EXCHANGES.made, EXCHANGES.feigned = 0, 0
    answer = fitting(work)
    short = isinstance(answer, MemoryShortError)
    if short and place()[1] > 1:
        EXCHANGES.made, EXCHANGES.feigned = 0, EXCHANGES.made
        motions()
        EXCHANGES.feigned = 0
    elsewhere = anywhere(short)  # which all ask
    return MemoryShortError("in another process") if elsewhere and not short else answer


def tell(line: str) -> None:
    """Says once, of several processes by the first, that memory does not suffice."""
    if first():
        logging.getLogger(__name__).warning("%s", line)


class Halving(Generic[Answer]):
    """Answers to batches, a part at a time: whole ones as long as memory suffices, from then on halves, and so on.

    what: is computed, for people.
    """

    def __init__(self, what: str, work: Callable[[Batch], Answer]) -> None:
        self.what, self.work = what, work
        self._most: int | None = None

    def __call__(self, batch: Batch) -> list[Answer]:
        """The answers to the parts of a batch, in order.

        Raises:
            MemoryShortError: memory does not suffice for one sample.
        """
        left, answers = [batch], list[Answer]()
        while left:
            part = left.pop(0)
            if self._most and len(part.index) > self._most:
                left = parts(part, -(-len(part.index) // self._most)) + left
                continue
            answer = fitting(lambda part=part: self.work(part))  # type: ignore[misc]
            if isinstance(answer, MemoryShortError):
                self._halve(len(part.index), answer)
                left = [part, *left]
            else:
                answers.append(answer)
        return answers

    def _halve(self, samples: int, short: MemoryShortError) -> None:
        if samples == 1:
            raise MemoryShortError(f"{self.what}: out of memory with a single sample: {short}")
        self._most = -(-samples // 2)
        who = "" if first() else f"process {place()[0]}: "  # each halves by itself
        line = f"{who}{self.what}: out of memory with {samples} samples at once: at most {self._most} from here on"
        logging.getLogger(__name__).warning("%s", line)

    def most(self, batch: int) -> int:
        """Samples computed at once in the end, where `batch` were asked for: the fewest of all processes."""
        return min(gathered(min(batch, self._most or batch)))
