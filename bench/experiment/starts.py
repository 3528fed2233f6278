"""Experiments that start from files of weights: which of the files each can start from."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench import registry
from bench.experiment.build import build_method, network_options
from bench.experiment.plan import Experiment, ExperimentError, frozen
from bench.profiles import Profile
from bench.weights import WeightsError, network_of, networks_in

Held = Mapping[str, Path]
"""Files of weights, by the network that each is of."""


def held_in(files: Sequence[Path]) -> Held:
    """Files of `weights import` or `weights export`, which say whose weights they hold.

    Raises:
        ExperimentError: two are of one network.
        WeightsError: one is no such file.
    """
    held = {network_of(path): path for path in files}
    if len(held) < len(files):
        raise ExperimentError(f"weights: several of the files hold those of one network: {', '.join(map(str, files))}")
    return held


def started(
    plans: Sequence[tuple[Profile, Sequence[Experiment]]], held: Held
) -> list[tuple[Profile, list[Experiment]]]:
    """The plans, with each experiment starting from those of the files that it can start from, if there are any.

    A network of another width than a file's stays as drawn, which is said on standard error.

    Raises:
        ExperimentError: a network could start from several files, or nothing from one of them.
        RegistryError: a network cannot be built.
    """
    if not held:
        return [(profile, list(experiments)) for profile, experiments in plans]
    asked = {(profile.name, replace(one, seed=0)): profile for profile, experiments in plans for one in experiments}
    found, unfit = dict[tuple[str, Experiment], Experiment](), dict[str, str]()
    for (name, one), profile in asked.items():
        found[name, one], why = start(one, held, profile)
        unfit |= {one.label.rpartition(", seed")[0]: why} if why else {}
    used = {path for one in found.values() for path in _files(one)}
    for network, path in held.items():
        if str(path) not in used:
            said = next((why for why in unfit.values() if str(path) in why), f"holds the weights of {network}")
            raise ExperimentError(f"{path}: nothing here can start from it: {said.removeprefix(f'{path}: ')}")
    for label, why in unfit.items():
        print(f"{label}: weights as drawn: {why}", file=sys.stderr, flush=True)
    return [
        (profile, [replace(found[profile.name, replace(one, seed=0)], seed=one.seed) for one in experiments])
        for profile, experiments in plans
    ]


def start(one: Experiment, held: Held, profile: Profile) -> tuple[Experiment, str]:
    """An experiment from the files that it can start from; as it is, and why, where their shapes are others.

    Raises:
        ExperimentError: its network could start from several of them.
    """
    profile, under = profile.fitted_to(one.method), registry.under(one.method)
    files = [str(held[network]) for network in sorted(_takes(one, under, profile) & held.keys())]
    if not files:
        return one, ""
    if under is not None and len(files) > 1:  # a network's option has one
        raise ExperimentError(f"{one.method} could start from {' or '.join(files)}: give one of them")
    begun = replace(one, options=frozen({**dict(one.options), registry.WEIGHTS: files[0] if under else files}))
    try:
        _built(begun, under, profile)
    except WeightsError as error:
        return one, str(error)
    return begun, ""


def _takes(one: Experiment, under: str | None, profile: Profile) -> set[str]:
    """The networks from whose weights an experiment can start."""
    return networks_in(_built(one, under, profile)) | ({under} if under else set())


def _built(one: Experiment, under: str | None, profile: Profile) -> torch.nn.Module:
    """What starts from weights: the method, or, without any values, the network under it."""
    if under is None:
        return build_method(one, profile, classes=2)
    options = {**network_options(one.method, profile), **registry.split_options(one.method, dict(one.options))[0]}
    with torch.device("meta"):
        return registry.build_network(under, frames=one.frames, size=profile.size, classes=2, **options)


def _files(one: Experiment) -> list[str]:
    given = dict(one.options).get(registry.WEIGHTS, ())
    return [given] if isinstance(given, str) else list(given)
