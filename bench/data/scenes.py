"""The generated set for segmentation: digits and shapes over two kinds of texture, with exact masks.

A wavy line parts the background into two of four textures, told apart by their pattern and not by their colour. Objects
of random colour lie on it and on each other: digits (scikit-learn's bundled UCI optical digits, 8x8), discs and boxes
of many sizes, lit from one side. Clutter (small fragments of digits) and noise lie over all and are not to be named. As
in real sets a border of one pixel around every object is void.

All is drawn from whole numbers, sums of exact products and operations that IEEE 754 rounds alike everywhere, so that
pictures and masks are the same to the bit on every machine. Lengths are shares of the crop, so that a scene is the same
at any size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bench.data.digits import CACHE_BYTES, DIGITS, SHARES, Array, DigitSource, digit_sources, generator, place
from bench.data.split import DataError, Dataset

REVISION = 1
TEXTURES = ("smooth", "grain", "stripes", "checks")
OBJECTS = ("zero", "one", "four", "other digit", "disc", "box")
CLASSES = (*TEXTURES, *OBJECTS)
VOID = -1

MOST = 4  # objects in a picture
OBJECT = (0.35, 1.0)  # height of an object; small ones are more frequent
INK = 0.375  # from this share of its ink on, a pixel belongs to a digit
RATIO = (0.4, 1.6)  # width of a box by its height
BASE, TINT = (0.35, 0.65), 0.12  # brightness of a texture, and how far a colour channel lies from it at most
SWING = (0.08, 0.20)  # of a texture, to each side
CELLS = {"smooth": 9, "grain": 40}  # across a picture
PERIOD = (0.07, 0.15)  # of stripes and checks
CONTRAST = (0.15, 0.40)  # of an object with the background, to either side
SHADE = 0.3  # by how much an object is darker on the far side
CLUTTER, FRAGMENT, COVER = 6, 0.14, 0.7  # fragments at most, their height, how much of what is below they hide
NOISE = (0.01, 0.06)  # to each side
DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Object:
    """Its class, the pixels it fills where nothing hides it (P, P), its height and its centre (x, y) in pixels."""

    label: int
    mask: Mask
    height: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class _Layout:
    """What is where: the class of the background (P, P), and the objects, the hindmost first."""

    background: NDArray[np.int8]
    objects: list[_Object]

    def mask(self) -> NDArray[np.int8]:
        """The class of every pixel (P, P), void around objects."""
        mask = self.background.copy()
        for one in self.objects:
            mask[border(one.mask)] = VOID
            mask[one.mask] = one.label
        return mask


def border(mask: Mask) -> Mask:
    """The pixels (H, W) outside an object that share an edge with one of its own."""
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near & ~mask


def _within(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return bounds[0] + float(rng.random()) * (bounds[1] - bounds[0])


def _colour(rng: np.random.Generator, brightness: float) -> Array:
    """A colour (3,) of about this brightness."""
    return (brightness + TINT * (2 * rng.random(3) - 1)).astype(np.float32)


def _direction(rng: np.random.Generator) -> tuple[int, int]:
    return DIRECTIONS[rng.integers(len(DIRECTIONS))]


class ScenesSplit:
    """One split, as `bench.data.AnnotatedSplit` describes it; pictures are uint8 (1, P, P, 3), P = 8/7 of the crop.

    A group is the source digits that its pictures are made of: one of each labelled kind and a share of the others,
    which no other group uses.

    Attributes:
        objects: number of objects, hidden ones too. object_share: share of the pixels in which the mask names one.
    """

    flip = False  # a mirrored digit is none
    classes: Sequence[str] = CLASSES
    task: Literal["boxes", "masks"] = "masks"
    targets: NDArray[np.int64]
    groups: NDArray[np.str_]

    def __init__(self, name: str, source: DigitSource, images: int, size: int, seed: int) -> None:
        self.name, self.size, self.seed = name, size, seed
        self.side = round(size * 8 / 7)
        self._source, self._sources = source, len(source.ids[DIGITS[0]])
        self._y, self._x = np.mgrid[: self.side, : self.side]
        self.targets = np.zeros(images, np.int64)
        self.groups = np.array([f"{name}-digits-{index % self._sources:03d}" for index in range(images)])
        layouts = (self._layout(index, self._generator(index)) for index in range(images))
        self.masks = np.empty((images, self.side, self.side), np.int8)
        objects = np.empty(images, np.int64)
        for index, layout in enumerate(layouts):
            self.masks[index], objects[index] = layout.mask(), len(layout.objects)
        share = (self.masks >= len(TEXTURES)).mean((1, 2))
        self.attributes = pd.DataFrame({"objects": objects, "object_share": share})
        cached = min(images, CACHE_BYTES // (self.side**2 * 3))
        self._cache = np.empty((cached, self.side, self.side, 3), np.uint8)  # untouched pages take no memory
        self._ready = np.zeros(cached, bool)

    def __len__(self) -> int:
        """Pictures."""
        return len(self.targets)

    def _generator(self, index: int) -> np.random.Generator:
        return generator(self.seed, f"scenes {self.name}", index)

    def _place(self, grid: Array, spacing: float, centre: tuple[float, float]) -> Array:
        """A grid drawn bilinearly around (x, y), (P, P)."""
        x, y = (np.array([value]) for value in centre)
        drawn: Array = place(grid, spacing, x, y, (self.side, self.side))[0]
        return drawn

    def _smooth(self, rng: np.random.Generator, cells: int) -> Array:
        """Values in -1..1 at so many places in a row, and what lies between them, (P, P)."""
        grid = (rng.integers(-32, 33, (cells, cells)) / 32).astype(np.float32)
        middle = (self.side - 1) / 2
        return self._place(grid, self.side / (cells - 1), (middle, middle))

    def _along(self, direction: tuple[int, int]) -> NDArray[np.int64]:
        """How far each pixel lies along a direction, in steps of it, (P, P)."""
        along: NDArray[np.int64] = direction[0] * self._x + direction[1] * self._y
        return along

    def _layout(self, index: int, rng: np.random.Generator) -> _Layout:
        """Draws what is where."""
        first, second = rng.permutation(len(TEXTURES))[:2]
        direction, middle = _direction(rng), (self.side - 1) / 2
        slope = (self._along(direction) - sum(direction) * middle) / (sum(map(abs, direction)) * middle)
        parted = slope + 0.5 * self._smooth(rng, 5) > _within(rng, (-0.4, 0.4))
        background = np.where(parted, first, second).astype(np.int8)
        return _Layout(background, [self._object(index, rng) for _ in range(rng.integers(1, MOST + 1))])

    def _object(self, index: int, rng: np.random.Generator) -> _Object:
        kind = int(rng.integers(len(OBJECTS)))
        share = rng.random()
        height = (OBJECT[0] + (OBJECT[1] - OBJECT[0]) * share * share) * self.size
        x, y = (rng.random(2) * (self.side - 1)).tolist()
        if OBJECTS[kind] == "disc":
            mask = 4 * ((self._x - x) ** 2 + (self._y - y) ** 2) <= height**2
        elif OBJECTS[kind] == "box":
            width = height * _within(rng, RATIO)
            mask = (2 * np.abs(self._x - x) <= width) & (2 * np.abs(self._y - y) <= height)
        else:
            mask = self._place(self._glyph(index, kind, rng), height / 8, (x, y)) >= INK
        return _Object(len(TEXTURES) + kind, mask, height, (x, y))

    def _glyph(self, index: int, kind: int, rng: np.random.Generator) -> Array:
        """The group's digit of a labelled kind, or any of its others, (8, 8) in 0..1."""
        row = index % self._sources
        mine = self._source.others[row :: self._sources]
        glyph: Array = self._source.glyphs[DIGITS[kind]][row] if kind < len(DIGITS) else mine[rng.integers(len(mine))]
        return glyph

    def _texture(self, name: str, rng: np.random.Generator) -> Array:
        """Values in -1..1, (P, P)."""
        if name == "smooth":
            return self._smooth(rng, CELLS[name])
        if name == "grain":
            cells = np.arange(self.side) * CELLS[name] // self.side
            grid: Array = (rng.integers(-32, 33, (CELLS[name], CELLS[name])) / 32).astype(np.float32)
            return grid[cells][:, cells]
        across, down = _direction(rng)
        waves = self._wave((across, down), rng)
        if name == "checks":
            waves *= self._wave((-down, across), rng)
        return waves

    def _wave(self, direction: tuple[int, int], rng: np.random.Generator) -> Array:
        """A triangular wave in -1..1, (P, P)."""
        period = max(4, round(_within(rng, PERIOD) * self.size)) * sum(map(abs, direction))
        phase = (self._along(direction) + rng.integers(period)) % period
        wave: Array = (np.abs(4 * phase - 2 * period) / period - 1).astype(np.float32)
        return wave

    def _painted(self, layout: _Layout, rng: np.random.Generator) -> Array:
        """The background and the objects, (P, P, 3)."""
        brightness = _within(rng, BASE)
        colours, texture = np.zeros((len(TEXTURES), 3), np.float32), np.zeros((self.side, self.side), np.float32)
        for label in np.unique(layout.background):
            colours[label] = _colour(rng, brightness)
            swing = np.float32(_within(rng, SWING))
            np.copyto(texture, swing * self._texture(TEXTURES[label], rng), where=layout.background == label)
        picture = colours[layout.background] + texture[..., None]
        light = _direction(rng)
        for one in layout.objects:
            contrast = _within(rng, CONTRAST) * (1 if rng.random() < 0.5 else -1)
            away = light[0] * (self._x[one.mask] - one.centre[0]) + light[1] * (self._y[one.mask] - one.centre[1])
            shade = 1 - SHADE * np.clip(away / (sum(map(abs, light)) * one.height) + 0.5, 0, 1)
            picture[one.mask] = _colour(rng, brightness + contrast) * shade[:, None].astype(np.float32)
        return picture

    def _fragment(self, index: int, rng: np.random.Generator) -> Mask:
        """Where a piece of clutter lies, (P, P)."""
        top, left = rng.integers(5, size=2)
        grid = self._glyph(index, len(DIGITS), rng)[top : top + 4, left : left + 4]
        x, y = (rng.random(2) * (self.side - 1)).tolist()
        return self._place(grid, FRAGMENT * self.size / 4, (x, y)) >= INK

    def render(self, index: int) -> NDArray[np.uint8]:
        """Makes a picture, uint8 (P, P, 3)."""
        rng = self._generator(index)
        picture = self._painted(self._layout(index, rng), rng)
        for _ in range(rng.integers(CLUTTER + 1)):
            where, colour = self._fragment(index, rng), _colour(rng, float(rng.random()))
            picture[where] += np.float32(COVER) * (colour - picture[where])
        picture += np.float32(_within(rng, NOISE)) * (2 * rng.random(picture.shape, np.float32) - 1)
        levels: NDArray[np.uint8] = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
        return levels

    def video(self, index: int) -> torch.Tensor:
        """The picture, uint8 (1, P, P, 3).

        Raises:
            DataError: there is no such picture.
        """
        self._check(index)
        if index >= len(self._cache):
            return torch.from_numpy(self.render(index))[None]
        if not self._ready[index]:
            self._cache[index] = self.render(index)
            self._ready[index] = True
        return torch.from_numpy(self._cache[index].copy())[None]

    def annotation(self, index: int) -> torch.Tensor:
        """The mask, int64 (P, P): a class, or -1 on the border of an object.

        Raises:
            DataError: there is no such picture.
        """
        self._check(index)
        return torch.from_numpy(self.masks[index].astype(np.int64))

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise DataError(f"scenes: {self.name} has no picture {index}, only 0 to {len(self) - 1}")


