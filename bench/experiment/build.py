"""What an experiment is made of, dataset and method, and the identity of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench import registry
from bench.data import Dataset
from bench.data.builders import build as build_dataset
from bench.experiment.plan import Experiment, ExperimentError
from bench.faults import hint
from bench.method import Method
from bench.profiles import Profile
from bench.records import Identity


def dataset_of(profile: Profile, frames: int, data_root: Path | None) -> Dataset:
    """The profile's dataset, with videos long enough for clips of `frames`."""
    return build_dataset(
        profile.dataset, data_root=data_root, frames=frames, size=profile.size, options=profile.dataset_options
    )


def build_method(experiment: Experiment, profile: Profile, classes: int) -> Method:
    """The untrained method, its weights drawn from the experiment's seed."""
    torch.manual_seed(experiment.seed)
    torch.backends.cudnn.allow_tf32 = False  # or "fp32" on a GPU is not
    for_network, for_method = registry.split_options(experiment.method, dict(experiment.options))
    options = {**profile.method.get(experiment.method.partition("/")[0], {}), **for_method}
    method = registry.build(
        experiment.method,
        frames=experiment.frames,
        size=profile.size,
        classes=classes,
        network_options={**network_options(experiment.method, profile), **for_network},
        **options,
    )
    for module in method.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return method.to("cuda" if torch.cuda.is_available() else "cpu")


def network_options(method: str, profile: Profile) -> dict[str, Any]:
    """Of the profile's network options those that the network under `method` takes.

    Raises:
        ExperimentError: an option that no network takes, or weights, on which identities could not hang.
    """
    if registry.WEIGHTS in profile.network:
        given = "--option weights=FILE, in `reproduce` by --weights FILE"
        raise ExperimentError(f"profile {profile.name}: network: weights are given by {given}")
    theirs, others = registry.split_options(method, profile.network)
    known = registry.network_options()
    for option in sorted(others.keys() - known):
        raise ExperimentError(f"profile {profile.name}: network.{option}: no network takes it; {hint(option, known)}")
    return theirs


def check_names(profile: Profile) -> None:
    """Holds what a profile gives to single methods and networks against those that there are: else nobody gets it.

    Raises:
        ExperimentError: there is none of that name.
    """
    known = [*registry.methods(), *registry.networks()]
    for part, names in (("method", profile.method), ("fitted", profile.fitted)):
        for name in names:
            what = f"profile {profile.name}: {part}.{name}"
            if ":" in name:
                _hold(what, name)
            elif name not in known:
                raise ExperimentError(f"{what}: no such method or network; {hint(name, known)}")


def _hold(what: str, name: str) -> None:
    try:
        registry.hold(name)
    except registry.RegistryError as error:
        raise ExperimentError(f"{what}: {error}") from error


def identify(experiment: Experiment, profile: Profile, dataset: Dataset, method: Method) -> Identity:
    """Everything that the result hangs on; of weights to start from, their content and not their path."""
    return Identity(
        method=experiment.method,
        options=registry.by_content(experiment.method, dict(experiment.options)),
        frames=experiment.frames,
        size=profile.size,
        profile=profile.name,
        setting=profile.setting,
        dataset=dataset.name,
        data_fingerprint=dataset.fingerprint,
        seed=experiment.seed,
        method_revision=method.revision,
        dataset_revision=dataset.revision,
        method_setting=profile.method_setting(experiment.method.partition("/")[0]),
    )
