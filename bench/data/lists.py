"""Datasets of video files: a CSV list, or a folder for each class."""

from __future__ import annotations

import csv
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from bench.data.coverage import LeftOut, coverage
from bench.data.images import inside
from bench.data.list_rows import SUFFIXES, RowFault
from bench.data.paths import within
from bench.data.split import DataError, Dataset, UnreadableError
from bench.data.video.opened import check_video
from bench.data.video.reader import Reader, VideoReader

FIELDS = ("path", "label", "group", "fold", "split")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splitting:
    """Which videos train, validate and test; those of one group are never in two splits.

    fold: the test fold; without one the list's own split column rules, and without that a seeded draw of
    `test_share`. validation_fold: the validation fold; without one, and where a split column names no validation
    videos, a seeded draw of `validation_share` of the training videos. Draws take whole groups and keep the balance of
    the classes as far as these let them.

    Raises:
        DataError: a share outside 0..0.5, or a validation fold without a test fold or equal to it.
    """

    fold: int | None = None
    validation_fold: int | None = None
    test_share: float = 0.2
    validation_share: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        for field in ("test_share", "validation_share"):
            if not 0 < getattr(self, field) <= 0.5:
                raise DataError(f"{field}: must lie above 0 and at most at 0.5, got {getattr(self, field)}")
        if self.validation_fold is not None and self.validation_fold == self.fold:
            raise DataError(f"validation_fold: {self.fold} is the test fold")
        if self.validation_fold is not None and self.fold is None:
            raise DataError("validation_fold: needs a test fold too")


class ListError(DataError):
    """A list cannot be used. faults: of its rows and files, all that were found, where the message is of one."""

    def __init__(self, message: str, faults: Sequence[RowFault]) -> None:
        super().__init__(message)
        self.faults = faults


