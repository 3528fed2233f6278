"""What runs in the process that is harmed: the command line, with a fault planted at its n-th touch of the disk.

Touches are calls of the system that change what is stored below a folder: opening for writing, writing, bringing to
the disk, renaming, linking, removing, making a folder. They are counted in each process by itself.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

CODES = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}
Action = Literal["kill", "kill one", "full", "read-only", "broken"]


@dataclass
class Fault:
    """What happens at touch number `at` (from 1) of files below `root`.

    kill: the process and its group are gone, in the middle of a write where it is one; kill one: the process alone.
    full, read-only: this touch and all later ones are refused, a write after half of it. broken: only this one is.
    Renaming, linking and removing need no room: a full disk lets them pass.
    """

    root: Path
    action: Action
    at: int
    touches: int = 0
    opened: dict[int, str] = field(default_factory=dict)

    def below(self, path: Any) -> bool:
        """Whether a path is one of those that count."""
        return isinstance(path, str | Path) and os.path.abspath(path).startswith(str(self.root))

    def due(self, needs_room: bool = True) -> bool:
        """Counts a touch, and says whether the fault strikes."""
        self.touches += 1
        if self.touches < self.at or (self.action == "full" and not needs_room):
            return False
        return self.touches == self.at or self.action in ("full", "read-only")

    def strike(self, *names: str) -> NoReturn:
        """Does what the action says; a refusal names what the system's own would."""
        if self.action == "kill":
            os.killpg(0, signal.SIGKILL)
        elif self.action == "kill one":
            os.kill(os.getpid(), signal.SIGKILL)
        code = CODES[self.action]
        raise OSError(code, os.strerror(code), *names)


def plant(fault: Fault) -> None:
    """Puts the fault into `os`, through which everything is stored."""
    opening, writing, closing, syncing = os.open, os.write, os.close, os.fsync

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and fault.below(path) and fault.due():
            fault.strike(str(path))
        handle = opening(path, flags, *rest, **more)
        if fault.below(path):
            fault.opened[handle] = str(path)
        return handle

    def write(handle: int, data: Any) -> int:
        if handle in fault.opened and fault.due():
            writing(handle, memoryview(data)[: len(data) // 2])
            fault.strike()
        return writing(handle, data)

    def close(handle: int) -> None:
        fault.opened.pop(handle, None)
        closing(handle)

    def fsync(handle: int) -> None:
        if handle in fault.opened and fault.due():
            fault.strike()
        syncing(handle)

    def named(call: Callable[..., Any], needs_room: bool) -> Callable[..., Any]:
        @functools.wraps(call)
        def harmed(path: Any, *rest: Any, **more: Any) -> Any:
            if fault.below(path) and fault.due(needs_room):
                fault.strike(str(path))
            return call(path, *rest, **more)

        return harmed

    os.open, os.write, os.close, os.fsync = open_, write, close, fsync  # type: ignore[assignment]
    os.mkdir = named(os.mkdir, True)
    os.replace, os.rename, os.unlink = named(os.replace, False), named(os.rename, False), named(os.unlink, False)
    os.link = named(os.link, False)


@dataclass(frozen=True)
class Surroundings:
    """What a command is run in: a folder, one of published tables, and what may be wrong.

    fault: of the disk. room: bytes of a real file system of its own that results go to, as far as the kernel lets one
    be made; what lies there when the command ends is copied to the folder "left". clock: whether the wall clock jumps
    by an hour back and forth.
    """

    folder: Path
    published: Path
    fault: Fault | None = None
    room: int | None = None
    clock: bool = False


def run(where: Surroundings, words: Sequence[str], said: Path) -> None:
    """Runs a command in a group of its own; what it says goes to the file `said`."""
    os.setsid()
    os.chdir(where.folder)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from bench.cli import app

    torch.set_num_threads(1)
    shorten(where)
    try:
        app(list(words), prog_name="vared-bench")
    finally:
        sys.stdout.flush()
        if where.fault is not None:
            print(f"touches: {where.fault.touches}", file=sys.stderr, flush=True)
        if where.room is not None:
            shutil.copytree("runs", "left")


def shorten(where: Surroundings) -> None:
    """Makes runs dense in touches, and quick: a checkpoint every step, few published tables, workers that are forked.

    Each training that is begun adds a line to the file "trained".
    """
    import bench.experiment.run
    import bench.reproduce
    import bench.tables.paths
    import bench.workers
    from bench.training import train

    def noted(*given: Any, **more: Any) -> Any:
        with (where.folder / "trained").open("a") as file:
            file.write(f"{given[5].name}\n")
        return train(*given, **more, save_every=0.0, log_every=1)

    def forked(reading: Any) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(1, mp_context=context, initializer=bench.workers._begin, initargs=(reading,))

    vars(bench.experiment.run)["train"] = noted
    vars(bench.workers)["_process"] = forked
    for module in (bench.tables.paths, bench.reproduce):
        vars(module)["published"] = lambda: where.published
    if where.clock:
        time.time = functools.partial(_jumping, time.time, itertools.count())
    if where.room is not None:
        _mount(where.folder / "runs", where.room)
    if where.fault is not None:
        plant(where.fault)


def _jumping(clock: Callable[[], float], calls: Iterator[int]) -> float:
    return clock() + (3600.0, -3600.0, 0.0)[next(calls) % 3]


def _mount(folder: Path, size: int) -> None:
    """A file system of `size` bytes, which only this process and its children see.

    Raises:
        PermissionError: the kernel does not let this user make one.
    """
    namespaces = 0x10000000 | 0x00020000  # CLONE_NEWUSER, in which a user may mount, and CLONE_NEWNS
    folder.mkdir(exist_ok=True)
    system, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    made = system.unshare(namespaces) == 0
    if made:
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(line)
        made = system.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()) == 0
    if not made:
        raise PermissionError(ctypes.get_errno(), "no file system of our own here")
