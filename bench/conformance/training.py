"""A method in training: what reaches its parameters, and whether an interruption shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from bench.conformance.evaluation import check
from bench.conformance.lines import lines
from bench.conformance.state import identical
from bench.data.sampling import Sampling, train_batches, train_steps
from bench.data.split import Split
from bench.flow import to_device
from bench.method import Batch, Method, Recipe
from bench.training import train

STEPS = 6  # on one batch, of which the last three must have a lower loss than the first
RATES = (1.0, 0.1, 0.01)  # of the recipe's learning rate, tried in turn


def check_training(
    rebuild: Callable[[], Method], split: Split, sampling: Sampling, recipe: Recipe, *, dense: int | None = None
) -> list[str]:
    """Trains a method on `split` as `bench.training.train` does, a few times over; lists what is wrong.

    - some steps on one batch, if need be small ones, lower the loss of the first stage that logs one;
    - every stage runs, and gradients reach every trainable parameter in at least one of them, and it is changed;
    - a training stopped in every stage, and resumed by a fresh method each time, ends with the same weights;
    - what has been trained keeps to `check`.

    rebuild: builds the method afresh. Each stage's view must fill a batch, and be small: it is all run twice.
    """
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder:
        part = _training(rebuild, split, sampling, recipe, Path(folder), dense)
        return list(dict.fromkeys(lines("training", part)))


def _training(
    rebuild: Callable[[], Method], split: Split, sampling: Sampling, recipe: Recipe, folder: Path, dense: int | None
) -> Iterator[str]:
    torch.manual_seed(0)
    untrained = rebuild()
    fresh = partial(copy.deepcopy, untrained)
    yield from _falling(fresh, split, sampling, recipe)
    method = fresh()
    wanted = {name for name, weight in method.named_parameters() if weight.requires_grad}
    reached = _reached(method)
    _train(method, split, sampling, recipe, folder / "whole")
    if wanted - reached:
        missed = ", ".join(sorted(wanted - reached)[:5])
        yield f"no gradient reaches {len(wanted - reached)} of {len(wanted)} trainable parameters: {missed}"
    still = sorted(reached & _unchanged(method, untrained))
    if still:
        yield (
            f"training leaves {len(still)} of {len(wanted)} trainable parameters as they were, which gradients reach: "
            f"{', '.join(still[:5])}; give them to a stage's optimiser, or set requires_grad = False"
        )
    again = _interrupted(fresh, split, sampling, recipe, folder / "parts").state_dict()
    names = [name for name, value in method.state_dict().items() if not identical(value, again[name])]
    if names:
        yield f"interrupted and resumed, training ends with another {names[0]} (and {len(names) - 1} more)"
    sample = _one_batch(method, split, sampling, recipe).sample.double()
    yield from check(method.double(), sample, rebuild=rebuild, dense=dense)


def _train(
    method: Method, split: Split, sampling: Sampling, recipe: Recipe, folder: Path, stop: int | None = None
) -> None:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)  # after the building; a resumed training must go on from its own random numbers
    train(method, split, sampling, recipe, 0, folder, stop_after=stop)


def _interrupted(fresh: Callable[[], Method], split: Split, sampling: Sampling, recipe: Recipe, folder: Path) -> Method:
    """Trained by a fresh method each time, after the first step of every stage."""
    steps = [stage.epochs * train_steps(stage.view(split), recipe.batch) for stage in fresh().stages(recipe)]
    for stop in [1, *(count for count in steps if count)][:-1]:
        _train(fresh(), split, sampling, recipe, folder, stop)
    method = fresh()
    _train(method, split, sampling, recipe, folder)
    return method


def _reached(method: Method) -> set[str]:
    """Fills with the names of the parameters that a gradient other than zero reaches from now on."""
    reached: set[str] = set()

    def note(name: str, gradient: Tensor) -> None:
        if bool(gradient.any()):
            reached.add(name)

    for name, weight in method.named_parameters():
        if weight.requires_grad:
            weight.register_hook(partial(note, name))  # type: ignore[no-untyped-call]
    return reached


def _unchanged(method: Method, before: Method) -> set[str]:
    """The names of the parameters that are bit for bit as they were."""
    old = dict(before.named_parameters())
    return {name for name, weight in method.named_parameters() if identical(weight, old[name])}


def _falling(fresh: Callable[[], Method], split: Split, sampling: Sampling, recipe: Recipe) -> Iterator[str]:
    """Whether steps on one batch lower the loss, small ones where large ones overshoot: a wrong sign never does."""
    told = []
    for share in RATES:
        name, losses = _losses(fresh(), split, sampling, replace(recipe, lr=share * recipe.lr))
        if not losses:
            yield 'no stage logs a "loss"'
            return
        first, last = losses[0], sum(losses[-3:]) / 3
        if last < first:
            return
        told.append(f"from {first:.6g} to {last:.6g}")
    yield f"the loss does not fall: {STEPS} steps of stage {name} on one batch take it {told[0]}" + (
        f", and {told[-1]} with {RATES[-1]:g} of the learning rate"
    )


def _losses(method: Method, split: Split, sampling: Sampling, recipe: Recipe) -> tuple[str, list[float]]:
    """The first stage that logs a loss, and what steps on one batch, each with the same random numbers, make of it."""
    for stage in method.stages(recipe):
        if not stage.epochs:
            continue
        batch = _one_batch(method, stage.view(split), sampling, recipe)
        stage.begin(STEPS)
        losses: list[float] = []
        for _ in range(STEPS):
            torch.manual_seed(0)
            losses += [value for name, value in stage.step(batch).items() if name == "loss"]
        if losses:
            return stage.name, losses
    return "", []


def _one_batch(method: Method, split: Split, sampling: Sampling, recipe: Recipe) -> Batch:
    return to_device(next(iter(train_batches(split, method.spec, sampling, recipe.batch, 0, 0))), method.device)
