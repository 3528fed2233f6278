"""Several processes as one, started by torchrun: who does which part, and what all of them know together.

Without torchrun there is one process, which does everything. Data and results are in folders that all processes see.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store
from torch.distributed.rendezvous import rendezvous

from bench.short_of_memory import short_of_memory

Item = TypeVar("Item")
Answer = TypeVar("Answer")
PATIENCE = timedelta(hours=2)
"""For the others: one process writes a checkpoint, or builds the data set's index, while they wait.

A process that ends, however it does, closes its connections, and the others learn of it at once: in exchanges of
gloo. Inside one of NCCL they wait until torchrun, which sees that end too, ends them.
"""
GONE = (
    "connection", "connect ", "timeout", "timed out", "broken pipe", "by peer", "socket", "read error", "write error",
    "remote process",
)  # fmt: skip
"""Words of the backends, in small letters, where a process has closed its connections or is silent."""
WORD = "why a process ended"
"""The key of the line that a process leaves for the others in the store in which they met."""


class DistributedError(Exception):
    """The processes cannot work together; the message says why."""


@dataclass
class Exchanges:
    """Those inside a step, which synchronised normalisation makes; all processes make the same ones in one order.

    made: since this was set to zero. feigned: so many of them, from zero on, are not made but seem to be.
    """

    made: int = 0
    feigned: int = 0


EXCHANGES = Exchanges()


@contextmanager
def _exchange() -> Iterator[None]:
    """Inside, processes exchange something; of one that is gone the others speak in one line.

    Raises:
        DistributedError: one is gone, or has not answered for as long as `PATIENCE` lasts; or the exchange failed.
    """
    try:
        yield
    except RuntimeError as error:  # whatever the backend makes of it
        if short_of_memory(error):
            raise
        raise DistributedError(f"process {place()[0]}: {_said(error)}") from None


def _said(error: RuntimeError) -> str:
    """What an error of an exchange means."""
    reason = str(error).partition("\n")[0]
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError) or any(one in reason.lower() for one in GONE):
        again = "the same command goes on from the last checkpoint"
        word = _word_left()
        return f"{word}; {again}" if word else f"another process is gone or does not answer; {again} ({reason[:120]})"
    return f"an exchange with the other processes failed: {reason[-120:]}"


@contextmanager
def joined() -> Iterator[None]:
    """Inside, this process is one of those that torchrun started, with a GPU of its own where there are GPUs."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2 or dist.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    started = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # it has the last's
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=started, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield
    except Exception as error:
        _leave_word(error)
        raise
    finally:
        dist.destroy_process_group()


def _leave_word(error: Exception) -> None:
    """Lets the others know why this process ends, before it closes its connections; who ends first is believed.

    An exchange that failed is no reason: another process was gone before.
    """
    ends_well = getattr(error, "exit_code", None) == 0  # the command line's way to end is an exception too
    if not ends_well and not isinstance(error, DistributedError):
        line = " ".join(str(error).split())[:300] or type(error).__name__
        with suppress(RuntimeError):  # what keeps the word may be gone as well
            _get_default_store().compare_set(WORD, "", f"process {place()[0]} ended: {line}")


def _word_left() -> str:
    """What the first process that ended said of it; "" where it could not say anything."""
    with suppress(RuntimeError, ValueError):
        store = _get_default_store()
        if store.check([WORD]):
            return str(store.get(WORD).decode())
    return ""


def place() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def first() -> bool:
    """Whether this is the process that writes files and talks."""
    return place()[0] == 0


def own_part(batch: NDArray[np.int64]) -> NDArray[np.int64]:
    """This process's equal part of a training batch.

    Raises:
        DistributedError: it cannot be divided equally.
    """
    rank, size = place()
    if len(batch) % size:
        raise DistributedError(f"batch: {len(batch)} samples cannot be divided equally among {size} processes")
    each = len(batch) // size
    return batch[rank * each : (rank + 1) * each]


