"""Finds the lists of a set, or what stands in for them, and reads their rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from bench.data.list_rows import (
    Listed,
    RowFault,
    read_classes,
    tagged,
)
from bench.data.media import Media, stem
from bench.data.public.names import label_of, same, source_of
from bench.data.public.sets import (
    FOLDERS,
    HELD_BACK,
    IBM_CLASSES,
    IDS,
    KINETICS_CLASSES,
    SETS,
    TRAIN,
    VALIDATION,
    Lists,
    PublicSet,
)
from bench.data.split import DataError


def places_of(name: str, root: Path, data_root: Path | None, lists: Path | None) -> list[Path]:
    """Folders in which lists are looked for."""
    if lists:
        folder = (data_root or Path()) / lists
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of lists")
        return [folder, *(folder / one for one in FOLDERS[1:] if (folder / one).is_dir())]
    places = [root / one for one in FOLDERS]
    if name.startswith("mini_kinetics") and data_root:
        places += [data_root / name, data_root / "lists" / "mini_kinetics"]
    return [*(one for one in places if one.is_dir()), *_label_maps(data_root)]


def _label_maps(data_root: Path | None) -> list[Path]:
    folder = (data_root or Path()) / "lists" / "label_maps"
    return [folder] if folder.is_dir() else []


Found = tuple[list[tuple[Listed, bool]], list[DataError], tuple[str, ...]]
"""Rows, each with whether it is of the test list, what is malformed, and notes."""


def listed_rows(name: str, places: Sequence[Path], given: tuple[Path | None, ...], media: Media, split: int) -> Found:
    """The rows of a set's own lists; of Kinetics also of its folders alone, and the two Mini-Kinetics out of these."""
    ways = SETS[name].lists
    if name == "mini_kinetics_200_xie":
        ids = _read(name, ways, places, given, split)
        return _joined(ids, _kinetics(places, (None, None), media))
    if name == "mini_kinetics_200_ibm" and not any(given) and not _there(ways, places, split):
        return _of_classes(name, places, _kinetics(places, given, media))
    if name == "kinetics_400" and not any(given) and not _there(ways, places, split):
        return _by_folders(media)
    return _read(name, ways, places, given, split)


def _kinetics(places: Sequence[Path], given: tuple[Path | None, ...], media: Media) -> Found:
    """Kinetics-400, with names of classes wherever they can be known."""
    rows, faults, notes = listed_rows("kinetics_400", places, given, media, 1)
    file = _first(KINETICS_CLASSES, places)
    numbers = read_classes(file) if file else ()
    named = [(replace(row, label=label_of(row.label, numbers)), test) for row, test in rows]
    return named, faults, tuple(f"of Kinetics-400: {note}" for note in notes)


def _there(ways: Sequence[Lists], places: Sequence[Path], split: int) -> tuple[Lists, list[Path], list[Path]] | None:
    """The first way of which both lists are in one of the places, and their files."""
    for way in ways:
        for place in places:
            train, test = (sorted(place.glob(one.format(split=split))) for one in (way.train, way.test))
            if train and test:
                return way, train, test
    return None


def _read(
    name: str, ways: Sequence[Lists], places: Sequence[Path], given: tuple[Path | None, ...], split: int
) -> Found:
    if any(given):
        if not all(given):
            raise DataError(f"{name}: train_list and test_list go together")
        train, test = ([one] for one in given if one)
        train_way, test_way = (_of_suffix(ways, file) for file in (*train, *test))
    elif found := _there(ways, places, split):
        train_way, train, test = found
        test_way = train_way
    else:
        wanted = " or ".join(f"{way.train.format(split=split)} and {way.test.format(split=split)}" for way in ways)
        raise DataError(f"{name}: needs {wanted} in {places[0] if places else 'its folder'}; or give lists=FOLDER")
    rows, faults = list[tuple[Listed, bool]](), list[DataError]()
    for files, read, is_test in ((test, test_way.read_test or test_way.read, True), (train, train_way.read, False)):
        good, bad = tagged(chain.from_iterable(read(file) for file in files))
        rows += [(row, is_test) for row in good]
        faults += bad
    return rows, faults, (f"lists {train[0].name} and {test[0].name}{' and more' if len(train) > 1 else ''}",)


