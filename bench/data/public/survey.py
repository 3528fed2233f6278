"""Looks every listed row up in the folder of its set."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from bench.data.builders import set_folder
from bench.data.list_rows import (
    Listed,
    RowFault,
)
from bench.data.lists import class_order
from bench.data.media import Media, listed_media, pictures_size, stem
from bench.data.public.listed import class_names, listed_rows, places_of
from bench.data.public.names import label_of, same, source_of
from bench.data.public.sets import SETS, TEST, TRAIN
from bench.data.split import DataError


@dataclass(frozen=True)
class Row:
    """A listed video that is there. path: relative to the root of the set. size: bytes, of frames those of all."""

    listed: Listed
    path: str
    label: str
    test: bool
    group: str
    size: int


@dataclass(frozen=True)
class Survey:
    """What the lists of a set name and its folder holds.

    origin: what the lists are, for messages. tests: rows of the test list, there or not. expected: rows of each class,
    there or not. unlisted: media under the root
    that no row names. twins: paths of one YouTube id.
    """

    origin: str
    root: Path
    rows: Sequence[Row]
    faults: Sequence[DataError]
    classes: tuple[str, ...]
    tests: int
    expected: dict[str, int]
    unlisted: int
    twins: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def survey(
    name: str,
    data_root: Path | None,
    path: Path | None = None,
    lists: Path | None = None,
    train_list: Path | None = None,
    test_list: Path | None = None,
    classes: Path | None = None,
    split: int = 1,
) -> Survey:
    """What the lists of a set name, what of it is there, and what is wrong; as `public`.

    Raises:
        DataError: lists or folder are not there, or a list cannot be read at all.
    """
    known = SETS[name]
    if not 1 <= split <= known.splits:
        raise DataError(f"{name}: split must be 1 to {known.splits}, not {split}")
    root = (data_root or Path()) / path if path else set_folder(data_root, known.folder)
    places = places_of(name, root, data_root, lists)
    given = tuple((data_root or Path()) / one if one else None for one in (train_list, test_list))
    media = listed_media(root)
    rows, faults, notes = listed_rows(name, places, given, media, split)
    names = class_names(known, places, classes and (data_root or Path()) / classes)
    return _looked_up(name, root, media, rows, faults, names, notes)


def _looked_up(
    name: str,
    root: Path,
    media: Media,
    listed: Sequence[tuple[Listed, bool]],
    faults: Sequence[DataError],
    names: tuple[str, ...],
    notes: tuple[str, ...],
) -> Survey:
    """Every row in the folder: its file, its size, its class; test rows first, so that a video in both lists tests."""
    known, keys = SETS[name], {same(one): one for one in (names or dict.fromkeys(row.label for row, _ in listed))}
    if len(keys) < len(names):
        raise DataError(
            f"{name}: two of its classes are written alike, as {sorted(set(names) - set(keys.values()))[0]!r}"
        )
    faults, good, seen, expected = [*faults, *media.faults], list[Row](), dict[str, str](), dict.fromkeys(names, 0)
    for row, test in listed:
        label = keys.get(same(label_of(row.label, names)), "")
        if label:
            expected[label] = expected.get(label, 0) + 1
        try:
            path = _path(row, label, media, TEST if test else TRAIN, seen, keys)
        except DataError as fault:
            faults.append(fault)
            continue
        seen[path] = row.where
        good.append(Row(row, path, label, test, source_of(known.source, stem(path)), 0))
    sizes = _sizes(root, [row.path for row in good])
    empty = [row.path for row, size in zip(good, sizes, strict=True) if size == 0]
    faults += [RowFault("broken", f"{root / path}: is empty") for path in empty]
    rows = [replace(row, size=size) for row, size in zip(good, sizes, strict=True) if size]
    classes = names or tuple(sorted(expected, key=class_order))
    unlisted = len(media.paths) - len(seen)
    said = (*notes, known.note) if known.note else tuple(notes)
    twins = tuple(tuple(paths) for paths in media.by_id.values() if len(paths) > 1)
    tests = sum(test for _, test in listed)
    return Survey(f"{name} in {root}", root, rows, faults, classes, tests, expected, unlisted, twins, said)


def _path(
    row: Listed, label: str, media: Media, hints: tuple[str, ...], seen: dict[str, str], keys: dict[str, str]
) -> str:
    """Where a row's video is.

    Raises:
        DataError: what keeps the row from being used.
    """
    if not row.name.isprintable() or ".." in row.name.split("/"):
        raise RowFault(
            "outside", f"{row.where}: path: {row.name!r:.200} leads out of the folder of the set, or is no path"
        )
    if not label:
        raise RowFault("mislabelled", f"{row.where}: label: {row.label!r:.80} is no class of the set")
    path = media.find(row.name, hints)
    if path is None:
        raise RowFault("missing", f"{row.where}: {row.name:.200} is missing under {media.root}")
    if path in seen:
        raise RowFault("duplicated", f"{row.where}: {path} is listed before, in {seen[path]}")
    folder = keys.get(same(path.rpartition("/")[0].rpartition("/")[2]))
    if folder not in (None, label):
        raise RowFault("mislabelled", f"{row.where}: label: {label!r}, but {path} lies in the folder of {folder!r}")
    return path


def _sizes(root: Path, paths: Sequence[str]) -> list[int]:
    """Bytes of every file or folder of frames, 0 of what is gone; asked by the thousand, as disks may wait."""
    parts = [paths[first : first + 1000] for first in range(0, len(paths), 1000)]
    with ThreadPoolExecutor() as pool:
        return list(chain.from_iterable(pool.map(lambda part: [_size(f"{root}/{path}") for path in part], parts)))


def _size(file: str) -> int:
    try:
        found = os.stat(file)
        return pictures_size(file) if stat.S_ISDIR(found.st_mode) else found.st_size
    except OSError:
        return 0
