"""The profile of tests in which something is trained: a narrow network on a handful of digits, in seconds."""

from __future__ import annotations

from collections.abc import Sequence


def tiny_profile(
    table: str,
    frames: Sequence[int],
    videos: tuple[int, int, int],
    *,
    blocks: Sequence[int] = (1, 1),
    epochs: int = 1,
    clips: int = 1,
    video_videos: int = 0,
    smoke: bool = False,
) -> str:
    """Its TOML. videos: of training, validation and test; the rest as in `bench.profiles`."""
    train, validation, test = videos
    return f"""
name = "tiny"
description = "a few steps on a handful of videos"
dataset = "digits"
size = 16
tables = ["{table}"]
frames = {list(frames)}
seeds = [0]
other_seeds = [0]
smoke = {str(smoke).lower()}
[dataset_options]
train_videos = {train}
validation_videos = {validation}
test_videos = {test}
[network]
width = 4
blocks = {list(blocks)}
stem = [1, 3, 3]
[recipe]
epochs = {epochs}
batch = 8
[views]
video_videos = {video_videos}
clips = {clips}
crops = 1
"""
