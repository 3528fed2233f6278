"""Which layers see the output of which convolution: how far a pruned channel can be left out of a network."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ZERO_TO_ZERO = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish),
    *(nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
"""Layers without weights that treat every channel alike and on its own, and make zeros of zeros."""


@dataclass(frozen=True)
class Chain:
    """A convolution, and the layers that alone see its output, all by name.

    links: what a channel passes on its own, in order: affine batch normalisations, depthwise convolutions and
    `ZERO_TO_ZERO`; with its scale, shift and taps at zero, a channel of zeros stays one. consumer: the convolution that
    alone takes what the last of them gives; "" where something else sees it.
    """

    conv: str
    links: tuple[str, ...]
    consumer: str


class _Uses(TorchDispatchMode):
    """Counts how often each tensor is an argument; keeps all of them, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: collections.Counter[int] = collections.Counter()
        self.kept: list[Any] = []

    def note(self, values: Any) -> None:
        """One more use of every tensor in `values`."""
        tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
        self.kept += tensors
        self.counts.update(map(id, tensors))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note((args, kwargs))
        return func(*args, **(kwargs or {}))


@dataclass
class _Call:
    """A layer's call in a pass; source: its first argument, None where that was given by name."""

    name: str
    module: nn.Module
    source: Any
    result: Any

    @property
    def in_place(self) -> bool:
        return self.result is self.source


def find_chains(network: nn.Module, shape: Sequence[int]) -> list[Chain]:
    """The chain of every ungrouped convolution that one pass over an input of `shape` calls once, as it calls them.

    What is safe is read from the tensors of that pass (on the meta device), not from names: a layer belongs to a chain
    if the dispatcher saw nobody else use what it takes.
    """
    calls, uses = _calls(network, shape)
    times = collections.Counter(call.name for call in calls)
    once = [call for call in calls if times[call.name] == 1]
    return [_follow(call, once[place + 1 :], uses) for place, call in enumerate(once) if _mixes(call.module)]


def depthwise(module: nn.Module) -> bool:
    """Whether `module` is a convolution of each channel on its own."""
    return _convolution(module) and module.groups == module.in_channels == module.out_channels


def _convolution(module: nn.Module) -> TypeGuard[nn.Conv2d | nn.Conv3d]:
    return type(module) in (nn.Conv2d, nn.Conv3d)  # not a subclass, which may do something else with its weights


def _mixes(module: nn.Module) -> bool:
    return _convolution(module) and module.groups == 1


def _channelwise(module: nn.Module) -> bool:
    if type(module) in (nn.BatchNorm2d, nn.BatchNorm3d):
        return bool(module.affine) and module.running_mean is not None
    return type(module) in ZERO_TO_ZERO or depthwise(module)


def _follow(head: _Call, later: Sequence[_Call], uses: collections.Counter[int]) -> Chain:
    """Goes from `head` along `later` calls as long as each is the only one to see what it takes."""
    links, last, taken = list[_Call](), head, 0  # taken: uses of the last result by the chain itself
    for call in later:
        if call.source is not last.result:
            continue
        alone = uses[id(call.source)] == taken + 1
        if alone and _mixes(call.module):
            return Chain(head.name, tuple(link.name for link in links), call.name)
        if not _channelwise(call.module) or not (alone or call.in_place):
            break
        links.append(call)
        last, taken = call, taken + 1 if call.in_place else 0
    while links and links[-1].in_place:  # what it changed may be read under another name
        links.pop()
    return Chain(head.name, tuple(link.name for link in links), "")


def _calls(network: nn.Module, shape: Sequence[int]) -> tuple[list[_Call], collections.Counter[int]]:
    """Calls of all layers that can be in a chain, and how often each tensor was used, the answer once more."""
    meta, calls, uses = copy.deepcopy(network).to("meta").eval(), list[_Call](), _Uses()

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            call = _Call(name, module, args[0] if args else None, result)
            uses.kept += call.source, call.result
            calls.append(call)

        return hook

    for name, module in meta.named_modules():
        if _mixes(module) or _channelwise(module):
            module.register_forward_hook(leave(name))
    with torch.no_grad(), uses:
        uses.note(meta(torch.empty(tuple(shape), device="meta", dtype=_precision(meta))))
    return calls, uses.counts


def _precision(network: nn.Module) -> torch.dtype:
    floating = (weight.dtype for weight in network.parameters() if weight.is_floating_point())
    return next(floating, torch.get_default_dtype())
