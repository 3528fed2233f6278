"""Pictures with masks in files: what the readers of segmentation sets share.

Decodes JPEG and PNG with PyAV's codecs, which give the ids of grey and palette masks as they are stored.
"""

from __future__ import annotations

import csv
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

import av
import numpy as np
import pandas as pd
import torch
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from bench.data.coverage import coverage
from bench.data.paths import within
from bench.data.scale import rescaled_mask, resized
from bench.data.split import DataError, Dataset

PIXELS_LIMIT = 2**26
"""Pixels that a picture may have; beyond, a small file could fill the memory."""
VOID, OUTSIDE = -1, -2
"""In a table of labels: nothing is known of the pixel; the set has no such id."""
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
SCAN, END = b"\xff\xda", b"\xff\xd9"
"""Markers of a JPEG: coded pixels follow; the picture is whole."""
Content = tuple[int, str]
"""Bytes of a picture, which is too large to be read for this, and a digest of its mask."""
GREY, PALETTE = 0, 3
"""Colour types of a PNG."""
SIZES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
"""Markers of the segment of a JPEG that states its size."""


@dataclass(frozen=True)
class Row:
    """One picture and its mask, as paths relative to the root of the set.

    where: the list and its line, or the set; what is wrong with the row is told with it. group: as in `Split`.
    size: height and width that the list states.
    """

    where: str
    image: str
    mask: str
    group: str
    size: tuple[int, int] | None = None


@dataclass
class PictureFiles:
    """A split of pictures with masks, as `bench.data.AnnotatedSplit` describes it; `path` is among the attributes.

    labels: int64 (256,), of each id in a mask its class, `VOID` or `OUTSIDE`. short_side: of pictures and masks in
    pixels; None leaves them at their own size.
    """

    root: Path
    rows: Sequence[Row]
    classes: Sequence[str]
    labels: Tensor
    short_side: int | None
    targets: NDArray[np.int64] = field(init=False)
    groups: NDArray[np.str_] = field(init=False)
    attributes: pd.DataFrame = field(init=False)
    flip: bool = field(default=True, init=False)
    task: Literal["boxes", "masks"] = field(default="masks", init=False)
    reads_files: ClassVar = True

    def __post_init__(self) -> None:
        """Lays out what is one row a picture."""
        self.targets = np.zeros(len(self.rows), np.int64)
        self.groups = np.array([row.group for row in self.rows])
        self.attributes = pd.DataFrame({"path": [row.image for row in self.rows]})

    def __len__(self) -> int:
        """Pictures."""
        return len(self.rows)

    def video(self, index: int) -> Tensor:
        """The picture, uint8 (1, H, W, 3).

        Raises:
            DataError: the file cannot be read; the message names it and its row.
        """
        row = self.rows[index]
        with _named(row):
            picture = read_picture(self.root / row.image)
        return resized(picture[None], *self._shape(picture))

    def annotation(self, index: int) -> Tensor:
        """The mask, int64 (H, W), -1 void.

        Raises:
            DataError: the file cannot be read, or has an id that is no class; the message names it and its row.
        """
        row = self.rows[index]
        with _named(row):
            mask = read_mask(self.root / row.mask, self.labels)
        return rescaled_mask(mask, *self._shape(mask))

    def _shape(self, picture: Tensor) -> tuple[int, int]:
        """Height and width at which a picture or mask (H, W, ...) is given."""
        height, width = picture.shape[:2]
        if self.short_side is None:
            return height, width
        scale = self.short_side / min(height, width)
        return max(self.short_side, round(height * scale)), max(self.short_side, round(width * scale))


