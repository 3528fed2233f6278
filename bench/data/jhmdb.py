"""J-HMDB (Jhuang et al., ICCV 2013): 21 actions, 928 videos of 15 to 40 frames of 320x240, every frame with its box.

Both public layouts are read. frames_masks, the authors': Rename_Images/<class>/<video>/00001.png,
puppet_mask/<class>/<video>/puppet_mask.mat and splits/<class>_test_split1.txt; a box is the tight rectangle around a
frame's mask. frames_pickle, of ACT, MOC and mmaction2: Frames/<class>/<video>/00001.png and JHMDB-GT.pkl, whose boxes
are taken as they stand. Nothing that a file asks for is ever called: see `bench.data.safe_pickle`.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat
from torch import Tensor

from bench.data.coverage import NAMED
from bench.data.images import picture_size, read_lines
from bench.data.key_frames import KeyFrames, clip_frames, labelled, share_covered, squared
from bench.data.paths import within
from bench.data.public.names import HMDB51, source_of
from bench.data.safe_pickle import LARGEST, one_line, read_pickle
from bench.data.scale import resized
from bench.data.split import DataError, Dataset
from bench.data.video.reader import VideoReader

REVISION = 2
PICKLE = "JHMDB-GT.pkl"
NEEDED = {"frames_masks": ("Rename_Images", "puppet_mask", "splits"), "frames_pickle": ("Frames", PICKLE)}
SPLITS = 3
Corners = Mapping[int, NDArray[np.float64]]
"""Number of an annotated frame, from 1 -> x1, y1, x2, y2 of its boxes (m, 4), in pixels; m is 0 for an empty mask."""
Truth = Callable[[], tuple[Corners, tuple[int, int]]]
"""Reads the corners of a video and the height and width of the frames that they are stated for."""


@dataclass(frozen=True)
class Listed:
    """A video as a layout lists it, not yet opened. name: class/video. frames: its folder."""

    name: str
    label: int
    test: bool
    frames: Path
    truth: Truth

    @property
    def source(self) -> str:
        """class/film, where the video is named as in HMDB51, whose clips of one film are not independent; else name."""
        label, _, video = self.name.partition("/")
        return f"{label}/{source_of(HMDB51, video)}"


@dataclass(frozen=True)
class Video:
    """A video that can be used.

    files: number -> file of every frame that is there. corners: of the frames that are there and have a box. shape:
    height and width of a frame. size: bytes of its frames. total: frames that are there or annotated.
    """

    listed: Listed
    files: Mapping[int, Path]
    corners: Corners
    shape: tuple[int, int]
    size: int
    total: int


@dataclass(frozen=True)
class _Clips:
    """Gives the clip of a row: the files of the row's video, and the number of its key frame."""

    rows: Sequence[tuple[Mapping[int, Path], int]]
    reader: VideoReader
    frames: int
    size: int

    def __call__(self, row: int) -> Tensor:
        """uint8 (frames, size, size, 3); in the place of a frame that is not there stands the one before it."""
        files, key = self.rows[row]
        there = sorted(files)
        wanted = clip_frames(key, self.frames, there[0])
        pictures = (self.reader(files[there[bisect_right(there, number) - 1]]) for number in wanted)
        return torch.cat([resized(picture, self.size, self.size) for picture in pictures])


