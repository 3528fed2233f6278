"""Batches in order, cut by worker processes or by this one: the same batches either way.

Workers are forked: a split may hold what cannot be sent, they start at once, and share what this process has read; they
touch neither a GPU nor a thread of this process, and end with it.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from bench.data.cutting import Cutter, Loaded, Piece
from bench.data.split import DataError, Split
from bench.method import Batch

FORK = multiprocessing.get_context("fork")
AHEAD = 8 * 2**30
"""Bytes of samples, at most, that workers have ready or in hand, in shared memory; but always one piece a worker."""
SHARED = Path("/dev/shm")
"""Where shared memory is taken from, where there is such a folder. Containers have 64 MB of it by default."""
FILLED = 0.8
"""Of the shared memory that is free, at most so much is taken."""
IN_USE = 2
"""Pieces that the model holds besides: the one it computes with, and the next, as it takes that."""
TOGETHER = 16
"""Views, about, that a test batch is cut into pieces of, so that also few batches keep many workers busy."""
DYING = 20.0
"""Seconds between a worker's silence and its end, at most: a large process on a busy machine takes its time."""
_told = set[str]()
"""What the cache had to say, so far."""
LIKELY = "killed, short of memory or of shared memory, or a fault of the decoder; fewer workers need less of both"


def load(cutter: Cutter, pieces: Iterable[Piece], workers: int, most: int) -> Iterator[Loaded]:
    """What is cut, piece by piece, in order; `pieces` is gone through twice. What is unreadable is told to the split.

    workers: processes; fewer, or none, where shared memory does not hold what they would have in hand. most: views in a
    piece.

    Raises:
        DataError: a video cannot be read, or too many cannot; a worker died, or found no shared memory.
    """
    room = _room(4 * most * math.prod(cutter.spec.shape()))
    workers = min(workers, room)
    cuts = _cut_by_workers(cutter, pieces, workers, room) if workers else map(cutter.__getitem__, pieces)
    for piece, loaded in zip(pieces, cuts, strict=True):
        if cutter.outdated(loaded):
            loaded = cutter[piece]
        if isinstance(loaded, Exception):
            raise loaded
        for line in loaded.said:
            if line not in _told:  # each worker says it
                _told.add(line)
                logging.getLogger(__name__).warning("%s", line)
        for fault in loaded.faults:
            cutter.split.left_out.add(fault)  # type: ignore[attr-defined]  # there is one, or there were no faults
        yield loaded