def picture_dataset(
    name: str,
    root: Path,
    parts: tuple[Sequence[Row], Sequence[Row], Sequence[Row]],
    *,
    classes: Sequence[str],
    labels: Tensor,
    short_side: int | None,
    minimum_coverage: float,
    notes: Sequence[str],
) -> Dataset:
    """A dataset of the rows for training, validation and test; those whose files have a fault are left out.

    Only the headers of the files are read: they are there, are pictures, and a mask is as large as its picture. Faults
    are counted and named in the notes.

    Raises:
        DataError: fewer usable rows than `minimum_coverage`, a picture that is listed twice, a split without pictures,
            or a short side below 1.
    """
    if short_side is not None and short_side < 1:
        raise DataError(f"{name}: short_side must be 1 or more, got {short_side}")
    rows = [row for part in parts for row in part]
    _check_once(rows)
    usable, faults = _usable(rows, root, minimum_coverage)
    covered = coverage(root, len(usable), faults, minimum_coverage, "pictures can be used")
    kept = [[row for row in part if row in usable] for part in parts]
    for part, title in zip(kept, ("training", "validation", "test"), strict=True):
        if not part:
            raise DataError(f"{name}: no picture is left for the {title} split under {root}")
    content = [[(row.image, row.mask, row.group, usable[row]) for row in part] for part in kept]
    digest = hashlib.sha256(repr((content, list(classes), labels.tolist(), short_side)).encode()).hexdigest()
    train, validation, test = (PictureFiles(root, part, classes, labels, short_side) for part in kept)
    return Dataset(name, 1, digest, train, validation, test, (*covered, *notes), faults=faults)


def inside(path: str, where: str, field: str) -> str:
    """A path that a list names, normalised.

    Raises:
        DataError: it is empty, cannot be a path, is absolute, or leads out of the folder that it is relative to.
    """
    normal = os.path.normpath(path)
    if not path or not path.isprintable():
        raise DataError(f"{where}:{field}: {path!r} is no path")
    if os.path.isabs(normal):
        raise DataError(f"{where}:{field}: {path} must be relative to the folder of the set (the list's, or `root`)")
    if normal.split(os.sep)[0] == os.pardir:
        raise DataError(f"{where}:{field}: {path} leads out of the folder of the set")
    return normal


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        DataError: it cannot be read, or is not in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.rstrip("\n") for line in file]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not in UTF-8: {error}") from None


