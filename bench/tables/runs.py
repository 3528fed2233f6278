"""Which stored records measure which row, and the per-video figures in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench import profiles
from bench.inspection.store import Inspection, Unit, standard, units_of
from bench.profiles import Profile
from bench.records import Record, Store, read_samples
from bench.tables.schema import Experiment, answers


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


@dataclass
class Block:
    """The records of one store that may be compared with each other: same profile, data and setting.

    setting: of folds, and of networks that the profile fits, what they have in common. fingerprints: of the data for
    each number of frames a clip (longer clips may need longer videos) and fold. settings: of each method, by the name
    before its network's. origin: what is shown of the store: of several folders that are one, those that hold anything
    of this block. newest: of each method the latest revision that anything under this profile is recorded of, in any
    block.
    """

    store: str
    profile: str
    dataset: str
    revision: int
    setting: str
    fingerprints: dict[tuple[int, int | None], str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    apart: str = ""  # what tells it from another block of the same profile and store
    runs: list[Run] = field(default_factory=list)
    origin: str = ""
    mixed: bool = False  # whether there are blocks of other origins, from which this is to be told
    newest: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For the head of a column."""
        told = ", ".join(filter(None, (self.origin if self.mixed else "", self.apart)))
        return f"{self.profile} ({told})" if told else self.profile

    @property
    def told(self) -> Profile | None:
        """Its profile as it stands, where it is a built-in one."""
        return _built_in(self.profile)

    def under(self, profile: Profile) -> bool:
        """Whether it was run under a profile as it stands, in one fold or in all."""
        return self.setting in (profile.setting, profile.across_folds)

    def superseded(self, method: str, revision: int | None) -> bool:
        """Whether there are records of a later revision of a method under the same profile."""
        return revision is not None and revision < self.newest.get(method, revision)

    @property
    def folds(self) -> int:
        """In how many folds everything is run; 0 where there are none."""
        return len(self.runs[0].record.protocol.get("folds", ()))

    @property
    def part(self) -> str:
        """What part of the data was tested, where it has folds: ", 10 folds", ", fold 0 only", else ""."""
        one = self.runs[0].record.protocol.get("dataset_options", {}).get("fold")
        if self.folds:
            return f", {self.folds} folds"
        return "" if one is None else f", fold {one} only"

    @property
    def smoke(self) -> bool:
        """Whether its profile only shows that everything runs."""
        return any(run.record.protocol.get("smoke") for run in self.runs)

    @property
    def answers(self) -> str | None:
        """What its data set asks for: classes, boxes or masks; None where no run was finished, and nothing tells."""
        figures = {name for run in self.runs for name in run.record.figures}
        return answers(figures) if figures else None

    def of(self, experiment: Experiment) -> list[Run]:
        """Everything stored of an experiment: all seeds and revisions, failed ones too."""
        return [run for run in self.runs if _measures(run.record, experiment)]

    def revisions(self, experiment: Experiment) -> list[int]:
        """The method's revisions of which something is stored, oldest first."""
        return sorted({run.record.identity.method_revision for run in self.of(experiment)})

    def latest(self, experiment: Experiment) -> int | None:
        """The method's latest revision of which something is stored."""
        return max(self.revisions(experiment), default=None)

    def done(self, experiment: Experiment, revision: int) -> Runs:
        """The finished runs of one revision."""
        return {
            run.record.identity.seed: run
            for run in self.of(experiment)
            if run.record.status == "done" and run.record.identity.method_revision == revision
        }

    def reason(self, experiment: Experiment, revision: int | None) -> str:
        """Why an experiment has no finished run."""
        stored = [run for run in self.of(experiment) if run.record.identity.method_revision == revision]
        failed = [run for run in stored if run.record.status == "failed"]
        if failed:
            return failed[-1].record.reason if failed[-1].waiting else f"failed: {failed[-1].record.reason}"
        if experiment.frames not in {run.record.identity.frames for run in self.runs}:
            return f"nothing was run with {experiment.frames} frame{'s' if experiment.frames > 1 else ''}"
        return "no record"


