"""Actions composed at known places, sizes and times onto a larger canvas, so that boxes and classes are exact.

In every video one actor acts in a part of the picture for a part of the time, among distractors that are as large, as
bright and as fast: patches of noise, and pictures put together from pieces of others. Actors are the digits of
`bench.data.digits`, whose class is the digit and the direction it moves in, or real clips from the data root, whose
class is theirs. A row is a key frame, grey: its video is the clip that ends there, its box the rectangle that the actor
fills. A stated share of the rows has no box: the action is over, perhaps within the clip; the distractors are not.

Pictures are pasted at whole pixels. Where and when depends on the seed, the split's name and the row alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bench.data import builders
from bench.data.digits import CLASSES, DIGITS, DIRECTIONS, DigitSource, digit_sources, generator, place
from bench.data.key_frames import KeyFrames, labelled
from bench.data.lists import VideoFiles
from bench.data.split import DataError, Dataset
from bench.data.video import VideoReader

REVISION = 1
SPLITS = ("train", "validation", "test")
SEEN = 0.5  # share of a clip for which, at a key frame with a box, the action has been on at least
LASTS = (1.0, 1.25)  # how long the action is on, in clips
TRAVEL = (0.15, 0.3)  # way that anything goes in a clip, as a share of the picture, drawn log-uniformly
DRIFT = 0.1  # way of the background, at most, in the same unit
WIDEST = 0.5  # nothing that is pasted is wider than this share of the picture
DISTRACTORS = 3  # at most
NOISY = 1 / 3  # share of the distractors that are patches of noise
HIDDEN = 0.1  # share of the actor's rectangle that a distractor lies under, at most, in any frame
TRIES = 8  # paths drawn for a distractor; the first that keeps clear of the actor is taken
BACKGROUND, TEXTURE, NOISE = 0.35, 0.12, (0.02, 0.1)  # mean and deviation of the background, deviation of the noise
INK = 0.85  # brightness of digits and of what distracts from them
KEPT, SMALL = 32, 48  # frames that are kept of a real clip, spread over it, and their short side in pixels
TILES = 4  # rows and columns of the pieces that a real clip is cut into

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]
Real = NDArray[np.float64]
Layer = tuple[Array, Array]
"""A picture, and the share 0..1 of what is behind it that it covers; each (T or 1, h, w)."""


class Cast(Protocol):
    """Who acts in one split, and what distracts.

    kinds: the members of each class of actors. groups: the independent source of each member. aspects: width over
    height of each member's picture. heights: of anything pasted, as a share of the picture. directed: whether the
    direction of the motion is part of the class.
    """

    kinds: list[NDArray[np.intp]]
    groups: NDArray[Any]
    aspects: Real
    heights: tuple[float, float]
    directed: bool

    def actor(self, member: int, height: int, width: int, moments: Real) -> Layer:
        """A member at each of the moments (T,): 0 where its action begins, 1 where it ends."""
        ...

    def pieces(self, rng: np.random.Generator, height: int, width: int, moments: Real) -> Layer:
        """Pieces of others, put together wrongly, at each of the moments (T,)."""
        ...

    def noise(self, rng: np.random.Generator, height: int, width: int) -> Layer:
        """A patch of noise."""
        ...


def _drawn(grid: Array, height: int, width: int) -> Array:
    """A grid, bilinearly over a rectangle of about its shape, (1, height, width)."""
    middle = np.array([(width - 1) / 2]), np.array([(height - 1) / 2])
    return place(grid, height / len(grid), *middle, (height, width))


def _grains(rng: np.random.Generator) -> Array:
    """Noise of 8 x 8 grains, in steps of 1/32 so that what is made of it is exact."""
    return (rng.integers(0, 33, (8, 8)) / 32).astype(np.float32)


class Digits:
    """Digits of one split of the sources; what distracts is put together from quarters of digits of other classes."""

    heights = (0.2, 0.4)
    directed = True

    def __init__(self, source: DigitSource) -> None:
        self.glyphs = [_trimmed(glyph) for digit in DIGITS for glyph in source.glyphs[digit]]
        self.groups: NDArray[Any] = np.array([f"digit-{row:04d}" for digit in DIGITS for row in source.ids[digit]])
        bounds = np.cumsum([len(source.ids[digit]) for digit in DIGITS])
        self.kinds: list[NDArray[np.intp]] = np.split(np.arange(bounds[-1]), bounds[:-1])
        self.aspects = np.array([glyph.shape[1] / glyph.shape[0] for glyph in self.glyphs])
        self._quarters: Array = sliding_window_view(source.others, (4, 4), (1, 2)).reshape(-1, 4, 4)
        self.content = b"".join([*(glyph.tobytes() for glyph in self.glyphs), source.others.tobytes()])

    def actor(self, member: int, height: int, width: int, moments: Real) -> Layer:
        """The digit, which never changes."""
        return _ink(_drawn(self.glyphs[member], height, width))

    def pieces(self, rng: np.random.Generator, height: int, width: int, moments: Real) -> Layer:
        """Four quarters of other digits."""
        quarters = self._quarters[rng.integers(0, len(self._quarters), 4)]
        grid = quarters.reshape(2, 2, 4, 4).transpose(0, 2, 1, 3).reshape(8, 8)
        return _ink(_drawn(grid[:, : max(1, round(8 * width / height))], height, width))

    def noise(self, rng: np.random.Generator, height: int, width: int) -> Layer:
        """Blots without a form."""
        return _ink(_drawn(_grains(rng), height, width))


def _trimmed(glyph: Array) -> Array:
    """The glyph without the margins that hold next to no ink, so that its rectangle is tight."""
    inked = glyph >= 0.25
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _ink(cover: Array) -> Layer:
    return np.full((1, 1, 1), INK, np.float32), cover


class Clips:
    """Real clips, grey, shown whole within the time of the action; what distracts is another clip in wrong order.

    Raises:
        DataError: the list of the clips does not give their width and height.
    """

    heights = (0.28, 0.42)
    directed = False

    def __init__(self, split: VideoFiles) -> None:
        self.split = split
        self.groups: NDArray[Any] = split.groups
        if isinstance(split.reader, VideoReader):
            split.reader.cache_bytes = 0  # what is wanted of a clip is kept here
        self.kinds = [np.flatnonzero(split.targets == label) for label in range(len(split.classes))]
        if not {"width", "height"} <= set(split.attributes):
            raise DataError(f"{split.files[0].parent.parent}: the list has no columns width and height")
        self.aspects = (split.attributes["width"] / split.attributes["height"]).to_numpy(float)
        self._kept: dict[int, Tensor] = {}

    @property
    def content(self) -> bytes:
        """Of the files: what is decoded may differ in the last bit between machines."""
        return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in self.split.files)

    def actor(self, member: int, height: int, width: int, moments: Real) -> Layer:
        """The clip's frame of each moment."""
        return _picture(self._frames(member, moments), height, width)

    def pieces(self, rng: np.random.Generator, height: int, width: int, moments: Real) -> Layer:
        """A clip cut into tiles that changed places."""
        frames = self._frames(int(rng.integers(len(self.split))), moments)
        tall, wide = (side // TILES for side in frames.shape[1:])
        tiles = frames[:, : tall * TILES, : wide * TILES].reshape(-1, TILES, tall, TILES, wide).transpose(2, 3)
        mixed = tiles.flatten(1, 2)[:, torch.from_numpy(rng.permutation(TILES**2))]
        mixed = mixed.reshape(-1, TILES, TILES, tall, wide).transpose(2, 3).flatten(3).flatten(1, 2)
        return _picture(mixed, height, width)

    def noise(self, rng: np.random.Generator, height: int, width: int) -> Layer:
        """Grains that cover what is behind them."""
        return _picture(torch.from_numpy(_grains(rng) * 255).to(torch.uint8)[None], height, width)

    def _frames(self, member: int, moments: Real) -> Tensor:
        """Grey frames uint8 (T, h, w); the clip is decoded once."""
        if member not in self._kept:
            video = self.split.video(member)
            chosen = np.linspace(0, len(video) - 1, min(KEPT, len(video))).round().astype(int)
            self._kept[member] = video[torch.from_numpy(chosen)].float().mean(3).to(torch.uint8)
        frames = self._kept[member]
        return frames[torch.from_numpy((moments * len(frames)).astype(int).clip(0, len(frames) - 1))]


def _picture(frames: Tensor, height: int, width: int) -> Layer:
    """Frames uint8 (T, h, w) resized, covering all behind them."""
    resized = F.interpolate(frames[None], (height, width), mode="bilinear", antialias=True)[0]
    grey: Array = resized.numpy().astype(np.float32) / np.float32(255)
    return grey, np.ones((1, 1, 1), np.float32)


def _between(bounds: tuple[float, float], uniform: Real) -> Real:
    """Log-uniform within the bounds."""
    return np.asarray(bounds[0] * (bounds[1] / bounds[0]) ** uniform)


def _bounced(way: Real, room: NDArray[Any]) -> Real:
    """Places in 0..room after a way between two walls."""
    return np.asarray(room - np.abs(way % np.maximum(2 * room, 1) - room))


def _whole(places: Real) -> Numbers:
    return np.asarray(np.floor(places + 0.5), np.int64)


class Videos:
    """The videos of one split. Times are in frames, places and sizes in pixels, speeds in pixels per frame.

    labels, directions, member: (V,), of the actor. begin, end: the action is on in begin <= t < end; key frames with a
    box are not before `ready`. speed, heights, widths: of the actor. video, key: of each row (N,).
    """

    def __init__(
        self,
        name: str,
        actors: Cast,
        videos: int,
        size: int,
        frames: int,
        key_frames: int,
        empty: float,
        seed: int,
    ) -> None:
        self.name, self.actors, self.size, self.frames, self.seed = name, actors, size, frames, seed
        self._assign(videos)
        uniform = generator(seed, name).random((videos, 10 + DISTRACTORS * (3 + 4 * TRIES)))
        self._act(uniform[:, :7].T)
        self.count = (uniform[:, 7] * (DISTRACTORS + 1)).astype(int)
        self.noise = NOISE[0] + uniform[:, 8] * (NOISE[1] - NOISE[0])
        self.drift_angle = uniform[:, 9] * 2 * np.pi
        self._distract(uniform[:, 10:].reshape(videos, DISTRACTORS, -1))
        self.video = np.repeat(np.arange(videos), key_frames)
        self.key = self._keys(videos, key_frames, empty).ravel()

    def _assign(self, videos: int) -> None:
        """Gives video i its member and direction; labels, sources and their pairs are as even as can be."""
        kinds, index = self.actors.kinds, np.arange(videos)
        kind, turn = index % len(kinds), index // len(kinds)
        sizes = np.array([len(members) for members in kinds])[kind]
        self.member = np.array([kinds[k][t % len(kinds[k])] for k, t in zip(kind.tolist(), turn.tolist(), strict=True)])
        # Without the shift a source would always meet the same directions where the two counts share a factor.
        self.directions = (turn + turn // np.lcm(sizes, len(DIRECTIONS))) % len(DIRECTIONS)
        self.labels = kind * len(DIRECTIONS) + self.directions if self.actors.directed else kind

    def _act(self, uniform: Real) -> None:
        """When, how large, how fast and where the actor is.

        Around the middle of the time of its key frames it may be anywhere, so that no single one tells the direction;
        before that it may come from outside the picture.
        """
        begin, lasts, height, travel, drift, x, y = uniform
        frames, size = self.frames, self.size
        self.begin = frames // 2 + (begin * (frames - frames // 2)).astype(int)
        least, most = (int(frames * share) for share in LASTS)
        self.end = self.begin + least + (lasts * (most - least + 1)).astype(int)
        self.ready = self.begin + int(SEEN * frames)
        self.heights, self.widths = self._sides(height, self.actors.aspects[self.member])
        self.speed = self._speed(travel)
        self.drift = drift * DRIFT * size / (frames - 1)
        self._velocity = np.array(list(DIRECTIONS.values()))[self.directions] * self.speed[:, None]
        self._middle = (self.ready + self.end - 1) / 2
        reach = np.abs(self._velocity) * ((self.end - 1 - self.ready) / 2)[:, None]
        room = np.maximum(size - np.stack([self.widths, self.heights], 1) - 2 * reach, 0)
        self._place = reach + np.stack([x, y], 1) * room

    def _sides(self, height: Real, aspect: Real) -> tuple[Numbers, Numbers]:
        """Height and width, whose drawn height is lowered where the width would exceed `WIDEST`."""
        share = np.minimum(_between(self.actors.heights, height), WIDEST / aspect)
        heights = np.round(self.size * share).astype(np.int64)
        return heights, np.maximum(np.round(heights * aspect), 2).astype(np.int64)

    def _speed(self, uniform: Real) -> Real:
        return _between(TRAVEL, uniform) * self.size / (self.frames - 1)

    def corner(self, video: Numbers | int, time: Numbers) -> Numbers:
        """Left and top (..., 2) of the actor at each time, of videos that broadcast with them."""
        passed = (time - self._middle[video])[..., None]
        return _whole(self._place[video] + self._velocity[video] * passed)

    def _distract(self, uniform: Real) -> None:
        """What distracts (V, D): kind, sides and the path that keeps clear of the actor, if one of the tries does."""
        videos = len(uniform)
        self.noisy = uniform[..., 0] < NOISY
        aspects = self.actors.aspects[(uniform[..., 2] * len(self.actors.aspects)).astype(int)]
        self.other_heights, self.other_widths = self._sides(uniform[..., 1], aspects)
        tries = uniform[..., 3:].reshape(videos, DISTRACTORS, TRIES, 4)
        clear = np.stack([self._clear(tries[:, number], number) for number in range(DISTRACTORS)], 1)
        self.shown = clear.any(2) & (np.arange(DISTRACTORS) < self.count[:, None])
        self._paths = np.take_along_axis(tries, clear.argmax(2)[..., None, None], 2)[:, :, 0]
        self.other_speed = self._speed(self._paths[..., 0])

    def _clear(self, tries: Real, number: int) -> NDArray[np.bool_]:
        """Which of the paths (V, tries, 4) of a distractor keep clear of the actor, (V, tries)."""
        rows, longest = np.arange(len(tries))[:, None], int((self.end - self.begin).max())
        times = np.minimum(self.begin[:, None] + np.arange(longest), self.end[:, None] - 1)  # (V, T)
        own = self.corner(rows, times)[:, None]  # (V, 1, T, 2)
        own_sides = np.stack([self.widths, self.heights], 1)[:, None, None]
        sides = np.stack([self.other_widths[:, number], self.other_heights[:, number]], 1)[:, None, None]
        other = self._way(tries[:, :, None], sides, times[:, None])
        shared = np.maximum(np.minimum(own + own_sides, other + sides) - np.maximum(own, other), 0).prod(-1)
        return np.asarray((shared <= HIDDEN * (self.widths * self.heights)[:, None, None]).all(-1))

    def _way(self, path: Real, sides: Numbers, times: Numbers) -> Numbers:
        """Left and top (..., 2) on a path (..., 4) between two walls, of something this large."""
        room = self.size - sides
        along = np.stack([path[..., 1] < 0.5, path[..., 1] >= 0.5], -1)
        way = path[..., 2, None] * 2 * room + self._speed(path[..., 0])[..., None] * times[..., None]
        return _whole(np.where(along, _bounced(way, room), path[..., 3, None] * room))

    def _keys(self, videos: int, key_frames: int, empty: float) -> Numbers:
        """Key frames (V, K): one in each part of the time in which they have a box, or, by chance, after it."""
        where, blank = np.moveaxis(generator(self.seed, f"{self.name} keys").random((videos, key_frames, 2)), -1, 0)
        part, span = np.arange(key_frames), (self.end - self.ready)[:, None]
        low, high = part * span // key_frames, (part + 1) * span // key_frames
        keys = self.ready[:, None] + low + (where * (high - low)).astype(int)
        return np.asarray(np.where(blank < empty, self.end[:, None] + (where * self.frames).astype(int), keys))

    def split(self, classes: Sequence[str], flip: bool) -> KeyFrames:
        """The rows as a split."""
        boxes = [self._box(int(video), int(key)) for video, key in zip(self.video, self.key, strict=True)]
        groups, name = self.actors.groups[self.member][self.video], f"composed, {self.name}"
        return KeyFrames(name, self.clip, boxes, classes, groups, self._attributes(), flip)

    def _box(self, video: int, key: int) -> NDArray[np.float32]:
        """The box of a key frame, (1, 5), or none, (0, 5)."""
        if not self.begin[video] <= key < self.end[video]:
            return np.zeros((0, 5), np.float32)
        left, top = self.corner(video, np.array(key))
        corners = [left, top, left + self.widths[video], top + self.heights[video]]
        return labelled(np.array([corners], float), int(self.labels[video]))

    def clip(self, row: int) -> Tensor:
        """The clip of a row, uint8 (frames, size, size, 1)."""
        video, key = int(self.video[row]), int(self.key[row])
        times = np.arange(key - self.frames + 1, key + 1)
        rng = generator(self.seed, self.name, 1 + video)
        picture = self._background(video, times, rng)
        grain = rng.standard_normal((32, 32), np.float32)  # fixed in time, or every frame would be informative
        for number in np.flatnonzero(self.shown[video]):
            self._distractor(picture, video, int(number), times, rng)
        self._actor(picture, video, times)
        cells = np.arange(self.size) * 32 // self.size
        picture += np.float32(self.noise[video]) * grain[cells][:, cells]
        picture *= 255
        picture += 0.5
        return torch.from_numpy(np.clip(picture, 0, 255, out=picture).astype(np.uint8))[..., None]

    def _actor(self, picture: Array, video: int, times: Numbers) -> None:
        begin, end = int(self.begin[video]), int(self.end[video])
        on = np.flatnonzero((begin <= times) & (times < end))
        if not len(on):
            return
        sides = int(self.heights[video]), int(self.widths[video])
        layer = self.actors.actor(int(self.member[video]), *sides, (times[on] - begin + 0.5) / (end - begin))
        _paste(picture[on[0] : on[-1] + 1], layer, sides, self.corner(video, times[on]))

    def _distractor(self, picture: Array, video: int, number: int, times: Numbers, rng: np.random.Generator) -> None:
        height, width = int(self.other_heights[video, number]), int(self.other_widths[video, number])
        if self.noisy[video, number]:
            layer = self.actors.noise(rng, height, width)
        else:
            layer = self.actors.pieces(rng, height, width, times / (2 * self.frames) % 1)
        corners = self._way(self._paths[video, number], np.array([width, height]), times)
        _paste(picture, layer, (height, width), corners)

    def _background(self, video: int, times: Numbers, rng: np.random.Generator) -> Array:
        """A smooth random texture that drifts, (T, size, size)."""
        spacing, most = self.size / 8, 2 * DRIFT * self.size * self.frames / (self.frames - 1)
        cells = int(np.ceil((self.size / 2 + most) / spacing)) * 2 + 1
        grid = (np.round(rng.standard_normal((cells, cells)) * 32) / 32).astype(np.float32)
        way, middle = (times - 1.5 * self.frames) * self.drift[video], (self.size - 1) / 2
        x, y = np.cos(self.drift_angle[video]) * way + middle, np.sin(self.drift_angle[video]) * way + middle
        picture = place(grid, spacing, x, y, (self.size, self.size))
        picture *= np.float32(TEXTURE)
        picture += np.float32(BACKGROUND)
        return picture

    def _attributes(self) -> pd.DataFrame:
        """What else is known of each row: see `composed`."""
        video, key = self.video, self.key
        on = (self.begin[video] <= key) & (key < self.end[video])
        first = np.maximum(key - self.frames + 1, self.begin[video])
        seen = np.maximum(np.minimum(key + 1, self.end[video]) - first, 0) / self.frames
        share = (self.heights * self.widths / self.size**2)[video]
        others = np.where(self.shown, self.other_heights * self.other_widths / self.size**2, 0)[video]
        flow = share * self.speed[video] * seen + (others * self.other_speed[video]).sum(1)
        columns = {"object_share": np.where(on, share, 0), "speed": self.speed[video], "seen": seen}
        columns |= {"distractors": self.shown.sum(1)[video], "noise": self.noise[video], "drift": self.drift[video]}
        still = np.maximum(1 - share * seen - others.sum(1), 0)
        return pd.DataFrame({**columns, "motion": flow + still * self.drift[video]})


def _paste(picture: Array, layer: Layer, sides: tuple[int, int], corners: Numbers) -> None:
    """Lays a picture over each frame of (T, size, size), with left and top at its corners (T, 2)."""
    (height, width), size = sides, picture.shape[1]
    grey, cover = (np.broadcast_to(part, (len(picture), height, width)) for part in layer)
    for number, (left, top) in enumerate(corners.tolist()):
        if -width < left < size and -height < top < size:
            part = picture[number, max(0, top) : top + height, max(0, left) : left + width]
            inside = number, slice(max(0, -top), size - top), slice(max(0, -left), size - left)
            part += cover[inside] * (grey[inside] - part)


def _casts(
    source: str, data_root: Path | None, fold: int, seed: int
) -> tuple[Sequence[Digits | Clips], Sequence[str], bool, Sequence[str]]:
    """Who acts in each split, the classes, whether a mirrored clip keeps its class, and the notes."""
    if source == "digits":
        sources = digit_sources(seed)
        return [Digits(sources[name]) for name in SPLITS], CLASSES, False, ()
    clips: Dataset = getattr(builders, source)(data_root=data_root, size=SMALL, short_side=SMALL, fold=fold)
    parts = [cast(VideoFiles, getattr(clips, name)) for name in SPLITS]
    return [Clips(part) for part in parts], parts[0].classes, parts[0].flip, clips.notes


def _fingerprint(parameters: dict[str, Any], casts: Sequence[Digits | Clips], splits: Sequence[KeyFrames]) -> str:
    """Digest of the parameters, every source and box and all else that is known, and of three clips of digits a split.

    Of real clips the files stand for the pixels, which a decoder may round differently on another machine.
    """
    digest = hashlib.sha256(json.dumps([REVISION, parameters], sort_keys=True).encode())
    for actors, split in zip(casts, splits, strict=True):
        digest.update(actors.content + "".join(split.groups).encode())
        digest.update(b"".join(boxes.tobytes() + b";" for boxes in split.boxes))
        # Rounded: the last bit of an elementary function may differ between machines.
        digest.update(np.round(split.attributes.to_numpy(float) * 1e6).astype(np.int64).tobytes())
        for row in {0, len(split) // 2, len(split) - 1} if isinstance(actors, Digits) else ():
            digest.update(split.video(row).numpy().tobytes())
    return digest.hexdigest()[:16]


def composed(
    *,
    data_root: Path | None = None,
    frames: int = 16,
    size: int = 96,
    source: Literal["digits", "ut_interaction", "surveillance_fight"] = "digits",
    train_videos: int = 1000,
    validation_videos: int = 200,
    test_videos: int = 500,
    key_frames: int = 2,
    empty: float = 0.1,
    fold: int = 0,
    seed: int = 0,
) -> Dataset:
    """Composed actions: rows are key frames, clips (frames, size, size, 1), one box or none, grey.

    Digits have 12 classes (0, 1 or 4, going left, right, up or down), real clips those of their set. No source is in
    two splits; `groups` are the sources: digits, or the groups of the real set.

    Attributes, of the clip, in pixels per frame where they are speeds:
        object_share: share of the key frame that the box covers, 0 without one. speed: of the actor. seen: share of the
            frames in which the action is on. distractors: how many. noise: deviation of the static noise, in 0..1.
        drift: speed of the background.
        motion: mean speed over all pixels and frames, from the parameters: of the actor's and the distractors'
            rectangles and of the rest, each weighted with its share (overlaps, the edge of the picture, and motion
            within real clips are not counted).

    Args:
        data_root: the folder that holds the real sets; digits need none.
        frames: of a clip, 4 at least. size: of the picture in pixels, 32 at least.
        source: what acts.
        train_videos, validation_videos, test_videos: of each split.
        key_frames: rows of a video, at most half of `frames`, so that no two with a box are the same.
        empty: chance that a row has no box.
        fold: of the real set; digits have none.
        seed: of everything.

    Raises:
        DataError: a parameter out of its range, or a real set that cannot be used.
    """
    parameters: dict[str, Any] = {"size": size, "frames": frames, "key_frames": key_frames, "seed": seed}
    videos = {"train_videos": train_videos, "validation_videos": validation_videos, "test_videos": test_videos}
    for name, value in (parameters | videos).items():
        if value < (least := {"size": 32, "frames": 4, "seed": 0}.get(name, 1)):
            raise DataError(f"composed: {name} must be at least {least}, not {value}")
    if key_frames > frames // 2:
        raise DataError(f"composed: key_frames must be at most {frames // 2}, half of the frames, not {key_frames}")
    if not 0 <= empty < 1:
        raise DataError(f"composed: empty must be at least 0 and less than 1, not {empty}")
    casts, classes, flip, notes = _casts(source, data_root, fold, seed)
    train, validation, test = (
        Videos(name, actors, count, size, frames, key_frames, empty, seed).split(classes, flip)
        for name, actors, count in zip(SPLITS, casts, videos.values(), strict=True)
    )
    parameters |= {**videos, "source": source, "empty": empty, "fold": fold, "classes": list(classes)}
    fingerprint = _fingerprint(parameters, casts, [train, validation, test])
    return Dataset("composed", REVISION, fingerprint, train, validation, test, tuple(notes))
