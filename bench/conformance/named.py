"""A method by its name, checked on a few samples of a profile's data: what `vared-bench check` and `compare` ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import registry
from bench.conformance.evaluation import check
from bench.conformance.lines import lines, said
from bench.conformance.training import check_training
from bench.data import DataError, Dataset
from bench.data.sampling import Sampling, test_batches
from bench.data.subset import Subset
from bench.experiment.build import build_method, dataset_of
from bench.experiment.plan import Experiment, frozen
from bench.method import Method, Prediction, Recipe
from bench.profiles import Profile
from bench.registry import RegistryError
from bench.static import Static

VIDEOS, BATCH = 8, 4


def conform(name: str, profile: Profile, frames: int, options: dict[str, Any], data_root: Path | None) -> list[str]:
    """Everything in which a method breaks its promises: a line for each fault, none if it keeps them.

    What is at fault untrained is not trained; else the lines are about training, and what comes of it. It is built as
    the profile, fitted to it, builds it, on the first samples of its training data, with the learning rate scaled to
    the small batch.

    Raises:
        RegistryError: no such method, or it cannot be built from these options.
        DataError: the data cannot be read.
    """
    profile = profile.fitted_to(name)
    dataset = dataset_of(profile, frames, data_root)
    seeds, classes = count(), len(dataset.train.classes)

    def build() -> Method:
        """Each time from another seed, so that what is drawn and not saved shows."""
        return build_method(Experiment(name, frozen(options), frames, next(seeds)), profile, classes)

    with torch.random.fork_rng(devices=[]):
        try:
            method = build()
            samples = _samples(method, dataset, profile)
            recipe = _recipe(method, profile)
            bound = None if method.exact else _dense(name, options, profile, frames, classes)
        except (RegistryError, DataError):
            raise
        except (Exception, SystemExit) as error:  # a method of others may fail in any way
            return [f"cannot be built: {said(error)}"]
        found = check(method.double(), samples, rebuild=build, dense=bound)
        found += lines("classes", _classes(method, samples, classes))
        if found:
            return found
        sampling = Sampling(profile.sampling, profile.stride, profile.scales)
        return check_training(build, _part(dataset), sampling, recipe, dense=bound)


def _recipe(method: Method, profile: Profile) -> Recipe:
    """As short as every stage of the method can be, the learning rate in proportion to the batch."""
    stages = len(method.stages(Recipe(epochs=9)))
    rate = profile.recipe.lr * BATCH / profile.recipe.batch
    return replace(profile.recipe, epochs=stages + 1, batch=BATCH, lr=rate, precision="fp32", accumulate=1)


def _samples(method: Method, dataset: Dataset, profile: Profile) -> Tensor:
    """Three centre samples, in twice the precision."""
    sampling = Sampling(profile.sampling, profile.stride)
    batch = next(iter(test_batches(dataset.train, method.spec, sampling, 1, 1, 3, np.arange(3))))
    return batch.sample.double().to(method.device)


def _part(dataset: Dataset) -> Subset:
    """Some training data as from two sources, so that a stage may hold out half of it and still fill a batch."""
    part = Subset(dataset.train, np.arange(VIDEOS))
    part.groups = (np.arange(VIDEOS) % 2).astype(str)
    return part


def _dense(name: str, options: dict[str, Any], profile: Profile, frames: int, classes: int) -> int | None:
    """What one sample costs in the network under a method, which may execute that much if it is not exact."""
    under = name.partition("/")[2]
    if not under:
        return None
    theirs = registry.split_options(under, options)[0]
    network = build_method(Experiment(under, frozen(theirs), frames, 0), profile, classes)
    return network.macs if isinstance(network, Static) else None


@torch.no_grad()
def _classes(method: Method, samples: Tensor, classes: int) -> Iterator[str]:
    """Whether there is an answer for every class of the data; where it does not run, `check` has said so."""
    with suppress(Exception, SystemExit):
        prediction = method.eval()(samples)
        yield from _headed(prediction, classes)


def _headed(prediction: Prediction, classes: int) -> Iterator[str]:
    answer = prediction.logits if prediction.masks is None else prediction.masks
    if answer is not None and answer.shape[1] != classes:
        yield f"answers for {answer.shape[1]} classes, and the data have {classes}: build the head from `classes`"