@dataclass
class VideoFiles:
    """A split whose videos are files; `path` is among the attributes.

    One that was left out stays so: whether the part of it that is asked for can be read turns on what is cached.
    """

    files: Sequence[Path]
    reader: Reader
    classes: Sequence[str]
    targets: NDArray[np.int64]
    groups: NDArray[np.str_]
    attributes: pd.DataFrame
    flip: bool
    left_out: LeftOut | None = None
    measured_by_map: bool = False
    reads_files: ClassVar = True

    def __len__(self) -> int:
        """Videos."""
        return len(self.files)

    def video(self, index: int) -> Tensor:
        """The whole video, uint8 (T, H, W, 3).

        Raises:
            UnreadableError: the file cannot be read; the message names it.
        """
        with self._reading(index) as path:
            return self.reader(path)

    def frames_of(self, index: int, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """The frames `choose(T)` of a video of T frames, uint8 (n, H, W, 3), decoding no more than it must.

        Raises:
            UnreadableError: the file cannot be read; the message names it.
        """
        with self._reading(index) as path:
            return self.reader.clip(path, choose)

    def is_left_out(self, index: int) -> bool:
        """Whether a video turned out unreadable."""
        return self.left_out is not None and self.files[index] in self.left_out.faults

    @contextmanager
    def _reading(self, index: int) -> Iterator[Path]:
        """The file of a row, unless it was left out; says of a DataError which video it is about."""
        path = self.files[index]
        if self.left_out and path in self.left_out.faults:
            raise UnreadableError(path, self.left_out.faults[path])
        try:
            yield path
        except DataError as error:
            raise UnreadableError(path, str(error)) from None


def list_dataset(
    path: Path,
    reader: VideoReader,
    splitting: Splitting,
    *,
    root: Path | None = None,
    name: str = "list",
    columns: Mapping[str, str] | None = None,
    flip: bool = False,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """Videos listed in a CSV whose header has path, label and, where wanted, group, fold, split (one of `SPLITS`).

    root: what the paths are relative to, by default the list's folder. columns: our name -> the header's name, where
    they differ. All other columns become attributes. Without groups each video is its own. Files that cannot be opened
    are left out, and counted and named in the notes.

    Raises:
        ListError: a malformed row (file:row:field), a path that leaves the root, fewer usable files than
            `minimum_coverage`, no such fold, a group in two splits, a class or split without videos, too few groups.
    """
    found = list(_read_rows(path, dict(columns or {})))
    rows = [row for row in found if isinstance(row, dict)]
    faults = [row for row in found if isinstance(row, RowFault)]
    if not rows:
        raise ListError(str(faults[0]) if faults else f"{path}: lists no videos", faults)
    table = pd.DataFrame(rows)
    return _dataset(name, path, table, root or path.parent, reader, splitting, flip, minimum_coverage, faults)


def folder_dataset(
    root: Path,
    reader: VideoReader,
    splitting: Splitting,
    *,
    flip: bool = False,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """Videos, told by their suffix, in one folder a class and at any depth below it; each is its own group.

    What is hidden, a file or a folder whose name begins with a dot, is none of them.

    Raises:
        DataError: no class folders with videos in them, and as `list_dataset`.
    """
    found = (file.relative_to(root) for file in root.glob("*/**/*") if file.suffix.lower() in SUFFIXES)
    files = sorted(file for file in found if not any(part.startswith(".") for part in file.parts))
    if not files:
        raise DataError(f"{root}: no class folders with videos in them")
    table = pd.DataFrame({"path": [file.as_posix() for file in files], "label": [file.parts[0] for file in files]})
    return _dataset("folders", root, table, root, reader, splitting, flip, minimum_coverage)


def _read_rows(path: Path, columns: dict[str, str]) -> Iterator[dict[str, str] | RowFault]:
    """Rows under our column names, or what is wrong with them; a column that another one stands in for is dropped."""
    ours = {field: "" for field in columns} | {theirs: field for field, theirs in columns.items()}
    lines_of: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            named = next(lines, None)
            if named is None:
                raise DataError(f"{path}: is empty; its first row must name the columns")
            header = [ours.get(field, field) for field in named]
            for field in dict.fromkeys((*FIELDS, *columns)):
                needed = field in ("path", "label", *columns)
                if header.count(field) > 1 or (needed and field not in header):
                    told = f"the first row names {', '.join(map(repr, named))!s:.200}"
                    raise DataError(f"{path}:1:{columns.get(field, field)}: needs exactly one such column; {told}")
            for values in filter(None, lines):
                try:
                    row = _checked_row(f"{path}:{lines.line_num}", header, values)
                except DataError as error:
                    yield RowFault("malformed", str(error))
                    continue
                first = lines_of.setdefault(row["path"], lines.line_num)
                if first == lines.line_num:
                    yield row
                else:
                    where = f"{path}:{lines.line_num}:path"
                    yield RowFault("duplicated", f"{where}: {row['path']} is listed in row {first} already")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV list in UTF-8: {error}") from None


def _checked_row(where: str, header: list[str], values: list[str]) -> dict[str, str]:
    """The row as a mapping, its path normalised."""
    if len(values) != len(header):
        raise DataError(f"{where}: has {len(values)} fields, the header {len(header)}")
    row = {field: value.strip() for field, value in zip(header, values, strict=True) if field}
    for field in FIELDS:
        if row.get(field) == "":
            raise DataError(f"{where}:{field}: is empty")
    if "fold" in row and not row["fold"].isdecimal():
        raise DataError(f"{where}:fold: {row['fold']!r} is not a whole number")
    if row.get("split", "train") not in SPLITS:
        raise DataError(f"{where}:split: {row['split']!r} is none of {', '.join(SPLITS)}")
    row["path"] = inside(row["path"], where, "path")
    return row


def _dataset(
    name: str,
    origin: Path,
    table: pd.DataFrame,
    root: Path,
    reader: VideoReader,
    splitting: Splitting,
    flip: bool,
    minimum_coverage: float,
    rows_at_fault: Sequence[RowFault] = (),
) -> Dataset:
    """The dataset of a table with the columns path, label, perhaps group, fold, split, and attributes, all strings."""
    if not 0 <= minimum_coverage <= 1:
        raise DataError(f"minimum_coverage: must lie in 0..1, got {minimum_coverage:g}")
    if "group" not in table:
        table["group"] = table["path"]
    classes = tuple(sorted(set(table["label"]), key=class_order))
    listed = len(table)
    table, faults = _usable(table, root)
    try:
        if rows_at_fault:
            raise rows_at_fault[0]
        notes = coverage(origin, len(table), faults, minimum_coverage, "videos can be opened")
        parts = _split(table, origin, splitting)
        _check_parts(table, parts, origin, classes)
    except DataError as error:
        raise ListError(str(error), [*rows_at_fault, *faults]) from None
    left_out = LeftOut(listed, len(table), minimum_coverage)
    return assembled(
        name, table, parts, root, reader, classes, flip=flip, notes=notes, left_out=left_out, faults=faults
    )


def assembled(
    name: str,
    table: pd.DataFrame,
    parts: NDArray[np.str_],
    root: Path,
    reader: Reader,
    classes: Sequence[str],
    *,
    flip: bool,
    notes: tuple[str, ...],
    left_out: LeftOut,
    faults: Sequence[DataError],
    measured_by_map: bool = False,
) -> Dataset:
    """The dataset of a table with the columns path, label, group, bytes and attributes; `parts`: each row's split."""
    content = table.assign(part=parts).to_csv(index=False) + f"{tuple(classes)}{reader.short_side}{reader.rate}"
    number = {label: place for place, label in enumerate(classes)}

    def split(part: str) -> VideoFiles:
        rows = table[parts == part].reset_index(drop=True)
        others = rows.drop(columns=[field for field in (*FIELDS[1:], "bytes") if field in rows])
        return VideoFiles(
            files=tuple(root / path for path in rows["path"]),
            reader=reader,
            classes=classes,
            targets=np.array([number[label] for label in rows["label"]], np.int64),
            groups=rows["group"].to_numpy(str),
            attributes=others.apply(_numbers),
            flip=flip,
            left_out=left_out,
            measured_by_map=measured_by_map,
        )

    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    return Dataset(name, 1, fingerprint, split("train"), split("validation"), split("test"), notes, left_out, faults)


def class_order(label: str) -> tuple[bool, int, str]:
    """Numbers by value, then names."""
    return not label.isdecimal(), int(label) if label.isdecimal() else 0, label


def _usable(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[RowFault]]:
    """The rows whose files open, with their size in `bytes`, and what is wrong with every other file."""
    with ThreadPoolExecutor() as pool:  # opening waits for the disk
        found = list(pool.map(lambda path: _size_or_fault(root, path), table["path"]))
    sizes = {row: size for row, size in enumerate(found) if isinstance(size, int)}
    faults = [fault for fault in found if isinstance(fault, RowFault)]
    return table.iloc[list(sizes)].assign(bytes=list(sizes.values())).reset_index(drop=True), faults


def _size_or_fault(root: Path, path: str) -> int | RowFault:
    """Bytes of a video file that opens, or what is wrong with it."""
    try:
        file = within(root, root / path)
    except DataError as error:
        return RowFault("outside", str(error))
    try:
        check_video(file)
        return file.stat().st_size
    except DataError as error:
        return RowFault("broken" if os.path.isfile(file) else "missing", str(error))  # of any name, also one too long


def _split(table: pd.DataFrame, origin: Path, splitting: Splitting) -> NDArray[np.str_]:
    """The name of the split of every row."""
    parts = np.full(len(table), "train", "<U10")
    if splitting.fold is not None:
        parts[_in_fold(table, origin, splitting.fold)] = "test"
        if splitting.validation_fold is not None:
            parts[_in_fold(table, origin, splitting.validation_fold)] = "validation"
    elif "split" in table:
        parts = table["split"].to_numpy("<U10")
    else:
        parts[_draw(table, origin, splitting.test_share, splitting.seed)] = "test"
    if "validation" not in parts:
        train = np.flatnonzero(parts == "train")
        drawn = _draw(table.iloc[train], origin, splitting.validation_share, splitting.seed)
        parts[train[drawn]] = "validation"
    return parts


def _in_fold(table: pd.DataFrame, origin: Path, fold: int) -> NDArray[np.bool_]:
    """Which rows (N,) the fold has."""
    if "fold" not in table:
        raise DataError(f"{origin}: has no column 'fold', and fold {fold} was asked for")
    folds = table["fold"].astype(int)
    if fold not in set(folds):
        raise DataError(f"{origin}: has no fold {fold}, only {', '.join(map(str, sorted(set(folds))))}")
    return np.asarray(folds == fold)


def _draw(table: pd.DataFrame, origin: Path, share: float, seed: int) -> NDArray[np.intp]:
    """Positions of about `share` of the rows: whole groups, from 1 / share disjoint draws the best balanced one."""
    totals = table["label"].value_counts()
    ways = min(round(1 / share), table["group"].nunique(), totals.max())

    def imbalance(drawn: NDArray[np.intp]) -> float:
        counts = table["label"].iloc[drawn].value_counts().reindex(totals.index, fill_value=0)
        return float((counts / totals - share).abs().sum())

    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # a class smaller than `ways` is no fault
            folds = StratifiedGroupKFold(ways, shuffle=True, random_state=seed)
            return min((drawn for _, drawn in folds.split(table, table["label"], table["group"])), key=imbalance)
    except ValueError as error:
        raise DataError(f"{origin}: {len(table)} videos cannot be split by group: {error}") from None


def _check_parts(table: pd.DataFrame, parts: NDArray[np.str_], origin: Path, classes: tuple[str, ...]) -> None:
    """No split is empty, no group in two, no class untrained, and there is a choice of classes."""
    for part in SPLITS:
        if part not in parts:
            raise DataError(f"{origin}: no video is left for the {part} split")
    counts = pd.Series(parts).groupby(table["group"].to_numpy()).nunique()
    if counts.max() > 1:
        raise DataError(f"{origin}: group {counts.idxmax()!r} is in more than one split")
    untrained = sorted(set(classes) - set(table["label"][parts == "train"]))
    if untrained:
        raise DataError(f"{origin}: no training video of class {untrained[0]!r}")
    if len(classes) < 2:
        raise DataError(f"{origin}: all videos are of one class, {classes[0]!r}")


def _numbers(column: pd.Series) -> pd.Series:
    """The column as numbers if it is one of numbers."""
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column