def in_turns(items: Callable[[int, int], Iterable[Item]], work: Callable[[Item], Answer]) -> Iterator[Answer]:
    """The answers of `work` to all items, in the order of one process, in every process; each does its own.

    items: given (rank, size), every size-th of the items from number `rank` on. What is wrong with one, if that is an
    error of ours, is raised in all.
    """
    rank, size = place()
    own = iter(items(rank, size))
    if size == 1:
        yield from map(work, own)
        return
    while True:
        parts: list[Any] = [None] * size
        mine = _next(own, work)
        with _exchange():
            dist.all_gather_object(parts, mine)
        for _, fault in parts:
            if fault is not None:
                raise fault
        answers = [answer[0] for answer, _ in parts if answer]
        if not answers:
            return
        yield from answers


def _next(own: Iterator[Item], work: Callable[[Item], Answer]) -> tuple[list[Answer], Exception | None]:
    """The answer to this process's next item, if there is one, or what is wrong with it."""
    try:
        return [work(item) for item in islice(own, 1)], None
    except Exception as error:
        if not type(error).__module__.startswith(("bench", "baselines", "vared")):
            raise
        return [], _sendable(error)


def _sendable(error: Exception) -> Exception:
    """An error as other processes get it: itself, or its text where it does not come through."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error of any kind may be made of anything
        return RuntimeError(str(error))
    return error


def from_first(value: Item) -> Item:
    """What the first process has."""
    if place()[1] == 1:
        return value
    box = [value]
    with _exchange():
        dist.broadcast_object_list(box)
    return box[0]


def gathered(value: Item) -> list[Item]:
    """What every process has, the first one's first."""
    size = place()[1]
    if size == 1:
        return [value]
    parts: list[Any] = [None] * size
    with _exchange():
        dist.all_gather_object(parts, value)
    return parts


def anywhere(found: bool) -> bool:
    """Whether it is so in any of the processes."""
    if place()[1] == 1:
        return found
    flag = torch.tensor(int(found))
    with _exchange():
        dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def unheard_of(split: object) -> bool:
    """Whether this process found videos of a split unreadable that it did not tell the others of."""
    left_out = getattr(split, "left_out", None)
    return left_out is not None and left_out.agreed < len(left_out.faults)


def agree_on_left_out(split: object) -> None:
    """Lets every process know all videos of a split that one of them found unreadable.

    Raises:
        DataError: in all: together they are too many.
    """
    left_out = getattr(split, "left_out", None)
    if left_out is not None:
        left_out.agree(gathered(left_out.faults))


def wait() -> None:
    """Until all processes have come to this point."""
    if place()[1] > 1:
        with _exchange():
            dist.barrier()


def share_state(module: nn.Module) -> None:
    """Gives every process the weights and running statistics of the first."""
    if place()[1] > 1:
        with _exchange():
            for value in (*module.parameters(), *module.buffers()):
                dist.broadcast(value.data, 0)


def part_random() -> None:
    """Lets torch's random numbers differ between processes, that of the first as it is alone."""
    rank = place()[0]
    if rank:
        torch.manual_seed(int(torch.randint(2**62, (1,))) + rank)


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """The mean of the processes' gradients, in place; of a parameter that only some used, with zeros for the others."""
    size = place()[1]
    if size == 1:
        return
    trained = [weight for weight in parameters if weight.requires_grad]
    used = torch.tensor([weight.grad is not None for weight in trained], dtype=torch.float32)
    with _exchange():
        dist.all_reduce(used)
    taken = [weight for weight, count in zip(trained, used.tolist(), strict=True) if count]
    if not taken:
        return
    flat = torch.cat([_gradient(weight).flatten() for weight in taken])
    with _exchange():
        dist.all_reduce(flat)
    flat /= size
    for weight, mean in zip(taken, torch.split(flat, [weight.numel() for weight in taken]), strict=True):
        weight.grad = mean.view_as(weight).clone(memory_format=torch.preserve_format)


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def average_values(values: dict[str, float]) -> dict[str, float]:
    """The mean over processes of each of the same figures."""
    size = place()[1]
    if size == 1:
        return values
    found = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
    with _exchange():
        dist.all_reduce(found)
    return dict(zip(sorted(values), (found / size).tolist(), strict=True))


def averaged(x: Tensor) -> Tensor:
    """The mean over processes, of the same shape, without a gradient: one of the `Exchanges` inside a step."""
    x = x.clone(memory_format=torch.contiguous_format)
    if EXCHANGES.made >= EXCHANGES.feigned:
        with _exchange():
            dist.all_reduce(x)
    EXCHANGES.made += 1  # now: what follows may fail
    return x / place()[1]
