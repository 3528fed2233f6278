"""Decodes video files with PyAV: frames by presentation time, resized while they are decoded.

A clip is read without the rest of its video where the packets tell where its frames are: they are listed, the decoder
starts at the key frame before the clip, and every frame that it gives is held against the list. Where anything differs,
the whole video is decoded, so that a clip has the same frames either way.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

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
from torch.utils.data import get_worker_info

from bench.data.cache import Cache, Fixed, key_of, part_of
from bench.data.loading import loading
from bench.data.split import DataError

Item = TypeVar("Item")
NEAR = 8
"""Frames that are decoded in less time than a key frame behind them is sought."""
HIDDEN = frozenset(("vp8", "libvpx"))
"""Decoders of streams with packets that show nothing, so that packets and frames are not as many."""


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


class Reader(Protocol):
    """Reads what a path names, a video or a folder of frames, with a shorter side of `short_side` pixels.

    rate: frames a second, None for every frame there is.
    """

    short_side: int
    rate: float | None

    def __call__(self, path: Path) -> Tensor:
        """The whole video, uint8 (T, H, W, 3)."""
        ...

    def clip(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)` of a video of T frames, in that order."""
        ...


def read_video(path: Path, short_side: int, rate: float | None = None, limits: Limits | None = None) -> Tensor:
    """Decodes a whole video, uint8 (T, H, W, 3) with min(H, W) = short_side, upright as its metadata says.

    rate: frames a second. The frame on show at each moment k / rate after the first frame is taken, up to the last
    frame's, going by time stamps and never by the frame count or rate in the header. None: every frame there is.

    Raises:
        DataError: the file cannot be opened, has no video, breaks off with an error, or goes beyond `limits`.
    """
    limits = limits or Limits()
    _check(path, short_side, rate)
    pictures: list[NDArray[np.uint8]] = []
    with _video_stream(path, limits) as (container, stream):
        resize, shape = VideoReformatter(), None
        frames = _counted(path, container.decode(stream), limits)
        timed = _timed(frames, float(stream.guessed_rate or 25))
        for frame, times in _on_show(_timely(path, timed, limits), rate) if rate else ((frame, 1) for frame in frames):
            shape = shape or shape_of(path, frame, short_side, limits)
            picture = picture_of(resize, frame, *shape)
            fits(path, len(pictures) + times, picture.nbytes, limits)
            pictures += [picture] * times
    if not pictures:
        raise DataError(f"{path}: no frame could be decoded")
    return torch.from_numpy(np.stack(pictures))


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
    _check(path, short_side, rate)
    with _video_stream(path, limits) as (container, stream):
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
    _small_enough(path, coded.width, coded.height, limits)
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
        if len(stamps) > limits.frames:
            raise DataError(f"{path}: has more than {limits.frames} frames; cut it, or raise the limit")
    order = np.unique(np.array(stamps, np.int64))
    if not keys or len(order) < len(stamps) or keys[0] != order[0]:
        return None
    shape = scaled(coded.width, coded.height, short_side)
    moments = np.arange(len(order))
    if rate:
        seconds = order.astype(np.float64) * base.numerator / base.denominator
        shown = _on_show(_timely(path, enumerate((seconds - seconds[0]).tolist()), limits), rate)
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


