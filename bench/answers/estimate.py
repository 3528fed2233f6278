"""What `reproduce --estimate` prints, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.answers.table import print_table
from bench.environment import environment
from bench.estimate import Estimate, estimate
from bench.experiment.plan import plan
from bench.profiles import Profile
from bench.scaling import Assumed, Scaled, scaled

Found = Sequence[tuple[Estimate, int]]
"""Each kind of experiment, measured in the first fold, and from how many seeds it is run there."""


def estimated(
    profile: Profile, results: Path, data_root: Path | None, tables: Sequence[str] | None, methods: Sequence[str] | None
) -> Found:
    """What a profile's experiments take here; nothing is trained or stored."""
    return estimate(plan(profile, tables, methods), profile.in_folds()[0], data_root, results)


def as_json(profile: Profile, found: Found, devices: Sequence[int], assumed: Assumed) -> dict[str, Any]:
    """For machines: seconds of each run and of all, on one device like this one; devices: as `print_estimates`."""
    folds = len(profile.in_folds())
    experiments = [_run(one, seeds) | _on_devices(one, devices, assumed) for one, seeds in found]
    seconds = folds * sum(one.hours * seeds for one, seeds in found) * 3600
    return {"profile": profile.name, "folds": folds, "experiments": experiments, "seconds": seconds}


def _run(one: Estimate, seeds: int) -> dict[str, Any]:
    """One experiment from one seed in one fold: seconds of it, of a step and of a test clip; memory in bytes."""
    who = {"method": one.experiment.method, "options": dict(one.experiment.options), "frames": one.experiment.frames}
    times = {"seconds": one.hours * 3600, "step": one.step, "steps": one.steps, "clip": one.clip, "clips": one.clips}
    return who | {"seeds": seeds} | times | {"memory": one.memory}


def _on_devices(one: Estimate, devices: Sequence[int], assumed: Assumed) -> dict[str, Any]:
    """Seconds of the same run on several devices, reckoned; None where its batch cannot be dealt."""
    scales = [scaled(one, count, assumed) for count in devices]
    reckoned = [{"devices": on.devices, "seconds": on.hours * 3600 if on.samples else None} for on in scales]
    return {"reckoned": reckoned} if devices else {}


def print_estimates(profile: Profile, found: Found, devices: Sequence[int], assumed: Assumed) -> None:
    """A line for each kind of experiment, and the whole, of folds from the first.

    devices: numbers of them, for each of which another line is reckoned.
    """
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
