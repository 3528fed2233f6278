"""What a dataset holds, split by split and class by class, and what is wrong with it."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.builders import build, called
from bench.data.journal import Checked, Journal, check_files
from bench.data.list_rows import RowFault
from bench.data.lists import ListError, VideoFiles
from bench.data.public.builder import public
from bench.data.public.sets import SETS
from bench.data.public.survey import Survey, survey
from bench.data.split import DataError, Dataset, Split, annotated
from bench.data.video.limits import Limits

SPLITS = ("train", "validation", "test")
Progress = Callable[[int, int], None]
"""Is told how many rows or files are read, of how many."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    kind: missing, broken, duplicated, mislabelled, malformed (a row of a list), outside (leads out of the folder of
    the set), uncounted (frames that a list counts are not there), or empty (a class without videos).
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Report:
    """What was found. classes: name -> (rows that the lists name, rows that can be used), where that is known."""

    dataset: str
    held: Sequence[Held]
    classes: Mapping[str, tuple[int, int]]
    faults: Sequence[Fault]
    notes: Sequence[str]


@dataclass(frozen=True)
class Held:
    """One split. sources: independent ones (groups). classes: rows of each class that has any (first boxes)."""

    split: str
    rows: int
    sources: int
    classes: dict[str, int]


def held(dataset: Dataset) -> list[Held]:
    """What each split holds by its lists, nothing read."""
    return [_held(name, getattr(dataset, name)) for name in SPLITS]


def _held(name: str, split: Split) -> Held:
    found, targets = annotated(split), split.targets
    if found and found.task == "boxes":
        targets = targets[[len(found.annotation(row)) > 0 for row in range(len(split))]]
    labels, counts = np.unique(targets, return_counts=True)
    named = {} if found and found.task == "masks" else dict(zip(labels.tolist(), counts.tolist(), strict=True))
    classes = {split.classes[label]: count for label, count in named.items()}
    return Held(name, len(split), len(np.unique(split.groups)), classes)


def check(
    name: str,
    *,
    data_root: Path | None,
    frames: int,
    size: int,
    options: dict[str, Any],
    read: bool,
    cache: Path,
    workers: int,
    progress: Progress = lambda done, total: None,
) -> Report:
    """What a dataset holds, and what is wrong with it; of the public sets even where it is too much to be used.

    read: whether files are read to their end; else only the lists are compared with what is there. cache: the folder
    of the journals, in which files that were read before, and did not change, are looked up. workers: processes.
    options: of the dataset; what does not bear on its lists and files is ignored.

    Raises:
        DataError: no such dataset or option, or there is nothing to check.
    """
    reading = partial(_read, name, cache=cache, workers=workers, progress=progress) if read else None
    if name in SETS:
        return _public(name, data_root, options, reading)
    try:
        dataset = _built(partial(build, name, data_root=data_root, frames=frames, size=size), options)
    except ListError as error:
        if not error.faults:
            raise
        return Report(name, [], {}, _unusable(error.faults), [f"cannot be used: {error}"])
    splits: list[Split] = [getattr(dataset, part) for part in SPLITS]
    files = [file for split in splits if isinstance(split, VideoFiles) for file in split.files]
    if files and reading:
        root = Path(os.path.commonpath([file.parent for file in files]))
        checked = reading(root, [file.relative_to(root).as_posix() for file in files], None)
        wrong = [Fault("broken", one.fault) for one in checked.values() if one.fault] + _copies(checked, {})
    else:
        wrong = [Fault("broken", fault) for fault in faults(dataset, progress)] if read else []
    unused = _unusable(dataset.faults, "broken")
    notes = [note for note in dataset.notes if not (unused and note.startswith("left out "))]  # faults name all
    return Report(dataset.name, held(dataset), {}, unused + wrong, notes + _lacking(dataset))


def _built(builder: Callable[..., Dataset], options: dict[str, Any]) -> Dataset:
    """The dataset, also where it is too much at fault to be used, if the set has an option for that."""
    try:
        return builder(options=options)
    except DataError as error:
        try:
            return builder(options=options | {"minimum_coverage": 0.0})
        except ListError:
            raise
        except DataError:  # not every set has the option, and it is not the cure for everything
            raise error from None


def _unusable(faults: Sequence[DataError], otherwise: str = "malformed") -> list[Fault]:
    return [Fault(fault.kind if isinstance(fault, RowFault) else otherwise, str(fault)) for fault in faults]


def _lacking(dataset: Dataset) -> list[str]:
    """A line for validation and test where they have no video of some class: nothing is learned about it there."""
    return [line for part in held(dataset) for line in _lacks(part, getattr(dataset, part.split).classes)]


