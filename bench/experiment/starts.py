"""Planned experiments that start from files of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench import registry
from bench.experiment.build import build_method
from bench.experiment.plan import Experiment, ExperimentError, frozen
from bench.profiles import Profile
from bench.weights import network_of, networks_in

Planned = Sequence[tuple[Profile, Sequence[Experiment]]]


def started(plans: Planned, files: Sequence[Path]) -> list[tuple[Profile, list[Experiment]]]:
    """The plans, with each experiment starting from those of the files that it can start from, if there are any.

    files: of `weights import` or `weights export`, which say whose weights they hold.

    Raises:
        ExperimentError: a network could start from several files, or nothing from one of them.
        WeightsError: a file is none of weights.
    """
    held = {network_of(path): path for path in files}
    if len(held) < len(files):
        raise ExperimentError(f"weights: several of the files hold those of one network: {', '.join(map(str, files))}")
    taken = {
        (profile.name, one.method, one.options): _takes(one, profile) if held else set[str]()
        for profile, experiments in plans
        for one in experiments
    }
    for network in held.keys() - set[str]().union(*taken.values()):
        raise ExperimentError(f"{held[network]}: holds the weights of {network}, from which nothing here starts")
    return [
        (profile, [_from(one, held, taken[profile.name, one.method, one.options]) for one in experiments])
        for profile, experiments in plans
    ]


def _takes(one: Experiment, profile: Profile) -> set[str]:
    """The networks from whose weights an experiment can start."""
    under = registry.under(one.method)
    if under is None:
        return networks_in(build_method(one, profile, classes=2))
    with torch.device("meta"):
        return {under, *networks_in(registry.build_network(under, frames=16, size=224, classes=2))}


def _from(one: Experiment, held: Mapping[str, Path], taken: set[str]) -> Experiment:
    files = [str(held[network]) for network in sorted(taken & held.keys())]
    if not files:
        return one
    alone = registry.under(one.method) is not None  # a network starts from one file, as its option has it
    if alone and len(files) > 1:
        raise ExperimentError(f"{one.method} could start from {' or '.join(files)}: give one of them")
    return replace(one, options=frozen({**dict(one.options), registry.WEIGHTS: files[0] if alone else files}))
