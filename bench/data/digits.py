"""The default dataset: real handwritten digits that move over a textured background, made on the fly.

A label is a digit and the direction it moves in, so that it needs appearance and the order of frames. The digits are
scikit-learn's bundled UCI optical digits (8x8). What else differs between videos (speed, stops, drift of the
background, distractors, object share, noise) is drawn independently of the label and of each other, so that motion,
difficulty and object share can be told apart, and stands in `Split.attributes`.

A clip spans the same action at any number of frames and any size: speeds are stated for 8 frames of 32 pixels and
scale with both. Weights and textures are multiples of 1/64, so that the matrix products below are exact and the videos
are the same to the bit on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from bench.data.split import DataError, Dataset

REVISION = 1
DIGITS = (0, 1, 4)  # few and visually distinct: at 8x8 the other digits are easily confused
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # x, y down
CLASSES = tuple(f"{digit} {direction}" for digit in DIGITS for direction in DIRECTIONS)
SHARES = {"train": 0.45, "validation": 0.10, "test": 0.45}  # of the source digits

CLIPS = 3  # length of a video, in clips
SPEED = (0.8, 2.0)  # pixels per frame at 8 frames of 32 pixels, drawn log-uniformly
DRIFT = 0.8  # fastest background, in the same unit
MOVING = (0.55, 1.0)  # share of the steps in which the object moves
OBJECT = (0.04, 0.10)  # share of the frame that the digit's ink fills
NOISE = (0.08, 0.36)  # standard deviation of the noise; 1 is white
BACKGROUND, TEXTURE = 0.35, 0.12  # mean and deviation of the background
INK, FRAGMENT = 0.85, 0.65  # brightness of the digit and of distractors
REACH = 8 / 32  # the object's centre stays within this share of the size from the frame's centre
DISTRACTORS = 2  # at most
CACHE_BYTES = 2 << 30  # videos beyond this are made anew each time

Array = NDArray[np.float32]
Real = NDArray[np.float64]


def generator(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """A generator of its own for everything that is drawn, so that no draw depends on another."""
    return np.random.default_rng([seed, crc32(name.encode()), index])


def _weights(cells: int, spacing: float, centre: Real, pixels: int) -> Array:
    """Bilinear weights (T, pixels, cells) of a row of samples `spacing` pixels apart around `centre` (T,)."""
    inside = (np.arange(pixels) - centre[:, None]) / spacing + (cells - 1) / 2
    exact = (np.round(inside * 64) / 64).astype(np.float32)
    weights: Array = np.subtract(exact[..., None], np.arange(cells, dtype=np.float32))
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    return np.maximum(weights, 0, out=weights)


def place(grid: Array, spacing: float, x: Real, y: Real, shape: tuple[int, int]) -> Array:
    """Draws `grid` with its centre at pixel (x[t], y[t]), bilinearly: (T, *shape), zero outside the grid."""
    rows = _weights(grid.shape[0], spacing, y, shape[0])
    columns = _weights(grid.shape[1], spacing, x, shape[1])
    drawn: Array = np.matmul(rows @ grid, columns.transpose(0, 2, 1))
    return drawn


def _wrap(position: Real, reach: float) -> Real:
    """Positions brought into [-reach, reach): what leaves on one side starts again on the other."""
    return (position + reach) % (2 * reach) - reach


def travelled(moving: int, phase: int, frames: int, length: int) -> NDArray[np.int64]:
    """Moving steps up to each of `length` frames, (length,): go for `moving` steps of every frames - 1, then stop.

    The pattern repeats once a clip, so every clip of `frames` frames holds exactly `moving` moving steps.
    """
    go = (np.arange(length - 1) + phase) % (frames - 1) < moving
    return np.concatenate([[0], np.cumsum(go)])


@dataclass(frozen=True)
class DigitSource:
    """Of one split: glyphs (M, 8, 8) in 0..1 and their rows in the set by digit, and other digits for distractors."""

    glyphs: dict[int, Array]
    ids: dict[int, list[int]]
    others: Array


def digit_sources(seed: int) -> dict[str, DigitSource]:
    """Splits the source digits; every split gets as many of each digit class, so that all sources count alike."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    rng = generator(seed, "sources")
    shuffled = {digit: rng.permutation(np.flatnonzero(data.target == digit)) for digit in range(10)}
    total = min(len(shuffled[digit]) for digit in DIGITS)
    result, start = {}, 0
    for name, share in SHARES.items():
        end = start + int(share * total)
        part = {digit: sorted(rows[start:end]) for digit, rows in shuffled.items()}
        start = end
        others = [row for digit, rows in part.items() if digit not in DIGITS for row in rows]
        glyphs = {digit: images[part[digit]] for digit in DIGITS}
        result[name] = DigitSource(glyphs, {digit: [int(i) for i in part[digit]] for digit in DIGITS}, images[others])
    return result


