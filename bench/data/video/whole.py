"""Decodes whole videos: frames by presentation time, resized while they are decoded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from bench.data.split import DataError
from bench.data.video.limits import Item, Limits, check_asked, counted, fits, timely
from bench.data.video.opened import video_stream
from bench.data.video.pictures import picture_of, shape_of


def read_video(path: Path, short_side: int, rate: float | None = None, limits: Limits | None = None) -> Tensor:
    """Decodes a whole video, uint8 (T, H, W, 3) with min(H, W) = short_side, upright as its metadata says.

    rate: frames a second. The frame on show at each moment k / rate after the first frame is taken, up to the last
    frame's, going by time stamps and never by the frame count or rate in the header. None: every frame there is.

    Raises:
        DataError: the file cannot be opened, has no video, breaks off with an error, or goes beyond `limits`.
    """
    limits = limits or Limits()
    check_asked(path, short_side, rate)
    pictures: list[NDArray[np.uint8]] = []
    with video_stream(path, limits) as (container, stream):
        resize, shape = VideoReformatter(), None
        frames = counted(path, container.decode(stream), limits)
        timed = _timed(frames, float(stream.guessed_rate or 25))
        for frame, times in on_show(timely(path, timed, limits), rate) if rate else ((frame, 1) for frame in frames):
            shape = shape or shape_of(path, frame, short_side, limits)
            picture = picture_of(resize, frame, *shape)
            fits(path, len(pictures) + times, picture.nbytes, limits)
            pictures += [picture] * times
    if not pictures:
        raise DataError(f"{path}: no frame could be decoded")
    return torch.from_numpy(np.stack(pictures))


def _timed(frames: Iterable[VideoFrame], assumed_rate: float) -> Iterator[tuple[VideoFrame, float]]:
    """Frames with their seconds since the first one; those without a time stamp come at the assumed rate.

    Time never runs backwards: the decoder gives frames in the order in which they are shown.
    """
    start = now = None
    for frame in frames:
        time = frame.time if frame.time is not None else 0.0 if now is None else now + 1 / assumed_rate
        now = time if now is None else max(now, time)
        start = now if start is None else start
        yield frame, now - start


def on_show(timed: Iterable[tuple[Item, float]], rate: float) -> Iterator[tuple[Item, int]]:
    """Frames, each with how many of the moments k / rate it is on show at; those at none are left out.

    A frame may come a tenth of the spacing late, since containers round time stamps.
    """
    shown: Item | None = None
    time, taken = 0.0, 0
    for frame, time in timed:
        due = math.ceil(time * rate - 0.1)
        if shown is not None and due > taken:
            yield shown, due - taken
            taken = due
        shown = frame
    due = math.floor(time * rate + 0.1) + 1
    if shown is not None and due > taken:
        yield shown, due - taken
