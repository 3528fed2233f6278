"""Networks, and parts of networks and methods, that start from stored weights; the files that hold these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bench.files import write_atomically
from bench.method import InputSpec

METADATA = "vared-bench"
"""The entry of a file's metadata that says what it holds: network, classes, normalisation."""

SHRUNK = "the profile, or an option, may have shrunk the network"


class WeightsError(Exception):
    """A file of weights cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Origin:
    """Whose weights a part may start from. A module with such parts has `origins`: name of the part -> Origin.

    network: the registered network. prefix: what stands before the part's own names in that network's.
    """

    network: str
    prefix: str


@dataclass(frozen=True)
class _Stored:
    """A file, what it says of itself, and its tensors."""

    path: Path
    said: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of pixels."""
        mean, std = (tuple(self.said["normalisation"][key]) for key in ("mean", "std"))
        return mean, std


def write(path: Path, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a network's state as safetensors, with what is said of it; gives that and the file's digest.

    said: "network", "classes" and "normalisation" at least, which `load` reads.
    """
    said = {**said, "tensors": len(state)}
    # One entry of metadata, since several are written in no fixed order and equal weights should be equal files.
    data = save(dict(state), {METADATA: json.dumps(said, sort_keys=True)})
    write_atomically(path, data)
    return {**said, "out": str(path), "sha256": hashlib.sha256(data).hexdigest()}


def load(network: nn.Module, name: str, path: Path) -> None:
    """Loads the weights of the registered network `name`, or of what its parts may start from, into it, in place.

    A classifier for another number of classes stays as it was drawn, which `notes` says. The normalisation of pixels
    that the weights were trained with is left in `network.normalisation`, for `spec_of`.

    Raises:
        WeightsError: not a file of weights, or of another network, or shapes differ elsewhere.
    """
    stored = _read(path)
    if stored.said["network"] == name:
        _fill(network, stored, Origin(name, ""))
    else:
        load_parts(network, name, [path])
    network.normalisation = stored.normalisation  # type: ignore[assignment]


def load_parts(module: nn.Module, name: str, paths: Sequence[Path]) -> tuple[Any, Any]:
    """Loads files into every part of `module` that may start from what they hold; gives mean and deviation of pixels.

    Raises:
        WeightsError: no part takes a file's network, shapes differ, or the files want pixels normalised differently.
    """
    wanted = dict[tuple[Any, Any], Path]()
    for path in paths:
        stored, parts = _read(path), list(_parts(module))
        takers = [(part, origin) for part, origin in parts if origin.network == stored.said["network"]]
        if not takers:
            known = ", ".join(sorted({origin.network for _, origin in parts})) or "none"
            raise WeightsError(
                f"{path}: holds the weights of {stored.said['network']}, not of {name}; its parts take: {known}"
            )
        for part, origin in takers:
            _fill(part, stored, origin)
        wanted.setdefault(stored.normalisation, path)
    if len(wanted) > 1:
        raise WeightsError(f"{' and '.join(map(str, wanted.values()))}: want pixels normalised differently")
    return next(iter(wanted))


def network_of(path: Path) -> str:
    """The registered network whose weights a file holds.

    Raises:
        WeightsError: it is not a file of weights.
    """
    return str(_said(path)["network"])


def networks_in(module: nn.Module) -> set[str]:
    """The registered networks from whose weights parts of a module can start."""
    return {origin.network for _, origin in _parts(module)}


def _parts(module: nn.Module) -> Iterator[tuple[nn.Module, Origin]]:
    """The parts that may start from stored weights."""
    for inside in module.modules():
        for part, origin in getattr(inside, "origins", {}).items():
            yield inside.get_submodule(part), origin


def _fill(part: nn.Module, stored: _Stored, origin: Origin) -> None:
    """Loads what a file holds of a part; names that the part has not are no fault where it is not the whole network."""
    own, prefix, path = part.state_dict(), origin.prefix, stored.path
    found = {key[len(prefix) :]: value for key, value in stored.state.items() if key.startswith(prefix)}
    unlike = sorted(own.keys() - found.keys() if prefix else own.keys() ^ found.keys())
    if unlike:
        raise WeightsError(
            f"{path}: {len(unlike)} names differ from those of this {origin.network}, such as {unlike[0]}; {SHRUNK}"
        )
    fitting = {key: _fitting(value, found[key]) for key, value in own.items()}
    for key, value in own.items():
        shape = tuple(fitting[key].shape)
        if tuple(value.shape) != shape:
            if not value.dim() or tuple(value.shape[1:]) != shape[1:] or shape[0] != stored.said["classes"]:
                raise WeightsError(f"{path}: {key} has shape {shape}, here it is {tuple(value.shape)}; {SHRUNK}")
            fitting[key] = value  # the classifier, for other classes
            part.as_drawn = f"{path.name}: its classifier is for {shape[0]} classes: that for {len(value)} is as drawn"  # type: ignore[assignment]
    if not any(value.is_meta for value in own.values()):  # those are only counted
        part.load_state_dict(fitting)


def notes(module: nn.Module) -> list[str]:
    """What files of weights were not taken for."""
    return list(dict.fromkeys(str(part.as_drawn) for part in module.modules() if hasattr(part, "as_drawn")))


def _fitting(own: Tensor, found: Tensor) -> Tensor:
    """A filter for images that was stored as one for clips of one frame."""
    return found.squeeze(2) if found.dim() == 5 and own.dim() == 4 and found.shape[2] == 1 else found


def _read(path: Path) -> _Stored:
    """A file of `weights import` or `weights export`."""
    return _Stored(path, _said(path), load_file(path))


def _said(path: Path) -> dict[str, Any]:
    """What such a file says of itself."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            said: dict[str, Any] = json.loads((file.metadata() or {})[METADATA])
        _ = said["network"], said["classes"], said["normalisation"]["mean"], said["normalisation"]["std"]
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError):
        raise WeightsError(f"{path}: not a file that `weights import` or `weights export` wrote") from None
    return said


def spec_of(network: nn.Module, size: int, frames: int) -> InputSpec:
    """What a network takes: clips, or images if it says so; pixels normalised as its weights want where they say so."""
    given: tuple[tuple[float, ...], tuple[float, ...]] | None = getattr(network, "normalisation", None)
    spec = InputSpec("clip", size, frames)
    if getattr(network, "input_kind", "clip") == "image":
        spec = InputSpec("image", size, unit="image")
    return replace(spec, mean=given[0], std=given[1]) if given else spec
