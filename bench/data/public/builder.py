"""The dataset of a public set; validation is drawn from its training videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.data.coverage import LeftOut, coverage
from bench.data.frames import MediaReader
from bench.data.lists import assembled
from bench.data.public.sets import SETS
from bench.data.public.survey import Survey, survey
from bench.data.split import DataError, Dataset
from bench.data.video.limits import Limits


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
        minimum_coverage: share of the listed videos that must be there, and stay readable; also of the test list alone.

    Raises:
        DataError: lists or folder are not there, less than `minimum_coverage` is, or a class has no training video.
    """
    found = survey(name, data_root, path, lists, train_list, test_list, classes, split)
    notes = coverage(found.origin, len(found.rows), found.faults, minimum_coverage, "videos are there")
    tested = _tested(found, minimum_coverage)
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
        notes=(*notes, *tested, *found.notes, _drawn_note(parts, seed), *more),
        left_out=left_out,
        faults=found.faults,
        measured_by_map=SETS[name].measured_by_map,
    )


def _tested(found: Survey, minimum: float) -> list[str]:
    """A note, where some of the test list is not there: training is so much larger that it would hide that.

    Raises:
        DataError: less than the share `minimum` of it is there.
    """
    there = sum(row.test for row in found.rows)
    if there < minimum * found.tests:
        raise DataError(
            f"{found.origin}: only {there} of {found.tests} test videos are there, under the minimum coverage of "
            f"{minimum:g}"
        )
    return [f"test: {there} of {found.tests} listed"] if there < found.tests else []


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
