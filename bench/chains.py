"""Convolutions of a network with the normalisation and activation that follow them, found by running it on nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU)


@dataclass(frozen=True)
class Chain:
    """A convolution by name, with the normalisation and activation that alone consume its output."""

    conv: str
    norm: str | None
    act: str | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Uses(TorchDispatchMode):
    """Counts how often each tensor is an argument; keeps all of them, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[int, int] = {}
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(argument, Tensor):
                self.counts[id(argument)] = self.counts.get(id(argument), 0) + 1
                self.kept.append(argument)
        return func(*args, **(kwargs or {}))


@dataclass
class _Call:
    name: str
    module: nn.Module
    source: Tensor
    result: Tensor
    uses_before: int


def _calls(network: nn.Module, shape: Sequence[int]) -> tuple[list[_Call], dict[int, int], Tensor]:
    """Calls of convolutions, norms and activations in a pass over meta tensors, how often each tensor was used, and the
    input. Modules that have several names are left out: in the place of which of them should something else stand?
    """
    meta, calls, uses = copy.deepcopy(network).to("meta").eval(), [], _Uses()
    before: dict[str, int] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            before[name] = uses.counts.get(id(args[0]), 0) if args else 0

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            if not args:  # given by name
                return
            uses.kept.extend((args[0], result))
            calls.append(_Call(name, module, args[0], result, before[name]))

        return hook

    everything = list(meta.named_modules(remove_duplicate=False))
    for name, module in everything:
        named = sum(module is other for _, other in everything)
        if named == 1 and isinstance(module, (nn.Conv2d, nn.Conv3d, _BatchNorm, *ACTIVATIONS)):
            module.register_forward_pre_hook(enter(name))
            module.register_forward_hook(leave(name))
    dtype = next(meta.parameters()).dtype
    with torch.no_grad(), uses:
        meta(sample := torch.empty(tuple(shape), device="meta", dtype=dtype))
    return calls, uses.counts, sample


def find_chains(network: nn.Module, shape: Sequence[int]) -> list[Chain]:
    """Every convolution called once, with the norm and activation that follow it and nothing else in between."""
    calls, uses, _ = _calls(network, shape)
    names = [call.name for call in calls]
    consumers = {id(call.source): call for call in reversed(calls) if call.uses_before == 0}

    def follower(result: Tensor, kinds: Any) -> _Call | None:
        call = consumers.get(id(result))
        if call is None or not isinstance(call.module, kinds) or names.count(call.name) > 1:
            return None
        return call if call.result is call.source or uses.get(id(result)) == 1 else None

    chains = []
    for call in calls:
        if not isinstance(call.module, nn.Conv2d | nn.Conv3d) or names.count(call.name) > 1:
            continue
        norm = follower(call.result, _BatchNorm)
        norm = norm if norm and norm.module.running_mean is not None else None  # else it needs the channels left out
        act = follower(norm.result if norm else call.result, ACTIVATIONS)
        labels = (norm.name if norm else None, act.name if act else None)
        chains.append(Chain(call.name, *labels, tuple(call.source.shape), tuple(call.result.shape)))
    return chains


def sole_activations(network: nn.Module, shape: Sequence[int]) -> list[str]:
    """Activations called once on what nothing else uses or owns, so that they may overwrite it."""
    calls, uses, sample = _calls(network, shape)
    names = [call.name for call in calls]
    found = [call for call in calls if isinstance(call.module, ACTIVATIONS) and names.count(call.name) == 1]
    return [
        call.name
        for call in found
        if not (call.source is sample or isinstance(call.source, nn.Parameter) or call.source._is_view())
        and (call.result is call.source or uses.get(id(call.source)) == 1)
    ]