class DigitsSplit:
    """One split, as `bench.data.Split` describes it; videos are uint8 (3 * frames, size, 5/4 size, 1).

    Attributes, in pixels per frame where they are speeds:
        speed: of the digit while it moves. moving_share: of the steps of any clip in which it moves.
        drift: speed of the background. distractors: number of moving fragments of other digits.
        object_share: share of the frame that the digit's ink fills. noise: deviation of the static noise, in 0..1.
        motion: mean optical flow over all pixels and steps, from the parameters: the digit's, the distractors' and the
            background's speed, each weighted with the share of the frame and of the steps in which it is seen
            (overlaps and the jumps back to the other side are not counted).
    """

    flip = False
    classes: Sequence[str]
    targets: NDArray[Any]

    def __init__(self, name: str, source: DigitSource, videos: int, size: int, frames: int, seed: int) -> None:
        self.name, self.size, self.frames, self.seed = name, size, frames, seed
        self.shape = (size, size + size // 4)
        self.length = CLIPS * frames
        self.classes = CLASSES
        self._scale = size / 32 * 8 / frames  # of a speed
        self._source = source
        self._assign(videos)
        self._draw(videos)
        cached = min(videos, CACHE_BYTES // (self.length * self.shape[0] * self.shape[1]))
        self._cache = np.empty((cached, self.length, *self.shape), np.uint8)  # untouched pages take no memory
        self._ready = np.zeros(cached, bool)

    def __len__(self) -> int:
        return len(self.targets)

    def _assign(self, videos: int) -> None:
        """Gives video i its digit, source and direction; labels, sources and their pairs are as even as can be."""
        sources, kinds = len(self._source.ids[DIGITS[0]]), len(DIRECTIONS)
        index = np.arange(videos)
        turn = index // len(DIGITS)
        self._digit = index % len(DIGITS)
        self._row = turn % sources
        # Without the shift a source would always meet the same directions where the two counts share a factor.
        self._direction = (turn + turn // np.lcm(sources, kinds)) % kinds
        self.targets = (self._digit * kinds + self._direction).astype(np.int64)
        ids = [self._source.ids[DIGITS[d]][r] for d, r in zip(self._digit, self._row, strict=True)]
        self.groups = np.array([f"digit-{i:04d}" for i in ids])

    def _draw(self, videos: int) -> None:
        """Draws the parameters of all videos; row i is the same however many follow."""
        uniform = generator(self.seed, self.name).random((videos, 10 + 6 * DISTRACTORS))
        (speed, moving, self._phase, self._x, self._y, drift, self._drift_angle, share, noise, count) = uniform.T[:10]
        others = self._source.others
        # Distractors are 4x4 parts of digits of other classes: (digits, 25 places, 4, 4).
        self._windows: Array = sliding_window_view(others, (4, 4), (1, 2)).reshape(len(others), 25, 4, 4)
        glyph, corner, *fragments = np.moveaxis(uniform[:, 10:].reshape(videos, DISTRACTORS, 6), -1, 0)
        self._glyphs, self._corners = (glyph * len(others)).astype(int), (corner * 25).astype(int)
        self._fragments = np.stack(fragments, -1)  # speed, angle, x, y
        steps = self.frames - 1
        self._moving = np.maximum(1, np.round((MOVING[0] + moving * (MOVING[1] - MOVING[0])) * steps)).astype(int)
        self._columns: dict[str, NDArray[Any]] = {  # beside the table, which is slow to index
            "speed": self._speed(speed),
            "moving_share": self._moving / steps,
            "drift": drift * DRIFT * self._scale,
            "distractors": (count * (DISTRACTORS + 1)).astype(int),
            "object_share": OBJECT[0] + share * (OBJECT[1] - OBJECT[0]),
            "noise": NOISE[0] + noise * (NOISE[1] - NOISE[0]),
        }
        self.attributes = pd.DataFrame({**self._columns, "motion": self._motion()})

    def _speed(self, uniform: Real) -> Real:
        return SPEED[0] * (SPEED[1] / SPEED[0]) ** uniform * self._scale

    def _motion(self) -> Real:
        table, area = self._columns, self.shape[0] * self.shape[1]
        ink = self._windows.sum((-2, -1))[self._glyphs, self._corners]
        shown = np.arange(DISTRACTORS) < table["distractors"][:, None]
        shares = shown * ink * self._fragment_spacing**2 / area
        flow: Real = (shares * self._speed(self._fragments[..., 0])).sum(1)
        flow += table["object_share"] * table["speed"] * table["moving_share"]
        flow += (1 - table["object_share"] - shares.sum(1)) * table["drift"]
        return flow

    @property
    def _fragment_spacing(self) -> float:
        return self.size / 14

    def path(self, index: int) -> Real:
        """Centre of the digit in every frame, x and y in pixels from the frame's centre, (2, T)."""
        reach = REACH * self.size
        phase = int(self._phase[index] * (self.frames - 1))
        way = self._columns["speed"][index] * travelled(self._moving[index], phase, self.frames, self.length)
        direction = list(DIRECTIONS.values())[self._direction[index]]
        # Anywhere in a box that it leaves on one side to come back on the other: no single frame tells the direction.
        start = (np.array([[self._x[index]], [self._y[index]]]) * 2 - 1) * reach
        return _wrap(start + np.outer(direction, way), reach)

    def digit(self, index: int) -> Array:
        """Coverage of each pixel by the labelled digit, 0..1, (T, H, W)."""
        glyph = self._source.glyphs[DIGITS[self._digit[index]]][self._row[index]]
        area = self._columns["object_share"][index] * self.shape[0] * self.shape[1]
        x, y = self.path(index)
        return self._place(glyph, float(np.sqrt(area / glyph.sum())), x, y)

    def _place(self, grid: Array, spacing: float, x: Real, y: Real) -> Array:
        return place(grid, spacing, x + (self.shape[1] - 1) / 2, y + (self.shape[0] - 1) / 2, self.shape)

    def _distractor(self, index: int, number: int) -> Array:
        """Coverage by a fragment that crosses the whole frame at constant velocity, (T, H, W)."""
        speed, angle, x, y = self._fragments[index, number]
        way = np.arange(self.length) * self._speed(speed)
        reach_y, reach_x = self.shape[0] / 2, self.shape[1] / 2
        x = _wrap((x * 2 - 1) * reach_x + np.cos(angle * 2 * np.pi) * way, reach_x)
        y = _wrap((y * 2 - 1) * reach_y + np.sin(angle * 2 * np.pi) * way, reach_y)
        part = self._windows[self._glyphs[index, number], self._corners[index, number]]
        return self._place(part, self._fragment_spacing, x, y)

    def _background(self, index: int, rng: np.random.Generator) -> Array:
        """A smooth random texture that drifts, (T, H, W), and carries no label."""
        spacing, time = self.size / 8, np.arange(self.length) - (self.length - 1) / 2
        reach = DRIFT * self._scale * self.length / 2  # what can come into view at each side
        cells = [int(np.ceil((side / 2 + reach) / spacing)) * 2 + 1 for side in self.shape]
        grid = (np.round(rng.standard_normal(cells) * 32) / 32).astype(np.float32)
        way = time * self._columns["drift"][index]
        angle = self._drift_angle[index] * 2 * np.pi
        return BACKGROUND + np.float32(TEXTURE) * self._place(grid, spacing, np.cos(angle) * way, np.sin(angle) * way)

    def _noise(self, index: int, rng: np.random.Generator) -> Array:
        """Noise with a grain of 1/32 of the size, fixed in time, (1, H, W).

        Noise that differs from frame to frame would make every frame informative, and hide temporal redundancy.
        """
        grid = rng.standard_normal((32, 40), np.float32)
        rows, columns = (np.arange(side) * 32 // self.size for side in self.shape)
        noise: Array = np.float32(self._columns["noise"][index]) * grid[None, rows][:, :, columns]
        return noise

    def render(self, index: int) -> NDArray[np.uint8]:
        """Makes a video, uint8 (T, H, W)."""
        rng = generator(self.seed, self.name, 1 + index)
        picture = self._background(index, rng)
        for number in range(self._columns["distractors"][index]):
            picture += self._distractor(index, number) * (np.float32(FRAGMENT) - picture)
        picture += self.digit(index) * (np.float32(INK) - picture)  # on top
        picture += self._noise(index, rng)
        levels: NDArray[np.uint8] = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
        return levels

    def video(self, index: int) -> torch.Tensor:
        """The whole video, uint8 (3 * frames, size, 5/4 size, 1).

        Raises:
            DataError: there is no such video.
        """
        if not 0 <= index < len(self):
            raise DataError(f"digits: {self.name} has no video {index}, only 0 to {len(self) - 1}")
        if index >= len(self._cache):
            return torch.from_numpy(self.render(index))[..., None]
        if not self._ready[index]:
            self._cache[index] = self.render(index)
            self._ready[index] = True
        return torch.from_numpy(self._cache[index].copy())[..., None]


def _fingerprint(parameters: dict[str, int], splits: list[DigitsSplit]) -> str:
    """Digest of the parameters, of every label, source and attribute, and of the pixels of three videos a split."""
    digest = hashlib.sha256(json.dumps([REVISION, parameters], sort_keys=True).encode())
    for split in splits:
        digest.update("".join(split.groups).encode())
        digest.update(split.targets.tobytes())
        # Rounded: the last bit of an elementary function may differ between machines.
        digest.update(np.round(split.attributes.to_numpy(float) * 1e6).astype(np.int64).tobytes())
        for index in {0, len(split) // 2, len(split) - 1}:
            digest.update(split.render(index).tobytes())
    return digest.hexdigest()[:16]


def digits(
    *,
    size: int = 32,
    frames: int = 8,
    train_videos: int = 4000,
    validation_videos: int = 2000,
    test_videos: int = 8000,
    seed: int = 0,
) -> Dataset:
    """Moving digits: 12 classes, videos of 3 * frames frames, size high and 5/4 size wide, grey.

    Train, validation and test share no source digit. Every video depends on the seed, the split's name and its own
    number only. Source of the digits: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), as
    bundled with scikit-learn.

    Args:
        size: height of a frame in pixels, 16 at least. frames: of a clip, 2 at least.
        train_videos, validation_videos, test_videos: number of videos of each split.
        seed: of everything.

    Raises:
        DataError: a parameter is too small.
    """
    parameters = {"size": size, "frames": frames, "train_videos": train_videos}
    parameters |= {"validation_videos": validation_videos, "test_videos": test_videos, "seed": seed}
    least = {"size": 16, "frames": 2, "seed": 0}
    for name, value in parameters.items():
        if value < least.get(name, 1):
            raise DataError(f"digits: {name} must be at least {least.get(name, 1)}, not {value}")
    sources = digit_sources(seed)
    train, validation, test = (
        DigitsSplit(name, sources[name], parameters[f"{name}_videos"], size, frames, seed) for name in SHARES
    )
    fingerprint = _fingerprint(parameters, [train, validation, test])
    return Dataset("digits", REVISION, fingerprint, train, validation, test)