def read_table(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV with a header, each with file:line.

    Raises:
        DataError: it cannot be read, has no such fields, or a row of another length than the header.
    """
    lines = csv.DictReader(read_lines(path))
    try:
        header = list(lines.fieldnames or ())
        if not set(fields) <= set(header):
            raise DataError(f"{path}:1: needs the columns {', '.join(fields)}; it has {','.join(header)!r}")
        for row in lines:
            where = f"{path}:{lines.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: has not as many fields as the header, {len(header)}")
            yield where, row
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV list: {error}") from None


def read_picture(path: Path) -> Tensor:
    """A JPEG or PNG of any colour space as RGB, uint8 (H, W, 3), not turned by its tag, since masks have none.

    Raises:
        DataError: the file cannot be read or decoded.
    """
    return torch.from_numpy(read_frame(path).to_ndarray(format="rgb24"))


def read_mask(path: Path, labels: Tensor) -> Tensor:
    """The classes in a mask, a PNG of 8-bit grey or with a palette, int64 (H, W), by the table `labels` (256,).

    Raises:
        DataError: the file cannot be read or decoded, is of another kind, or has an id that is `OUTSIDE`.
    """
    with _file(path) as file:
        head = file.read(26)
    if head[:8] != PNG or head[24:26] not in (bytes((8, GREY)), *(bytes((bits, PALETTE)) for bits in (1, 2, 4, 8))):
        raise DataError(f"{path}: a mask must be a PNG of 8-bit grey or with a palette")
    decoded = read_frame(path).to_ndarray()
    ids = torch.from_numpy(decoded[0] if isinstance(decoded, tuple) else decoded)
    mask = labels.index_select(0, ids.flatten().int()).view(ids.shape)  # several times as fast as labels[ids]
    if mask.min() == OUTSIDE:
        raise DataError(f"{path}: has the id {ids[mask == OUTSIDE][0]}, which is no class of the set")
    return mask


def picture_size(path: Path, limit: int = PIXELS_LIMIT) -> tuple[int, int]:
    """Height and width of a JPEG or PNG by its header.

    Raises:
        DataError: there is no such file, it is neither, or it has more pixels than `limit`.
    """
    with _file(path) as file:
        height, width = _stated_size(file)
    if not 0 < height * width <= limit:
        raise DataError(f"{path}: {width}x{height} pixels; a picture may have 1 to {limit}")
    return height, width


def _stated_size(file: BinaryIO) -> tuple[int, int]:
    """Height and width in the header; struct.error where it breaks off."""
    head = file.read(24)
    if head[:8] == PNG:
        width, height = struct.unpack(">II", head[16:])
        return height, width
    if head[:2] != JPEG:
        raise ValueError("is no JPEG or PNG")
    file.seek(2)
    while True:
        marker, length = struct.unpack(">HH", file.read(4))
        if marker in SIZES:
            height, width = struct.unpack(">xHH", file.read(5))
            return height, width
        if marker == 0xFFFF:  # a filling byte before the marker
            file.seek(-3, os.SEEK_CUR)
        elif marker < 0xFF00 or length < 2:
            raise ValueError("is a broken JPEG")
        else:
            file.seek(length - 2, os.SEEK_CUR)


def read_frame(path: Path, limit: int = PIXELS_LIMIT) -> VideoFrame:
    """The picture in a file, of at most `limit` pixels; data that end early or contradict themselves are refused.

    Raises:
        DataError: the file cannot be read or decoded, or is larger.
    """
    picture_size(path, limit)
    with _file(path) as file:
        data = file.read()
        if data.startswith(JPEG) and data.rfind(END) < data.rfind(SCAN):  # FFmpeg fills small ones up
            raise ValueError("breaks off")
        codec = av.CodecContext.create("png" if data.startswith(PNG) else "mjpeg", "r")
        assert isinstance(codec, VideoCodecContext)
        codec.thread_count, codec.options = 1, {"err_detect": "crccheck+explode"}
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
        if not frames:
            raise ValueError("nothing in it could be decoded")
        return frames[0]


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """The open file; whatever is found wrong with it becomes a DataError that names it."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            yield file
    except struct.error:
        raise DataError(f"{path}: breaks off in its header") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be decoded: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def _named(row: Row) -> Iterator[None]:
    """Puts the row before the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from None


def _check_once(rows: Sequence[Row]) -> None:
    """No picture stands in two rows, and so never in two splits."""
    seen: dict[str, Row] = {}
    for row in rows:
        if row.image in seen:
            raise DataError(f"{row.where}: {row.image} is listed before, in {seen[row.image].where}")
        seen[row.image] = row


def _usable(rows: Sequence[Row], root: Path, minimum_coverage: float) -> tuple[dict[Row, Content], list[DataError]]:
    """The rows without a fault, with what tells their content, and what is wrong with every other row."""
    if not 0 <= minimum_coverage <= 1:
        raise DataError(f"minimum_coverage: must lie in 0..1, got {minimum_coverage:g}")
    with ThreadPoolExecutor() as pool:  # opening waits for the disk
        found = list(pool.map(lambda row: _content_or_fault(row, root), rows))
    usable = {row: content for row, content in zip(rows, found, strict=True) if isinstance(content, tuple)}
    return usable, [fault for fault in found if isinstance(fault, DataError)]


def _content_or_fault(row: Row, root: Path) -> Content | DataError:
    """Bytes of a picture and a digest of its mask, or what is wrong with them."""
    image, mask = root / row.image, root / row.mask
    try:
        with _named(row):
            within(root, image), within(root, mask)
            height, width = picture_size(image)
            for path, size in ((mask, picture_size(mask)), (image, row.size)):
                if size is not None and size != (height, width):
                    stated = f"{size[1]}x{size[0]}"
                    of = "the mask is" if path is mask else "the list states"
                    raise DataError(f"{path}: {of} {stated} pixels, the picture {width}x{height}")
            return image.stat().st_size, hashlib.sha256(mask.read_bytes()).hexdigest()
    except DataError as fault:
        return fault
