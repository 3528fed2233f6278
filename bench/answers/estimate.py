"""What `reproduce --estimate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.answers.table import print_table
from bench.estimate import Estimate, estimate
from bench.experiment import plan
from bench.profiles import Profile


def print_estimates(
    profile: Profile,
    results: Path,
    data_root: Path | None,
    tables: Sequence[str] | None,
    methods: Sequence[str] | None,
) -> None:
    """A line for each kind of experiment, and the whole; nothing is trained or stored."""
    found = estimate(plan(profile, tables, methods), profile, data_root, results)
    print_table(
        ["experiment", "seeds", "s a step", "steps", "s a test clip", "clips", "hours each", "GiB, most so far"],
        [_line(one, seeds) for one, seeds in found],
    )
    whole = sum(one.hours * seeds for one, seeds in found)
    print(f"profile {profile.name}: about {whole:,.1f} hours on one device like this, without validation and controls")


def _line(one: Estimate, seeds: int) -> list[str]:
    name = one.experiment.label.rpartition(", seed")[0]
    times = [f"{one.step:.3g}", f"{one.steps:,}", f"{one.clip:.2g}", f"{one.clips:,}", f"{one.hours:,.2f}"]
    return [name, str(seeds), *times, f"{one.memory / 2**30:.1f}"]