def jhmdb(
    *,
    data_root: Path | None,
    frames: int = 16,
    size: int = 224,
    split: int = 1,
    layout: Literal["auto", "frames_masks", "frames_pickle"] = "auto",
    path: Path = Path("jhmdb"),
    validation_share: float = 0.1,
    seed: int = 0,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """J-HMDB: rows are its frames with a box, clips (frames, size, size, 3), resized straight.

    Groups are the films, as HMDB51's names of the videos tell them, and the class: clips of one film are no independent
    sources. Validation takes `validation_share` of the films of the training videos of each class, drawn with `seed`,
    whole ones and never all; `path` among the attributes is class/video.

    Videos that cannot be used are left out, and so are frames without a box; both are counted in the notes. In a clip,
    a frame that is not there is replaced by the one before it, and the first is repeated before it.

    Args:
        data_root: the folder that `path` is in. frames: of a clip. size: of the picture in pixels.
        split: 1, 2 or 3. layout: auto takes the one that is there, the authors' where both are.
        path: the folder of the set.
        validation_share: above 0 and at most 0.5. seed: of that draw.
        minimum_coverage: share of the listed videos, and of the frames of those, that must be usable.

    Raises:
        DataError: a layout that is not there, a file of lists that is malformed, a pickle that leads out of the folder
            or asks for anything but arrays and plain containers, fewer usable videos or frames than
            `minimum_coverage`, or an empty split.
    """
    _check(frames, size, split, validation_share, minimum_coverage)
    root = (data_root or Path()) / path
    classes, listed = (_masked if _layout(root, layout) == "frames_masks" else _pickled)(root, split)
    videos, faults = _usable(root, listed)
    notes = _coverage(root, videos, faults, minimum_coverage)
    parts = _parts(videos, validation_share, seed)
    content = [(video.listed.name, video.size, video.shape, _plain(video.corners)) for video in videos]
    drawn = [part.tolist() for part in parts]
    fingerprint = hashlib.sha256(repr((frames, size, classes, content, drawn)).encode()).hexdigest()
    reader = VideoReader(size)
    splits = []
    for name, rows in zip(("training", "validation", "test"), parts, strict=True):
        if not len(rows):
            raise DataError(f"{root}: no video is left for the {name} split")
        splits.append(_split(f"jhmdb, {name}", [videos[row] for row in rows], classes, reader, frames, size))
    notes = (*notes, *_crossing(splits))
    return Dataset("jhmdb", REVISION, fingerprint, splits[0], splits[1], splits[2], notes, faults=faults)


def _check(frames: int, size: int, split: int, validation_share: float, minimum_coverage: float) -> None:
    if frames < 1 or size < 1:
        raise DataError(f"jhmdb: frames and size must be 1 or more, got {frames} and {size}")
    if not 1 <= split <= SPLITS:
        raise DataError(f"jhmdb: split must be 1 to {SPLITS}, not {split}")
    if not 0 < validation_share <= 0.5:
        raise DataError(f"jhmdb: validation_share must lie above 0 and at most at 0.5, got {validation_share:g}")
    if not 0 <= minimum_coverage <= 1:
        raise DataError(f"jhmdb: minimum_coverage must lie in 0..1, got {minimum_coverage:g}")


def _layout(root: Path, layout: str) -> str:
    """The layout that is there."""
    wanted = [name for name in NEEDED if layout in ("auto", name)]
    for name in wanted:
        if all((root / part).exists() for part in NEEDED[name]):
            return name
    needed = " or ".join(", ".join(NEEDED[name]) for name in wanted)
    raise DataError(f"{root}: needs {needed} in it; set VARED_DATA, or --data-root, to the folder that holds jhmdb/")


def _plain(corners: Corners) -> list[tuple[int, list[float]]]:
    return [(number, boxes.ravel().tolist()) for number, boxes in sorted(corners.items())]


# --- the authors' layout


def _masked(root: Path, split: int) -> tuple[tuple[str, ...], list[Listed]]:
    """Classes and videos by the files of the split, one a class."""
    ending = f"_test_split{split}.txt"
    lists = sorted((root / "splits").glob(f"*{ending}"))
    if not lists:
        raise DataError(f"{root / 'splits'}: has no <class>{ending}")
    classes = tuple(file.name.removesuffix(ending) for file in lists)
    listed: dict[str, Listed] = {}
    for label, file in enumerate(lists):
        for where, video, test in _split_lines(file):
            name = f"{classes[label]}/{video}"
            if name in listed:
                raise DataError(f"{where}: {video} is listed twice")
            truth = partial(read_masks, root / "puppet_mask" / name / "puppet_mask.mat", root)
            listed[name] = Listed(name, label, test, root / "Rename_Images" / name, truth)
    return classes, list(listed.values())


def _split_lines(file: Path) -> Iterator[tuple[str, str, bool]]:
    """file:line, video, and whether it is a test video."""
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        video, part = [*line.rsplit(None, 1), ""][:2]
        video = video.strip().removesuffix(".avi")
        if part not in ("1", "2") or not _plain_name(video):
            raise DataError(f"{file}:{number}: {line.strip()!r} is not a video's name and 1 (train) or 2 (test)")
        yield f"{file}:{number}", video, part == "2"


def _plain_name(name: str) -> bool:
    """Whether it names something in a folder, and nothing outside it."""
    return name not in ("", ".", "..") and name.isprintable() and "/" not in name and "\\" not in name


def read_masks(path: Path, root: Path | None = None) -> tuple[Corners, tuple[int, int]]:
    """The tight rectangle around each frame's mask, and the height and width of the masks.

    part_mask is (H, W, T), or (H, W) where T is 1. Of a .mat file (version 5) only this one array of numbers is read.
    root: what no link may lead out of, by default the folder of the file.

    Raises:
        DataError: the file is not there, leads out, cannot be read, or has no such array of numbers.
    """
    if not os.path.isfile(within(root or path.parent, path)):
        raise DataError(f"{path}: no such file")
    try:
        found = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
        shape, kind = found.get("part_mask", ((), "missing"))
        numbers = re.fullmatch(r"logical|u?int\d+|single|double", kind)
        if not numbers or len(shape) not in (2, 3) or np.prod(shape, dtype=float) > LARGEST:
            raise ValueError(f"part_mask must be an array of numbers (H, W, T), not {kind} of shape {shape}")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST} bytes")
        mask = loadmat(str(path), variable_names=["part_mask"])["part_mask"].reshape(*shape[:2], -1) != 0
    except Exception as error:  # the parser stumbles over a broken file in many ways
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None
    columns, rows = mask.any(0), mask.any(1)  # (W, T), (H, T)
    return {frame + 1: _around(columns[:, frame], rows[:, frame]) for frame in range(mask.shape[2])}, mask.shape[:2]


