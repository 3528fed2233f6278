"""Who acts and what distracts, as pictures that can be pasted: digits, or real clips."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bench.data.digits import DIGITS, DigitSource, place
from bench.data.lists import VideoFiles
from bench.data.split import DataError
from bench.data.video.reader import VideoReader

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
