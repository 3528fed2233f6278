"""Decoded clips a second, of our reader against plain PyAV on the same files; printed, not asserted (target 0.9).

Plain PyAV is told where the clip starts, seeks there, and decodes and resizes its frames: the least that any reader can
do. Ours finds out how many frames there are, chooses among them, and checks every frame that the decoder gives.
Both run in one thread, and the processor's time is taken, so that a busy machine says the same as an idle one.
Files are written here (ten seconds of 340 x 256 in H.264, as Kinetics is commonly kept), and those of VARED_DATA where
there are any.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bench.data.video.clip import read_clip
from bench.data.video.whole import read_video

FRAMES, STRIDE, SIDE = 8, 8, 128


def written(path: Path, seed: int, key: int) -> Path:
    """Ten seconds of moving noise, 30 frames a second, a key frame every `key`."""
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 256, (256 // 8, 344 // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:, :340]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        stream.options = {"g": str(key), "preset": "veryfast"}
        for number in range(300):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, (number, 2 * number), (0, 1)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def places(length: int, share: float) -> list[int]:
    """The frames of one clip."""
    stride = min(STRIDE, length // FRAMES)
    start = int(share * (length - FRAMES * stride))
    return list(range(start, start + FRAMES * stride, stride))


def plain(path: Path, stamps: list[int]) -> np.ndarray:
    """The frames at these time stamps with PyAV alone."""
    wanted, pictures = set(stamps), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(stamps[0], stream=stream)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                scale = SIDE / min(frame.width, frame.height)
                size = round(frame.width * scale), round(frame.height * scale)
                pictures.append(frame.reformat(*size, "rgb24", interpolation="BILINEAR").to_ndarray())
                if len(pictures) == len(stamps):
                    break
    return np.stack(pictures)


def calls(files: list[Path]) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """Reads one clip of every file: with ours, with PyAV alone, and by decoding the whole of it."""
    generator, jobs = np.random.default_rng(0), []
    for path in files:
        with av.open(str(path)) as container:
            stamps = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
        chosen = places(len(stamps), float(generator.random()))
        jobs.append((path, chosen, [stamps[place] for place in chosen]))
        ours = read_clip(path, lambda length, chosen=chosen: chosen, SIDE)
        assert ours is not None and (ours.numpy() == plain(path, jobs[-1][2])).all()
    return (
        lambda: [read_clip(path, lambda length, chosen=chosen: chosen, SIDE) for path, chosen, _ in jobs],
        lambda: [plain(path, stamps) for path, _, stamps in jobs],
        lambda: [read_video(path, SIDE) for path, _, _ in jobs],
    )


def seconds(call: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    call()
    return time.process_time() - start


def tell(benchmark: Any, files: list[Path]) -> None:
    ours, pyav, whole = calls(files)
    pairs = [(seconds(pyav), seconds(ours)) for _ in range(9)]
    shares = sorted(theirs / mine for theirs, mine in pairs)
    clips = len(files) / statistics.median(mine for _, mine in pairs)
    benchmark.extra_info["shares"] = shares
    print(f"\n{benchmark.name}: {clips:.1f} clips a processor second, {statistics.median(shares):.3f} of plain PyAV's")
    print(f"  {shares[0]:.3f} to {shares[-1]:.3f} in 9 pairs (target 0.9)")
    print(f"  decoding whole videos instead takes {seconds(whole) / seconds(ours):.2f} times as long")
    benchmark.pedantic(ours, rounds=1, iterations=1)


@pytest.mark.parametrize("key", [12, 250])
def test_clips_of_kinetics_like_files(benchmark: Any, tmp_path: Path, key: int) -> None:
    tell(benchmark, [written(tmp_path / f"{seed}.mp4", seed, key) for seed in range(4)])


@pytest.mark.skipif(not os.environ.get("VARED_DATA"), reason="VARED_DATA names no folder with ut_interaction/")
def test_clips_of_real_files(benchmark: Any) -> None:
    files = sorted((Path(os.environ["VARED_DATA"]) / "ut_interaction").glob("*/*.mp4"))
    tell(
        benchmark, [file for file in files[::6] if read_clip(file, lambda length: places(length, 0), SIDE) is not None]
    )
