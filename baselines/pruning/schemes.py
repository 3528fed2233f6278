"""What is cut, and what that leaves: single weights, two of every four, or whole filters.

Every scheme keeps masks as buffers called `mask` of the layers that it cuts, so that they are saved with the weights,
and only ever closes more of them. Thresholds are found on multiply-adds, not on parameters: a weight counts as often as
it is used, once for every output position.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.pruning.chains import depthwise, find_chains
from bench.cost import Count

Scope = Literal["global", "layer"]
Layer = nn.Conv2d | nn.Conv3d | nn.Linear
LAYERS = (nn.Conv2d, nn.Conv3d, nn.Linear)  # these and no others: a subclass may do something else with its weights
Masked = Iterator[tuple[Tensor, Tensor]]


class Scheme(ABC):
    """The masks of one network.

    floor: the fewest multiply-adds that can be left.
    """

    floor: int

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiply-adds that are left."""

    @abstractmethod
    def cut(self, macs: int) -> None:
        """Closes masks, those of what matters least, until at most `macs` multiply-adds are left; `floor` or more."""

    @abstractmethod
    def masked(self) -> Masked:
        """Every parameter that is cut, with a mask that broadcasts to it; a parameter may come with several."""


class _Elements(Scheme):
    """Masks of single weights, each of which is worth as many multiply-adds as the layer has output positions."""

    def __init__(self, network: nn.Module, count: Count) -> None:
        self.network, self.positions = network, dict[str, int]()
        for name, layer in network.named_modules():
            macs = count.by_module.get(name, 0)  # 0: what does not run is not cut
            if type(layer) in LAYERS and self._fits(layer) and macs and macs % layer.weight.numel() == 0:
                self.positions[name] = macs // layer.weight.numel()
                layer.register_buffer("mask", torch.ones_like(layer.weight, dtype=torch.bool))
        self.fixed = count.macs - sum(count.by_module[name] for name in self.positions)

    def _fits(self, layer: Layer) -> bool:
        return True

    def _layers(self) -> Iterator[tuple[Layer, Tensor, int]]:
        """Layers, masks and positions."""
        for name, positions in self.positions.items():
            layer = self.network.get_submodule(name)
            assert isinstance(layer, Layer)
            yield layer, layer.get_buffer("mask"), positions

    @property
    def macs(self) -> int:
        """Non-zeros × positions, and what no mask governs."""
        return self.fixed + sum(positions * int(mask.sum()) for _, mask, positions in self._layers())

    def masked(self) -> Masked:
        """The weights; biases are kept."""
        for layer, mask, _ in self._layers():
            yield layer.weight, mask


class Weights(_Elements):
    """The smallest weights of all convolutions and linear layers, the first and the classifier's included (Han et al.).

    scope: "global", one threshold on |w|; "layer", a threshold of each layer, its quality parameter times the standard
    deviation of the weights that it has left, with one quality parameter. The cost ends below what is asked by less
    than a single weight's. Every layer keeps its largest weight.
    """

    def __init__(self, network: nn.Module, count: Count, scope: Scope) -> None:
        super().__init__(network, count)
        self.scope = scope
        self.floor = self.fixed + sum(self.positions.values())

    @torch.no_grad()
    def cut(self, macs: int) -> None:
        """See `Scheme.cut`; sorts all weights."""
        layers = list(self._layers())
        order = torch.cat([self._scores(layer.weight, mask) for layer, mask, _ in layers]).argsort(stable=True)
        worth = torch.cat([torch.full((mask.numel(),), n, dtype=torch.int32) for _, mask, n in layers]).to(order.device)
        dense = self.fixed + int(worth.sum())
        left = dense - worth[order].cumsum(0)
        many = 0 if dense <= macs else int((left > macs).sum()) + 1
        keep = torch.ones_like(order, dtype=torch.bool)
        keep[order[:many]] = False
        parts = torch.split(keep, [mask.numel() for _, mask, _ in layers])
        for (_, mask, _), part in zip(layers, parts, strict=True):
            mask &= part.view_as(mask)

    def _scores(self, weight: Tensor, mask: Tensor) -> Tensor:
        size = weight.abs()
        if self.scope == "layer":
            size = size / weight[mask].std(correction=0).clamp_min(1e-12)
        return _ranked(size, mask)


