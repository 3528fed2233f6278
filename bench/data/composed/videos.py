"""The videos of one split: what is where and when in them, and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.composed.actors import Array, Cast, Layer, Numbers, Real
from bench.data.digits import DIRECTIONS, generator, place
from bench.data.key_frames import KeyFrames, labelled

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