def _measures(record: Record, experiment: Experiment) -> bool:
    """Whether a record is of this experiment; the rest of what sets runs apart belongs to the block."""
    identity = record.identity
    wanted = (experiment.method, experiment.frames, experiment.options)
    return (identity.method, identity.frames, identity.options) == wanted


def origins(stores: Sequence[tuple[str, Path]]) -> dict[tuple[str, Path], str]:
    """What a folder is called by itself: its label, or of folders that share one its part of "shipped and yours"."""
    found = {}
    for label, folder in stores:
        sharing, names = [other for name, other in stores if name == label], label.split(" and ")
        found[label, folder] = names[sharing.index(folder)] if len(names) == len(sharing) else label
    return found


def fold_of(record: Record) -> int | None:
    """Which of several folds a record is of; None where the profile has one only."""
    stated = record.protocol
    return int(stated["dataset_options"]["fold"]) if stated.get("folds") else None


def _setting(record: Record) -> str:
    """What it has in common with all that it may be compared with; records that state nothing have only their own."""
    stated = record.protocol
    return str(stated.get("across_folds") or stated.get("across_networks") or record.identity.setting)


def blocks(stores: Sequence[tuple[str, Path]], faults: list[str] | None = None) -> list[Block]:
    """The records of labelled folders, in blocks; folders that do not exist hold nothing.

    Folders of one label are one store: of an experiment that several of them hold the last one's record counts. Its
    label may name them in their order: "shipped and yours". Runs in folds are put together.
    faults: gets a line for each record that is broken, or has lost its per-sample table; it is left out.

    Raises:
        RecordError: without `faults`, a file is not a record; names file and field.
    """
    from bench.tables.folds import folded, siblings

    found, names = list[Block](), origins(stores)
    stored = [(label, *one) for label, folder in stores for one in Store(folder).whole(faults)]
    for label, path, record in siblings(stored):
        run = Run(path, record)
        fitting = [block for block in found if _belongs(record, label, block)]
        if not fitting:
            fitting = [_beside(found, label, record)]
            found += fitting
        for block in fitting:
            block.fingerprints[record.identity.frames, fold_of(record)] = record.identity.data_fingerprint
            block.settings[_prefix(record)] = record.identity.method_setting
            block.runs = [other for other in block.runs if other.record.identity != record.identity] + [run]
    for block in found:
        holding = {run.path.parent for run in block.runs}
        own = [name for (label, folder), name in names.items() if label == block.store and folder in holding]
        block.origin = " and ".join(dict.fromkeys(own))
        block.runs = folded(block.runs)
    for block in found:
        block.mixed = len({other.origin for other in found}) > 1
        block.newest = _newest([other for other in found if other.profile == block.profile])
        alike = [other for other in found if (other.profile, other.store) == (block.profile, block.store)]
        block.apart = _apart(block, alike) if len(alike) > 1 else ""
    return found


@lru_cache(maxsize=64)
def _built_in(name: str) -> Profile | None:
    return profiles.load(name) if name in profiles.names() else None


