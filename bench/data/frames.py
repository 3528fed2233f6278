"""Folders of frames, one JPEG or PNG a frame, read as videos are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from bench.data.cache import key_of
from bench.data.decoders import PYAV, decoder_named
from bench.data.images import read_frame
from bench.data.loading import loading
from bench.data.paths import within
from bench.data.split import DataError
from bench.data.video.limits import Limits, few_enough, fits
from bench.data.video.pictures import picture_of, shape_of
from bench.data.video.reader import Reader, VideoReader

PREFIXES = ("img_", "image_", "frame_", "")
"""Before the number of a frame: of mmaction2 and TSM (img_00001.jpg), of TSM's Kinetics (image_00001.jpg), of others
(frame_000001.jpg), and of Something-Something V1 and Jester (00001.jpg). The folder's own name, as SlowFast writes
Something-Something V2 (<folder>_000001.jpg), comes first. Of several in one folder, the first is taken."""
FRAME = re.compile(r"(.*?)([0-9]+)\.(?:jpe?g|png)", re.IGNORECASE)


class FrameReader:
    """Reads folders of frames in the order of their numbers; what has no file has no place.

    short_side: pixels. rate: None, since nothing tells when a frame was shown. root: as in `frame_files`.

    Raises:
        DataError: a rate is asked for.
    """

    def __init__(
        self, short_side: int, rate: float | None = None, limits: Limits | None = None, root: Path | None = None
    ) -> None:
        if rate is not None:
            raise DataError(f"rate: folders of frames have no time stamps, so that {rate:g} a second cannot be taken")
        self.short_side, self.limits, self.root = short_side, limits or Limits(), root
        self.rate: float | None = None

    def __call__(self, path: Path) -> Tensor:
        """All frames, uint8 (T, H, W, 3).

        Raises:
            DataError: as `frame_files`, a frame cannot be read, or there is more than `limits`.
        """
        return self.clip(path, range)

    def clip(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)`, uint8 (n, H, W, 3), at the shape that the first of the folder sets.

        Raises:
            DataError: as above.
        """
        cache, key = loading().opened_cache, ""
        if cache:
            key = key_of(path, self.short_side, self.limits, self.root, decoder_named(PYAV).version)
            if (clip := cache.read(key, choose)) is not None:
                return clip
        files = frame_files(path, self.root)
        few_enough(path, len(files), self.limits)
        shape = shape_of(path, read_frame(files[0], self.limits.pixels), self.short_side, self.limits)
        wanted = np.asarray(list(choose(len(files))), np.int64)
        places, back = np.unique(wanted, return_inverse=True)
        fits(path, len(wanted), shape[0] * shape[1] * 3, self.limits)
        if cache and len(files) * shape[0] * shape[1] * 3 <= cache.largest:
            with suppress(DataError):  # a frame that is not asked for may be broken
                video = self._pictures(files, shape)
                cache.write(key, video)
                return video[torch.from_numpy(wanted)]
        return self._pictures([files[place] for place in places.tolist()], shape)[torch.from_numpy(back)]

    def _pictures(self, files: Sequence[Path], shape: tuple[int, int, int]) -> Tensor:
        """Files as pictures uint8 (n, H, W, 3)."""
        resize, frames = VideoReformatter(), (read_frame(file, self.limits.pixels) for file in files)
        return torch.from_numpy(np.stack([picture_of(resize, frame, *shape) for frame in frames]))


def frame_files(folder: Path, root: Path | None = None) -> list[Path]:
    """The frames in a folder, by number. root: what no link may lead out of, by default the folder itself.

    Raises:
        DataError: there is no such folder, no frame in it, or one is a link that leads out of the root.
    """
    try:
        with os.scandir(folder) as listed:
            entries = list(listed)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None
    found: dict[str, dict[int, os.DirEntry[str]]] = {}
    for entry in entries:
        if match := FRAME.fullmatch(entry.name):
            found.setdefault(match[1], {})[int(match[2])] = entry
    for prefix in (f"{folder.name}_", *PREFIXES):
        if prefix in found:
            frames = [(folder / entry.name, entry.is_symlink()) for _, entry in sorted(found[prefix].items())]
            return [within(root or folder, file) if linked else file for file, linked in frames]
    raise DataError(f"{folder}: has no frames img_00001.jpg, image_00001.jpg, frame_000001.jpg, 00001.jpg or the like")


class MediaReader:
    """Reads videos, and folders of frames, whichever a path is. Raises as these do. root: as in `frame_files`."""

    def __init__(
        self, short_side: int, rate: float | None = None, limits: Limits | None = None, root: Path | None = None
    ) -> None:
        self.short_side, self.rate, self.limits, self.root = short_side, rate, limits, root
        self._videos = VideoReader(short_side, rate, limits=limits)

    def __call__(self, path: Path) -> Tensor:
        """The whole video, uint8 (T, H, W, 3)."""
        return self._of(path)(path)

    def clip(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)`, uint8 (n, H, W, 3)."""
        return self._of(path).clip(path, choose)

    def _of(self, path: Path) -> Reader:
        return FrameReader(self.short_side, self.rate, self.limits, self.root) if path.is_dir() else self._videos
