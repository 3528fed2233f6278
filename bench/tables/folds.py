"""Cross-validation: the runs of one method from one seed in every fold, as one run over all their test videos.

Every video is tested in one fold, by a network that saw nothing of its source. Intervals are over those sources, of all
folds together, and over seeds, each of which is a training in every fold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from bench.inspection.store import Inspection
from bench.records import Cost, Figure, Identity, Record
from bench.tables.runs import Run, fold_of

APART = 1_000_000
"""Test videos of a fold, at the most: the index of a video in all folds is this times the fold, plus its own."""


@dataclass(frozen=True, eq=False)
class Folded(Run):
    """A run in every fold; `record` states it as if it were one: sums, and means over the folds."""

    folds: Sequence[Run] = ()

    @property
    def parts(self) -> Sequence[Run]:
        """Its runs, one a fold."""
        return self.folds

    @property
    def waiting(self) -> bool:
        """Whether folds are missing, and none of those that are there failed."""
        return self.record.status == "failed" and all(run.record.status == "done" for run in self.folds)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The test videos of all folds.

        Raises:
            RecordError, NotMeasuredError: as `Run.samples`.
        """
        tables = [run.samples.set_index(run.samples.index + APART * (fold_of(run.record) or 0)) for run in self.folds]
        return pd.concat(tables)

    def levelled(self, values: pd.Series[float]) -> pd.Series[float]:
        """Every fold's values moved to the mean of all: each has a network of its own, and may cost more as a whole."""
        return values - values.groupby(values.index // APART).transform("mean") + values.mean()

    @cached_property
    def inspection(self) -> Inspection | None:
        """That of the first of its folds that was looked into, its clips numbered as in `samples`.

        Raises:
            InspectionError: the file is not an inspection.
        """
        return next((one for run in self.folds if (one := _inspection(run))), None)


@dataclass(frozen=True)
class _Shifted(Inspection):
    """The inspection of a run in one fold. shift: what is added to its indices."""

    shift: int = 0

    @cached_property
    def samples(self) -> pd.DataFrame:
        """As `Inspection.samples`."""
        found = Inspection(self.store, self.path, self.record).samples
        return found.set_index(found.index + self.shift)


def _inspection(run: Run) -> Inspection | None:
    found = run.inspection
    return found and _Shifted(found.store, found.path, found.record, APART * (fold_of(run.record) or 0))


def siblings(found: Sequence[tuple[str, Path, Record]]) -> list[tuple[str, Path, Record]]:
    """Records under the labels of their stores, each of one fold stating all in which any like it is run.

    One that was made before its profile had all of them is thereby one of them. Alike are records of one store whose
    settings differ in the fold alone; one from before records stated that is like those of its own setting.
    """
    stating = [(label, one) for label, _, one in found if one.protocol.get("folds") and "across_folds" in one.protocol]
    across = {_setting(label, record): str(record.protocol["across_folds"]) for label, record in stating}
    wanted: dict[Hashable, set[int]] = {}
    for label, record in stating:
        alike = _data(label, record), record.protocol["across_folds"]
        wanted.setdefault(alike, set()).update(record.protocol["folds"])

    def complete(label: str, record: Record) -> Record:
        if "fold" not in record.protocol.get("dataset_options", {}):
            return record
        common = record.protocol.get("across_folds", across.get(_setting(label, record)))
        folds = sorted(wanted.get((_data(label, record), common), ()))
        stated = {**record.protocol, "folds": folds, "across_folds": common}
        return record.model_copy(update={"protocol": stated}) if folds else record

    return [(label, path, complete(label, record)) for label, path, record in found]


def _data(label: str, record: Record) -> tuple[str, ...]:
    who = record.identity
    return label, who.profile, who.dataset, str(who.dataset_revision)


def _setting(label: str, record: Record) -> tuple[str, ...]:
    return *_data(label, record), record.identity.setting


def folded(runs: Sequence[Run]) -> list[Run]:
    """Runs in folds put together, one a method, number of frames, revision and seed; the others as they are."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        who = run.record.identity.model_dump(include={"method", "options", "frames", "method_revision", "seed"})
        key = json.dumps(who, sort_keys=True) if fold_of(run.record) is not None else str(run.path)
        found.setdefault(key, []).append(run)
    return [parts[0] if fold_of(parts[0].record) is None else _together(parts) for parts in found.values()]


def _together(parts: Sequence[Run]) -> Folded:
    parts = sorted(parts, key=lambda run: fold_of(run.record) or 0)
    records = [run.record for run in parts]
    wanted = records[0].protocol["folds"]
    failed = [f"fold {fold_of(one)}: {one.reason}" for one in records if one.status == "failed"]
    missing = {*wanted} - {fold_of(one) for one in records}
    if not failed and missing:
        failed = [f"waits for folds: {len(wanted) - len(missing)} of {len(wanted)} are there"]
    first = records[0].model_copy(update={"identity": _identity(records), "status": "done"})
    if failed:
        return Folded(parts[0].path, first.model_copy(update={"status": "failed", "reason": failed[0]}), parts)
    return Folded(parts[0].path, first.model_copy(update=_figures(parts)), parts)


def _identity(records: Sequence[Record]) -> Identity:
    """Of the data of all folds. The setting is that of every fold but for its number."""
    digest = hashlib.sha256("".join(one.identity.data_fingerprint for one in records).encode()).hexdigest()
    setting = records[0].protocol["across_folds"]
    return records[0].identity.model_copy(update={"data_fingerprint": digest, "setting": setting})


def _figures(parts: Sequence[Run]) -> dict[str, object]:
    """What the folds have in common, sums of what they executed, means over all their test videos."""
    records = [run.record for run in parts]
    whole = all(one.samples_file for one in records)
    videos = [len(run.samples) if whole else 1 for run in parts]
    names = [name for name in records[0].figures if all(name in one.figures for one in records)]
    costs = [one.cost for one in records if one.cost]
    cost = Cost(
        average=float(np.average([one.average for one in costs], weights=videos)),
        maximum=max(one.maximum for one in costs),
        minimum=min(one.minimum for one in costs),
    )
    mean = {name: np.average([one.figures[name].value for one in records], weights=videos) for name in names}
    return {
        "figures": {name: Figure(value=float(value)) for name, value in mean.items()},
        "cost": cost,
        "executed": {key: sum(one.executed.get(key, 0) for one in records) for key in records[0].executed},
        "missing": {key: why for one in records for key, why in one.missing.items()},
        "seconds": {key: sum(one.seconds.get(key, 0) for one in records) for key in records[0].seconds},
        "samples_file": records[0].samples_file if whole else None,
    }
