"""Runs that may be compared with each other, and which of them measure which row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from bench import profiles
from bench.profiles import Profile
from bench.records import Record
from bench.registry import WEIGHTS, short
from bench.tables.runs import Run, Runs
from bench.tables.schema import Experiment, answers


@dataclass
class Block:
    """The records of one store that may be compared with each other: same profile, data and setting.

    setting: of folds, and of networks that the profile fits, what they have in common. fingerprints: of the data for
    each number of frames a clip (longer clips may need longer videos) and fold. settings: of each method, by the name
    before its network's. origin: what is shown of the store: of several folders that are one, those that hold anything
    of this block. newest: of each method the latest revision that anything under this profile was finished of, in any
    block. starts: the weights that its runs started from, by network, or method without one; none if all were drawn.
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
    shared: Mapping[Path, str] = field(default_factory=dict)  # records that a block before it has, by its name
    starts: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For the head of a column."""
        told = (self.origin if self.mixed else "", self.apart, self.whence)
        return f"{self.profile} ({', '.join(filter(None, told))})" if any(told) else self.profile

    @property
    def whence(self) -> str:
        """What its runs started from, where that was not drawn."""
        starts = sorted({short(start) for start in self.starts.values()})
        return f"from weights {' '.join(starts)}" if starts else ""

    @property
    def own(self) -> list[Run]:
        """Its runs but for those that a block before it has too: what is counted over blocks counts each run once."""
        return [run for run in self.runs if not self.sharing([run])]

    def sharing(self, runs: Sequence[Run]) -> str:
        """The block before it that has all of these runs too; "" where there is none."""
        names = {self.shared.get(part.path, "") for run in runs for part in run.parts}
        return names.pop() if len(names) == 1 else ""

    @property
    def told(self) -> Profile | None:
        """Its profile as it stands, where it is a built-in one."""
        return _built_in(self.profile)

    def under(self, profile: Profile) -> bool:
        """Whether it was run under a profile as it stands, in one fold or in all."""
        return self.setting in (profile.setting, profile.across_folds)

    def superseded(self, method: str, revision: int | None) -> bool:
        """Whether anything was finished of a later revision of a method under the same profile."""
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

    def asked(self, experiment: Experiment) -> Experiment:
        """An experiment that names no weights as it was run here: from those that its network started from."""
        start = self.starts.get(experiment.method.rpartition("/")[2])
        return experiment.model_copy(update={"options": experiment.options | {WEIGHTS: start}}) if start else experiment

    def of(self, experiment: Experiment) -> list[Run]:
        """Everything stored of an experiment: all seeds and revisions, failed ones too."""
        asked = self.asked(experiment)
        return [run for run in self.runs if _measures(run.record, asked)]

    def revisions(self, experiment: Experiment) -> list[int]:
        """The method's revisions of which something is stored, oldest first."""
        return sorted({run.record.identity.method_revision for run in self.of(experiment)})

    def latest(self, experiment: Experiment) -> int | None:
        """The method's latest revision of which something was finished; else of which something is stored."""
        stored = self.revisions(experiment)
        finished = [revision for revision in stored if self.done(experiment, revision)]
        return max(finished or stored, default=None)

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


@lru_cache(maxsize=64)
def _built_in(name: str) -> Profile | None:
    return profiles.load(name) if name in profiles.names() else None