class TwoOfFour(_Elements):
    """The two smallest of every four weights along the inputs of 1×1×1 convolutions and linear layers.

    The one pattern that devices have kernels for (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
    What the inputs have over a multiple of four is kept. The pattern leaves what it leaves, whatever is asked.
    """

    floor = 0

    def _fits(self, layer: Layer) -> bool:
        """1×1×1, with four inputs or more."""
        return layer.weight.shape[1] >= 4 and layer.weight[0, 0].numel() == 1

    @torch.no_grad()
    def cut(self, macs: int) -> None:
        """See `Scheme.cut`."""
        for layer, mask, _ in self._layers():
            whole = layer.weight.shape[1] // 4 * 4
            scores = _ranked(layer.weight.abs(), mask).view(len(mask), -1)[:, :whole].reshape(-1, 4)
            keep = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(2).indices, True)
            mask[:, :whole] &= keep.view_as(mask[:, :whole])


class Channels(Scheme):
    """The filters with the smallest L1 norm of all ungrouped convolutions (Li et al., ICLR 2017).

    With a filter go its bias, and its channel's scale, shift and depthwise taps in the links of its chain, so that the
    channel is exactly zero to the chain's end; and its weights in the consumer. scope: "global", filters of all layers
    are ranked by norm over their layer's mean norm; "layer", every layer loses the same share. The cost ends below what
    is asked by less than a single filter's. Every convolution keeps a filter; classifiers are not cut.
    """

    def __init__(self, network: nn.Module, count: Count, shape: Sequence[int], scope: Scope) -> None:
        self.network, self.scope, self.chains = network, scope, find_chains(network, shape)
        touched: dict[str, list[int]] = {}
        for number, chain in enumerate(self.chains):
            conv = self._conv(chain.conv)
            conv.register_buffer("mask", torch.ones(conv.out_channels, dtype=torch.bool, device=conv.weight.device))
            links = [name for name in chain.links if depthwise(network.get_submodule(name))]
            for name in (chain.conv, *links, *([chain.consumer] if chain.consumer else [])):
                touched.setdefault(name, []).append(number)
        self.sizes = [len(mask) for mask in self._masks()]
        self.fixed = count.macs - sum(count.by_module[name] for name in touched)
        # A layer costs its unit times the channels left of every chain that it is in.
        self.units = [
            (count.by_module[name] // math.prod(self.sizes[n] for n in numbers), numbers)
            for name, numbers in touched.items()
        ]
        self.floor = self._cost([1] * len(self.chains))

    def _conv(self, name: str) -> nn.Conv2d | nn.Conv3d:
        conv = self.network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        return conv

    def _masks(self) -> list[Tensor]:
        return [self._conv(chain.conv).get_buffer("mask") for chain in self.chains]

    def _cost(self, left: Sequence[int]) -> int:
        return self.fixed + sum(unit * math.prod(left[n] for n in numbers) for unit, numbers in self.units)

    @property
    def macs(self) -> int:
        """As the network's compact form executes them."""
        return self._cost([int(mask.sum()) for mask in self._masks()])

    @torch.no_grad()
    def cut(self, macs: int) -> None:
        """See `Scheme.cut`."""
        masks = self._masks()
        pairs = zip(self.chains, masks, strict=True)
        order = torch.cat([self._scores(self._conv(c.conv).weight, mask) for c, mask in pairs]).argsort(stable=True)
        sizes = torch.tensor(self.sizes)
        owner = torch.arange(len(masks)).repeat_interleave(sizes)[order.cpu()]

        def fits(many: int) -> bool:
            left = sizes - owner[:many].bincount(minlength=len(masks))
            return self._cost(left.tolist()) <= macs

        keep = torch.ones_like(order, dtype=torch.bool)
        keep[order[: bisect.bisect_left(range(len(order)), True, key=fits)]] = False
        for mask, part in zip(masks, torch.split(keep, self.sizes), strict=True):
            mask &= part

    def _scores(self, weight: Tensor, mask: Tensor) -> Tensor:
        norms = weight.abs().flatten(1).sum(1)
        if self.scope == "global":
            return _ranked(norms / norms[mask].mean().clamp_min(1e-12), mask)
        ranks = _ranked(norms, mask).argsort(stable=True).argsort()
        return _ranked(ranks / len(ranks), mask)

    def masked(self) -> Masked:
        """All that goes with the filters."""
        for chain, mask in zip(self.chains, self._masks(), strict=True):
            for name in (chain.conv, *chain.links):
                for weight in self.network.get_submodule(name).parameters(recurse=False):
                    yield weight, mask.view(-1, *[1] * (weight.dim() - 1))
            if chain.consumer:
                consumed = self._conv(chain.consumer).weight
                yield consumed, mask.view(-1, *[1] * (consumed.dim() - 2))


def _ranked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores in one row, with what is closed before everything else, and the best, which stays, behind it."""
    scores = scores.masked_fill(~mask, -math.inf).flatten()
    scores[scores.argmax()] = math.inf
    return scores
