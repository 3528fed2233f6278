"""Which layers see the output of which convolution: how far a pruned channel can be left out of a network."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from torch import nn

from bench.calls import Call, one_pass

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


def find_chains(network: nn.Module, shape: Sequence[int]) -> list[Chain]:
    """The chain of every ungrouped convolution that one pass over an input of `shape` calls once, as it calls them.

    What is safe is read from the tensors of that pass (on the meta device), not from names: a layer belongs to a chain
    if the dispatcher saw nobody else use what it takes.
    """
    found = one_pass(network, shape, lambda module: _mixes(module) or _channelwise(module))
    calls, uses = found.calls, found.uses
    return [_follow(call, calls[place + 1 :], uses) for place, call in enumerate(calls) if _mixes(call.module)]


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


def _follow(head: Call, later: Sequence[Call], uses: collections.Counter[int]) -> Chain:
    """Goes from `head` along `later` calls as long as each is the only one to see what it takes."""
    links, last, taken = list[Call](), head, 0  # taken: uses of the last result by the chain itself
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
