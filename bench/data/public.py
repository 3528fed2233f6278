"""The public video sets as users have them on disk: one table of their lists, one builder.

The lists are read first, then the folder is listed once and every row looked up in it; no video is opened. All papers
compared with here report on the published validation list (the test list of UCF101, HMDB51, Diving48 and FCVID), whose
labels are public: it is the test split, and choices are made on a share drawn from the training list.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.data.builders import set_folder
from bench.data.coverage import LeftOut, coverage
from bench.data.frames import MediaReader
from bench.data.list_rows import (
    Listed,
    RowFault,
    RowReader,
    activitynet_rows,
    diving_rows,
    flagged_rows,
    folder_rows,
    id_rows,
    kinetics_rows,
    moments_rows,
    path_rows,
    read_classes,
    something_rows,
    tagged,
)
from bench.data.lists import assembled, class_order
from bench.data.media import YOUTUBE, Media, listed_media, stem
from bench.data.split import DataError, Dataset
from bench.data.video import Limits

FOLDERS = ("", "annotations", "lists", "labels", "splits", "ucfTrainTestlist", "testTrainMulti_7030_splits")
"""Where in a set's folder its lists are looked for."""
TRAIN, TEST = ("train", "training"), ("val", "validation", "test", "testing")
"""Folders of the videos of each part; their names may begin otherwise, as in videos_train."""


@dataclass(frozen=True)
class Lists:
    """One way in which the lists of a set are published: names of files, which may have a * and {split}."""

    train: str
    test: str
    read: RowReader
    read_test: RowReader | None = None


@dataclass(frozen=True)
class PublicSet:
    """A public set.

    folder: its name in the data root. lists: ways in which its lists come, those that are there first taken. classes:
    files with the names of its classes. flip: whether a mirrored video keeps its label. splits: how many there are.
    source: what of a video's name tells its independent source. note: what else must be said with every result.
    """

    folder: str
    lists: tuple[Lists, ...]
    classes: tuple[str, ...] = ()
    flip: bool = True
    splits: int = 1
    source: str = r"(.*)"
    note: str = ""


IDS = YOUTUBE.pattern
KINETICS = (
    Lists("train.csv", "val.csv", kinetics_rows),
    Lists("train.csv", "validate.csv", kinetics_rows),
    Lists("kinetics*train_list_videos.txt", "kinetics*val_list_videos.txt", path_rows),
    Lists("kinetics*train_list_rawframes.txt", "kinetics*val_list_rawframes.txt", path_rows),
    Lists("train_videofolder.txt", "val_videofolder.txt", path_rows),
)
KINETICS_CLASSES = ("kinetics_k400.txt", "label_map_k400.txt", "kinetics_400_labels.csv", "kinetics400_label_map.txt")
ONE_LABEL = "of the labels of a video only the first is taken, so that mAP is that of one label a video"
XIE = (Lists("*train_ytid*.txt", "*val_ytid*.txt", id_rows),)
IBM = (
    Lists("mini_train_videofolder.txt", "mini_val_videofolder.txt", path_rows),
    Lists("ocsampler_train.txt", "ocsampler_val.txt", path_rows),
)
IBM_CLASSES = ("mini_kinetics400.txt", "adafuse_classInd.txt", "mini_classInd.txt")

