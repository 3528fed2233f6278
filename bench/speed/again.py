"""A stored timing done once more: does what was measured then hold now, within the intervals that were stated?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from bench import profiles
from bench.environment import environment
from bench.profiles import Profile
from bench.speed.measure import Announce, identity_of, timed_anew
from bench.speed.pair import Job, Setting
from bench.speed.record import Span, SpeedError, SpeedIdentity, SpeedRecord
from bench.weights import WeightsError

Verdict = Literal["agrees", "differs", "another device", "failed", "cannot be held against it"]
UNLIKE: Verdict = "cannot be held against it"


class Quantity(NamedTuple):
    """A figure of both timings. agrees: whether their intervals have a value in common."""

    name: str
    before: Span
    now: Span

    @property
    def agrees(self) -> bool:
        """Whether the two intervals overlap."""
        return self.before.low <= self.now.high and self.now.low <= self.before.high

    @property
    def change(self) -> Span:
        """Now over then. The two are independent: on the log scale their intervals add as squares."""
        value = math.log(self.now.value / self.before.value)
        below = math.hypot(math.log(self.now.value / self.now.low), math.log(self.before.high / self.before.value))
        above = math.hypot(math.log(self.now.high / self.now.value), math.log(self.before.value / self.before.low))
        return Span(value=math.exp(value), low=math.exp(value - below), high=math.exp(value + above))


@dataclass(frozen=True)
class Checked:
    """A stored timing beside the same one done now, which is not stored. refused: the verdict where it was not done.

    quantities: the one that decides first: the paired ratio, or the speed of what was timed beside a copy of itself.
    reason: why there is nothing to compare, "" where there is.
    """

    path: Path
    before: SpeedRecord
    now: SpeedRecord | None = None
    refused: Verdict | None = None
    reason: str = ""

    @property
    def quantities(self) -> Sequence[Quantity]:
        """What both have; speeds of the two forms follow the ratio, and move with whatever else the device does."""
        then, now = self.before, self.now
        if now is None:
            return []
        speeds = [
            Quantity(f"{name}, {then.unit}", first.clips_per_second, second.clips_per_second)
            for name, first, second in ((then.identity.a, then.a, now.a), (f"twin {then.identity.b}", then.b, now.b))
            if first and second
        ]
        if then.identity.alone:
            return speeds[:1]
        ratio = [Quantity("ratio", then.ratio, now.ratio)] if then.ratio and now.ratio else []
        return ratio + speeds

    @property
    def verdict(self) -> Verdict:
        """Whether the figure that decides is what it was."""
        return self.refused or ("agrees" if self.quantities[0].agrees else "differs")


def check(
    stored: Sequence[tuple[Path, SpeedRecord]], results: Path, data_root: Path | None, announce: Announce
) -> list[Checked]:
    """Times the jobs of stored records once more; trained weights are looked for in `results`/runs.

    All are looked up before the first is timed: of another device, another revision, or a timing that failed, nothing
    is timed. What cannot be had from a record is its verdict.
    """
    found = [_looked_up(path, record, results, data_root) for path, record in stored]
    return [one if one.refused else _timed(one, results, data_root, announce) for one in found]


def _looked_up(path: Path, record: SpeedRecord, results: Path, data_root: Path | None) -> Checked:
    """Refused, if there is nothing that the record could be held against."""
    if record.status == "failed":
        return Checked(path, record, refused="failed", reason=record.reason)
    try:
        job = job_of(record)
        if record.identity.device != (here := environment()["processor"]):
            return _elsewhere(path, record, (here, record.identity.threads, torch.__version__))
        now, then = identity_of(job, results, data_root), record.identity
    except (SpeedError, WeightsError) as error:
        return Checked(path, record, refused=UNLIKE, reason=str(error))
    if _kind(now) != _kind(then):
        return _elsewhere(path, record, _kind(now))
    if (now.a_options, now.b_options) != (then.a_options, then.b_options):
        return Checked(path, record, refused=UNLIKE, reason="the weights to start from are not those that were timed")
    if (now.revisions, now.trained) != (then.revisions, then.trained):
        told = [_revised(who) for who in (then, now)]
        return Checked(path, record, refused=UNLIKE, reason=f"stored of {told[0]}; this is {told[1]}")
    if then.setting and now.setting != then.setting:
        return Checked(path, record, refused=UNLIKE, reason="data or settings are not those that were timed")
    return Checked(path, record)


def _elsewhere(path: Path, record: SpeedRecord, here: tuple[str, int, str]) -> Checked:
    then, now = (", ".join(map(str, kind)) for kind in (_kind(record.identity), here))
    return Checked(path, record, refused="another device", reason=f"stored on {then}; this is {now}")


def _kind(who: SpeedIdentity) -> tuple[str, int, str]:
    return who.device, who.threads, who.torch


def _revised(who: SpeedIdentity) -> str:
    a, b, data = who.revisions
    return f"{who.a} revision {a}, {who.b} revision {b}, data revision {data}, {'' if who.trained else 'not '}trained"


def _timed(one: Checked, results: Path, data_root: Path | None, announce: Announce) -> Checked:
    try:
        now = timed_anew(job_of(one.before), results, data_root, announce)
    except SpeedError as error:
        return replace(one, refused=UNLIKE, reason=str(error))
    return replace(one, now=now, refused="failed" if now.status == "failed" else None, reason=now.reason)


def job_of(record: SpeedRecord) -> Job:
    """The job that a record is of.

    Raises:
        SpeedError: it is of trained weights under a profile that is not as it was, or of several processes.
    """
    who, stated = record.identity, record.protocol
    if who.processes > 1:
        raise SpeedError(f"{who.id}: timed by {who.processes} processes at once, which one cannot be held against")
    profile = _profile(record)
    if who.trained and profile.setting != stated.get("setting"):
        raise SpeedError(f"{who.id}: profile {who.profile} is not what it was when this was timed")
    setting = Setting(
        profile, who.frames, classes=who.classes, policy=who.policy, batch=who.batch, precision=who.precision,
        rounds=int(stated["rounds"]), threads=who.threads, seed=who.seed, untrained=not who.trained,
        decode=bool(stated.get("decode")), row=record.row,
    )  # fmt: skip
    a = record.a.options if record.a else who.a_options  # they name the files of which an identity has the content
    b = record.b.options if record.b else who.b_options
    return Job(who.a, who.b, a, b, setting, who.b_policy)


def _profile(record: SpeedRecord) -> Profile:
    """The profile by its name, with everything that the record states of it; of an untrained timing any will do."""
    who, stated = record.identity, record.protocol
    if who.trained and who.profile not in profiles.names():
        raise SpeedError(f"{who.id}: its weights were trained under profile {who.profile}, which is not built in")
    base = profiles.load(who.profile if who.trained else "quick").fitted_to(who.a)
    kept = ("network", "method", "sampling", "stride", "dataset_options")
    data = {"name": who.profile, "size": who.size, "dataset": who.dataset.partition(",")[0]}
    return base.model_copy(update={**data, **{key: stated[key] for key in kept if key in stated}})
