"""The clips that a reduced network spends most and least on, class by class, as strips of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bench.data.sampling import Sampling, test_batches
from bench.data.split import Split
from bench.inspection import png
from bench.inspection.store import Sheet, Strip
from bench.method import InputSpec

FRAMES, SIDE = 8, 64
"""Of a strip at most so many frames, each of at most so many pixels."""


def extremes(computed: pd.Series[float], targets: pd.Series[int], classes: Sequence[str], most: int) -> list[Strip]:
    """The dearest and the cheapest clip of the first `most` classes that have clips, the first of equals.

    computed, targets: of every clip, by its row in the split.
    """
    strips = []
    for label in sorted(targets.unique())[:most]:
        own = computed[targets == label]
        for end, row in (("most", own.idxmax()), ("least", own.idxmin())):
            strips.append(Strip(label=classes[label], end=end, video=row, share=own[row]))  # type: ignore[arg-type]
    return strips


def sheet(split: Split, spec: InputSpec, sampling: Sampling, strips: Sequence[Strip]) -> Sheet | None:
    """The frames of the centre clips of `strips`, as the network sees them, a clip a row; None if none can be read."""
    rows = np.unique([strip.video for strip in strips])
    batches = test_batches(split, spec, sampling, 1, 1, 1, rows, leave_out=True)
    read = {int(batch.index[0]): pixels(batch.sample[0], spec) for batch in batches}
    strips = [strip for strip in strips if strip.video in read]
    if not strips:
        return None
    clips = [read[strip.video] for strip in strips]
    drawn = [_strip(clip) for clip in clips]
    height, width = drawn[0].shape[0], drawn[0].shape[1]
    count = min(FRAMES, clips[0].shape[1])
    picture = png.encode(_grey(np.concatenate(drawn)))
    return Sheet(frames=count, height=height, width=width // count, strips=strips, picture=picture)


def pixels(sample: Tensor, spec: InputSpec) -> Tensor:
    """One sample (C, T, H, W), (N, C, T, H, W) or (C, H, W) as the network eats it, as pixels 0..1 (C, T', H, W)."""
    clip = sample.unsqueeze(1) if spec.kind == "image" else sample
    clip = clip.transpose(0, 1).flatten(1, 2) if spec.kind == "clips" else clip
    mean, std = (torch.tensor(value).view(-1, 1, 1, 1) for value in (spec.mean, spec.std))
    return (clip.cpu() * std + mean).clamp(0, 1)


def _strip(clip: Tensor) -> NDArray[np.uint8]:
    """Some frames of (C, T, H, W) side by side, (h, w, C)."""
    frames = clip[:, np.linspace(0, clip.shape[1] - 1, min(FRAMES, clip.shape[1])).round().astype(int)]
    if (side := max(frames.shape[2:])) > SIDE:
        small = [max(1, round(length * SIDE / side)) for length in frames.shape[2:]]
        frames = F.interpolate(frames.transpose(0, 1), small, mode="area").transpose(0, 1)
    beside = torch.cat(frames.unbind(1), 2).movedim(0, 2)
    return np.asarray((beside * 255).round().to(torch.uint8).numpy())


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) where all colours are equal."""
    return picture[..., 0] if (picture == picture[..., :1]).all() else picture


def estimated_motion(sample: Tensor, spec: InputSpec) -> NDArray[np.float32]:
    """The mean absolute change of a pixel from frame to frame of each sample, 1 is from black to white; NaN of images.

    For data whose true motion is not known; a moving camera, a cut and flicker count as well.
    """
    if spec.kind == "image" or spec.frames < 2:
        return np.full(len(sample), np.nan, np.float32)
    std = torch.tensor(spec.std, device=sample.device).view(-1, 1, 1, 1)
    change = (sample.diff(dim=-3) * std).abs().flatten(1).mean(1)
    return change.cpu().numpy().astype(np.float32)
