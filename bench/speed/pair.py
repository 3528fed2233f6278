"""A method and its static twin, built and ready to be timed, and the identity of that timing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch

from bench import registry
from bench.checkpoint import Checkpoint
from bench.data import Dataset
from bench.distributed import place
from bench.environment import environment
from bench.experiment.build import build_method, dataset_of, identify
from bench.experiment.plan import Experiment
from bench.method import Method
from bench.policy import Policy
from bench.profiles import Profile
from bench.speed import figures, operating
from bench.speed.forms import DTYPES, refuse
from bench.speed.inputs import placed
from bench.speed.operating import Asked
from bench.speed.record import Precision, SpeedError, SpeedIdentity

ROUNDS, LONG, MOST = 32, 1.0, 256
"""Rounds where none are asked for: so many, and more, at the most, until each arm has that many seconds; in less time a
single stall of the machine would count for too much."""

Key = Literal["a", "b"]


@dataclass(frozen=True)
class Setting:
    """Everything about a timing but the two methods.

    profile: its dataset, size and shrinking of networks. classes: the dataset's by default. policy: see
    `bench.speed.operating`. rounds: at least; by default 32, and more of short batches. threads: torch's own number by
    default. plain: whether the plain forms of b are timed in the same rounds. untrained: whether weights as they are
    drawn will do, even for learned decisions. decode: whether reading the batch is timed as well. row: "table/row", the
    published row that this is the operating point of, whose printed bounds are given up where they cannot be kept.
    """

    profile: Profile
    frames: int
    classes: int | None = None
    policy: str = "learned"
    batch: int = 1
    precision: Precision = "fp32"
    rounds: int | None = None
    threads: int | None = None
    seed: int = 0
    plain: bool = False
    untrained: bool = False
    decode: bool = False
    row: str | None = None


@dataclass(frozen=True)
class Job:
    """A timing to do: method `a` against `b`. b_policy: what b follows, "" if the same as a."""

    a: str
    b: str
    a_options: dict[str, Any]
    b_options: dict[str, Any]
    setting: Setting
    b_policy: Literal["", "all"] = ""

    def at(self, batch: int) -> Job:
        """The same in batches of another size."""
        return replace(self, setting=replace(self.setting, batch=batch))


def job(a: str, b: str | None, options: Mapping[str, Any], setting: Setting) -> Job:
    """`a` against `b`, by default the network under it, which gets those of the options that it takes.

    A method without a network under it is by default timed against itself with all gates on.
    """
    b = b or (a if a in registry.networks() else a.partition("/")[2])
    setting = replace(setting, profile=setting.profile.fitted_to(a))
    if not b:
        return Job(a, a, dict(options), dict(options), setting, b_policy="all")
    return Job(a, b, dict(options), registry.split_options(b, options)[0], setting)


def published_jobs(table: str, rows: Sequence[str] | None, setting: Setting) -> list[Job]:
    """Rows of a published table, by default those that print a speed, at their operating points.

    Networks are at full size and untrained, on the dataset of the setting.

    Raises:
        SpeedError: see `bench.speed.operating.published`; or no row prints a speed.
    """
    chosen = rows or operating.timed_rows(table)
    if not chosen:
        raise SpeedError(f"{table}: no row with a static twin prints a speed; name one with --row")
    return [_published(table, row, setting) for row in chosen]


def _published(table: str, row: str, setting: Setting) -> Job:
    point = operating.published(table, row)
    whole = {"name": "published", "size": point.size, "network": {}, "method": {}}
    its_own = replace(
        setting,
        profile=setting.profile.model_copy(update=whole),
        frames=point.frames,
        classes=point.classes,
        policy=str(point.policy),
        untrained=True,
        row=point.row,
    )
    return Job(point.a, point.b, point.a_options, point.b_options, its_own)


@dataclass
class Side:
    """One of the two methods as built, and never run: copies of it are what is timed and what answers are held to."""

    name: str
    options: dict[str, Any]
    method: Method
    trained: bool
    policy: Policy = field(init=False)


class Pair:
    """Two methods at one setting.

    asked: the policy, without bounds that had to be given up. b_policy: that of b, "" where it is the same. rounds:
    the fewest, in which every one of the `draws` is used equally. missing: what was asked for and is left out, and why.

    Raises:
        SpeedError: what is asked for cannot be timed.
    """

    def __init__(self, job: Job, results: Path, data_root: Path | None) -> None:
        setting = job.setting
        least = ROUNDS if setting.rounds is None else setting.rounds
        if least < figures.MINIMUM:
            raise SpeedError(f"{least} rounds give no 95 % interval: it takes {figures.MINIMUM} or more")
        self.asked, self.rounds, self.draws = operating.parse(setting.policy), least, 0
        if self.asked.drawn:
            self.rounds, self.draws = operating.even_rounds(least, setting.batch)
        self.setting, self.results = setting, results
        self.dataset: Dataset = dataset_of(setting.profile, setting.frames, data_root)
        if setting.decode and not getattr(self.dataset.validation, "reads_files", False):
            raise SpeedError(f"{self.dataset.name} holds its videos in memory: there is no decoding to time")
        self.classes = setting.classes or len(self.dataset.test.classes)
        self.sides: dict[Key, Side] = {
            "a": self._built(job.a, job.a_options),
            "b": self._built(job.b, job.b_options),
        }
        self._comparable()
        decides = self.sides["b"].method.decisions()
        self.b_policy: Literal["", "all"] = job.b_policy if decides and job.b_policy != str(self.asked) else ""
        self.device = self.sides["a"].method.device
        refuse(setting.precision, self.device)
        self.missing: dict[str, str] = {}
        self._decide()

    def _built(self, name: str, options: dict[str, Any]) -> Side:
        """A method with its trained weights, if its training has ended, else with weights drawn from the seed."""
        setting = self.setting
        experiment = Experiment(name, tuple(sorted(options.items())), setting.frames, setting.seed)
        method = build_method(experiment, setting.profile, self.classes)
        trained = False
        if not setting.untrained and self.classes == len(self.dataset.test.classes):
            identity = identify(experiment, setting.profile, self.dataset, method)
            last = Checkpoint(self.results / "runs" / identity.id / "checkpoint.pt").load(method, mend=False)
            trained = last.get("stage") == len(method.stages(setting.profile.recipe))
            if last and not trained:
                method = build_method(experiment, setting.profile, self.classes)
        return Side(name, options, method.eval(), trained)

    @property
    def most_rounds(self) -> int:
        """A multiple of `rounds`: the same number where one is asked for."""
        return self.rounds * max(1, MOST // self.rounds) if self.setting.rounds is None else self.rounds

    def enough_rounds(self, seconds: float) -> int:
        """How many to time where the fastest arm takes so long for a batch."""
        seconds = max(seconds, LONG / MOST)  # a clock that counts in steps may have seen none
        return min(self.rounds * ceil(LONG / (self.rounds * seconds)), self.most_rounds)

    def _comparable(self) -> None:
        """Speeds are of samples, so one of a must be what one of b is."""
        units = [side.method.spec.unit for side in self.sides.values()]
        if units[0] != units[1]:
            names = (side.name for side in self.sides.values())
            said = " and ".join(f"{unit}s for {name}" for unit, name in zip(units, names, strict=True))
            raise SpeedError(f"samples are {said}: their speeds cannot be compared")

    def _decide(self) -> None:
        """Draws the policies; printed bounds that a method cannot keep together with the average are given up."""
        try:
            self._follow(self.asked)
        except SpeedError as error:
            if self.setting.row is None:
                raise
            self.missing["the printed operating point"] = str(error)
            self.asked = Asked(self.asked.kind, self.asked.gflops[:1])
            self._follow(self.asked)

    def _follow(self, asked: Asked) -> None:
        if asked.drawn and not any(side.method.decisions() for side in self.sides.values()):
            raise SpeedError(
                f"policy {asked}: neither {self.sides['a'].name} nor {self.sides['b'].name} decides anything"
            )
        for key, side in self.sides.items():
            own = Asked(self.b_policy) if key == "b" and self.b_policy else asked
            if own.kind == "learned" and side.method.decisions() and not (side.trained or self.setting.untrained):
                raise SpeedError(
                    f"{side.name}: policy learned needs trained weights, and {self.results} has none at this setting: "
                    f"train it first, or give --untrained, or another --policy ({operating.FORMS})"
                )
            policy = operating.policy(own, side.name, side.method, self.draws, self.setting.seed)
            side.policy = placed(policy, side.method, DTYPES[self.setting.precision])

    @cached_property
    def identity(self) -> SpeedIdentity:
        """What the record is found by."""
        setting, a, b = self.setting, self.sides["a"], self.sides["b"]
        return SpeedIdentity(
            a=a.name,
            a_options=registry.by_content(a.name, a.options),
            b=b.name,
            b_options=registry.by_content(b.name, b.options),
            frames=setting.frames,
            size=setting.profile.size,
            classes=self.classes,
            batch=setting.batch,
            precision=setting.precision,
            policy=str(self.asked),
            profile=setting.profile.name,
            dataset=self.dataset.name + (", decoded in time" if setting.decode else ""),
            seed=setting.seed,
            trained=self._trained,
            device=environment()["processor"],
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            revisions=[a.method.revision, b.method.revision, self.dataset.revision],
            b_policy=self.b_policy,
            processes=place()[1],
            setting=self._digest,
        )

    @property
    def _trained(self) -> bool:
        """Whether what is timed decides, or else is, as trained."""
        sides = self.sides.values()
        return all(side.trained for side in sides if side.method.decisions() or side is self.sides["a"])

    @property
    def _digest(self) -> str:
        """Of the data, of what the profile says of networks, methods and clips, and of what training hangs on."""
        profile, sides = self.setting.profile, self.sides.values()
        told = profile.model_dump(mode="json", include={"network", "sampling", "stride", "dataset_options"})
        told["method"] = [profile.method_setting(side.name.partition("/")[0]) for side in sides]
        told["trained"] = profile.setting if self._trained else ""
        told["data"] = self.dataset.fingerprint
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def protocol(self) -> dict[str, Any]:
        """What else the result hangs on."""
        setting, profile, spec = self.setting, self.setting.profile, self.sides["a"].method.spec
        stated = profile.model_dump(include={"network", "method", "sampling", "stride", "dataset_options", "smoke"})
        stated |= {"setting": profile.setting, "rounds": self.rounds, "draws": self.draws, "plain": setting.plain}
        views = {"clip": "one centre clip of each validation video", "image": "each validation image"}
        seen = views.get(spec.kind, f"{spec.clips} clips of each validation video")
        return stated | {"unit": spec.unit, "views": seen, "decode": setting.decode}
