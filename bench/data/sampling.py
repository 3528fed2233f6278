"""Cuts clips out of videos: which frames, which crop, in which order, and nothing else.

Every choice is a share of the room there is (0 the first possible place, 1 the last), so that one rule serves random
training clips and fixed test views, for videos of any length and shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.data.annotation import collated, cropped, mirrored
from bench.data.scale import padded, rescaled, rescaled_annotation
from bench.data.split import DataError, Split, UnreadableError, annotated, frames_of
from bench.method import Batch, InputSpec

SHUFFLE = 20210503  # of the test rows, so that the first k of them are a fair part of the set


@dataclass(frozen=True)
class Sampling:
    """Which frames make a clip.

    dense: consecutive frames, `stride` apart, starting anywhere. uniform: one frame from each of as many equal
    segments of the video as the clip has frames (TSN, Wang et al., ECCV 2016); `stride` plays no part. scales: factors,
    one drawn for each training sample, by which its pictures are rescaled before the crop.

    Raises:
        DataError: no such mode, a stride below 1, or a factor that is not above 0.
    """

    mode: Literal["dense", "uniform"] = "dense"
    stride: int = 1
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Checks both fields."""
        if self.mode not in ("dense", "uniform"):
            raise DataError(f"sampling must be dense or uniform, got {self.mode!r}")
        if self.stride < 1:
            raise DataError(f"stride must be 1 or more, got {self.stride}")
        if not self.scales or min(self.scales) <= 0:
            raise DataError(f"scales must be one or more factors above 0, got {list(self.scales)}")


@dataclass(frozen=True)
class _Views:
    """V views: the row of each (V,), its shares: of time (V, P), of the longer and shorter side (V,), and its scale."""

    rows: NDArray[np.int64]
    time: NDArray[np.float64]
    long: NDArray[np.float64]
    short: NDArray[np.float64]
    mirror: NDArray[np.bool_]
    scale: NDArray[np.float64]


def train_steps(split: Split, batch: int) -> int:
    """Batches in one epoch; the last incomplete one is dropped.

    Raises:
        DataError: the split does not fill one batch.
    """
    if not 1 <= batch <= len(split):
        raise DataError(f"batch: {batch} does not fit a training split of {len(split)} videos")
    return len(split) // batch


def train_batches(
    split: Split,
    spec: InputSpec,
    sampling: Sampling,
    batch: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    workers: int = 0,
    deal: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
) -> Iterator[Batch]:
    """One epoch of random clips with random crops, mirrored at random where the label allows it.

    Order and choices depend on (seed, epoch, row) only, so that an epoch resumed with `skip` batches gives exactly the
    batches that were left, and decodes none of the others. Where the split has `left_out`, a video that cannot be read
    is told to it, and the next one of the epoch that can be read stands in its place.

    Raises:
        DataError: a video cannot be read, is smaller than the crop, or the split does not fill one batch; with
            `left_out`, too few videos are left.
    """
    steps = train_steps(split, batch)
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(split))
    parts = _parts(spec, sampling)
    draws = np.random.default_rng([seed, epoch, 1]).random((len(split), parts + 3))[order]
    mirror = (draws[:, parts + 2] < 0.5) & split.flip
    scale = np.random.default_rng([seed, epoch, 2]).choice(np.asarray(sampling.scales), len(split))[order]
    views = _Views(order, draws[:, :parts], draws[:, parts], draws[:, parts + 1], mirror, scale)
    chunks = [np.arange(step * batch, (step + 1) * batch) for step in range(skip, steps)]
    if deal is not None:
        chunks = [deal(chunk) for chunk in chunks]
    return _load(_Cutter(split, spec, sampling, views, replaced=True), chunks, workers)


