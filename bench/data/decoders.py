"""What decodes the frames of a video: PyAV, or TorchCodec where it is installed and works, on the CPU or a GPU.

Whichever it is, PyAV's demuxer lists the frames, the same ones are taken, and each is held against the list by its
time; where TorchCodec fails, or gives others, PyAV decodes. At the size that a file has, both should give the same
pixels (what was run of that: docs/data.md).
TorchCodec's are resized after they were turned into RGB, PyAV's before: resized ones differ by about a level of 255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from bench.data.split import DataError

PYAV, TORCHCODEC, ON_GPU = "pyav", "torchcodec", "torchcodec-cuda"
NAMES = (PYAV, TORCHCODEC, ON_GPU)
TOGETHER = 32
"""Frames at their own size that are held at once."""
NEAR = 1e-4
"""Seconds by which two statements of one time may differ."""

Frames = Callable[[Path, int, Sequence[int], NDArray[np.float64], tuple[int, int]], list[NDArray[np.uint8]] | None]
"""(file, stream, places of frames in the order of showing, their seconds, width and height) -> pictures (H, W, 3), or
None where it cannot, or is not sure."""


@dataclass(frozen=True)
class Decoder:
    """A decoder. version: whatever its frames hang on. frames: None for PyAV, which decodes where the list is made."""

    version: str
    frames: Frames | None = None
    in_one_process: bool = False


def decoder_named(name: str) -> Decoder:
    """The decoder of one of `NAMES`.

    Raises:
        DataError: there is no such decoder, or it cannot be used here; says why.
    """
    if name not in NAMES:
        raise DataError(f"decoder {name!r}: there are {', '.join(NAMES)}")
    if name == PYAV:
        codec = av.library_versions["libavcodec"]
        return Decoder(f"pyav {av.__version__}, libavcodec {'.'.join(map(str, codec))}")
    device = "cuda" if name == ON_GPU else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError(f"decoder {name}: there is no GPU")
    try:
        version, decoder = import_module("torchcodec").__version__, import_module("torchcodec.decoders").VideoDecoder
    except Exception as error:  # not only ImportError: its libraries miss FFmpeg's or CUDA's, or another torch's
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(f"decoder {name}: torchcodec cannot be used here: {reason}") from None
    return Decoder(f"torchcodec {version}, {device}", _TorchCodec(decoder, device), device == "cuda")


@dataclass(frozen=True)
class _TorchCodec:
    """As `Frames`. decoder: TorchCodec's VideoDecoder."""

    decoder: Any
    device: str

    def __call__(
        self, path: Path, stream: int, places: Sequence[int], seconds: NDArray[np.float64], shape: tuple[int, int]
    ) -> list[NDArray[np.uint8]] | None:
        try:
            decoder = self.decoder(
                str(path), stream_index=stream, dimension_order="NHWC", num_ffmpeg_threads=1, device=self.device
            )
            if decoder.metadata.rotation:  # turned before it is resized, which is another picture
                return None
            resize, pictures = VideoReformatter(), list[NDArray[np.uint8]]()
            for first in range(0, len(places), TOGETHER):
                part = slice(first, first + TOGETHER)
                found = decoder.get_frames_at(list(places[part]))
                if np.abs(found.pts_seconds.numpy() - seconds[part]).max() > NEAR:
                    return None
                pictures += [_resized(resize, picture, shape) for picture in found.data.cpu().numpy()]
        except (MemoryError, torch.OutOfMemoryError):  # nothing is wrong with the file
            raise
        except Exception:  # PyAV will say what is wrong with the file
            return None
        return pictures


def _resized(resize: VideoReformatter, picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return np.asarray(
        resize.reformat(frame, *shape, "rgb24", interpolation=Interpolation.BILINEAR).to_ndarray(), np.uint8
    )
