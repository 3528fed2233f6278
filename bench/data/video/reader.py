"""Readers: what turns a path into frames, and keeps what was decoded while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from bench.data.cache import Cache, Fixed, key_of, part_of
from bench.data.loading import loading
from bench.data.split import DataError
from bench.data.video.clip import read_clip
from bench.data.video.limits import Limits
from bench.data.video.whole import read_video


class Reader(Protocol):
    """Reads what a path names, a video or a folder of frames, with a shorter side of `short_side` pixels.

    rate: frames a second, None for every frame there is.
    """

    short_side: int
    rate: float | None

    def __call__(self, path: Path) -> Tensor:
        """The whole video, uint8 (T, H, W, 3)."""
        ...

    def clip(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)` of a video of T frames, in that order."""
        ...


class VideoReader:
    """Decodes files as `read_video` does, and keeps whole videos while there is room: in the cache that is in force
    (`bench.data.loading`), else up to `cache_bytes` of pictures in memory.

    short_side: pixels. rate: frames a second, None for every frame.
    """

    def __init__(
        self, short_side: int, rate: float | None = None, cache_bytes: int = 2**30, limits: Limits | None = None
    ) -> None:
        self.short_side, self.rate, self.cache_bytes, self.limits = short_side, rate, cache_bytes, limits
        self._kept: OrderedDict[Path, Tensor] = OrderedDict()
        self._bytes = 0

    def __call__(self, path: Path) -> Tensor:
        """The whole video, uint8 (T, H, W, 3).

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        if loading().keeping and path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        cache, key = loading().opened_cache, ""
        if cache:
            key = self._key(path)
            if (video := cache.read(key, range)) is not None:
                return video
        video = self._whole(path)
        if cache and video.nbytes <= cache.largest:
            cache.write(key, video)
            return video
        if video.nbytes <= self._memory:
            self._kept[path] = video
            self._bytes += video.nbytes
            while self._bytes > self._memory:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return video

    def clip(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)` of a video of T frames, uint8 (n, H, W, 3).

        Videos are decoded whole, and kept, while there is room for them; then only what is asked for is decoded. What
        can be read either way is read, so that it does not turn on what is kept.

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        cache, key = loading().opened_cache, ""
        if cache:
            key = self._key(path)
            if (clip := cache.read(key, choose)) is not None:
                return clip
        if not loading().keeping or path not in self._kept:
            room = cache.largest if cache else self._memory - self._bytes
            try:
                clip = self._part(path, choose, room, cache, key)
            except DataError:
                clip = None
            if clip is not None:
                return clip
        try:
            video = self(path)
        except DataError:
            if (clip := self._part(path, choose, 0, None, key)) is None:
                raise
            return clip
        return video[torch.tensor(choose(len(video)), dtype=torch.int64)]

    def _part(
        self, path: Path, choose: Callable[[int], Sequence[int]], whole: int, cache: Cache | None, video: str
    ) -> Tensor | None:
        """As `read_clip`; what is fixed of a long video is cached by its frames. video: its key, taken before this."""
        if cache is None or not isinstance(choose, Fixed):
            return read_clip(path, choose, self.short_side, self.rate, self.limits, whole)
        key = ""

        def chosen(length: int) -> Sequence[int]:
            nonlocal key
            frames = [int(frame) for frame in choose(length)]
            key = part_of(video, frames)
            if (clip := cache.read(key, range)) is not None:
                raise _Cached(clip)
            return frames

        try:
            clip = read_clip(path, chosen, self.short_side, self.rate, self.limits, whole)
        except _Cached as found:
            return found.clip
        if clip is not None:
            cache.write(key, clip)
        return clip

    def _whole(self, path: Path) -> Tensor:
        """By the decoder in force where it can, else by PyAV."""
        if loading().opened_decoder.frames:
            with suppress(DataError):
                if (video := read_clip(path, range, self.short_side, self.rate, self.limits)) is not None:
                    return video
        return read_video(path, self.short_side, self.rate, self.limits)

    def _key(self, path: Path) -> str:
        return key_of(path, self.short_side, self.rate, self.limits or Limits(), loading().opened_decoder.version)

    @property
    def _memory(self) -> int:
        """Bytes of pictures that this process may keep; a worker keeps none, since no other would find them there."""
        return self.cache_bytes if loading().keeping and not get_worker_info() else 0


class _Cached(Exception):
    """The clip that was about to be decoded is in the cache."""

    def __init__(self, clip: Tensor) -> None:
        super().__init__()
        self.clip = clip