def test_batches(
    split: Split,
    spec: InputSpec,
    sampling: Sampling,
    clips: int,
    crops: int,
    batch: int,
    rows: NDArray[np.int64] | None = None,
    workers: int = 0,
    leave_out: bool = False,
    turn: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The fixed test views of the videos `rows` (default: all), those of one video one after the other.

    clips: 1 is the centre one; more are evenly spaced, the first starting with the video, the last ending with it.
    crops: 1 is the centre; 3 are left, centre and right along the longer side (top to bottom in upright videos).
    Views run clip by clip, crop by crop; `Batch.index` repeats the video's row. The last batch may be short. A video is
    read once for all its views, unless workers share it. leave_out: where the split has `left_out`, a video that cannot
    be read is told to it and is in no batch, so that batches may be short and `Batch.index` says what there is.
    turn: (k, n) for every n-th of these batches from number k on, which is one process's share.

    Raises:
        DataError: a video cannot be read or is smaller than the crop; a number of clips or crops that does not exist.
    """
    if clips < 1 or crops not in (1, 3) or batch < 1:
        raise DataError(f"views: clips and batch must be 1 or more and crops 1 or 3, got {clips}, {batch} and {crops}")
    videos = np.arange(len(split)) if rows is None else np.asarray(rows, np.int64)
    moments = np.linspace(0, 1, clips) if clips > 1 else np.array([0.5])
    places = np.linspace(0, 1, crops) if crops > 1 else np.array([0.5])
    count = len(videos) * clips * crops
    time = np.tile(np.repeat(moments, crops), len(videos))
    time = np.broadcast_to(time[:, None], (count, _parts(spec, sampling)))
    long = np.tile(places, len(videos) * clips)
    short, mirror, scale = np.full(count, 0.5), np.zeros(count, bool), np.ones(count)
    views = _Views(np.repeat(videos, clips * crops), time, long, short, mirror, scale)
    chunks = [np.arange(first, min(first + batch, count)) for first in range(0, count, batch)]
    return _load(_Cutter(split, spec, sampling, views, left_out=leave_out), chunks[turn[0] :: turn[1]], workers)


def chosen_rows(split: Split, count: int) -> NDArray[np.int64]:
    """The first `count` rows (0: all) of one fixed shuffle, in rising order."""
    rows = np.random.default_rng(SHUFFLE).permutation(len(split))
    return np.sort(rows[: count or len(rows)])


test_batches.__test__ = False  # type: ignore[attr-defined]  # its name makes pytest take it for a test


@dataclass(frozen=True)
class _Loaded:
    """A batch, None where nothing in it could be read, and the videos that could not."""

    batch: Batch | None
    faults: Sequence[UnreadableError]


Frames = tuple[Tensor, dict[int, list[int]]]
"""Frames of a video, uint8 (n, H, W, C), and for each view of it which of them it shows."""


_Cut = tuple[int, Tensor, Tensor | None]
"""A view, its frames, and its annotation, if it has one."""


class _Cutter(Dataset[_Loaded | DataError]):
    """Item = the batch made of the views that are asked for.

    Of a split with `left_out`, a view whose video cannot be read is `replaced` by the next view, or `left_out`.
    """

    def __init__(
        self,
        split: Split,
        spec: InputSpec,
        sampling: Sampling,
        views: _Views,
        *,
        replaced: bool = False,
        left_out: bool = False,
    ) -> None:
        self.split, self.spec, self.sampling, self.views = split, spec, sampling, views
        tolerant = getattr(split, "left_out", None) is not None
        self.replaced, self.left_out = replaced and tolerant, left_out and tolerant
        self._held: tuple[int, Frames | UnreadableError] | None = None  # of the video read last

    def __getitem__(self, chunk: NDArray[np.int64]) -> _Loaded | DataError:
        """An error is handed over as a value: the loader would bury its one line in a worker's traceback."""
        faults, cut = list[UnreadableError](), list[_Cut]()
        try:
            for view in chunk:
                if found := self._cut_or_fault(int(view), faults):
                    cut.append(found)
                elif self.replaced:
                    break  # nothing stands in its place, nor would anything in that of the next
        except DataError as error:
            return error
        return _Loaded(self._batch(cut) if cut else None, faults)

    def _batch(self, cut: Sequence[_Cut]) -> Batch:
        views = np.array([view for view, _, _ in cut])
        clips, mirror = torch.stack([clip for _, clip, _ in cut]), torch.from_numpy(self.views.mirror[views])
        if mirror.any():
            clips[mirror] = clips[mirror].flip(3)
        rows = self.views.rows[views]
        target: Any = torch.as_tensor(self.split.targets[rows], dtype=torch.int64)
        annotations = [annotation for _, _, annotation in cut if annotation is not None]
        if annotations:
            pairs = zip(annotations, mirror.tolist(), strict=True)
            target = collated([mirrored(one, self.spec.size) if flip else one for one, flip in pairs])
        return Batch(normalised(clips, self.spec), target, torch.from_numpy(rows))

    def _cut_or_fault(self, view: int, faults: list[UnreadableError]) -> _Cut | None:
        """What is cut; None if its video is left out, and where it is to be replaced, if no other can be read, or more
        than may be left out cannot: then the run is about to end.
        """
        count = len(self.views.rows)
        for step in range(count if self.replaced else 1):
            here = (view + step) % count
            try:
                return here, *self._cut(here)
            except UnreadableError as error:
                if not (self.replaced or self.left_out):
                    raise
                faults.append(error)
                if self.replaced and self.split.left_out.too_many(faults):  # type: ignore[attr-defined]  # as below
                    break
        return None

    def _frames(self, row: int) -> Frames:
        """What all views of a row show of its video, each frame read once."""
        if self._held is None or self._held[0] != row:
            self._held = None  # its memory is free before the next is read
            try:
                self._held = row, self._read(row)
            except UnreadableError as error:
                self._held = row, error
        found = self._held[1]
        if isinstance(found, UnreadableError):
            raise found
        return found

    def _read(self, row: int) -> Frames:
        views, places = np.flatnonzero(self.views.rows == row), dict[int, list[int]]()

        def choose(length: int) -> list[int]:
            shown = [_frames(length, self.spec, self.sampling, self.views.time[view].tolist()) for view in views]
            frames, back = np.unique(np.array(shown), return_inverse=True)
            places.update(zip(views.tolist(), back.reshape(len(views), -1).tolist(), strict=True))
            return [int(frame) for frame in frames]

        return frames_of(self.split, row, choose), places

    def _cut(self, view: int) -> tuple[Tensor, Tensor | None]:
        """The frames of all clips of one view, uint8 (N·T, S, S, C), and their boxes or mask, where there are any."""
        views, size, row = self.views, self.spec.size, int(self.views.rows[view])
        (video, places), split = self._frames(row), annotated(self.split)
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
        y, x = _place(height - size, down), _place(width - size, along)
        clip = video[:, y : y + size, x : x + size].index_select(0, torch.tensor(places[view]))
        return clip, None if annotation is None else cropped(annotation, y, x, size)


def _load(cutter: _Cutter, chunks: Sequence[NDArray[np.int64]], workers: int) -> Iterator[Batch]:
    """Batches in order. The loader gets a generator of its own, since it would draw from the global one."""
    loader: DataLoader[_Loaded | DataError] = DataLoader(
        cutter, batch_size=None, sampler=chunks, num_workers=workers, collate_fn=_as_it_is, generator=torch.Generator()
    )
    for loaded in loader:
        if isinstance(loaded, DataError):
            raise loaded
        for fault in loaded.faults:
            cutter.split.left_out.add(fault)  # type: ignore[attr-defined]  # there is one, or there were no faults
        if loaded.batch is not None:
            yield loaded.batch


def _as_it_is(batch: Any) -> Any:
    """Nothing to collate."""
    return batch


def _shape(spec: InputSpec) -> tuple[int, int]:
    """Clips, and frames a clip, in one sample."""
    return {"clip": (1, spec.frames), "clips": (spec.clips, spec.frames), "image": (1, 1)}[spec.kind]


def _parts(spec: InputSpec, sampling: Sampling) -> int:
    """How many moments a sample's frames are chosen by: one a clip when dense, one a frame when uniform."""
    clips, frames = _shape(spec)
    return clips if sampling.mode == "dense" else clips * frames


def _place(room: int, share: float) -> int:
    """One of the places 0..room; a random share in [0, 1) hits each equally often, 0.5 is the centre, 1 the last."""
    return min(int(share * (room + 1) + 1e-9), room)  # the tiny term: 1/3 of 3 is 1 whatever the rounding


def _positions(total: int, parts: int, shares: list[float]) -> list[int]:
    """One of `total` positions in each of `parts` equal parts, at its share of the part."""
    edges = [part * total // parts for part in range(parts + 1)]
    return [
        low + _place(max(high - low - 1, 0), share)
        for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
    ]


def _frames(length: int, spec: InputSpec, sampling: Sampling, shares: list[float]) -> list[int]:
    """Frame numbers (N·T) of a sample; a video that is too short goes on with its last frame."""
    clips, frames = _shape(spec)
    if sampling.mode == "uniform":
        chosen = _positions(max(length, clips * frames), clips * frames, shares)
    else:
        span = (frames - 1) * sampling.stride + 1
        starts = _positions(max(length - span, 0) + 1, clips, shares)
        chosen = [start + step for start in starts for step in range(0, span, sampling.stride)]
    return [min(frame, length - 1) for frame in chosen]


def normalised(clips: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (B, N·T, S, S, C) to float32 samples of `spec.shape(B)`, grey repeated to all channels."""
    count, frames = _shape(spec)
    clips = clips.view(len(clips), count, frames, *clips.shape[2:]).permute(0, 1, 5, 2, 3, 4)  # (B, N, C, T, S, S)
    sample = clips.to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(value, dtype=torch.float64).view(-1, 1, 1, 1) for value in (spec.mean, spec.std))
    sample = sample * (1 / (255 * std)).float() - (mean / std).float()
    shape = (len(clips), count, spec.channels, *sample.shape[3:])
    return sample.expand(shape).reshape(spec.shape(len(clips))).contiguous()
