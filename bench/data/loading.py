"""How this process reads videos: by how many workers, with which decoder, from which cache. No result hangs on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from bench.data.cache import Cache
from bench.data.decoders import PYAV, Decoder, decoder_named
from bench.data.split import DataError, Split

CACHE_BYTES = 32 * 10**9
MOST = 16
"""Workers, where nobody says how many: more of them take memory, and hardly feed a model any faster."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time in each period of so many that a container may take; "max" where it is not bound."""


@dataclass(frozen=True)
class Loading:
    """What `use` puts in force.

    workers: processes that make batches; None: as many as this process has cores, `MOST` at most, of a split that reads
    files. cache: folder of decoded videos, with at most `cache_bytes` in it. decoder: as in `bench.data.decoders`.
    sharing: processes side by side that share the cores. began: when the run did, as in `bench.data.cache`. keeping:
    whether a process keeps decoded videos in its memory while there is room.
    """

    workers: int | None = 0
    cache: Path | None = None
    cache_bytes: int = CACHE_BYTES
    decoder: str = PYAV
    sharing: int = 1
    began: float | None = field(default=None, compare=False)
    keeping: bool = True

    def shared(self, jobs: int) -> Loading:
        """The same for each of `jobs` processes side by side, which are one run."""
        began = self.opened_cache.began if self.opened_cache else None
        return replace(self, sharing=self.sharing * jobs, began=began)

    def workers_for(self, split: Split) -> int:
        """Processes that make the batches of a split.

        A single core gets none: it would do the same work, and pass it on besides.
        """
        if self.workers is not None:
            return self.workers
        if not getattr(split, "reads_files", False) or self.opened_decoder.in_one_process:
            return 0
        beside = self.sharing * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # as torchrun sets it
        cores = cores_here() // beside
        return min(cores, MOST) if cores > 1 else 0

    @cached_property
    def opened_cache(self) -> Cache | None:
        """The cache, if there is one.

        Raises:
            DataError: the folder cannot be made.
        """
        return Cache(self.cache, self.cache_bytes, self.began) if self.cache else None

    @cached_property
    def opened_decoder(self) -> Decoder:
        """The decoder.

        Raises:
            DataError: it is not known, or cannot be had here.
        """
        return decoder_named(self.decoder)


def cores_here() -> int:
    """Of which this process has the time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    with suppress(OSError, ValueError):  # of control groups' second version; "max" is no number
        quota, period = map(int, QUOTA.read_text().split())
        cores = min(cores, quota // period)
    return cores


_in_force = Loading()


def loading() -> Loading:
    """What is in force in this process, and in the workers that it starts."""
    return _in_force


def use(chosen: Loading) -> None:
    """Puts it in force.

    Raises:
        DataError: the decoder or the cache cannot be had.
    """
    global _in_force  # like the number of threads, it is the process's
    decoder, _ = chosen.opened_decoder, chosen.opened_cache
    if decoder.in_one_process and chosen.workers:
        raise DataError(f"decoder {chosen.decoder}: decodes in one process, on the GPU: give it 0 workers")
    _in_force = chosen


@contextmanager
def anew() -> Iterator[None]:
    """Within it every clip that a `VideoReader` is asked for is decoded: neither a cache nor this process keeps any."""
    global _in_force
    before, _in_force = _in_force, replace(_in_force, cache=None, keeping=False)
    try:
        yield
    finally:
        _in_force = before
