"""A method of anyone's beside the published ones: checked, run under a profile's protocol, timed, judged, shown."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import profiles
from bench.answers.compare import answer
from bench.conformance.named import conform
from bench.experiment.plan import Experiment, ExperimentError, frozen
from bench.experiment.run import Run
from bench.experiment.starts import held_in, start
from bench.files import write_atomically
from bench.records import Store
from bench.registry import WEIGHTS, weight_files
from bench.report import render
from bench.reproduce import ended_well, own_jobs, run_all, time_all
from bench.speed.pair import Job, Setting
from bench.tables.blocks import blocks
from bench.tables.newcomer import static_rows
from bench.tables.paths import published
from bench.tables.schema import Table, load

STORE = "shipped and yours"
"""The label of shipped records and those of a results folder, taken together: seeds and samples of both pair up."""


LONGEST = 100
"""Letters of a file's name before its digest: names of methods may be long."""


class NotConformingError(Exception):
    """A method breaks promises; `faults` has a line for each."""

    def __init__(self, method: str, faults: Sequence[str]) -> None:
        plural = "promise" if len(faults) == 1 else "promises"
        super().__init__(f"{method} breaks {len(faults)} {plural}; nothing was run and nothing stored")
        self.faults = list(faults)


@dataclass(frozen=True)
class Asked:
    """What to compare: a method with its options, at each of `frames`, from each of `seeds`, in a table or in none."""

    method: str
    options: Mapping[str, Any]
    profile: profiles.Profile
    frames: Sequence[int]
    seeds: Sequence[int]
    table: Table | None

    @property
    def file(self) -> str:
        """The name of the file that the verdict goes to: another one for whatever differs but the seeds."""
        table = self.table.id if self.table else ""
        asked = [self.method, self.options, self.profile.name, sorted(self.frames), table]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]
        words = "-".join(filter(None, (self.method, self.profile.name, table)))
        return f"compare-{re.sub(r'[^A-Za-z0-9_.-]+', '.', words)[:LONGEST]}-{digest}.json"


def asked(
    method: str,
    options: Mapping[str, Any],
    profile: profiles.Profile,
    frames: Sequence[int],
    seeds: Sequence[int],
    table: str | None,
) -> Asked:
    """What is asked for: where it is left open, the seeds of the profile, the frames of the table that it measures.

    Raises:
        ExperimentError: the profile does not measure the table, or the table nothing at these frames.
        TableError: there is no such table.
    """
    seeds = list(dict.fromkeys(seeds)) or profile.seeds
    if table is None:
        return Asked(method, options, profile, list(dict.fromkeys(frames)) or profile.frames[:1], seeds, None)
    found = load(table)
    if table not in profile.tables:
        raise ExperimentError(f"{table}: profile {profile.name} measures {', '.join(profile.tables) or 'no table'}")
    printed = {row.experiment.frames for row in found.rows if row.experiment}
    chosen = list(dict.fromkeys(frames)) or sorted(printed & {*profile.frames})
    if not chosen or {*chosen} - printed:
        raise ExperimentError(f"{table}: has rows at {', '.join(map(str, sorted(printed)))} frames; give one of them")
    return Asked(method, options, profile, chosen, seeds, found)


