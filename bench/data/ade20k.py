"""ADE20K scene parsing (Zhou et al., CVPR 2017; the 150 classes of its 2016 challenge)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from bench.data.builders import set_folder
from bench.data.images import OUTSIDE, VOID, Row, inside, picture_dataset, read_lines, read_table
from bench.data.split import DataError, Dataset
from bench.faults import fault

CLASSES = 150
RELEASE = "ADEChallengeData2016"
LISTS = ("training.odgt", "validation.odgt")
NAMES = Path("lists", "ade20k", "object150_info.csv")
SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))


class _Line(BaseModel):
    """A line of an odgt list."""

    model_config = ConfigDict(strict=True)

    fpath_img: str
    fpath_segm: str
    width: PositiveInt
    height: PositiveInt


def ade20k(
    *,
    data_root: Path | None,
    short_side: int | None = None,
    validation_share: float = 0.05,
    seed: int = 0,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """ADE20K: 20,210 pictures for training and 2,000 for test, of 150 classes.

    The official validation split is the test; choices are made on `validation_share` of the training pictures, drawn
    with `seed`. Folder: ade20k/ADEChallengeData2016/{images,annotations}/{training,validation} as released; where
    ade20k/ has training.odgt and validation.odgt, these say what is read, with paths relative to ade20k/. In the masks
    0 is void and 1 to 150 are the classes, named as the data root's lists/ade20k/object150_info.csv says if it is
    there. Every picture is its own group. Pictures are given at their own size, or with a `short_side` in pixels.

    Raises:
        DataError: the set is not there, a malformed line of a list (file:line), a share outside 0..0.5, and as
            `bench.data.images.picture_dataset`.
    """
    root = set_folder(data_root, "ade20k")
    if not 0 < validation_share <= 0.5:
        raise DataError(f"validation_share: must lie above 0 and at most at 0.5, got {validation_share:g}")
    listed = any((root / name).exists() for name in LISTS)
    train, test = (list(_listed(root / name) if listed else _found(root, Path(name).stem)) for name in LISTS)
    train, validation = _drawn(train, validation_share, seed)
    labels = torch.full((256,), OUTSIDE)
    labels[: CLASSES + 1] = torch.tensor([VOID, *range(CLASSES)])
    return picture_dataset(
        "ade20k",
        root,
        (train, validation, test),
        classes=_names(root.parent / NAMES),
        labels=labels,
        short_side=short_side,
        minimum_coverage=minimum_coverage,
        notes=(f"validation: {len(validation)} of {len(train) + len(validation)} training pictures",),
    )


def _listed(path: Path) -> Iterator[Row]:
    """The rows of an odgt list, one JSON object a line."""
    for number, text in enumerate(read_lines(path), 1):
        where = f"{path}:{number}"
        if not text.strip():
            continue
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            place, said = fault(error)
            raise DataError(f"{':'.join([where, *map(str, place)])}: {said}") from None
        image = inside(line.fpath_img, where, "fpath_img")
        mask = inside(line.fpath_segm, where, "fpath_segm")
        yield Row(where, image, mask, Path(image).stem, (line.height, line.width))


def _found(root: Path, part: str) -> Iterator[Row]:
    """The rows of one part of the released folders."""
    images, masks = (root / RELEASE / kind / part for kind in ("images", "annotations"))
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; the set needs it, or {' and '.join(LISTS)} in {root}")
    for image in sorted(file for file in images.iterdir() if file.suffix.lower() in SUFFIXES):
        if image.name.startswith("."):  # what some systems put beside a file
            continue
        mask = (masks / image.name).with_suffix(".png")
        yield Row("ade20k", image.relative_to(root).as_posix(), mask.relative_to(root).as_posix(), image.stem)


def _drawn(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows without, and only, the drawn ones."""
    count = max(1, round(share * len(rows)))
    drawn = set(np.random.default_rng(seed).permutation(len(rows))[:count].tolist())
    return [row for k, row in enumerate(rows) if k not in drawn], [rows[k] for k in sorted(drawn)]


def _names(path: Path) -> tuple[str, ...]:
    """The first name of each class; where two share it, all its names; numbers where there is no list."""
    if not os.path.isfile(path):
        return tuple(f"class {number}" for number in range(1, CLASSES + 1))
    rows = [row for _, row in read_table(path, ("Idx", "Name"))]
    if [row["Idx"] for row in rows] != [str(number) for number in range(1, CLASSES + 1)]:
        raise DataError(f"{path}: expected the classes 1 to {CLASSES} in the column Idx, one a row")
    names = [row["Name"] for row in rows]
    first = [name.split(";")[0] for name in names]
    return tuple(short if first.count(short) == 1 else name for short, name in zip(first, names, strict=True))
