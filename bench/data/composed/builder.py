"""The dataset of composed actions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from bench.data import builders
from bench.data.composed.actors import SMALL, Clips, Digits
from bench.data.composed.videos import Videos
from bench.data.digits import CLASSES, digit_sources
from bench.data.key_frames import KeyFrames
from bench.data.lists import VideoFiles
from bench.data.split import DataError, Dataset

REVISION = 1
SPLITS = ("train", "validation", "test")


def _casts(
    source: str, data_root: Path | None, fold: int, seed: int
) -> tuple[Sequence[Digits | Clips], Sequence[str], bool, Sequence[str]]:
    """Who acts in each split, the classes, whether a mirrored clip keeps its class, and the notes."""
    if source == "digits":
        sources = digit_sources(seed)
        return [Digits(sources[name]) for name in SPLITS], CLASSES, False, ()
    clips: Dataset = getattr(builders, source)(data_root=data_root, size=SMALL, short_side=SMALL, fold=fold)
    parts = [cast(VideoFiles, getattr(clips, name)) for name in SPLITS]
    return [Clips(part) for part in parts], parts[0].classes, parts[0].flip, clips.notes


def _fingerprint(parameters: dict[str, Any], casts: Sequence[Digits | Clips], splits: Sequence[KeyFrames]) -> str:
    """Digest of the parameters, every source and box and all else that is known, and of three clips of digits a split.

    Of real clips the files stand for the pixels, which a decoder may round differently on another machine.
    """
    digest = hashlib.sha256(json.dumps([REVISION, parameters], sort_keys=True).encode())
    for actors, split in zip(casts, splits, strict=True):
        digest.update(actors.content + "".join(split.groups).encode())
        digest.update(b"".join(boxes.tobytes() + b";" for boxes in split.boxes))
        # Rounded: the last bit of an elementary function may differ between machines.
        digest.update(np.round(split.attributes.to_numpy(float) * 1e6).astype(np.int64).tobytes())
        for row in {0, len(split) // 2, len(split) - 1} if isinstance(actors, Digits) else ():
            digest.update(split.video(row).numpy().tobytes())
    return digest.hexdigest()[:16]


def composed(
    *,
    data_root: Path | None = None,
    frames: int = 16,
    size: int = 96,
    source: Literal["digits", "ut_interaction", "surveillance_fight"] = "digits",
    train_videos: int = 1000,
    validation_videos: int = 200,
    test_videos: int = 500,
    key_frames: int = 2,
    empty: float = 0.1,
    fold: int = 0,
    seed: int = 0,
) -> Dataset:
    """Composed actions: rows are key frames, clips (frames, size, size, 1), one box or none, grey.

    Digits have 12 classes (0, 1 or 4, going left, right, up or down), real clips those of their set. No source is in
    two splits; `groups` are the sources: digits, or the groups of the real set.

    Attributes, of the clip, in pixels per frame where they are speeds:
        object_share: share of the key frame that the box covers, 0 without one. speed: of the actor. seen: share of the
            frames in which the action is on. distractors: how many. noise: deviation of the static noise, in 0..1.
        drift: speed of the background.
        motion: mean speed over all pixels and frames, from the parameters: of the actor's and the distractors'
            rectangles and of the rest, each weighted with its share (overlaps, the edge of the picture, and motion
            within real clips are not counted).

    Args:
        data_root: the folder that holds the real sets; digits need none.
        frames: of a clip, 4 at least. size: of the picture in pixels, 32 at least.
        source: what acts.
        train_videos, validation_videos, test_videos: of each split.
        key_frames: rows of a video, at most half of `frames`, so that no two with a box are the same.
        empty: chance that a row has no box.
        fold: of the real set; digits have none.
        seed: of everything.

    Raises:
        DataError: a parameter out of its range, or a real set that cannot be used.
    """
    parameters: dict[str, Any] = {"size": size, "frames": frames, "key_frames": key_frames, "seed": seed}
    videos = {"train_videos": train_videos, "validation_videos": validation_videos, "test_videos": test_videos}
    for name, value in (parameters | videos).items():
        if value < (least := {"size": 32, "frames": 4, "seed": 0}.get(name, 1)):
            raise DataError(f"composed: {name} must be at least {least}, not {value}")
    if key_frames > frames // 2:
        raise DataError(f"composed: key_frames must be at most {frames // 2}, half of the frames, not {key_frames}")
    if not 0 <= empty < 1:
        raise DataError(f"composed: empty must be at least 0 and less than 1, not {empty}")
    casts, classes, flip, notes = _casts(source, data_root, fold, seed)
    train, validation, test = (
        Videos(name, actors, count, size, frames, key_frames, empty, seed).split(classes, flip)
        for name, actors, count in zip(SPLITS, casts, videos.values(), strict=True)
    )
    parameters |= {**videos, "source": source, "empty": empty, "fold": fold, "classes": list(classes)}
    fingerprint = _fingerprint(parameters, casts, [train, validation, test])
    return Dataset("composed", REVISION, fingerprint, train, validation, test, tuple(notes))