def compare(asked: Asked, results: Path, data_root: Path | None, jobs: int) -> tuple[int, dict[str, Any]]:
    """Checks, runs, times and judges the method, and renders the page; gives the exit status and the answer.

    What is recorded in `results` is not run again. The answer is also stored there.

    Raises:
        NotConformingError: the method breaks promises. Nothing was run.
        RegistryError: there is no such method, or it cannot be built.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the workers are ended too
    check(asked.method, asked.options, asked.profile, asked.frames[0], data_root)
    folds = [replace(asked, profile=profile) for profile in asked.profile.in_folds()]
    asked = folds[0]  # in which networks are timed
    if note := outdated(asked, results, data_root):
        print(note, file=sys.stderr, flush=True)
    if note := alone(asked, results):
        print(note, file=sys.stderr, flush=True)
    ended = [
        run_all(
            part.profile,
            [one for one in plan(part) if not _shipped(one, part, results, data_root)],
            results,
            data_root,
            jobs,
        )
        for part in folds
    ]
    done = [one for one, how in ended[0].items() if how == "done"]
    if not asked.profile.smoke:
        time_all(timings(asked, done), results, data_root)
    table, stores = asked.table.id if asked.table else "", _stores(results)
    found = answer(asked.method, asked.options, asked.profile, asked.frames, asked.table, stores)
    found["report"] = str(results / "report" / "report.html")
    write_atomically(results / asked.file, json.dumps(found, indent=1).encode() + b"\n")
    render(published(), stores, results / "report", highlight=asked.method, table=table)
    return ended_well(how for outcomes in ended for how in outcomes.values()), found


def check(
    method: str, options: Mapping[str, Any], profile: profiles.Profile, frames: int, data_root: Path | None
) -> None:
    """Holds a method to `bench.conformance`.

    Raises:
        NotConformingError: it breaks promises.
        RegistryError: there is no such method, or it cannot be built.
    """
    print(f"{method}: checking what every method promises", file=sys.stderr, flush=True)
    if faults := conform(method, profile, frames, dict(options), data_root):
        raise NotConformingError(method, faults)


def _shipped(one: Experiment, asked: Asked, results: Path, data_root: Path | None) -> bool:
    """Whether a plain network beside the method has a shipped record under this setting: that will do."""
    if one.method == asked.method:
        return False
    return Store(published().parent / "measured").find(Run(one, asked.profile, results, data_root).identity) is not None


def outdated(asked: Asked, results: Path, data_root: Path | None) -> str:
    """A note where the file of a method named as module:Class is younger than what is recorded of it, else ""."""
    module, colon, _ = asked.method.partition("/")[0].partition(":")
    found = find_spec(module) if colon else None
    first = Experiment(asked.method, frozen(asked.options), asked.frames[0], asked.seeds[0])
    if found is None or found.origin is None:
        return ""
    stored = results / "records" / f"{Run(first, asked.profile, results, data_root).identity.id}.json"
    if not stored.exists() or stored.stat().st_mtime > Path(found.origin).stat().st_mtime:
        return ""
    return f"note: {found.origin} was changed after {stored.name} was recorded; if results change, raise its revision"


def alone(asked: Asked, results: Path) -> str:
    """A note where nothing else is recorded under the profile: which profile has the most methods; else ""."""
    if WEIGHTS in asked.options:
        return "note: it stands beside what started from the same weights, and beside nothing else"
    counts: dict[str, int] = {}
    for block in blocks(_stores(results), []):
        done = [run.record.identity for run in block.runs if run.record.status == "done"]
        others = {(who.method, repr(who.options)) for who in done if who.method != asked.method}
        if others and block.under(asked.profile):
            return ""
        counts[block.profile] = max(len(others), counts.get(block.profile, 0))
    most = max(counts, key=lambda name: counts[name], default="")
    return f"note: no records of {asked.profile.name}; {most} has {counts[most]} methods" if most else ""


def _stores(results: Path) -> list[tuple[str, Path]]:
    return [(STORE, published().parent / "measured"), (STORE, results / "records")]


def plan(asked: Asked) -> list[Experiment]:
    """The method from every seed, and the plain networks that the table puts beside it; short clips first."""
    found: dict[Experiment, None] = {}
    for frames in asked.frames:
        for seed in asked.seeds:
            found |= dict.fromkeys(_twins(asked, frames, seed))
            found[Experiment(asked.method, frozen(asked.options), frames, seed)] = None
    return list(found)


def timings(asked: Asked, done: Sequence[Experiment]) -> list[tuple[Experiment, Job]]:
    """Each finished run of the method against its own twin or itself, and against the table's plain networks.

    Those that the profile runs at another size are left out: at this one they would be others.
    """
    profile = asked.profile.fitted_to(asked.method)
    own = [one for one in done if (one.method, one.options) == (asked.method, frozen(asked.options))]
    found = list(own_jobs(asked.profile, own).items())
    for one in own:
        setting = Setting(profile, one.frames, seed=one.seed)
        others = [
            twin for twin in _twins(asked, one.frames, one.seed) if twin.method != asked.method.rpartition("/")[2]
        ]
        alike = [twin for twin in others if asked.profile.fitted_to(twin.method).size == profile.size]
        found += [(one, Job(one.method, twin.method, dict(one.options), dict(twin.options), setting)) for twin in alike]
    return found


def _twins(asked: Asked, frames: int, seed: int) -> list[Experiment]:
    """The plain networks of the table at so many frames, but for the method itself.

    They start from the method's files of weights where they can.
    """
    rows = static_rows(asked.table, asked.method, frames) if asked.table else []
    names = [row.experiment.method for row in rows if row.experiment]
    twins = [Experiment(name, (), frames, seed) for name in names if name != asked.method or asked.options]
    if WEIGHTS not in asked.options:
        return twins
    held = held_in(weight_files(asked.method, asked.options[WEIGHTS]))
    return [start(twin, held, asked.profile)[0] for twin in twins]
