"""What `reproduce --estimate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.answers.table import print_table
from bench.environment import environment
from bench.estimate import Estimate, estimate
from bench.experiment.plan import plan
from bench.profiles import Profile
from bench.scaling import Assumed, Scaled, scaled


def print_estimates(
    profile: Profile,
    results: Path,
    data_root: Path | None,
    tables: Sequence[str] | None,
    methods: Sequence[str] | None,
    devices: Sequence[int],
    assumed: Assumed,
) -> None:
    """A line for each kind of experiment, and the whole, of folds from the first; nothing is trained or stored.

    devices: numbers of them, for each of which another line is reckoned.
    """
    found = estimate(plan(profile, tables, methods), profile.in_folds()[0], data_root, results)
    print_table(
        ["experiment", "seeds", "s a step", "steps", "s a test clip", "clips", "hours each", "GiB, most so far"],
        [_line(one, seeds) for one, seeds in found],
    )
    folds = len(profile.in_folds())
    whole = folds * sum(one.hours * seeds for one, seeds in found)
    each = f" ({folds} folds, {whole / folds:,.2f} hours each)" if profile.folds else ""
    print(
        f"profile {profile.name}: about {whole:,.1f} hours on one device like this{each}, without validation, controls"
    )
    if devices:
        _print_scaled([one for one, _ in found], devices, assumed)


def _print_scaled(found: Sequence[Estimate], devices: Sequence[int], assumed: Assumed) -> None:
    """What each takes on several devices, and what of that was measured."""
    columns = ["experiment", "devices", "samples each", "computing", "reading", "exchange", "s a step", "hours each"]
    scales = [(one, scaled(one, count, assumed)) for one in found for count in devices]
    print_table([*columns, "bound"], [_scaled_line(*pair) for pair in scales], "reckoned for devices like this one")
    readers = f"{assumed.readers} reading processes a device" if assumed.readers else "the process that computes reads"
    exchanged = ", ".join(f"{one.experiment.method} {one.gradients / 1e6:,.1f}" for one in found)
    print(
        f"measured: computing and reading on one {environment()['processor']}, read by one process; MB of gradients: "
        f"{exchanged}. assumed: work in proportion to samples, {readers}, {assumed.link / 1e9:g} GB/s between devices, "
        "exchange after computing. left out: latencies, exchange of normalisation statistics, shared disks"
    )


def _scaled_line(one: Estimate, on: Scaled) -> list[str]:
    name = one.experiment.label.rpartition(", seed")[0]
    if not on.samples:
        return [name, str(on.devices), f"{one.batch} cannot be divided", *[""] * 6]
    times = [f"{seconds:.3g}" for seconds in (on.computing, on.reading, on.exchange, on.step)]
    return [name, str(on.devices), str(on.samples), *times, f"{on.hours:,.2f}", on.bound]


def _line(one: Estimate, seeds: int) -> list[str]:
    name = one.experiment.label.rpartition(", seed")[0]
    times = [f"{one.step:.3g}", f"{one.steps:,}", f"{one.clip:.2g}", f"{one.clips:,}", f"{one.hours:,.2f}"]
    return [name, str(seeds), *times, f"{one.memory / 2**30:.1f}"]
