"""CamVid (Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 2009) with the 11 classes of SegNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import torch

from bench.data.builders import set_folder
from bench.data.images import OUTSIDE, VOID, Row, inside, picture_dataset, read_lines, read_table
from bench.data.split import DataError, Dataset

FIELDS = ("split", "image", "mask", "sequence")
SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"
"""The last class of the list, which is void."""
RUN = 10
"""Pictures in a group, about."""
NOTE = (
    f"groups are runs of about {RUN} pictures of a sequence, since the official test split has two sequences, one of "
    "them trained on too; neighbouring runs are alike, so that intervals are rather narrow"
)


def camvid(*, data_root: Path | None, short_side: int | None = None, minimum_coverage: float = 1.0) -> Dataset:
    """CamVid: street scenes, 367 pictures for training, 101 for validation (a video at 15 Hz), 233 for test.

    The official split of SegNet's release. Folder: list.csv with the columns split (train, val, test), image, mask and
    sequence; classes.txt with "id name" lines from 0 on, the last one unlabelled, which is void. Masks are PNGs of
    these ids. Groups are runs of about 10 consecutive pictures of a sequence: the test split has two sequences only.
    Pictures are given at their own size, or with a `short_side` in pixels.

    Raises:
        DataError: the set is not there, a malformed row of a list (file:row), a picture in two rows, and as
            `bench.data.images.picture_dataset`.
    """
    root = set_folder(data_root, "camvid")
    names = _classes(root / "classes.txt")
    labels = torch.full((256,), OUTSIDE)
    labels[: len(names)] = torch.tensor([*range(len(names) - 1), VOID])
    rows = list(_rows(root / "list.csv"))
    train, validation, test = (list(_in_runs([row for split, row in rows if split == part])) for part in SPLITS)
    return picture_dataset(
        "camvid",
        root,
        (train, validation, test),
        classes=names[:-1],
        labels=labels,
        short_side=short_side,
        minimum_coverage=minimum_coverage,
        notes=(NOTE,),
    )


def _classes(path: Path) -> tuple[str, ...]:
    """Names in the order of their ids, the void one last."""
    names = []
    for number, line in enumerate(read_lines(path)):
        found, _, name = line.strip().partition(" ")
        if found != str(number) or not name:
            raise DataError(f"{path}:{number + 1}: expected '{number} NAME', got {line.strip()!r}")
        names.append(name)
    if len(names) < 3 or names[-1] != UNLABELLED or len(set(names)) < len(names) or len(names) > 256:
        raise DataError(f"{path}: expected two classes or more with names of their own and then {UNLABELLED!r}")
    return tuple(names)


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The split of every row, and the row, its group the sequence."""
    for where, line in read_table(path, FIELDS):
        if line["split"] not in SPLITS:
            raise DataError(f"{where}:split: {line['split']!r} is none of {', '.join(SPLITS)}")
        image, mask = (inside(line[field], where, field) for field in ("image", "mask"))
        yield line["split"], Row(where, image, mask, line["sequence"])


def _in_runs(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows, grouped by runs of a sequence, each named after its first picture."""
    for sequence in dict.fromkeys(row.group for row in rows):
        part = [row for row in rows if row.group == sequence]
        for run in np.array_split(np.arange(len(part)), max(1, round(len(part) / RUN))):
            name = PurePath(part[run[0]].image).with_suffix("").as_posix()
            yield from (replace(part[k], group=name) for k in run)
