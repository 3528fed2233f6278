"""Decoded frames as pictures: resized, upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from bench.data.video.limits import Limits, small_enough


def shape_of(path: Path, frame: VideoFrame, short_side: int, limits: Limits) -> tuple[int, int, int]:
    """Width, height and quarter turns anticlockwise that the first frame sets for all."""
    small_enough(path, frame.width, frame.height, limits)
    turns = frame.rotation // 90 if frame.rotation % 90 == 0 else 0
    return *scaled(frame.width, frame.height, short_side), turns


def scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with a shorter side of `short_side`."""
    scale = short_side / min(width, height)
    return max(short_side, round(width * scale)), max(short_side, round(height * scale))


def picture_of(resize: VideoReformatter, frame: VideoFrame, width: int, height: int, turns: int) -> NDArray[np.uint8]:
    """The upright picture, uint8 (H, W, 3)."""
    picture = resize.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))
