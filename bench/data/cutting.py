"""Cuts views out of videos and makes batches of them: the work that the loader's processes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from bench.data.annotation import collated, cropped, mirrored
from bench.data.cache import Fixed
from bench.data.loading import loading
from bench.data.scale import padded, rescaled, rescaled_annotation
from bench.data.split import DataError, Split, UnreadableError, annotated, frames_of
from bench.method import Batch, InputSpec


@dataclass(frozen=True)
class Views:
    """V views: the row of each (V,), its shares: of time (V, P), of the longer and shorter side (V,), and its scale."""

    rows: NDArray[np.int64]
    time: NDArray[np.float64]
    long: NDArray[np.float64]
    short: NDArray[np.float64]
    mirror: NDArray[np.bool_]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """What is cut in one go: these views, rising, of an epoch."""

    epoch: int
    views: NDArray[np.int64]


@dataclass(frozen=True)
class Loaded:
    """What was cut. batch: None where nothing could be read. views: those in the batch. last: of those asked for, the
    last. faults: videos that could not be read. said: what the cache has to say.
    """

    batch: Batch | None
    views: NDArray[np.int64]
    last: int
    faults: Sequence[UnreadableError] = ()
    said: Sequence[str] = ()

    def pin_memory(self) -> Loaded:
        """The same in memory that a GPU copies from by itself; the loader calls it."""
        if self.batch is None:
            return self
        batch = Batch(self.batch.sample.pin_memory(), _pinned(self.batch.target), self.batch.index)
        return replace(self, batch=batch)


def _pinned(target: Any) -> Any:
    if isinstance(target, list):
        return [one.pin_memory() for one in target]
    return target.pin_memory() if isinstance(target, Tensor) else target


Frames = tuple[Tensor, dict[int, list[int]]]
"""Frames of a video, uint8 (n, H, W, C), and for each view of it which of them it shows."""
Choose = Callable[[int, list[float]], list[int]]
"""(frames that a video has, a view's shares of time) -> the frames that it shows."""

_Cut = tuple[int, Tensor, Tensor | None]
"""A view, its frames, and its annotation, if it has one."""


class Cutter(Dataset[Loaded | Exception]):
    """Item = the batch made of the views that are asked for.

    views: of an epoch. choose: as `Choose`. random: whether views are drawn, so that of a split with `left_out` a view
    whose video cannot be read is replaced by the next; left_out: it is left out. note: told of the row that is being
    read, and of -1 after.
    """

    def __init__(
        self,
        split: Split,
        spec: InputSpec,
        views: Callable[[int], Views],
        choose: Choose,
        *,
        random: bool = False,
        left_out: bool = False,
    ) -> None:
        self.split, self.spec, self.views, self.choose = split, spec, lru_cache(1)(views), choose
        tolerant = getattr(split, "left_out", None) is not None
        self.random, self.replaced, self.left_out = random, random and tolerant, left_out and tolerant
        self.note: Callable[[int], None] = lambda row: None
        self._held: tuple[tuple[int, int], Frames | UnreadableError] | None = None  # of the video read last

    def __getitem__(self, piece: Piece) -> Loaded | Exception:
        """An error is handed over as a value: the loader would bury its one line in a worker's traceback."""
        faults, cut = list[UnreadableError](), list[_Cut]()
        try:
            for view in piece.views:
                if found := self._cut_or_fault(piece.epoch, int(view), faults):
                    cut.append(found)
                elif self.replaced:
                    break  # nothing stands in its place, nor would anything in that of the next
            shown = np.array([view for view, _, _ in cut], np.int64)
            batch = self._batch(piece.epoch, shown, cut) if cut else None
            return Loaded(batch, shown, int(piece.views[-1]), faults, _said())
        except (DataError, OSError, MemoryError) as error:
            return error

    def outdated(self, loaded: Loaded | Exception) -> bool:
        """Whether a video in it was left out since: it would not have been read, had it been cut only now."""
        if not (self.replaced or self.left_out) or not self.split.left_out.faults:  # type: ignore[attr-defined]
            return False
        if isinstance(loaded, Exception):
            return True
        rows = [] if loaded.batch is None else loaded.batch.index.tolist()
        return any(self.split.is_left_out(row) for row in rows)  # type: ignore[attr-defined]

    def _batch(self, epoch: int, shown: NDArray[np.int64], cut: Sequence[_Cut]) -> Batch:
        views = self.views(epoch)
        clips, mirror = torch.stack([clip for _, clip, _ in cut]), torch.from_numpy(views.mirror[shown])
        if mirror.any():
            clips[mirror] = clips[mirror].flip(3)
        rows = views.rows[shown]
        target: Any = torch.as_tensor(self.split.targets[rows], dtype=torch.int64)
        annotations = [annotation for _, _, annotation in cut if annotation is not None]
        if annotations:
            pairs = zip(annotations, mirror.tolist(), strict=True)
            target = collated([mirrored(one, self.spec.size) if flip else one for one, flip in pairs])
        return Batch(normalised(clips, self.spec), target, torch.from_numpy(rows))

    def _cut_or_fault(self, epoch: int, view: int, faults: list[UnreadableError]) -> _Cut | None:
        """What is cut; None if its video is left out, and where it is to be replaced, if no other can be read, or more
        than may be left out cannot: then the run is about to end.
        """
        count = len(self.views(epoch).rows)
        for step in range(count if self.replaced else 1):
            here = (view + step) % count
            try:
                return here, *self._cut(epoch, here)
            except UnreadableError as error:
                if not (self.replaced or self.left_out):
                    raise
                faults.append(error)
                if self.replaced and self.split.left_out.too_many(faults):  # type: ignore[attr-defined]  # as below
                    break
        return None

    def _frames(self, epoch: int, row: int) -> Frames:
        """What all views of a row show of its video, each frame read once.

        All, even where other processes have some of them: or whether the video can be read would turn on who has which.
        """
        if self._held is None or self._held[0] != (epoch, row):
            self._held = None  # its memory is free before the next is read
            try:
                self._held = (epoch, row), self._read(epoch, row)
            except UnreadableError as error:
                self._held = (epoch, row), error
        found = self._held[1]
        if isinstance(found, UnreadableError):
            raise found
        return found

    def _read(self, epoch: int, row: int) -> Frames:
        every = self.views(epoch)
        views, places = np.flatnonzero(every.rows == row), dict[int, list[int]]()

        def choose(length: int) -> list[int]:
            shown = [self.choose(length, every.time[view].tolist()) for view in views]
            frames, back = np.unique(np.array(shown), return_inverse=True)
            places.update(zip(views.tolist(), back.reshape(len(views), -1).tolist(), strict=True))
            return [int(frame) for frame in frames]

        self.note(row)
        try:
            return frames_of(self.split, row, choose if self.random else Fixed(choose)), places
        finally:
            self.note(-1)

    def _cut(self, epoch: int, view: int) -> tuple[Tensor, Tensor | None]:
        """The frames of all clips of one view, uint8 (N·T, S, S, C), and their boxes or mask, where there are any."""
        views, size = self.views(epoch), self.spec.size
        row = int(views.rows[view])
        (video, places), split = self._frames(epoch, row), annotated(self.split)
        annotation = split.annotation(row) if split else None
        if (factor := float(views.scale[view])) != 1:
            video, before = rescaled(video, factor), video
            annotation = None if annotation is None else rescaled_annotation(annotation, before, video)
        if annotation is not None and not annotation.is_floating_point():  # a shrunk picture is filled up with black
            video = padded(video.movedim(3, 1), size, 0).movedim(1, 3)
            annotation = padded(annotation, size, -1)
        _, height, width, channels = video.shape
        if min(height, width) < size or channels not in (1, self.spec.channels):
            raise DataError(
                f"video {row} of the split: {width}x{height} pixels in {channels} channels do not give a "
                f"crop of {size} in {self.spec.channels}"
            )
        shares = (views.short[view], views.long[view])
        down, along = shares if width >= height else shares[::-1]
        y, x = place_of(height - size, down), place_of(width - size, along)
        clip = video[:, y : y + size, x : x + size].index_select(0, torch.tensor(places[view]))
        return clip, None if annotation is None else cropped(annotation, y, x, size)


def _said() -> list[str]:
    """What this process's cache has to say since the last time."""
    cache = loading().opened_cache
    if cache is None:
        return []
    said, cache.said = cache.said, []
    return said


def place_of(room: int, share: float) -> int:
    """One of the places 0..room; a random share in [0, 1) hits each equally often, 0.5 is the centre, 1 the last."""
    return min(int(share * (room + 1) + 1e-9), room)  # the tiny term: 1/3 of 3 is 1 whatever the rounding


def normalised(clips: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (B, N·T, S, S, C) to float32 samples of `spec.shape(B)`, grey repeated to all channels."""
    count, frames = clips_and_frames(spec)
    clips = clips.view(len(clips), count, frames, *clips.shape[2:]).permute(0, 1, 5, 2, 3, 4)  # (B, N, C, T, S, S)
    sample = clips.to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(value, dtype=torch.float64).view(-1, 1, 1, 1) for value in (spec.mean, spec.std))
    sample = sample * (1 / (255 * std)).float() - (mean / std).float()
    shape = (len(clips), count, spec.channels, *sample.shape[3:])
    return sample.expand(shape).reshape(spec.shape(len(clips))).contiguous()


def clips_and_frames(spec: InputSpec) -> tuple[int, int]:
    """Clips, and frames a clip, in one sample."""
    return {"clip": (1, spec.frames), "clips": (spec.clips, spec.frames), "image": (1, 1)}[spec.kind]