def _of_suffix(ways: Sequence[Lists], file: Path) -> Lists:
    """The first way whose lists are JSON as a file is, or are none as it is none; else the first."""
    return next((way for way in ways if way.train.endswith(".json") == (file.suffix == ".json")), ways[0])


def _by_folders(media: Media) -> Found:
    """{train,val}/<class>/<video>: the folders are the lists; test/ stands for val/ only where there is none."""
    found = dict[tuple[str, ...], list[Listed]]()
    for path in media.paths:
        part, label = ("", "", *path.split("/"))[-3:-1]
        if kind := _part(part):
            found.setdefault(kind, []).append(Listed(f"{media.root}/{path}", path, label))
    if not found:
        seen = f"; {media.faults[0]}" if media.faults else ""
        raise DataError(f"{media.root}: has neither lists nor folders train/<class> and val/<class> with videos{seen}")
    held_back = found.pop(HELD_BACK, [])
    ignored = len(held_back) if VALIDATION in found else 0  # figures are published on val, never on both
    test = found.get(VALIDATION, held_back)
    rows = [*((row, True) for row in test), *((row, False) for row in found.get(TRAIN, []))]
    notes = ["lists: none, the folders train and val and the classes below them"]
    return rows, [], (*notes, *([f"ignored {ignored} videos in folders test, since there is val"] if ignored else []))


def _part(folder: str) -> tuple[str, ...] | None:
    """Of which part a folder's name says that its videos are: TRAIN, VALIDATION or HELD_BACK; None if of none."""
    words = set(re.split(r"[_-]", folder.lower()))
    return next((part for part in (VALIDATION, HELD_BACK, TRAIN) if words & set(part)), None)


def _joined(ids: Found, kinetics: Found) -> Found:
    """Xie's ids with what Kinetics-400 says of them."""
    known = {source_of(IDS, stem(row.name)): row for row, _ in kinetics[0]}
    rows, faults = list[tuple[Listed, bool]](), [*ids[1], *kinetics[1]]
    for row, test in ids[0]:
        if found := known.get(row.name):
            rows.append((replace(found, where=row.where), test))
        else:
            faults.append(RowFault("missing", f"{row.where}: {row.name:.40} is nowhere in the lists of Kinetics-400"))
    return rows, faults, (*ids[2], *kinetics[2])


def _of_classes(name: str, places: Sequence[Path], kinetics: Found) -> Found:
    """The videos of Kinetics-400 whose class is among the 200."""
    file = _first(IBM_CLASSES, places)
    if file is None:
        raise DataError(f"{name}: needs its 200 classes, as {' or '.join(IBM_CLASSES)}, in {places[0]} or lists=FOLDER")
    wanted = {same(label) for label in read_classes(file)}
    kept = [(row, test) for row, test in kinetics[0] if same(row.label) in wanted]
    if not kept and any(row.label.isdecimal() for row, _ in kinetics[0]):
        raise DataError(f"{name}: the lists of Kinetics-400 have numbers; needs their names, as {KINETICS_CLASSES[0]}")
    return kept, kinetics[1], (f"classes {file.name}", *kinetics[2])


def _first(names: Sequence[str], places: Sequence[Path]) -> Path | None:
    return next((place / one for place in places for one in names if (place / one).is_file()), None)


def class_names(known: PublicSet, places: Sequence[Path], given: Path | None) -> tuple[str, ...]:
    """The published names of the classes, none where there is no file of them."""
    file = given or _first(known.classes, places)
    return read_classes(file) if file else ()
