"""A network with every convolution in its fastest form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.chains import find_chains, sole_activations
from bench.cost import samples
from bench.inference.convolution import Convolution, Fastest, fuse


def optimised(
    network: nn.Module, shape: Sequence[int], wrap: Callable[[Convolution], nn.Module] = lambda one: one
) -> nn.Module:
    """A copy of `network` for `eval()`: normalisation folded into convolutions, ReLU fused, other activations
    in place, weights laid out.

    shape: of one batch of input. wrap: what stands in the place of a convolution instead of itself.
    """
    network = copy.deepcopy(network).eval()
    for name in sole_activations(network, shape):
        network.get_submodule(name).inplace = True  # type: ignore[assignment]
    for chain in find_chains(network, shape):
        conv, norm, act = (
            network.get_submodule(name) if name else None for name in (chain.conv, chain.norm, chain.act)
        )
        relu = type(act) is nn.ReLU
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        plain = type(conv).forward in (nn.Conv2d.forward, nn.Conv3d.forward)  # others do something else with weights
        if not plain or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        replace(network, chain.conv, wrap(fuse(conv, norm, relu)))
        for taken in (chain.norm, chain.act if relu else None):
            if taken:
                replace(network, taken, nn.Identity())
    return network


class Batched(nn.Module):
    """A network that on a CPU takes the samples of a batch together or one after the other, as is faster."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._fastest: dict[int, Fastest] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fastest": {}}  # a copy makes its own

    def forward(self, x: Tensor) -> Tensor:
        """The network's answer."""
        if len(x) == 1 or x.device.type != "cpu":
            answer: Tensor = self.network(x)
            return answer
        return self._fastest.setdefault(len(x), Fastest([self.network, self._in_turn]))(x)

    def _in_turn(self, x: Tensor) -> Tensor:
        found = []
        for number, one in enumerate(torch.split(x, 1)):
            with samples([number]):
                found.append(self.network(one))
        return torch.cat(found)


def replace(network: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the submodule `name`."""
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
