"""What the rows of tables need under a profile: experiments, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.faults import hint
from bench.profiles import Chosen, Profile
from bench.tables import schema


class ExperimentError(Exception):
    """An experiment cannot be planned; the message names table, method or row."""


@dataclass(frozen=True)
class Experiment:
    """What one row needs: a method with its options, at a number of frames, from one seed."""

    method: str
    options: tuple[tuple[str, Any], ...]
    frames: int
    seed: int

    @property
    def label(self) -> str:
        """One line for people."""
        options = "".join(f" {key}={value}" for key, value in self.options)
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        return f"{self.method}{options}, {frames}, seed {self.seed}"


def plan(profile: Profile, tables: Sequence[str] | None, methods: Sequence[str] | None) -> list[Experiment]:
    """What the chosen tables (default: the profile's, and its methods) need, each experiment once, short clips first.

    Raises:
        ExperimentError: a table that the profile does not measure, a main row or method that there is not, or nothing
            to run.
    """
    for table in tables or []:
        if table not in profile.tables:
            raise ExperimentError(f"{table}: profile {profile.name} measures {', '.join(profile.tables)}")
    _check_methods(profile, tables, methods)
    found: dict[Experiment, None] = {}
    mains = set(profile.main_rows)
    for table in tables or profile.tables:
        for row in schema.load(table).rows:
            run = row.experiment
            main = f"{table}/{row.id}" in mains
            mains.discard(f"{table}/{row.id}")
            if run is None or run.frames not in profile.frames or (methods and run.method not in methods):
                continue
            options = frozen(run.options)
            for seed in profile.seeds if main else profile.other_seeds:
                found[Experiment(run.method, options, run.frames, seed)] = None
    if mains and not tables:
        raise ExperimentError(f"profile {profile.name}: main_rows: no row {', '.join(sorted(mains))}")
    for entry in [] if tables else profile.methods:
        chosen = Chosen(method=entry) if isinstance(entry, str) else entry
        if not methods or chosen.method in methods:
            options = frozen(chosen.options)
            count = chosen.frames or profile.frames[0]
            found |= {Experiment(chosen.method, options, count, seed): None for seed in profile.other_seeds}
    if not found:
        frames = ", ".join(map(str, profile.frames))
        fits = f"fits method {', '.join(methods)}" if methods else f"has {frames} frames"
        where = f"no row of {', '.join(tables)}" if tables else "none of its rows"
        raise ExperimentError(f"profile {profile.name}: {where} {fits}")
    return sorted(found, key=lambda experiment: (experiment.frames, experiment.seed))


def _check_methods(profile: Profile, tables: Sequence[str] | None, methods: Sequence[str] | None) -> None:
    """Each of `methods`, at whatever length of clips, must be there: else what was meant is left out without a word.

    Raises:
        ExperimentError: one is not; says what was meant.
    """
    rows = [row for table in tables or profile.tables for row in schema.load(table).rows]
    known = {row.experiment.method for row in rows if row.experiment}
    if not tables:
        known |= {one if isinstance(one, str) else one.method for one in profile.methods}
    for method in methods or []:
        if method not in known:
            what = f"profile {profile.name}: none of its rows fits method {method}"
            raise ExperimentError(f"{what}; {hint(method, known)}")


def frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options as they stand in an experiment, which can be a key: sorted, lists as tuples."""

    def part(value: Any) -> Any:
        return tuple(map(part, value)) if isinstance(value, list) else value

    return tuple(sorted((key, part(value)) for key, value in options.items()))