def _lacks(part: Held, known: Sequence[str]) -> list[str]:
    without = [name for name in known if name not in part.classes]
    if not without or not part.classes:
        return []
    named = ", ".join(map(repr, without[:5])) + (", ..." if len(without) > 5 else "")
    return [f"{part.split}: nothing of {len(without)} of {len(known)} classes: {named}"]


Reading = Callable[[Path, Sequence[str], Limits | None], Mapping[str, Checked]]
"""Reads files to their end: their root, their paths in it, limits."""


def _read(
    name: str,
    root: Path,
    paths: Sequence[str],
    limits: Limits | None,
    *,
    cache: Path,
    workers: int,
    progress: Progress,
) -> Mapping[str, Checked]:
    return check_files(root, paths, _journal(cache, name, root, limits), workers, progress, limits)


def _public(name: str, data_root: Path | None, options: dict[str, Any], reading: Reading | None) -> Report:
    """Of a public set, by its survey: also where it is too much at fault to be built."""
    unused = inspect.signature(public).parameters.keys() - inspect.signature(survey).parameters.keys()
    of_lists = {option: value for option, value in options.items() if option not in unused}
    found: Survey = called(partial(survey, name), name, {"data_root": data_root}, of_lists)
    of_files = {option: value for option, value in options.items() if option == "limits"}
    limits: Limits | None = called(_limits, name, {"data_root": data_root}, of_files)
    return _reported(name, found, reading(found.root, [row.path for row in found.rows], limits) if reading else {})


def _limits(*, limits: Limits | None = None) -> Limits | None:
    return limits


def _journal(cache: Path, name: str, root: Path, limits: Limits | None) -> Journal:
    """A journal of its own for every folder of a set, and for all limits, since these decide what is at fault."""
    place = hashlib.sha256(f"{root.resolve()}{limits or ''}".encode()).hexdigest()[:12]
    return Journal(cache / f"{name}-{place}.jsonl")


def _reported(name: str, found: Survey, checked: Mapping[str, Checked]) -> Report:
    wrong = _unusable(found.faults)
    wrong += [Fault("broken", one.fault) for one in checked.values() if one.fault]
    wrong += [Fault("duplicated", f"{', '.join(paths)}: have the same id") for paths in found.twins]
    wrong += _copies(checked, {row.path: "test" if row.test else "train" for row in found.rows})
    wrong += [
        Fault("uncounted", f"{row.listed.where}: counts {row.listed.frames} frames, {row.path} has {there.frames}")
        for row in found.rows
        if (there := checked.get(row.path)) and not there.fault and 0 < row.listed.frames != there.frames
        if (found.root / row.path).is_dir()
    ]
    whole = [row for row in found.rows if row.path not in checked or not checked[row.path].fault]
    usable = Counter(row.label for row in whole)
    classes = {label: (found.expected.get(label, 0), usable[label]) for label in found.classes}
    wrong += [
        Fault("empty", f"class {label!r}: no video of {rows}") for label, (rows, kept) in classes.items() if not kept
    ]
    parts = []
    for part, test in (("train", False), ("test", True)):
        rows = [row for row in whole if row.test == test]
        parts.append(Held(part, len(rows), len({row.group for row in rows}), dict(Counter(row.label for row in rows))))
    covered = f"coverage {len(whole)} of {len(found.rows) + len(found.faults)}"
    unlisted = [f"{found.unlisted} videos are in no list"] if found.unlisted else []
    known = [label for label, (_, kept) in classes.items() if kept]
    lacking = [line for part in parts for line in _lacks(part, known)]
    return Report(name, parts, classes, wrong, [covered, *found.notes, *unlisted, *lacking])


def _copies(checked: Mapping[str, Checked], parts: Mapping[str, str]) -> list[Fault]:
    """Files of the same content."""
    same: dict[str, list[str]] = {}
    for path, one in checked.items():
        if one.digest:
            same.setdefault(one.digest, []).append(path)
    return [
        Fault(
            "duplicated", f"{', '.join(f'{path} ({parts[path]})' if parts else path for path in paths)}: same content"
        )
        for paths in same.values()
        if len(paths) > 1
    ]


def faults(dataset: Dataset, progress: Progress = lambda done, total: None) -> Iterator[str]:
    """Reads every row of every split; a line for each that cannot be read. `progress` is told of each: done, total."""
    total, done = sum(one.rows for one in held(dataset)), 0
    for name in SPLITS:
        split: Split = getattr(dataset, name)
        for row in range(len(split)):
            try:
                split.video(row)
                if found := annotated(split):
                    found.annotation(row)
            except DataError as error:
                yield f"{name}, row {row}: {error}"
            done += 1
            progress(done, total)
