"""Stored records as runs, and the per-video figures in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.inspection.store import Inspection, Unit, standard, units_of
from bench.records import Record, read_samples
from bench.tables.schema import answers


class NotMeasuredError(Exception):
    """A figure cannot be computed from what is stored; the message is the reason shown in its place."""


@dataclass(frozen=True, eq=False)
class Run:
    """A stored record, with its per-video table read when first needed.

    Only one and the same object is equal: what is computed from runs is remembered by them.
    """

    path: Path
    record: Record

    @property
    def parts(self) -> Sequence[Run]:
        """What is stored of it: itself, but for a run in several folds (`bench.tables.folds`)."""
        return [self]

    @property
    def waiting(self) -> bool:
        """Whether a part of it is still to be run."""
        return False

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a test video, by its index in the split.

        Raises:
            RecordError: the file is missing or not the one that was recorded.
            NotMeasuredError: none was stored.
        """
        if self.record.samples_file is None:
            raise NotMeasuredError("no per-video figures were stored")
        return read_samples(self.path, self.record).set_index("index")

    @cached_property
    def inspection(self) -> Inspection | None:
        """The inspection of this run at the stated settings, if one lies beside its record.

        Raises:
            InspectionError: the file is not an inspection.
        """
        return standard(self.path.parent, self.record.identity)

    def levelled(self, values: pd.Series[float]) -> pd.Series[float]:
        """A figure of its test videos without what trained networks differ by: as it is, since all met one network."""
        return values

    @property
    def classifies(self) -> bool:
        """Whether its data ask for classes; of boxes and masks a video has no class of its own."""
        return answers(self.record.figures) == "classes"

    @property
    def units(self) -> list[Unit]:
        """Its dynamic convolutions, as the record states them, else its inspection; none where neither does."""
        stated = units_of(self.record.details)
        return stated or (self.inspection.record.units if self.inspection else [])


Runs = Mapping[int, Run]
"""The finished runs of a row, one a seed."""


def fold_of(record: Record) -> int | None:
    """Which of several folds a record is of; None where the profile has one only."""
    stated = record.protocol
    return int(stated["dataset_options"]["fold"]) if stated.get("folds") else None


def per_video(runs: Sequence[Run], name: str) -> pd.DataFrame:
    """A per-video figure: one column a run, one row for every video that all of them scored.

    Raises:
        NotMeasuredError: a run has no such figure, or no video was scored in all of them.
    """
    return _per_video(tuple(runs), name)


@lru_cache(maxsize=256)
def _per_video(runs: tuple[Run, ...], name: str) -> pd.DataFrame:
    for run in runs:
        if name not in run.samples.columns:
            raise NotMeasuredError(f"the per-video figures have no column {name!r}")
    table = pd.concat([run.samples[name].astype(np.float64) for run in runs], axis=1, keys=range(len(runs)))
    scored = table.dropna()
    if scored.empty:
        raise NotMeasuredError(_missing(runs[0].record, name))
    return scored


def _missing(record: Record, column: str) -> str:
    figure = column.replace("_", "-")
    return record.missing.get(figure, f"{figure} was not scored")


def by_form(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs of one method with its options at as many frames together: those of its latest revision here, by seed."""
    forms: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        who = run.record.identity
        forms.setdefault((who.method, json.dumps(who.options, sort_keys=True), who.frames), []).append(run)
    return [sorted(_latest(alike), key=lambda run: run.record.identity.seed) for alike in forms.values()]


def _latest(runs: Sequence[Run]) -> list[Run]:
    last = max(run.record.identity.method_revision for run in runs)
    return [run for run in runs if run.record.identity.method_revision == last]


def groups(run: Run, index: pd.Index) -> NDArray[np.object_]:
    """The independent source of each of these videos."""
    return run.samples["group"].astype(str).reindex(index).to_numpy(dtype=object)