SETS = {
    "kinetics_400": PublicSet("kinetics_400", KINETICS, KINETICS_CLASSES, source=IDS),
    "mini_kinetics_200_xie": PublicSet("kinetics_400", XIE, source=IDS),
    "mini_kinetics_200_ibm": PublicSet("kinetics_400", IBM, IBM_CLASSES, source=IDS),
    "moments_in_time": PublicSet(
        "moments_in_time",
        (Lists("trainingSet.csv", "validationSet.csv", moments_rows),),
        ("moments_categories.txt",),
    ),
    "ucf101": PublicSet(
        "ucf101",
        (Lists("trainlist{split:02d}.txt", "testlist{split:02d}.txt", folder_rows),),
        ("classInd.txt",),
        splits=3,
        source=r"(v_.+_g[0-9]+)_c[0-9]+",
    ),
    "hmdb51": PublicSet(
        "hmdb51",
        (Lists("*_test_split{split}.txt", "*_test_split{split}.txt", flagged_rows("1"), flagged_rows("2")),),
        splits=3,
        source=r"(.+?)_[a-z]_(?:cm|nm)_np[0-9]+_(?:fr|ba|le|ri)_(?:bad|med|goo)_[0-9]+",
    ),
    "something_something_v1": PublicSet(
        "something_something_v1",
        (Lists("something-something-v1-train.csv", "something-something-v1-validation.csv", id_rows),),
        ("something-something-v1-labels.csv",),
        flip=False,
    ),
    "something_something_v2": PublicSet(
        "something_something_v2",
        (
            Lists("something-something-v2-train.json", "something-something-v2-validation.json", something_rows),
            Lists("train.json", "validation.json", something_rows),
        ),
        ("something-something-v2-labels.json", "labels.json"),
        flip=False,
    ),
    "jester": PublicSet(
        "jester", (Lists("jester-v1-train.csv", "jester-v1-validation.csv", id_rows),), ("jester-v1-labels.csv",), False
    ),
    "diving48": PublicSet(
        "diving48",
        (
            Lists("Diving48_V2_train.json", "Diving48_V2_test.json", diving_rows),
            Lists("Diving48_train.json", "Diving48_test.json", diving_rows),
        ),
        ("Diving48_vocab.json",),
        source=r"(.{11})_[0-9]+",
    ),
    "activitynet": PublicSet(
        "activitynet",
        (
            Lists(
                "activity_net.v1-3*.json",
                "activity_net.v1-3*.json",
                activitynet_rows("training"),
                activitynet_rows("validation"),
            ),
            Lists("actnet_train_split.txt", "actnet_val_split.txt", path_rows),
        ),
        ("activitynet.txt", "classes.txt"),
        source=r"(?:v_)?(.+)",
        note=ONE_LABEL,
    ),
    "fcvid": PublicSet(
        "fcvid",
        (Lists("fcvid_train_split.txt", "fcvid_test_split.txt", path_rows),),
        ("classes.txt",),
        note=ONE_LABEL,
    ),
}


@dataclass(frozen=True)
class Row:
    """A listed video that is there. path: relative to the root of the set. size: bytes, 0 for a folder of frames."""

    listed: Listed
    path: str
    label: str
    test: bool
    group: str
    size: int