def _fingerprint(parameters: dict[str, int], splits: list[ScenesSplit]) -> str:
    """Digest of the parameters, of every mask and group, and of the pixels of three pictures a split."""
    digest = hashlib.sha256(json.dumps([REVISION, CLASSES, parameters], sort_keys=True).encode())
    for split in splits:
        digest.update("".join(split.groups).encode())
        digest.update(split.masks.tobytes())
        for index in {0, len(split) // 2, len(split) - 1}:
            digest.update(split.render(index).tobytes())
    return digest.hexdigest()[:16]


def scenes(
    *,
    size: int = 64,
    train_images: int = 2000,
    validation_images: int = 400,
    test_images: int = 1000,
    seed: int = 0,
) -> Dataset:
    """Generated scenes: 10 classes, 4 textures and 6 kinds of objects, pictures of 8/7 of `size`, in colour.

    Train, validation and test share no source digit. Every picture depends on the seed, the split's name and its own
    number only. Source of the digits: as `bench.data.digits.digits`.

    Args:
        size: of a crop in pixels, 32 at least. seed: of everything.
        train_images, validation_images, test_images: number of pictures of each split.

    Raises:
        DataError: a parameter is too small.
    """
    parameters = {"size": size, "train_images": train_images, "validation_images": validation_images}
    parameters |= {"test_images": test_images, "seed": seed}
    least = {"size": 32, "seed": 0}
    for name, value in parameters.items():
        if value < least.get(name, 1):
            raise DataError(f"scenes: {name} must be at least {least.get(name, 1)}, not {value}")
    sources = digit_sources(seed)
    train, validation, test = (
        ScenesSplit(name, sources[name], parameters[f"{name}_images"], size, seed) for name in SHARES
    )
    return Dataset("scenes", REVISION, _fingerprint(parameters, [train, validation, test]), train, validation, test)