def _around(columns: NDArray[np.bool_], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Corners of the one box around what is set, (1, 4), or none, (0, 4)."""
    x, y = np.flatnonzero(columns), np.flatnonzero(rows)
    return np.array([[x[0], y[0], x[-1] + 1, y[-1] + 1]], float) if len(x) else np.zeros((0, 4))


# --- the layout with a pickle


def _pickled(root: Path, split: int) -> tuple[tuple[str, ...], list[Listed]]:
    """Classes and videos by the pickle."""
    file = root / PICKLE
    truth = read_pickle(within(root, file))
    fields = {"labels": list, "train_videos": list, "test_videos": list, "gttubes": dict, "resolution": dict}
    for field, kind in fields.items():
        if not isinstance(truth, dict) or not isinstance(truth.get(field), kind):
            raise DataError(f"{file}: {field}: there must be such a {kind.__name__}")
    classes = tuple(label for label in truth["labels"] if isinstance(label, str))
    listed: dict[str, Listed] = {}
    for field in ("train_videos", "test_videos"):
        if len(truth[field]) < split or not isinstance(truth[field][split - 1], list):
            raise DataError(f"{file}: {field}: has no list of videos for split {split}")
        for name in truth[field][split - 1]:
            name = name if isinstance(name, str) else type(name).__name__
            parts = name.split("/")
            if len(parts) != 2 or parts[0] not in classes or not all(map(_plain_name, parts)):
                raise DataError(f"{file}: {field}: {name!r:.80} is not <class>/<video> of a class in labels")
            if name in listed:
                raise DataError(f"{file}: {field}: {name} is listed twice")
            label = classes.index(parts[0])
            tubes = partial(_tubes, file, name, label, truth["gttubes"].get(name), truth["resolution"].get(name))
            listed[name] = Listed(name, label, field == "test_videos", root / "Frames" / name, tubes)
    return classes, list(listed.values())


def _tubes(file: Path, name: str, label: int, tubes: Any, resolution: Any) -> tuple[Corners, tuple[int, int]]:
    """Corners from a video's tubes: label -> [(n, 5): frame, x1, y1, x2, y2]; the resolution is height, width."""
    try:
        (found,) = tubes
        if not all(hasattr(tube, "__array__") for tube in tubes[found]):  # lists can hold each other without end
            raise TypeError
        table = np.concatenate([np.asarray(tube, np.float64).reshape(-1, 5) for tube in tubes[found]])
        height, width = (int(side) for side in resolution)
        numbered = (table[:, 0] >= 1).all() and (table[:, 0] < 1e6).all()
        right = found == label and numbered and np.isfinite(table).all() and min(height, width) > 0
    except (TypeError, ValueError, KeyError, OverflowError):
        right = False
    if not right:
        raise DataError(f"{file}: gttubes or resolution: nothing that can be used on {name}")
    numbers = table[:, 0].astype(int)
    return {int(number): table[numbers == number, 1:] for number in np.unique(numbers)}, (height, width)


# --- from what is listed to splits


def _usable(root: Path, listed: Sequence[Listed]) -> tuple[list[Video], list[DataError]]:
    """The videos that can be used, and what is wrong with every other one."""
    with ThreadPoolExecutor() as pool:  # opening waits for the disk
        found = list(pool.map(lambda one: _video_or_fault(root, one), listed))
    return [one for one in found if isinstance(one, Video)], [one for one in found if isinstance(one, DataError)]


def _coverage(root: Path, videos: Sequence[Video], faults: Sequence[DataError], minimum: float) -> tuple[str, ...]:
    """The notes on coverage, on every video that is left out and on lost frames.

    Raises:
        DataError: nothing is usable, or less than the share `minimum` of videos or frames.
    """
    listed = len(videos) + len(faults)
    kept, total = sum(len(video.corners) for video in videos), sum(video.total for video in videos)
    covered = f"coverage {len(videos)} of {listed} videos, {kept} of their {total} frames"
    lines = [f"left out {fault}" for fault in faults]
    lines += [_shortened(video) for video in videos if len(video.corners) < video.total]
    if not videos or len(videos) < minimum * listed or kept < minimum * total:
        first = f"; the first: {lines[0]}" if lines else ""
        raise DataError(f"{root}: {covered}, under the minimum coverage of {minimum:g}{first}")
    more = [f"{len(lines) - NAMED} more videos left out or shortened"] if len(lines) > NAMED else []
    return (covered, *lines[:NAMED], *more)


def _shortened(video: Video) -> str:
    """Which of a video's frames are no rows."""
    lost = video.total - len(video.corners)
    return f"{video.listed.name}: {lost} of {video.total} frames left out, without a picture, a mask or a box"


def _video_or_fault(root: Path, listed: Listed) -> Video | DataError:
    """The opened video, or what is wrong with it."""
    try:
        files = _frames(root, listed.frames)
        corners, shape = listed.truth()
        found = picture_size(files[min(files)])
        if found != shape:
            raise DataError(f"{listed.name}: its boxes are of {shape[1]}x{shape[0]} pixels, {files[min(files)]} is not")
        inside = {number: _inside(boxes, shape) for number, boxes in corners.items() if number in files}
        kept = {number: boxes for number, boxes in inside.items() if len(boxes)}
        if not kept:
            raise DataError(f"{listed.name}: none of its frames has a box")
        size = sum(file.stat().st_size for file in files.values())
        return Video(listed, files, kept, shape, size, len(files.keys() | corners.keys()))
    except DataError as fault:
        return fault


def _frames(root: Path, folder: Path) -> dict[int, Path]:
    """The frames in a folder, by number; neither it nor they may be links that lead out of the root."""
    if not within(root, folder).is_dir():
        raise DataError(f"{folder}: no such folder")
    files = {int(file.stem): file for file in sorted(folder.iterdir()) if re.fullmatch(r"[0-9]+\.(png|jpg)", file.name)}
    if not files:
        raise DataError(f"{folder}: has no frames 00001.png, ...")
    return {number: within(root, file) if file.is_symlink() else file for number, file in files.items()}


def _inside(boxes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The boxes clipped to the frame, without those of which nothing is left."""
    clipped = np.clip(boxes, 0, [shape[1], shape[0], shape[1], shape[0]])
    return clipped[(clipped[:, 2:] > clipped[:, :2]).all(1)]


def _parts(videos: Sequence[Video], share: float, seed: int) -> list[NDArray[np.intp]]:
    """Positions of the training, validation and test videos; no film is in training and validation."""
    test = np.array([video.listed.test for video in videos])
    labels = np.array([video.listed.label for video in videos])
    sources = np.array([video.listed.source for video in videos])
    order = np.random.default_rng(seed).permutation(len(videos))
    parts = np.where(test, 2, 0)
    for label in np.unique(labels):
        films = list(dict.fromkeys(sources[order[(labels[order] == label) & ~test[order]]].tolist()))
        drawn = films[: max(1, round(share * len(films))) if len(films) > 1 else 0]
        parts[np.isin(sources, drawn) & ~test] = 1
    return [np.flatnonzero(parts == part) for part in range(3)]


def _crossing(splits: Sequence[KeyFrames]) -> tuple[str, ...]:
    """The note on films that are on both sides of the published split, if there are any."""
    train, validation, test = (set(split.groups) for split in splits)
    count = len((train | validation) & test)
    return (f"{count} sources have videos in training and in test, as the set was published",) if count else ()


def _split(
    name: str, videos: Sequence[Video], classes: Sequence[str], reader: VideoReader, frames: int, size: int
) -> KeyFrames:
    """The key frames of some videos."""
    rows = [(video, number) for video in videos for number in sorted(video.corners)]
    boxes = [labelled(squared(video.corners[key], *video.shape[::-1], size), video.listed.label) for video, key in rows]
    return KeyFrames(
        name=name,
        clip=_Clips([(video.files, key) for video, key in rows], reader, frames, size),
        boxes=boxes,
        classes=classes,
        groups=np.array([video.listed.source for video, _ in rows]),
        attributes=pd.DataFrame(
            {
                "path": [video.listed.name for video, _ in rows],
                "frame": [key for _, key in rows],
                "object_share": [share_covered(box, size) for box in boxes],
            }
        ),
        flip=True,
        reads_files=True,
    )
