"""Files read to their end in worker processes, and a journal of what was found, so that no file is read twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path

from bench.data.frames import FRAME, FrameReader, frame_files
from bench.data.split import DataError
from bench.data.video.limits import Limits
from bench.data.video.whole import read_video

SIDE = 16
"""Pixels that the shorter side is decoded to: whether it decodes is the same at any size."""
NEVER = (-1, -1)
"""The state of a file that could not be read this time, which says nothing of the next: no file is ever in it."""


@dataclass(frozen=True)
class Checked:
    """What reading a file, or a folder of frames, to its end showed.

    state: what tells whether it changed since. digest: SHA-256 of its bytes. fault: "" if it is whole.
    """

    state: tuple[int, int]
    digest: str
    frames: int
    fault: str


class Journal:
    """JSON lines of path -> `Checked`, appended to as files are read. A torn or foreign line is passed over."""

    def __init__(self, path: Path) -> None:
        self.path, self._known = path, dict[str, Checked]()
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        for line in text.splitlines():
            self._take(line)
        if text and not text.endswith("\n"):  # cut off by a kill
            self._append("\n")

    def _take(self, line: str) -> None:
        try:
            row = json.loads(line)
            size, time = map(int, row["state"])
            checked = Checked((size, time), str(row["digest"]), int(row["frames"]), str(row["fault"]))
            self._known[str(row["path"])] = checked
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return

    def get(self, root: Path, path: str) -> Checked | None:
        """What is known of a file, if it is as it was."""
        found = self._known.get(path)
        try:
            return found if found and state_of(root / path) == found.state else None
        except OSError:
            return None

    def add(self, path: str, found: Checked) -> None:
        """Writes one line."""
        self._known[path] = found
        self._append(json.dumps({"path": path, **asdict(found)}) + "\n")

    def _append(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)


def check_files(
    root: Path,
    paths: Sequence[str],
    journal: Journal,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    limits: Limits | None = None,
) -> dict[str, Checked]:
    """Reads every file that the journal does not know as it is now; `progress` is told of each: done, total.

    workers: processes; 0 reads in this one. A file that kills a worker is at fault, and costs no other. limits: of a
    decoded video; those that the journal was written with.
    """
    found = {path: known for path in paths if (known := journal.get(root, path))}
    left, done = [path for path in paths if path not in found], len(found)
    if done:
        progress(done, len(paths))
    here = ((path, check_file(root, path, limits)) for path in left)
    for path, checked in _pooled(root, left, workers, limits) if workers else here:
        journal.add(path, checked)
        found[path] = checked
        done += 1
        progress(done, len(paths))
    return found


def check_file(root: Path, path: str, limits: Limits | None = None) -> Checked:
    """Reads one file to its end, and decodes it."""
    file, state, digest = root / path, NEVER, ""
    try:
        state = state_of(file)
        digest = _digest(file, root)
        frames = _numbered(file, root, limits) if file.is_dir() else len(read_video(file, SIDE, limits=limits))
        return Checked(state, digest, frames, "")
    except DataError as error:
        return Checked(state, digest, 0, str(error))
    except OSError as error:  # the disk's, or the network's
        return Checked(NEVER, digest, 0, f"{file}: {error.strerror}")


def state_of(file: Path) -> tuple[int, int]:
    """Bytes and the time of the last change, in nanoseconds; a folder's are those of all files in it."""
    found = file.stat()
    if not file.is_dir():
        return found.st_size, found.st_mtime_ns
    with os.scandir(file) as entries:
        files = [entry.stat() for entry in entries if entry.is_file()]
    return sum(one.st_size for one in files), max(one.st_mtime_ns for one in (found, *files))


def _digest(file: Path, root: Path) -> str:
    if not file.is_dir():
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    whole = hashlib.sha256()
    for frame in frame_files(file, root):
        with frame.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def _numbered(folder: Path, root: Path, limits: Limits | None) -> int:
    """How many frames a folder has, each of them decoded, and none missing between the first and the last.

    Raises:
        DataError: one cannot be decoded, or is missing.
    """
    numbers = [int(match[2]) for file in frame_files(folder, root) if (match := FRAME.fullmatch(file.name))]
    if numbers[-1] - numbers[0] + 1 > len(numbers):
        after = next(one for one, following in pairwise(numbers) if following > one + 1)
        raise DataError(
            f"{folder}: frame {after + 1} is missing; it has {len(numbers)} of {numbers[0]} to {numbers[-1]}"
        )
    return len(FrameReader(SIDE, limits=limits, root=root)(folder))


def _pooled(root: Path, paths: Sequence[str], workers: int, limits: Limits | None) -> Iterator[tuple[str, Checked]]:
    """Every path with what was found, in no order. Where a worker dies, what was under way is read one by one."""
    left = dict.fromkeys(paths)
    while left:
        running: dict[Future[Checked], str] = {}
        try:
            for path, checked in _in_turn(root, list(left), workers, limits, running):
                del left[path]
                yield path, checked
        except BrokenProcessPool:
            for path, checked in _one_by_one(root, list(running.values()), limits):
                del left[path]
                yield path, checked


def _in_turn(
    root: Path, paths: Sequence[str], workers: int, limits: Limits | None, running: dict[Future[Checked], str]
) -> Iterator[tuple[str, Checked]]:
    """Every path with what was found; `running`: what is under way, never more than twice the workers."""
    waiting = iter(paths)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while True:
            for path in islice(waiting, 2 * workers - len(running)):
                running[pool.submit(check_file, root, path, limits)] = path
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                checked = future.result()  # before it is taken off, since this raises where a worker died
                yield running.pop(future), checked


def _one_by_one(root: Path, paths: Sequence[str], limits: Limits | None) -> Iterator[tuple[str, Checked]]:
    """Every path with what was found, read by one process at a time, which may die of it."""
    left = list(paths)[::-1]
    while left:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                while left:
                    checked = pool.submit(check_file, root, left[-1], limits).result()
                    yield left.pop(), checked
            except BrokenProcessPool:
                path = left.pop()
                yield path, Checked(NEVER, "", 0, f"{root / path}: the process that decoded it died")
