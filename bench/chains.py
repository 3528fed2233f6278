"""Convolutions of a network with the normalisation and activation that follow them, found by running it on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.calls import Call, one_pass

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU)


@dataclass(frozen=True)
class Chain:
    """A convolution by name, with the normalisation and activation that alone consume its output."""

    conv: str
    norm: str | None
    act: str | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def _watched(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.Conv3d, _BatchNorm, *ACTIVATIONS))


def find_chains(network: nn.Module, shape: Sequence[int]) -> list[Chain]:
    """Every convolution called once, with the norm and activation that follow it and nothing else in between."""
    found = one_pass(network, shape, _watched)
    consumers = {id(call.source): call for call in reversed(found.calls) if call.first}

    def follower(result: Tensor, kinds: Any) -> Call | None:
        call = consumers.get(id(result))
        if call is None or not isinstance(call.module, kinds):
            return None
        return call if call.in_place or found.uses[id(result)] == 1 else None

    chains = []
    for call in found.calls:
        if not isinstance(call.module, nn.Conv2d | nn.Conv3d) or call.source is None:
            continue
        norm = follower(call.result, _BatchNorm)
        norm = norm if norm and norm.module.running_mean is not None else None  # else it needs the channels left out
        act = follower(norm.result if norm else call.result, ACTIVATIONS)
        labels = (norm.name if norm else None, act.name if act else None)
        chains.append(Chain(call.name, *labels, tuple(call.source.shape), tuple(call.result.shape)))
    return chains


def sole_activations(network: nn.Module, shape: Sequence[int]) -> list[str]:
    """Activations called once on what nothing else uses or owns, so that they may overwrite it."""
    found = one_pass(network, shape, lambda module: isinstance(module, ACTIVATIONS))
    return [
        call.name
        for call in found.calls
        if isinstance(call.source, Tensor)
        and not (call.source is found.sample or isinstance(call.source, nn.Parameter) or call.source._is_view())
        and (call.in_place or found.uses[id(call.source)] == 1)
    ]