def _newest(found: Sequence[Block]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for who in (run.record.identity for block in found for run in block.runs):
        newest[who.method] = max(who.method_revision, newest.get(who.method, 0))
    return newest


def _beside(found: Sequence[Block], label: str, record: Record) -> Block:
    """A block for a record that belongs to none: where only its method's own settings tell it from one, with all other
    methods' runs of that one, which it may be compared with as well.
    """
    who, prefix = record.identity, _prefix(record)
    new = Block(label, who.profile, who.dataset, who.dataset_revision, _setting(record))
    for block in found:
        if _belongs(record, label, replace(block, settings={})):
            new.fingerprints = dict(block.fingerprints)
            new.settings = {name: own for name, own in block.settings.items() if name != prefix}
            new.runs = [run for run in block.runs if _prefix(run.record) != prefix]
            break
    return new


def _apart(block: Block, alike: Sequence[Block]) -> str:
    """What tells a block from others of its name in short: "final" is the one whose profile stands as it was run.

    Others by revisions that were superseded and by their protocol, "revision 1-2, epochs 10"; by their number where
    only methods were set otherwise, the one whose profile said least being the first; else by a digest.
    """
    if _stands(block):
        return "final"
    strangers = [_stated(other) for other in alike if other.setting != block.setting]
    kin = [other for other in alike if other.setting == block.setting and not _stands(other)]
    told = _old_revisions(block)
    if strangers:
        told += _differing(_stated(block), strangers) or [f"setting {block.setting[:6]}"]
    if len(alike) > len(strangers) + 1:
        told.append(f"{_ORDINALS[_place(block, kin)]} setting" if len(kin) <= len(_ORDINALS) else _digest(block))
    return ", ".join(told)


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def _stands(block: Block) -> bool:
    """Whether its profile is a built-in one that still says what it was run under."""
    profile = block.told
    if profile is None or not block.under(profile):
        return False
    return all(profile.method_setting(name) == own for name, own in block.settings.items())


def _old_revisions(block: Block) -> list[str]:
    """Of what was superseded in it, "revision 1-2"; nothing where nothing was."""
    whose = [run.record.identity for run in block.runs]
    old = sorted({who.method_revision for who in whose if block.superseded(who.method, who.method_revision)})
    return [f"revision {old[0]}" + (f"-{old[-1]}" if len(old) > 1 else "")] if old else []


def _place(block: Block, kin: Sequence[Block]) -> int:
    """Its number among blocks that differ in what was said of methods, from 0."""
    return sorted((len(_of_methods(one)), _digest(one)) for one in kin).index((len(_of_methods(block)), _digest(block)))


def _digest(block: Block) -> str:
    return "methods " + "-".join(own[:6] or "as they are" for _, own in sorted(block.settings.items()))


def _differing(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings, by the last of their dotted names, that one of the others has otherwise; none if one has all."""
    if any(all(other.get(key) == value for key, value in own.items()) for other in others):
        return []
    differing = [key for key in own if any(str(other.get(key, own[key])) != str(own[key]) for other in others)]
    return [f"{key.rpartition('.')[2]} {own[key]}" for key in differing]


def _stated(block: Block) -> dict[str, Any]:
    """Its protocol by dotted names, but for what was said of single methods, or was fitted to single networks."""
    own = ("method", "across_networks")
    told = [flat({name: said for name, said in run.record.protocol.items() if name not in own}) for run in block.runs]
    return {name: said for name, said in told[0].items() if all(other.get(name) == said for other in told)}


def _of_methods(block: Block) -> dict[str, Any]:
    """What the profile said of each method that the block has runs of, by dotted names."""
    said = ((_prefix(run.record), run.record.protocol.get("method", {})) for run in block.runs)
    return flat({name: methods.get(name, {}) for name, methods in said})


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _belongs(record: Record, store: str, block: Block) -> bool:
    who = record.identity
    same = (store, who.profile, who.dataset, who.dataset_revision, _setting(record))
    if same != (block.store, block.profile, block.dataset, block.revision, block.setting):
        return False
    if block.settings.get(_prefix(record), who.method_setting) != who.method_setting:
        return False
    return block.fingerprints.get((who.frames, fold_of(record)), who.data_fingerprint) == who.data_fingerprint


def _prefix(record: Record) -> str:
    return record.identity.method.partition("/")[0]


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


def groups(run: Run, index: pd.Index) -> NDArray[np.object_]:
    """The independent source of each of these videos."""
    return run.samples["group"].astype(str).reindex(index).to_numpy(dtype=object)
