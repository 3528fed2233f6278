"""A network with every convolution in its fastest form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.chains import find_chains, sole_activations
from bench.cost import counting, samples
from bench.inference.convolution import Convolution, Fastest, fuse, race
from bench.inference.graph import Graph, Graphs

M = TypeVar("M", bound=nn.Module)


def optimised(
    network: nn.Module, shape: Sequence[int], wrap: Callable[[Convolution], nn.Module] = lambda one: one
) -> nn.Module:
    """A copy of `network` for `eval()`: normalisation folded into convolutions, ReLU fused, other activations
    in place, weights laid out, means over whole clips in the faster of two orders.

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
        network.set_submodule(chain.conv, wrap(fuse(conv, norm, relu)))
        for taken in (chain.norm, chain.act if relu else None):
            if taken:
                network.set_submodule(taken, nn.Identity())
    pools = [name for name, part in network.named_modules() if type(part) is nn.AdaptiveAvgPool3d]
    for name in pools:
        if network.get_submodule(name).output_size in (1, (1, 1, 1)):
            network.set_submodule(name, ClipMean())
    return network


def with_optimised(method: M, parts: Mapping[str, Sequence[int]]) -> M:
    """A copy of `method` for `eval()` with the networks inside it in their fastest form.

    parts: the name of each of these networks -> the shape of an input of it.
    """
    fast = copy.deepcopy(method).eval()
    for name, shape in parts.items():
        fast.set_submodule(name, optimised(method.get_submodule(name), shape))
    return fast


class ClipMean(nn.Module):
    """The mean over frames and places, (B, C, T, H, W) to (B, C, 1, 1, 1), in one step or in two, as is faster."""

    def __init__(self) -> None:
        super().__init__()
        self._fastest = Fastest([_in_one, _in_two])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fastest": Fastest([_in_one, _in_two])}  # a copy makes its own

    def forward(self, x: Tensor) -> Tensor:
        """The mean; what only stands for a tensor has its own."""
        return self._fastest(x) if isinstance(x, Tensor) else _in_one(x)


def _in_one(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool3d(x, 1)


def _in_two(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 4, 1).mean((2, 3)).mean(1)[..., None, None, None]


class Batched(nn.Module):
    """A network whose batches run as is faster: on a CPU their samples together or one after the other, on a GPU
    launch by launch or as one graph.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._forget()

    def _forget(self) -> None:
        self._fastest: dict[int, Fastest] = {}
        self._graphs = Graphs()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fastest": {}, "_graphs": Graphs()}  # a copy makes its own

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._forget()  # a graph holds the weights that were captured
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Any:
        """The network's answer."""
        if x.is_cuda:
            return self._on_cuda(x)
        if len(x) == 1 or x.device.type != "cpu":
            return self.network(x)
        return self._fastest.setdefault(len(x), Fastest([self.network, self._in_turn]))(x)

    def _on_cuda(self, x: Tensor) -> Any:
        if counting():
            return self.network(x)  # replays show no operations
        graph = self._graphs.of(self.network, [x], judge=lambda graph: self._slower(graph, x))
        return self.network(x) if isinstance(graph, str) else graph(x)

    def _slower(self, graph: Graph, x: Tensor) -> str:
        """Why the graph is not to be used, if it should not be."""
        replayed, launched = race([graph, self.network], x)
        return "" if replayed <= launched else "no faster as a graph"

    def details(self) -> dict[str, Any]:
        """On a GPU, by shape of batch, whether it ran as a graph, and why it did not."""
        ran = {shape: f"launch by launch: {why}" if why else "graph" for shape, why in self._graphs.reasons().items()}
        return {"execution": ran} if ran else {}

    def _in_turn(self, x: Tensor) -> Tensor:
        found = []
        for number, one in enumerate(torch.split(x, 1)):
            with samples([number]):
                found.append(self.network(one))
        return torch.cat(found)
