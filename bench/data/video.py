"""Decodes video files with PyAV: frames by presentation time, resized while they are decoded."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from bench.data.split import DataError

DECODED_LIMIT = 2 * 2**30
"""Bytes that one decoded video may take: 27 minutes of 30 frames a second at 114 x 128 pixels."""


def read_video(path: Path, short_side: int, rate: float | None = None, max_bytes: int = DECODED_LIMIT) -> Tensor:
    """Decodes a whole video, uint8 (T, H, W, 3) with min(H, W) = short_side, upright as its metadata says.

    rate: frames a second. The frame on show at each moment k / rate after the first frame is taken, up to the last
    frame's, going by time stamps and never by the frame count or rate in the header. None: every frame there is.

    Raises:
        DataError: the file cannot be opened, has no video, breaks off with an error, or decodes to over `max_bytes`.
    """
    if short_side < 1 or (rate is not None and rate <= 0):
        raise DataError(f"{path}: short side and rate must be positive, got {short_side} and {rate}")
    pictures: list[NDArray[np.uint8]] = []
    with _video_stream(path) as (container, stream):
        resize, shape = VideoReformatter(), None
        frames = container.decode(stream)
        timed = _timed(frames, float(stream.guessed_rate or 25))
        for frame, times in _on_show(timed, rate) if rate else ((frame, 1) for frame in frames):
            shape = shape or _shape(frame, short_side)
            picture = _picture(resize, frame, *shape)
            if (len(pictures) + times) * picture.nbytes > max_bytes:
                raise DataError(f"{path}: decodes to more than {max_bytes} bytes; cut it, or lower rate or short side")
            pictures += [picture] * times
    if not pictures:
        raise DataError(f"{path}: no frame could be decoded")
    return torch.from_numpy(np.stack(pictures))


class VideoReader:
    """Decodes files as `read_video` does, and keeps those used last, up to `cache_bytes` of pictures.

    short_side: pixels. rate: frames a second, None for every frame.
    """

    def __init__(self, short_side: int, rate: float | None = None, cache_bytes: int = 2**30) -> None:
        self.short_side, self.rate, self.cache_bytes = short_side, rate, cache_bytes
        self._kept: OrderedDict[Path, Tensor] = OrderedDict()
        self._bytes = 0

    def __call__(self, path: Path) -> Tensor:
        """The whole video, uint8 (T, H, W, 3).

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        video = read_video(path, self.short_side, self.rate)
        self._kept[path] = video
        self._bytes += video.nbytes
        while self._bytes > self.cache_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return video


def check_video(path: Path) -> None:
    """A fast check, which decodes nothing.

    Raises:
        DataError: the file is missing, cannot be opened, or has no video in it.
    """
    with _video_stream(path):
        pass


@contextmanager
def _video_stream(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open file and its first video stream, cover pictures aside; FFmpeg's objections become DataErrors."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        # A colon in a name is no protocol, and a playlist among the files reaches no network.
        with av.open(f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"}) as container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams:
                raise DataError(f"{path}: has no video stream")
            if streams[0].codec_context is None:
                raise DataError(f"{path}: no decoder for its video stream")
            streams[0].codec_context.thread_count = 1  # videos are decoded side by side by the loader's workers
            yield container, streams[0]
    except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be decoded: {getattr(error, 'strerror', None) or error}") from None


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


def _on_show(timed: Iterable[tuple[VideoFrame, float]], rate: float) -> Iterator[tuple[VideoFrame, int]]:
    """Frames, each with how many of the moments k / rate it is on show at; those at none are left out.

    A frame may come a tenth of the spacing late, since containers round time stamps.
    """
    shown, time, taken = None, 0.0, 0
    for frame, time in timed:
        due = math.ceil(time * rate - 0.1)
        if shown is not None and due > taken:
            yield shown, due - taken
            taken = due
        shown = frame
    due = math.floor(time * rate + 0.1) + 1
    if shown is not None and due > taken:
        yield shown, due - taken


def _shape(frame: VideoFrame, short_side: int) -> tuple[int, int, int]:
    """Width, height and quarter turns anticlockwise that the first frame sets for all."""
    scale = short_side / min(frame.width, frame.height)
    width, height = (max(short_side, round(side * scale)) for side in (frame.width, frame.height))
    return width, height, frame.rotation // 90 if frame.rotation % 90 == 0 else 0


def _picture(resize: VideoReformatter, frame: VideoFrame, width: int, height: int, turns: int) -> NDArray[np.uint8]:
    """The upright picture, uint8 (H, W, 3)."""
    picture = resize.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))
