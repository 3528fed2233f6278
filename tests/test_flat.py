"""Memory and open files stay as they are however many clips are evaluated; 10,000: benchmarks/test_flat_memory.py."""

from __future__ import annotations

import gc
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from data.made_videos import write_video
from torch import Tensor
from toys import Toy

from bench.data.coverage import LeftOut
from bench.data.lists import VideoFiles
from bench.data.sampling import Sampling
from bench.data.video.reader import VideoReader
from bench.evaluation import score
from bench.method import InputSpec, Prediction
from bench.profiles import Views

FILES, FRAMES, SIDE = 20, 10, 48
BYTES_A_CLIP = 20_000
"""That memory may grow by: a fifth of a decoded video, less than a clip. Rows of the tables take some hundred bytes."""


@dataclass
class Use:
    """What a process holds after so many clips: resident bytes, and open files."""

    clips: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def note(self, clips: int) -> None:
        gc.collect()
        self.clips.append(clips)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident.append(pages * resource.getpagesize())
        self.files.append(len(os.listdir("/proc/self/fd")))

    def at(self, clips: int) -> int:
        """The first note after so many clips."""
        return next(number for number, count in enumerate(self.clips) if count >= clips)


class Counting(Toy):
    """Notes what the process holds, every so many clips; a leaking one keeps what it was given."""

    def __init__(self, every: int, leaks: bool = False) -> None:
        super().__init__()
        self.spec, self.every, self.leaks = InputSpec("clip", 32, 4), every, leaks
        self.use, self.seen, self.kept = Use(), 0, list[Tensor]()

    def forward(self, sample: Tensor, policy: Any = None) -> Prediction:
        before, self.seen = self.seen, self.seen + len(sample)
        if self.seen // self.every > before // self.every:
            self.use.note(self.seen)
        if self.leaks:
            self.kept.append(sample.clone())
        return super().forward(sample, policy)


def encoded(folder: Path, videos: int) -> VideoFiles:
    """So many rows of a few real files, decoded for each row anew; the last is cut off, and left out."""
    noise = np.random.default_rng(0)
    files = [
        write_video(
            folder / f"{number}.mp4", range(0, 40 * FRAMES, 40), 64, SIDE, codec="libx264",
            pictures=noise.integers(0, 256, (FRAMES, SIDE, 64, 3), np.uint8),
        )
        for number in range(FILES)
    ]  # fmt: skip
    broken = folder / "broken.mp4"
    broken.write_bytes(files[0].read_bytes()[:400])
    rows = [files[row % FILES] for row in range(videos - 1)] + [broken]
    labels = np.arange(videos, dtype=np.int64) % 5
    attributes, left_out = pd.DataFrame({"path": list(map(str, rows))}), LeftOut(videos, videos, 0.9)
    names = ("a", "b", "c", "d", "e")
    return VideoFiles(
        rows, VideoReader(SIDE), names, labels, np.array(list(map(str, rows))), attributes, False, left_out
    )


def evaluated(folder: Path, clips: int, every: int, leaks: bool = False) -> Use:
    """What a process of its own holds, whose memory nothing else has filled and freed before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_evaluated, folder, clips, every, leaks).result()


def _evaluated(folder: Path, clips: int, every: int, leaks: bool) -> Use:
    """What this process holds while half of the clips are scored as such, and the others as views of videos."""
    torch.set_num_threads(1)
    method, split = Counting(every, leaks), encoded(folder, clips // 2)
    score(method, split, Sampling(stride=2), Views(clips=1, crops=1), batch=20)
    assert method.seen >= clips - 2 and len(split.left_out.faults) == 1
    return method.use


def growth(use: Use, first: int, last: int) -> float:
    """Bytes a clip; to be asked before the last clips, which are counted in a batch of another size."""
    a, b = use.at(first), use.at(last)
    return (use.resident[b] - use.resident[a]) / (use.clips[b] - use.clips[a])


def test_memory_and_open_files_are_flat_over_clips(tmp_path: Path) -> None:
    use = evaluated(tmp_path, 600, 100)
    assert len(set(use.files)) == 1, use.files
    assert growth(use, 200, 500) < BYTES_A_CLIP, use


def test_a_leak_of_clips_would_be_seen(tmp_path: Path) -> None:
    assert growth(evaluated(tmp_path, 600, 100, leaks=True), 200, 500) > BYTES_A_CLIP
