"""Small videos, written with PyAV, whose frames can be told apart by their grey."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def grey(number: int) -> int:
    """The level of frame `number`: far enough apart to survive a lossy codec."""
    return 20 + 8 * number


def write_video(
    path: Path, times: Sequence[int], width: int = 32, height: int = 24, codec: str = "mpeg4", pictures: object = None
) -> Path:
    """A video whose frames start at `times` milliseconds; `pictures`, if given, are uint8 (T, H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            flat = np.full((height, width, 3), grey(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(flat if pictures is None else pictures[number], format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
