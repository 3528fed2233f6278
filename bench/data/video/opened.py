"""An open video file, read by FFmpeg: its first video stream, or one line that says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from bench.data.split import DataError
from bench.data.video.limits import Limits


def check_video(path: Path) -> None:
    """A fast check, which decodes nothing.

    Raises:
        DataError: the file is missing, cannot be opened, or has no video in it.
    """
    with video_stream(path, Limits()):
        pass


@contextmanager
def video_stream(path: Path, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open file and its first video stream, cover pictures aside; FFmpeg's objections become DataErrors."""
    if not os.path.isfile(path):  # also of a name that the system refuses
        raise DataError(f"{path}: no such file")
    try:
        # A colon in a name is no protocol, and a playlist among the files reaches no network.
        with av.open(f"file:{path}", metadata_errors="ignore", options=_options(limits)) as container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams:
                raise DataError(f"{path}: has no video stream")
            if streams[0].codec_context is None:
                raise DataError(f"{path}: no decoder for its video stream")
            streams[0].codec_context.options = {"max_pixels": str(limits.pixels)}
            streams[0].codec_context.thread_count = 1  # videos are decoded side by side by the loader's workers
            yield container, streams[0]
    except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be decoded: {getattr(error, 'strerror', None) or error}") from None


def _options(limits: Limits) -> dict[str, str]:
    """For opening; what is looked into then is held to the limit too."""
    return {"protocol_whitelist": "file", "max_pixels": str(limits.pixels)}