class VideoReader:
    """Decodes files as `read_video` does, and keeps whole videos while there is room: in the cache that is in force
    (`bench.data.loading`), else up to `cache_bytes` of pictures in memory.

    short_side: pixels. rate: frames a second, None for every frame.
    """

    def __init__(
        self, short_side: int, rate: float | None = None, cache_bytes: int = 2**30, limits: Limits | None = None
    ) -> None:
        self.short_side, self.rate, self.cache_bytes, self.limits = short_side, rate, cache_bytes, limits
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
        cache, key = loading().opened_cache, ""
        if cache:
            key = self._key(path)
            if (video := cache.read(key, range)) is not None:
                return video
        video = self._whole(path)
        if cache and video.nbytes <= cache.largest:
            cache.write(key, video)
            return video
        if video.nbytes <= self._memory:
            self._kept[path] = video
            self._bytes += video.nbytes
            while self._bytes > self._memory:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return video

    def clip(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)` of a video of T frames, uint8 (n, H, W, 3).

        Videos are decoded whole, and kept, while there is room for them; then only what is asked for is decoded. What
        can be read either way is read, so that it does not turn on what is kept.

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        cache, key = loading().opened_cache, ""
        if cache:
            key = self._key(path)
            if (clip := cache.read(key, choose)) is not None:
                return clip
        if path not in self._kept:
            room = cache.largest if cache else self._memory - self._bytes
            try:
                clip = self._part(path, choose, room, cache, key)
            except DataError:
                clip = None
            if clip is not None:
                return clip
        try:
            video = self(path)
        except DataError:
            if (clip := self._part(path, choose, 0, None, key)) is None:
                raise
            return clip
        return video[torch.tensor(choose(len(video)), dtype=torch.int64)]

    def _part(
        self, path: Path, choose: Callable[[int], Sequence[int]], whole: int, cache: Cache | None, video: str
    ) -> Tensor | None:
        """As `read_clip`; what is fixed of a long video is cached by its frames. video: its key, taken before this."""
        if cache is None or not isinstance(choose, Fixed):
            return read_clip(path, choose, self.short_side, self.rate, self.limits, whole)
        key = ""

        def chosen(length: int) -> Sequence[int]:
            nonlocal key
            frames = [int(frame) for frame in choose(length)]
            key = part_of(video, frames)
            if (clip := cache.read(key, range)) is not None:
                raise _Cached(clip)
            return frames

        try:
            clip = read_clip(path, chosen, self.short_side, self.rate, self.limits, whole)
        except _Cached as found:
            return found.clip
        if clip is not None:
            cache.write(key, clip)
        return clip

    def _whole(self, path: Path) -> Tensor:
        """By the decoder in force where it can, else by PyAV."""
        if loading().opened_decoder.frames:
            with suppress(DataError):
                if (video := read_clip(path, range, self.short_side, self.rate, self.limits)) is not None:
                    return video
        return read_video(path, self.short_side, self.rate, self.limits)

    def _key(self, path: Path) -> str:
        return key_of(path, self.short_side, self.rate, self.limits or Limits(), loading().opened_decoder.version)

    @property
    def _memory(self) -> int:
        """Bytes of pictures that this process may keep; a worker keeps none, since no other would find them there."""
        return 0 if get_worker_info() else self.cache_bytes


class _Cached(Exception):
    """The clip that was about to be decoded is in the cache."""

    def __init__(self, clip: Tensor) -> None:
        super().__init__()
        self.clip = clip


def check_video(path: Path) -> None:
    """A fast check, which decodes nothing.

    Raises:
        DataError: the file is missing, cannot be opened, or has no video in it.
    """
    with _video_stream(path, Limits()):
        pass


@contextmanager
def _video_stream(path: Path, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
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


def _check(path: Path, short_side: int, rate: float | None) -> None:
    if short_side < 1 or (rate is not None and rate <= 0):
        raise DataError(f"{path}: short side and rate must be positive, got {short_side} and {rate}")


def _small_enough(path: Path, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise DataError(f"{path}: {width}x{height} pixels, over the limit of {limits.pixels}")


def _counted(path: Path, frames: Iterable[VideoFrame], limits: Limits) -> Iterator[VideoFrame]:
    """The frames, as long as there are not too many."""
    for number, frame in enumerate(frames):
        if number >= limits.frames:
            raise DataError(f"{path}: has more than {limits.frames} frames; cut it, or raise the limit")
        yield frame


def _timely(path: Path, timed: Iterable[tuple[Item, float]], limits: Limits) -> Iterator[tuple[Item, float]]:
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


def _on_show(timed: Iterable[tuple[Item, float]], rate: float) -> Iterator[tuple[Item, int]]:
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


def shape_of(path: Path, frame: VideoFrame, short_side: int, limits: Limits) -> tuple[int, int, int]:
    """Width, height and quarter turns anticlockwise that the first frame sets for all."""
    _small_enough(path, frame.width, frame.height, limits)
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
