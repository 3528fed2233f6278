"""What one video may ask for, and the refusal of what goes beyond."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from av.video.frame import VideoFrame

from bench.data.split import DataError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Limits:
    """What one video may ask for; beyond, it is refused before the memory is taken. Kinetics is far below each.

    pixels: of a picture as it is coded (33 million: 8K). frames: in the file, and taken of it (131,072: 73 minutes at
    30 a second). seconds: of a video that is read at a rate. size: bytes of the pictures that are kept (2 GiB: 27
    minutes of 30 frames a second at 114 x 128 pixels).
    """

    pixels: int = 2**25
    frames: int = 2**17
    seconds: float = 7200.0
    size: int = 2**31


def check_asked(path: Path, short_side: int, rate: float | None) -> None:
    """Refuses a short side or a rate that no video can have."""
    if short_side < 1 or (rate is not None and rate <= 0):
        raise DataError(f"{path}: short side and rate must be positive, got {short_side} and {rate}")


def small_enough(path: Path, width: int, height: int, limits: Limits) -> None:
    """Refuses pictures of more pixels than the limits allow."""
    if width * height > limits.pixels:
        raise DataError(f"{path}: {width}x{height} pixels, over the limit of {limits.pixels}")


def few_enough(path: Path, frames: int, limits: Limits) -> None:
    """Refuses more frames than the limits allow."""
    if frames > limits.frames:
        raise DataError(f"{path}: has more than {limits.frames} frames; cut it, or raise the limit")


def counted(path: Path, frames: Iterable[VideoFrame], limits: Limits) -> Iterator[VideoFrame]:
    """The frames, as long as there are not too many."""
    for number, frame in enumerate(frames):
        few_enough(path, number + 1, limits)
        yield frame


def timely(path: Path, timed: Iterable[tuple[Item, float]], limits: Limits) -> Iterator[tuple[Item, float]]:
    """The frames, as long as they are not too late."""
    for item, time in timed:
        if time > limits.seconds:
            raise DataError(f"{path}: lasts for more than {limits.seconds:g} seconds; cut it, or raise the limit")
        yield item, time


def fits(path: Path, pictures: int, size: int, limits: Limits) -> None:
    """Refuses more pictures, of `size` bytes each, than the limits allow."""
    if pictures > limits.frames or pictures * size > limits.size:
        raise DataError(
            f"{path}: decodes to more than {limits.frames} frames or {limits.size} bytes; cut it, lower rate or short "
            "side, or raise the limit"
        )