def _room(piece: int) -> int:
    """Pieces of so many bytes that workers may have ready or in hand; 0 where shared memory has no room for one."""
    room = max(1, AHEAD // piece)
    with suppress(OSError):  # no such folder: the system has its shared memory elsewhere
        free = os.statvfs(SHARED)
        room = min(room, int(FILLED * free.f_bavail * free.f_frsize) // piece - IN_USE)
    return max(room, 0)


def whole_videos(rows: NDArray[np.int64], batches: Sequence[NDArray[np.int64]]) -> list[Piece]:
    """Pieces of the views in `batches`, each with all the views of its videos, which are so read once.

    rows: the video of each view there is.
    """
    if not batches:
        return []
    views = np.concatenate(batches)
    ends = np.append(np.flatnonzero(np.diff(rows[views])) + 1, len(views))  # of videos
    wanted = np.concatenate([np.arange(TOGETHER, len(views), TOGETHER), np.cumsum([len(batch) for batch in batches])])
    cuts = ends[np.searchsorted(ends, wanted)]
    return [Piece(0, part) for part in np.split(views, np.unique(cuts)[:-1])]


def rebatched(loads: Iterable[Loaded], batches: Sequence[NDArray[np.int64]]) -> Iterator[Batch]:
    """The batches of these views, rising, from what was loaded; views that could not be read are in none."""
    waiting, parts, cut = iter(loads), list[tuple[NDArray[np.int64], Batch]](), -1
    for last in (int(batch[-1]) for batch in batches):
        while cut < last:
            loaded = next(waiting)
            cut = loaded.last
            if loaded.batch is not None:
                parts.append((loaded.views, loaded.batch))
        taken = list[Batch]()
        while parts and parts[0][0][0] <= last:
            views, batch = parts.pop(0)
            count = int(np.searchsorted(views, last, "right"))
            if count < len(views):
                parts.insert(0, (views[count:], _span(batch, slice(count, None))))
                batch = _span(batch, slice(count))
            taken.append(batch)
        if taken:
            yield taken[0] if len(taken) == 1 else _joined(taken)


def _span(batch: Batch, span: slice) -> Batch:
    return Batch(batch.sample[span], batch.target[span], batch.index[span])


def _joined(parts: Sequence[Batch]) -> Batch:
    targets = [part.target for part in parts]
    target: Any = list(chain(*targets)) if isinstance(targets[0], list) else torch.cat(targets)
    return Batch(torch.cat([part.sample for part in parts]), target, torch.cat([part.index for part in parts]))


def _cut_by_workers(cutter: Cutter, pieces: Iterable[Piece], workers: int, room: int) -> Iterator[Loaded | Exception]:
    """As `cutter[piece]` of every piece, two a worker ahead where there is room for them, else one.

    The loader gets a generator of its own, since it would draw from the global one.
    """
    pids, reading = FORK.RawArray("q", workers), FORK.RawArray("q", [-1] * workers)

    def begin(number: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends the others
        end_with_parent()
        pids[number] = os.getpid()
        cutter.note = lambda row: reading.__setitem__(number, row)

    loads = _started(
        cutter, batch_size=None, sampler=pieces, num_workers=workers, collate_fn=_shared, worker_init_fn=begin,
        generator=torch.Generator(), pin_memory=torch.cuda.is_available(), multiprocessing_context=FORK,
        prefetch_factor=2 if 2 * workers <= room else 1,
    )  # fmt: skip
    try:
        yield from loads
    except (RuntimeError, OSError, EOFError):  # the last two where it died while a batch was handed over
        dead = _dead(list(pids))
        if not dead:
            raise
        rows = [reading[number] for number in dead if reading[number] >= 0]
        read = f"{_named(cutter.split, rows[0])}: the process that was reading it" if rows else "a process that reads"
        raise DataError(f"{read} died ({LIKELY})") from None
    finally:
        del loads  # which ends the workers, unless an exception's traceback still holds it
        for child in multiprocessing.active_children():
            if child.pid in list(pids):
                child.terminate()
                child.join()


def _dead(pids: Sequence[int]) -> list[int]:
    """Numbers of the workers that have died; 0: has not begun. The end of one that is just dying is waited for."""
    alive = {child.pid: child.sentinel for child in multiprocessing.active_children()}
    if all(pid in alive for pid in pids if pid):
        wait([alive[pid] for pid in pids if pid], DYING)
        alive = {child.pid: child.sentinel for child in multiprocessing.active_children()}
    return [number for number, pid in enumerate(pids) if pid and pid not in alive]


def _started(*args: Any, **options: Any) -> Iterator[Any]:
    """A loader at work, without its handler of dead children: that would raise wherever this process just is."""
    before = signal.getsignal(signal.SIGCHLD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on more workers than cores, which are the user's
        loads = iter(DataLoader(*args, **options))
    if threading.current_thread() is threading.main_thread():  # no other may set a handler, and the loader's does not
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    return loads


def _named(split: Split, row: int) -> str:
    return str(split.attributes["path"].iloc[row]) if "path" in split.attributes else f"video {row} of the split"


def _shared(loaded: Loaded | Exception) -> Loaded | Exception:
    """The same in shared memory, in a worker's own thread: one of the loader's would do it otherwise, and where that
    fails it drops the batch, which is then waited for without end.
    """
    if isinstance(loaded, Exception) or loaded.batch is None:
        return loaded
    target = loaded.batch.target
    try:
        for tensor in (loaded.batch.sample, loaded.batch.index, *(target if isinstance(target, list) else [target])):
            if isinstance(tensor, torch.Tensor) and tensor.numel():  # what is empty takes none
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError:
        few = "is too small for the batches of so many workers: give it more, or ask for fewer (--workers)"
        return DataError(f"{SHARED} {few}")
    return loaded


def end_with_parent() -> None:
    """In a child process: ends when the parent does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
