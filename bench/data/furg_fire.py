"""FURG fire (Steffens, Rodrigues and Botelho, 2015): one video of a burning house with a box around every flame.

house6.mp4 and house6.xml, as OpenCV writes it: for each frame, boxes as x y w h. One video is too little to train on
seriously; it shows the readers, the networks and the metrics real boxes, several in a frame.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from bench.data.builders import set_folder
from bench.data.key_frames import KeyFrames, clip_frames, labelled, share_covered, squared
from bench.data.scale import resized
from bench.data.split import DataError, Dataset
from bench.data.video.reader import VideoReader

REVISION = 1
VIDEO, BOXES = "house6.mp4", "house6.xml"
CLASSES = ("fire",)
SHARES = (0.6, 0.1, 0.3)
"""Of the time, to train, validate and test, in this order."""
LARGEST = 2**24
"""Bytes that the XML file may have; the real one has 200 thousand."""


@dataclass(frozen=True)
class Annotations:
    """What the XML file says.

    rate: frames a second. boxes: number of a frame, from 0 -> x1, y1, x2, y2 (m, 4) in pixels.
    """

    width: int
    height: int
    rate: float
    boxes: dict[int, NDArray[np.float64]]


@dataclass(frozen=True)
class _Clips:
    """Gives the clip of a row, whose key frame is `keys[row]`."""

    path: Path
    reader: VideoReader
    keys: NDArray[np.int64]
    frames: int
    size: int

    def __call__(self, row: int) -> Tensor:
        """uint8 (frames, size, size, 3)."""
        wanted = clip_frames(int(self.keys[row]), self.frames)
        return resized(self.reader.clip(self.path, lambda length: wanted), self.size, self.size)


def furg_fire(*, data_root: Path | None, frames: int = 16, size: int = 224) -> Dataset:
    """FURG fire: rows are the frames that have a record, clips (frames, size, size, 3), resized straight.

    Splits follow each other in time: the first 60 % of the frames train, the next 10 % validate, the last 30 % test;
    `frames` - 1 frames between them are no rows, so that no frame is in the clips of two splits. `groups` are the
    seconds of the video. The video is decoded once and kept, its shorter side `size` high.

    Args:
        data_root: the folder that holds furg_fire/. frames: of a clip. size: of the picture in pixels.

    Raises:
        DataError: a file is not there or is malformed, the boxes are of pictures of another shape than the video's, or
            the clips are so long that a split has no row.
    """
    root = set_folder(data_root, "furg_fire")
    if frames < 1 or size < 1:
        raise DataError(f"furg_fire: frames and size must be 1 or more, got {frames} and {size}")
    path, listed = root / VIDEO, root / BOXES
    found, reader = read_annotations(listed), VideoReader(size)
    length, height, width, _ = reader(path).shape
    if abs(width / height - found.width / found.height) > 1 / size:
        raise DataError(f"{listed}: its boxes are of {found.width}x{found.height} pixels, {path} has another shape")
    notes = _notes(listed, found, length)
    content = [path.read_bytes(), listed.read_bytes(), repr((frames, size)).encode()]
    fingerprint = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in content)).hexdigest()
    splits, edges = [], np.cumsum([0, *SHARES]) * length
    for name, low, high in zip(("training", "validation", "test"), edges[:-1], edges[1:], strict=True):
        first = round(low) + (frames - 1 if low else 0)
        keys = np.array([key for key in range(first, round(high)) if key in found.boxes], np.int64)
        if not len(keys):
            raise DataError(f"furg_fire: clips of {frames} frames leave no {name} rows in a video of {length} frames")
        splits.append(_split(f"furg_fire, {name}", found, _Clips(path, reader, keys, frames, size)))
    return Dataset("furg_fire", REVISION, fingerprint, splits[0], splits[1], splits[2], notes)


def _notes(listed: Path, found: Annotations, length: int) -> tuple[str, ...]:
    """Coverage, and records and frames that do not meet."""
    beyond = sum(number >= length for number in found.boxes)
    covered = len(found.boxes) - beyond
    notes = [f"coverage {covered} of {length} frames"]
    if beyond:
        notes.append(f"left out {beyond} of {len(found.boxes)} records in {listed.name}, beyond the last frame")
    return tuple(notes)


def _split(name: str, found: Annotations, clips: _Clips) -> KeyFrames:
    """The key frames of one part of the time."""
    keys = clips.keys.tolist()
    boxes = [labelled(squared(found.boxes[key], found.width, found.height, clips.size), 0) for key in keys]
    attributes = {"frame": keys, "boxes": [len(box) for box in boxes]}
    return KeyFrames(
        name=name,
        clip=clips,
        boxes=boxes,
        classes=CLASSES,
        groups=np.array([f"second-{int(key / found.rate):03d}" for key in keys]),
        attributes=pd.DataFrame({**attributes, "object_share": [share_covered(box, clips.size) for box in boxes]}),
        flip=True,
    )


def read_annotations(path: Path) -> Annotations:
    """Reads the boxes, written as OpenCV's storage: opencv_storage/frames/_/{frameNumber, annotations/_: "x y w h"}.

    A document type, which could define entities that grow without end or name other files, is refused.

    Raises:
        DataError: the file is not there, too large, no such XML in UTF-8, or a record is malformed; the message names
            the file and the frame.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: larger than {LARGEST} bytes")
        text = path.read_text("utf-8")
        if "<!DOCTYPE" in text:
            raise DataError(f"{path}: has a document type, which such a file needs not and may not have")
        root = ElementTree.fromstring(text)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: not XML in UTF-8: {error}") from None
    width, height, rate = (
        _numbers(root.findtext(field), f"{path}: {field}", (1,))[0]
        for field in ("frameWidth", "frameHeight", "frameRate")
    )
    boxes: dict[int, NDArray[np.float64]] = {}
    for place, record in enumerate(root.findall("frames/_")):
        number = int(_numbers(record.findtext("frameNumber"), f"{path}: record {place}: frameNumber", (0,))[0])
        where = f"{path}: frame {number}"
        if number in boxes:
            raise DataError(f"{where}: has two records")
        corners = [_corners(box.text, width, height, where) for box in record.findall("annotations/_")]
        boxes[number] = np.array(corners, float).reshape(-1, 4)
    if not boxes:
        raise DataError(f"{path}: has no records of frames")
    return Annotations(int(width), int(height), rate, boxes)


def _corners(text: str | None, width: float, height: float, where: str) -> list[float]:
    """x1, y1, x2, y2 of a box that lies in the picture."""
    x, y, across, down = _numbers(text, f"{where}: box", (0, 0, 1, 1))
    if x + across > width or y + down > height:
        raise DataError(f"{where}: box: {x:g} {y:g} {across:g} {down:g} reaches out of {width:g}x{height:g} pixels")
    return [x, y, x + across, y + down]


def _numbers(text: str | None, where: str, least: tuple[float, ...]) -> list[float]:
    """Numbers in a text, as many as there are lower limits, and none below its own."""
    words = (text or "").split()
    try:
        numbers = [float(word) for word in words]
        if all(low <= number < 1e6 for low, number in zip(least, numbers, strict=True)):
            return numbers
    except ValueError:
        pass
    raise DataError(f"{where}: {' '.join(words)[:60]!r} is not what it should be, {len(least)} numbers")