@dataclass(frozen=True)
class Survey:
    """What the lists of a set name and its folder holds.

    origin: what the lists are, for messages. expected: rows of each class, there or not. unlisted: media under the root
    that no row names. twins: paths of one YouTube id.
    """

    origin: str
    root: Path
    rows: Sequence[Row]
    faults: Sequence[DataError]
    classes: tuple[str, ...]
    expected: dict[str, int]
    unlisted: int
    twins: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def public(
    name: str,
    /,
    *,
    data_root: Path | None,
    size: int,
    path: Path | None = None,
    lists: Path | None = None,
    train_list: Path | None = None,
    test_list: Path | None = None,
    classes: Path | None = None,
    split: int = 1,
    validation_share: float = 0.05,
    seed: int = 0,
    rate: float | None = None,
    short_side: int | None = None,
    flip: bool | None = None,
    limits: Limits | None = None,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """A public video set by its name, in the layouts that docs/data.md states.

    The test split is the published validation list (or test list, where its labels are public); validation is drawn
    from training, source by source. What is not there, is empty, stands in two lists or has an unknown label is left
    out, counted and named in the notes.

    Args:
        name: of the set. data_root: the folder that `path` is in. size: of the crop in pixels.
        path: the folder of the set, by default its name. lists: the folder of its lists, if that is another.
        train_list, test_list: files of other names, in a format of the set. classes: the file with its classes.
        split: 1, 2 or 3 of UCF101 and HMDB51. validation_share: above 0 and at most 0.5. seed: of that draw.
        rate: frames a second, by default every frame; not of folders of frames. short_side: 8/7 of the crop by default.
        flip: whether training mirrors, by default as the labels stand it. limits: of a decoded video.
        minimum_coverage: share of the listed videos that must be there, and stay readable.

    Raises:
        DataError: lists or folder are not there, less than `minimum_coverage` is, or a class has no training video.
    """
    found = survey(name, data_root, path, lists, train_list, test_list, classes, split)
    notes = coverage(found.origin, len(found.rows), found.faults, minimum_coverage, "videos are there")
    if not 0 < validation_share <= 0.5:
        raise DataError(f"validation_share: must lie above 0 and at most at 0.5, got {validation_share:g}")
    table, parts = _parted(found, validation_share, seed)
    crossing = len(set(table["group"][parts == "test"]) & set(table["group"][parts != "test"]))
    more = [f"{crossing} sources have videos in training and in test, as the set was published"] if crossing else []
    left_out = LeftOut(len(found.rows) + len(found.faults), len(found.rows), minimum_coverage)
    return assembled(
        name,
        table,
        parts,
        found.root,
        MediaReader(short_side or round(size * 8 / 7), rate, limits, found.root),
        found.classes,
        flip=SETS[name].flip if flip is None else flip,
        notes=(*notes, *found.notes, _drawn_note(parts, seed), *more),
        left_out=left_out,
    )


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
    places = _places(name, root, data_root, lists)
    given = tuple((data_root or Path()) / one if one else None for one in (train_list, test_list))
    media = listed_media(root)
    rows, faults, notes = _listed(name, places, given, media, split)
    names = _classes(known, places, classes and (data_root or Path()) / classes)
    return _looked_up(name, root, media, rows, faults, names, notes)


def _places(name: str, root: Path, data_root: Path | None, lists: Path | None) -> list[Path]:
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


def _listed(name: str, places: Sequence[Path], given: tuple[Path | None, ...], media: Media, split: int) -> Found:
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
    rows, faults, notes = _listed("kinetics_400", places, given, media, 1)
    file = _first(KINETICS_CLASSES, places)
    numbers = read_classes(file) if file else ()
    named = [(replace(row, label=_label(row.label, numbers)), test) for row, test in rows]
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
    """{train,val}/<class>/<video>: the folders are the lists."""
    rows = list[tuple[Listed, bool]]()
    for path in media.paths:
        part, label = ("", "", *path.split("/"))[-3:-1]
        test = _part(part)
        if test is not None:
            rows.append((Listed(f"{media.root}/{path}", path, label), test))
    if not rows:
        raise DataError(f"{media.root}: has neither lists nor folders train/<class> and val/<class> with videos")
    rows.sort(key=lambda row: not row[1])
    return rows, [], ("lists: none, the folders train and val and the classes below them",)


def _part(folder: str) -> bool | None:
    """Whether a folder is named as one of test videos; None if as neither."""
    words = re.split(r"[_-]", folder.lower())
    return True if set(words) & set(TEST) else False if set(words) & set(TRAIN) else None


def _joined(ids: Found, kinetics: Found) -> Found:
    """Xie's ids with what Kinetics-400 says of them."""
    known = {_source(IDS, stem(row.name)): row for row, _ in kinetics[0]}
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
    wanted = {_same(label) for label in read_classes(file)}
    kept = [(row, test) for row, test in kinetics[0] if _same(row.label) in wanted]
    if not kept and any(row.label.isdecimal() for row, _ in kinetics[0]):
        raise DataError(f"{name}: the lists of Kinetics-400 have numbers; needs their names, as {KINETICS_CLASSES[0]}")
    return kept, kinetics[1], (f"classes {file.name}", *kinetics[2])


def _first(names: Sequence[str], places: Sequence[Path]) -> Path | None:
    return next((place / one for place in places for one in names if (place / one).is_file()), None)


def _classes(known: PublicSet, places: Sequence[Path], given: Path | None) -> tuple[str, ...]:
    """The published names of the classes, none where there is no file of them."""
    file = given or _first(known.classes, places)
    return read_classes(file) if file else ()


@lru_cache(maxsize=4096)
def _same(label: str) -> str:
    """What two ways of writing a class share: air_drumming and "Air drumming"."""
    return " ".join(re.sub(r"[\W_]+", " ", label.lower()).split())


def _label(label: str, names: Sequence[str]) -> str:
    """The class that a label means: its number, or its name."""
    return names[int(label)] if label.isdecimal() and len(label) < 7 and int(label) < len(names) else label


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
    known, keys = SETS[name], {_same(one): one for one in (names or dict.fromkeys(row.label for row, _ in listed))}
    if len(keys) < len(names):
        raise DataError(
            f"{name}: two of its classes are written alike, as {sorted(set(names) - set(keys.values()))[0]!r}"
        )
    faults, good, seen, expected = [*faults, *media.faults], list[Row](), dict[str, str](), dict.fromkeys(names, 0)
    for row, test in listed:
        label = keys.get(_same(_label(row.label, names)), "")
        if label:
            expected[label] = expected.get(label, 0) + 1
        try:
            path = _path(row, label, media, TEST if test else TRAIN, seen, keys)
        except DataError as fault:
            faults.append(fault)
            continue
        seen[path] = row.where
        good.append(Row(row, path, label, test, _source(known.source, stem(path)), 0))
    sizes = _sizes(root, [row.path for row in good])
    empty = [row.path for row, size in zip(good, sizes, strict=True) if size == 0]
    faults += [RowFault("broken", f"{root / path}: is empty") for path in empty]
    rows = [replace(row, size=max(size, 0)) for row, size in zip(good, sizes, strict=True) if size]
    classes = names or tuple(sorted(expected, key=class_order))
    unlisted = len(media.paths) - len(seen)
    said = (*notes, known.note) if known.note else tuple(notes)
    twins = tuple(tuple(paths) for paths in media.by_id.values() if len(paths) > 1)
    return Survey(f"{name} in {root}", root, rows, faults, classes, expected, unlisted, twins, said)


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
    folder = keys.get(_same(path.rpartition("/")[0].rpartition("/")[2]))
    if folder not in (None, label):
        raise RowFault("mislabelled", f"{row.where}: label: {label!r}, but {path} lies in the folder of {folder!r}")
    return path


def _sizes(root: Path, paths: Sequence[str]) -> list[int]:
    """Bytes of every file, -1 of a folder of frames, 0 of what is gone; asked by the thousand, as disks may wait."""
    parts = [paths[first : first + 1000] for first in range(0, len(paths), 1000)]
    with ThreadPoolExecutor() as pool:
        return list(chain.from_iterable(pool.map(lambda part: [_size(f"{root}/{path}") for path in part], parts)))


def _size(file: str) -> int:
    try:
        found = os.stat(file)
    except OSError:
        return 0
    return -1 if stat.S_ISDIR(found.st_mode) else found.st_size


def _source(pattern: str, name: str) -> str:
    match = re.fullmatch(pattern, name)
    return match[1] if match else name


def _parted(found: Survey, share: float, seed: int) -> tuple[pd.DataFrame, NDArray[np.str_]]:
    """The table of the rows, and the split of each."""
    table = pd.DataFrame(
        {
            "path": [row.path for row in found.rows],
            "label": [row.label for row in found.rows],
            "group": [row.group for row in found.rows],
            "bytes": [row.size for row in found.rows],
        }
    )
    test = np.array([row.test for row in found.rows])
    parts = np.where(test, "test", "train").astype("<U10")
    parts[np.flatnonzero(~test)[_drawn(table[~test], share, seed)]] = "validation"
    for part in ("train", "validation", "test"):
        if part not in parts:
            raise DataError(f"{found.origin}: no video is left for the {part} split")
    untrained = sorted(set(found.classes) - set(table["label"][parts == "train"]))
    if untrained:
        raise DataError(
            f"{found.origin}: no training video of class {untrained[0]!r}, nor of {len(untrained) - 1} more"
        )
    if len(found.classes) < 2:
        raise DataError(f"{found.origin}: all videos are of one class, {found.classes[0]!r}")
    return table, parts


def _drawn(table: pd.DataFrame, share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows (N,) are drawn: about `share` of the sources of each class, whole ones, and never all of a class."""
    sources = table.drop_duplicates("group").sample(frac=1, random_state=seed)
    place = sources.groupby("label").cumcount()
    count = sources.groupby("label")["label"].transform("size")
    wanted = np.where(count > 1, np.maximum(1, np.round(share * count)), 0)
    return np.asarray(table["group"].isin(sources["group"][place < wanted]))


def _drawn_note(parts: NDArray[np.str_], seed: int) -> str:
    drawn, left = int((parts == "validation").sum()), int((parts == "train").sum())
    return f"test: the published list; validation: {drawn} of {drawn + left} training videos, drawn with seed {seed}"
