"""A folder of decoded videos, bounded in size, that any number of processes share.

An entry is a safetensors file, named by a digest of what was decoded and how, with frames uint8 (T, H, W, 3) and a
CRC-32 of each; it is mapped, so that a clip costs the reading of its own frames. A run throws out nothing that it, or
any other, stored or read since it began: epochs visit all videos in ever other orders, so that whatever is thrown out
is wanted again soon, and what stays is found in every epoch ("Analyzing and mitigating data stalls in DNN training",
Mohan et al., VLDB 2021). What no process used since then makes room; of two runs on one folder, the later may so throw
out what the earlier last used before the later began, and no more. Files that are not the cache's own are left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.data.split import DataError

SUFFIX, PART, COUNT = ".vared.frames", ".vared.frames.part", ".vared-cache-bytes"
"""Names of ours end so, and no others are touched: entries, one that is being written, and the bytes in use."""
SHARE, LARGEST = 64, 2**28
"""An entry takes at most one part in so many of the bound, nor more bytes than these, which are held several times
while it is written; of longer videos only what is `Fixed` is kept."""
ROOM = 0.95
"""Of the bound is left in use where room is made, so that not every entry has the folder listed."""


@dataclass(frozen=True)
class Fixed:
    """A choice of frames that will be made again, as that of test views and unlike that of training clips."""

    choose: Callable[[int], Sequence[int]]

    def __call__(self, length: int) -> Sequence[int]:
        """The frames of a video of that many."""
        return self.choose(length)


def key_of(path: Path, *how: object) -> str:
    """The name of what is decoded from a file, or a folder of files, as it is now, and how.

    A file is told by its path, size, and the times of its last changes, of content and of the rest.

    Raises:
        DataError: it is not there.
    """
    try:
        files = [os.stat(path)]
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    with suppress(FileNotFoundError):  # a link that leads nowhere: no matter, unless it is to be read
                        files.append(entry.stat())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    states = [(file.st_size, file.st_mtime_ns, file.st_ctime_ns) for file in files]
    return hashlib.sha256(repr((str(path.resolve()), states, how)).encode()).hexdigest()


def part_of(key: str, frames: Sequence[int]) -> str:
    """The name of some frames of what has this name."""
    return hashlib.sha256(repr((key, tuple(frames))).encode()).hexdigest()


class Cache:
    """The decoded videos in `folder`, never more than `size` bytes and one entry a process that is just being written.

    began: when the run did that this process is of, as another of its processes has it; None: now.
    said: what went wrong, in lines, for who has this process's ear; each is said once. full: nothing more finds room.

    Raises:
        DataError: there can be no such folder.
    """

    def __init__(self, folder: Path, size: int, began: float | None = None) -> None:
        self.folder, self.size, self.full, self.said = folder, size, False, list[str]()
        self.began, self._count, self._writing = began or 0.0, folder / COUNT, ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cache {folder}: {error.strerror}") from None
        with suppress(OSError):  # a folder may be for reading only
            self._count.touch()
            self.began = began or self._count.stat().st_mtime  # by the folder's clock, as entries are
            with self._counted() as used:
                self._makes_room(used, 0)  # the bound may be lower than last time
        self.full = False

    @property
    def largest(self) -> int:
        """Bytes that the frames of an entry may take; 0 while nothing more is stored."""
        return 0 if self.full else min(self.size // SHARE, LARGEST)

    def read(self, key: str, choose: Callable[[int], Sequence[int]]) -> Tensor | None:
        """The frames `choose(T)` of an entry of T frames; None if there is none, or it is broken, and then dropped."""
        path = self.folder / (key + SUFFIX)
        try:
            with safe_open(str(path), "pt") as entry:
                found, sums = entry.get_slice("frames"), entry.get_tensor("sums").tolist()
                if found.get_shape()[0] != len(sums):
                    raise ValueError
                places, back = np.unique(np.asarray(choose(len(sums)), np.int64), return_inverse=True)
                frames = [found[place : place + 1].numpy() for place in places.tolist()]
                if [zlib.crc32(frame) for frame in frames] != [sums[place] for place in places]:
                    raise ValueError
        except (SafetensorError, ValueError):
            self._drop(path)
            return None
        except (OSError, RuntimeError):  # not there, not to be read, or gone when torch opens it again
            return None
        with suppress(OSError):
            os.utime(path)  # in use
        return torch.from_numpy(np.concatenate(frames)[back])

    def write(self, key: str, frames: Tensor) -> None:
        """Stores frames uint8 (T, H, W, 3), if there is room. What fails ends the storing, and not the run."""
        if frames.nbytes > self.largest:
            return
        sums = torch.tensor([zlib.crc32(frame) for frame in frames.numpy()], dtype=torch.int64)
        data, path = save({"frames": frames.contiguous(), "sums": sums}), self.folder / (key + SUFFIX)
        self._writing = f".{secrets.token_hex(8)}{PART}"
        mine = self.folder / self._writing
        try:
            with mine.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # while the writer lives: see _swept
                file.write(data)
                file.flush()
                with self._counted() as used:
                    if not path.exists() and self._makes_room(used, len(data)):
                        with suppress(FileNotFoundError):  # swept in the moment before it was locked
                            mine.rename(path)
        except OSError as error:
            self.full = True
            self.said.append(f"cache {self.folder}: {error.strerror}: nothing more is stored in it")
        finally:
            with suppress(OSError):
                mine.unlink(missing_ok=True)

    @contextmanager
    def _counted(self) -> Iterator[list[int]]:
        """Bytes in use, one number, for one process at a time; it is written down as it is left."""
        with self._count.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                used = [int(file.read())]
            except ValueError:  # new, or torn
                used = [sum(size for _, size, _ in self._entries())]
            yield used
            file.seek(0)
            file.write(b"%020d" % used[0])

    def _makes_room(self, used: list[int], size: int) -> bool:
        """Whether there is room for `size` bytes more, made where there was none; then they are counted."""
        if used[0] + size > self.size:
            entries = sorted(self._entries())
            used[0] = sum(size for _, size, _ in entries)
            for last, bytes_, path in entries:
                if last >= self.began or used[0] + size <= ROOM * self.size:
                    break
                path.unlink(missing_ok=True)
                used[0] -= bytes_
        self.full = used[0] + size > self.size
        used[0] += 0 if self.full else size
        return not self.full

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Last use, bytes and path of every entry. Clears away what killed processes left.

        What this process is writing is skipped by name: on some network folders its own lock does not keep it out.
        """
        with os.scandir(self.folder) as listed:
            for entry in listed:
                with suppress(FileNotFoundError):
                    if entry.name.endswith(SUFFIX):
                        found = entry.stat()
                        yield found.st_mtime, found.st_size, Path(entry.path)
                    elif entry.name.endswith(PART) and entry.name != self._writing:
                        _swept(Path(entry.path))

    def _drop(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink()
        self.said.append(f"cache {self.folder}: {path.name} was broken: decoded anew")


def _swept(path: Path) -> None:
    """Removes a file that was being written, unless its writer lives, or that cannot be told."""
    with suppress(OSError), path.open("r+b") as file:  # network folders lock only what is open for writing
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
