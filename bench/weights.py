"""Networks that start from stored weights, in the form that `weights import` writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from torch import nn

from bench.method import InputSpec

METADATA = "vared-bench"
"""The entry of a file's metadata that says what it holds: network, classes, normalisation."""

SHRUNK = "the profile, or an option, may have shrunk the network"


class WeightsError(Exception):
    """A file of weights cannot be used; the message names it and says why."""


def load(network: nn.Module, name: str, path: Path) -> None:
    """Loads the weights of the registered network `name` into `network`, in place.

    A classifier for another number of classes stays as it was drawn. The normalisation of pixels that the weights were
    trained with is left in `network.normalisation`, for `spec_of`.

    Raises:
        WeightsError: not a file of `weights import`, or of another network, or shapes differ elsewhere.
    """
    said, found = _said(path), load_file(path)
    if said["network"] != name:
        raise WeightsError(f"{path}: holds the weights of {said['network']}, not of {name}")
    wanted = network.state_dict()
    if found.keys() != wanted.keys():
        unlike = sorted(found.keys() ^ wanted.keys())
        raise WeightsError(
            f"{path}: {len(unlike)} names differ from those of this {name}, such as {unlike[0]}; {SHRUNK}"
        )
    for key, value in wanted.items():
        own, shape = tuple(value.shape), tuple(found[key].shape)
        if own != shape:
            if not own or own[1:] != shape[1:] or shape[0] != said["classes"]:
                raise WeightsError(f"{path}: {key} has shape {shape}, here it is {own}; {SHRUNK}")
            found[key] = value  # the classifier, for other classes
    if not any(value.is_meta for value in wanted.values()):  # those are only counted
        network.load_state_dict(found)
    mean, std = (tuple(said["normalisation"][key]) for key in ("mean", "std"))
    network.normalisation = (mean, std)  # type: ignore[assignment]


def _said(path: Path) -> dict[str, Any]:
    """What the file says of itself."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            said: dict[str, Any] = json.loads((file.metadata() or {})[METADATA])
        _ = said["network"], said["classes"], said["normalisation"]["mean"], said["normalisation"]["std"]
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError):
        raise WeightsError(f"{path}: not a file that `weights import` wrote") from None
    return said


def spec_of(network: nn.Module, size: int, frames: int) -> InputSpec:
    """What a network takes: clips, or images if it says so; pixels normalised as its weights want where they say so."""
    given: tuple[tuple[float, ...], tuple[float, ...]] | None = getattr(network, "normalisation", None)
    spec = InputSpec("clip", size, frames)
    if getattr(network, "input_kind", "clip") == "image":
        spec = InputSpec("image", size, unit="image")
    return replace(spec, mean=given[0], std=given[1]) if given else spec
