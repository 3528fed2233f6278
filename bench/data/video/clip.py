"""Decodes a clip without the rest of its video, where the packets tell where its frames are.

They are listed, the decoder starts at the key frame before the clip, and every frame that it gives is held against the
list. Where anything differs, the whole video is decoded, so that a clip has the same frames either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from bench.data.loading import loading
from bench.data.video.limits import Limits, check_asked, few_enough, fits, small_enough, timely
from bench.data.video.opened import video_stream
from bench.data.video.pictures import picture_of, scaled, shape_of
from bench.data.video.whole import on_show

NEAR = 8
"""Frames that are decoded in less time than a key frame behind them is sought."""
HIDDEN = frozenset(("vp8", "libvpx"))
"""Decoders of streams with packets that show nothing, so that packets and frames are not as many."""


def read_clip(
    path: Path,
    choose: Callable[[int], Sequence[int]],
    short_side: int,
    rate: float | None = None,
    limits: Limits | None = None,
    whole: int = 0,
) -> Tensor | None:
    """The frames `choose(T)` of a video of T frames, exactly as `read_video` gives them, decoding as few as it can.

    None where that cannot be sure, and where all the pictures of the video take no more than `whole` bytes.

    Raises:
        DataError: as `read_video`, if what is wrong shows in the part that is read.
    """
    limits = limits or Limits()
    check_asked(path, short_side, rate)
    with video_stream(path, limits) as (container, stream):
        found = _listed(path, container, stream, short_side, rate, limits)
        if found is None or len(found.moments) * found.picture <= whole:
            return None
        wanted = found.moments[np.asarray(choose(len(found.moments)), np.int64)]
        fits(path, len(wanted), found.picture, limits)
        places, back = np.unique(wanted, return_inverse=True)
        if decode := loading().opened_decoder.frames:
            seconds = (found.stamps[places] * float(stream.time_base or 0)).astype(np.float64)
            pictures = decode(path, stream.index, places.tolist(), seconds, found.shape)
        else:
            pictures = _pictures(path, container, stream, found, places.tolist(), short_side, limits)
    if pictures is None:
        return None
    clip = torch.from_numpy(np.stack(pictures))
    return clip if np.array_equal(wanted, places) else clip[torch.from_numpy(back)]


def _pictures(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    found: _Listed,
    places: Sequence[int],
    short_side: int,
    limits: Limits,
) -> list[NDArray[np.uint8]] | None:
    """The pictures (H, W, 3) at some places, rising, by PyAV; None if they are not what the list says."""
    pictures, resize = list[NDArray[np.uint8]](), VideoReformatter()
    for frame in _at(container, stream, found, places):
        shape = shape_of(path, frame, short_side, limits) if frame else None
        if frame is None or shape is None or shape[:2] != found.shape:
            return None
        pictures.append(picture_of(resize, frame, *shape))
    return pictures


@dataclass(frozen=True)
class _Listed:
    """Where the frames of a video are.

    stamps: int64 (N,), when each is shown, rising, in units of the stream. keys: places (K,) of the key frames.
    moments: int64 (T,), the place of the frame that is on show at each moment. shape: width and height of a picture,
    not turned, if the frames are as large as the header says.
    """

    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]
    moments: NDArray[np.int64]
    shape: tuple[int, int]

    @property
    def picture(self) -> int:
        """Bytes of a picture."""
        return self.shape[0] * self.shape[1] * 3


def _listed(
    path: Path, container: InputContainer, stream: VideoStream, short_side: int, rate: float | None, limits: Limits
) -> _Listed | None:
    """The frames by the packets, of which one is decoded; None if they do not tell, or the first is no key frame."""
    coded, base = stream.codec_context, stream.time_base
    small_enough(path, coded.width, coded.height, limits)
    if coded.name in HIDDEN or base is None or not coded.width * coded.height:
        return None
    stamps, keys = list[int](), list[int]()
    for packet in container.demux(stream):
        if packet.size:
            if packet.pts is None or packet.is_discard or packet.is_corrupt:
                return None
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
            if (
                len(stamps) == 1
            ):  # what the encoder says of itself comes here alone, and decoders go by it (x264, 4:4:4)
                coded.skip_frame = "ALL"
                packet.decode()
                coded.skip_frame = "DEFAULT"
        few_enough(path, len(stamps), limits)
    order = np.unique(np.array(stamps, np.int64))
    if not keys or len(order) < len(stamps) or keys[0] != order[0]:
        return None
    shape = scaled(coded.width, coded.height, short_side)
    moments = np.arange(len(order))
    if rate:
        seconds = order.astype(np.float64) * base.numerator / base.denominator
        shown = on_show(timely(path, enumerate((seconds - seconds[0]).tolist()), limits), rate)
        places, times = np.array(list(shown)).T
        fits(path, int(times.sum()), 0, limits)
        moments = np.repeat(places, times)
    return _Listed(order, np.searchsorted(order, np.array(keys, np.int64)), moments, shape)


def _at(
    container: InputContainer, stream: VideoStream, found: _Listed, places: Sequence[int]
) -> Iterator[VideoFrame | None]:
    """The frames at some places, rising; None as soon as the decoder gives another frame than the list says."""
    frames, last = iter(list[VideoFrame]()), -1  # of what is decoded
    for place in places:
        key = found.keys[np.searchsorted(found.keys, place, "right") - 1]
        if last < 0 or key > last + NEAR:
            container.seek(int(found.stamps[key]), stream=stream)
            frames, last = container.decode(stream), -1
        while last < place:
            frame = next(frames, None)
            if frame is None or frame.pts is None:
                yield None
                return
            if last < 0 and frame.pts < found.stamps[key]:
                continue  # shown before the key frame, and of use only after what came before it
            here = last + 1 if last >= 0 else int(key)
            if found.stamps[here] != frame.pts:
                yield None
                return
            last = here
        yield frame
