"""Which clips are cut out of videos: which frames, which crop, in which order, and nothing else.

Every choice is a share of the room there is (0 the first possible place, 1 the last), so that one rule serves random
training clips and fixed test views, for videos of any length and shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.data.cutting import Cutter, Piece, Views, clips_and_frames, place_of
from bench.data.loader import load, rebatched, whole_videos
from bench.data.loading import loading
from bench.data.split import DataError, Split
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
    workers: int | None = None,
    deal: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
    epochs: int = 1,
) -> Iterator[Batch]:
    """`epochs` of random clips with random crops, mirrored at random where the label allows it, from number `epoch` on.

    Order and choices depend on (seed, epoch, row) only, so that an epoch resumed with `skip` batches gives exactly the
    batches that were left, and decodes none of the others. Where the split has `left_out`, a video that cannot be read
    is told to it, and the next one of the epoch that can be read stands in its place. workers: processes that make the
    batches, which are the same for any number; None: as `bench.data.loading` has it. They may not be the same of a file
    whose damage the decoder does not report: it fills the gaps by what it decoded before, which is less where it began
    at a key frame within the video. deal: gives the part of a batch that is this process's.

    Raises:
        DataError: a video cannot be read, is smaller than the crop, or the split does not fill one batch; with
            `left_out`, too few videos are left.
    """
    train_steps(split, batch)
    pieces = _Pieces(len(split), batch, range(epoch, epoch + epochs), skip, deal)
    views = partial(_random_views, len(split), spec, sampling, split.flip, seed)
    cutter = Cutter(split, spec, views, partial(_frames, spec, sampling), random=True)
    loads = load(cutter, pieces, loading().workers_for(split) if workers is None else workers, batch)
    return (loaded.batch for loaded in loads if loaded.batch is not None)


@dataclass(frozen=True)
class _Pieces:
    """The batches of some epochs; `skip`: of the first, so many are left out."""

    count: int
    batch: int
    epochs: range
    skip: int
    deal: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None

    def __iter__(self) -> Iterator[Piece]:
        for epoch in self.epochs:
            for step in range(self.skip if epoch == self.epochs.start else 0, self.count // self.batch):
                whole = np.arange(step * self.batch, (step + 1) * self.batch)
                yield Piece(epoch, whole if self.deal is None else self.deal(whole))


def _random_views(count: int, spec: InputSpec, sampling: Sampling, flip: bool, seed: int, epoch: int) -> Views:
    """One view of each of `count` videos, in the order of the epoch."""
    order = np.random.default_rng([seed, epoch, 0]).permutation(count)
    parts = _parts(spec, sampling)
    draws = np.random.default_rng([seed, epoch, 1]).random((count, parts + 3))[order]
    mirror = (draws[:, parts + 2] < 0.5) & flip
    scale = np.random.default_rng([seed, epoch, 2]).choice(np.asarray(sampling.scales), count)[order]
    return Views(order, draws[:, :parts], draws[:, parts], draws[:, parts + 1], mirror, scale)


def test_batches(
    split: Split,
    spec: InputSpec,
    sampling: Sampling,
    clips: int,
    crops: int,
    batch: int,
    rows: NDArray[np.int64] | None = None,
    workers: int | None = None,
    leave_out: bool = False,
    turn: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The fixed test views of the videos `rows` (default: all), those of one video one after the other.

    clips: 1 is the centre one; more are evenly spaced, the first starting with the video, the last ending with it.
    crops: 1 is the centre; 3 are left, centre and right along the longer side (top to bottom in upright videos).
    Views run clip by clip, crop by crop; `Batch.index` repeats the video's row. The last batch may be short. A video is
    read once for all its views, by one of the workers. leave_out: where the split has `left_out`, a video that cannot
    be read is told to it and is in no batch, so that batches may be short and `Batch.index` says what there is.
    turn: (k, n) for every n-th of these batches from number k on, which is one process's share. workers: as in
    `train_batches`.

    Raises:
        DataError: a video cannot be read or is smaller than the crop; a number of clips or crops that does not exist.
    """
    if clips < 1 or crops not in (1, 3) or batch < 1:
        raise DataError(f"views: clips and batch must be 1 or more and crops 1 or 3, got {clips}, {batch} and {crops}")
    videos = np.arange(len(split)) if rows is None else np.asarray(rows, np.int64)
    views, count = _fixed_views(videos, clips, crops, _parts(spec, sampling)), len(videos) * clips * crops
    chunks = [np.arange(first, min(first + batch, count)) for first in range(0, count, batch)][turn[0] :: turn[1]]
    pieces = whole_videos(views.rows, chunks)
    cutter = Cutter(split, spec, lambda epoch: views, partial(_frames, spec, sampling), left_out=leave_out)
    wanted = loading().workers_for(split) if workers is None else workers
    most = max((len(piece.views) for piece in pieces), default=1)
    return rebatched(load(cutter, pieces, min(wanted, len(pieces)) if len(pieces) > 1 else 0, most), chunks)


def _fixed_views(videos: NDArray[np.int64], clips: int, crops: int, parts: int) -> Views:
    """Every view of each of the videos, clip by clip, crop by crop, not mirrored and not rescaled."""
    moments = np.linspace(0, 1, clips) if clips > 1 else np.array([0.5])
    places = np.linspace(0, 1, crops) if crops > 1 else np.array([0.5])
    count = len(videos) * clips * crops
    time = np.broadcast_to(np.tile(np.repeat(moments, crops), len(videos))[:, None], (count, parts))
    long = np.tile(places, len(videos) * clips)
    short, mirror, scale = np.full(count, 0.5), np.zeros(count, bool), np.ones(count)
    return Views(np.repeat(videos, clips * crops), time, long, short, mirror, scale)


def chosen_rows(split: Split, count: int) -> NDArray[np.int64]:
    """The first `count` rows (0: all) of one fixed shuffle, in rising order."""
    rows = np.random.default_rng(SHUFFLE).permutation(len(split))
    return np.sort(rows[: count or len(rows)])


test_batches.__test__ = False  # type: ignore[attr-defined]  # its name makes pytest take it for a test


def _parts(spec: InputSpec, sampling: Sampling) -> int:
    """How many moments a sample's frames are chosen by: one a clip when dense, one a frame when uniform."""
    clips, frames = clips_and_frames(spec)
    return clips if sampling.mode == "dense" else clips * frames


def _positions(total: int, parts: int, shares: list[float]) -> list[int]:
    """One of `total` positions in each of `parts` equal parts, at its share of the part."""
    edges = [part * total // parts for part in range(parts + 1)]
    return [
        low + place_of(max(high - low - 1, 0), share)
        for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
    ]


def _frames(spec: InputSpec, sampling: Sampling, length: int, shares: list[float]) -> list[int]:
    """Frame numbers (N·T) of a sample; a video that is too short goes on with its last frame."""
    clips, frames = clips_and_frames(spec)
    if sampling.mode == "uniform":
        chosen = _positions(max(length, clips * frames), clips * frames, shares)
    else:
        span = (frames - 1) * sampling.stride + 1
        starts = _positions(max(length - span, 0) + 1, clips, shares)
        chosen = [start + step for start in starts for step in range(0, span, sampling.stride)]
    return [min(frame, length - 1) for frame in chosen]
