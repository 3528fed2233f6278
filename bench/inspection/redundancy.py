"""How alike the feature maps of a network are, along time and along channels: CC, RMSE and RP.

Here and not in `vared`, since it looks at the convolutions of any network and knows nothing of the method that makes
use of what it finds. Definitions and thresholds are those of `bench.inspection.settings.Rule`.

Along time, the T maps of one channel are compared with each other; along channels, the C maps of one frame. Of each
such group CC is the mean Pearson correlation over pairs, RMSE the mean root mean square error over pairs, and RP the
share of its maps that are redundant: that have at least one other map in the group that passes the thresholds. They
are averaged over the groups of a layer and a clip, then over clips; a network's figure is the mean over its layers.

A constant map has no correlation. A pair with one is left out of CC and counts in RMSE; two constant maps differ by a
shift at most, so each makes the other redundant. A layer with one frame has no pairs in time.

Source: VA-RED² (ICLR 2021), redundancy experiments; the paper's own rule is not in the sources read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bench.inspection.settings import Rule

ALONG = ("temporal", "channel")
FIGURES = tuple(f"{along}.{name}" for along in ALONG for name in ("CC", "RMSE", "RP"))
"""The columns of what is found of each clip."""

VALUES = 1 << 24  # that one step of the comparison holds at a time, as float64
FLAT = 1e-12  # variance over mean square below which a map of float32 is constant


@dataclass(frozen=True)
class Likeness:
    """How alike N maps of each of G groups are.

    cc: correlation of every pair (G, N, N), NaN where one of the two is constant. rmse: (G, N, N).
    counted: the pairs (N, N) that are compared. alike: those of them that pass the thresholds (G, N, N), symmetric.
    """

    cc: Tensor
    rmse: Tensor
    counted: Tensor
    alike: Tensor

    def figures(self) -> Tensor:
        """CC, RMSE and RP of each group, (G, 3); CC is NaN where no pair has one, all are where there is no pair."""
        pairs = self.counted.triu(1)
        cc, rmse = self.cc[:, pairs], self.rmse[:, pairs]
        redundant = self.alike.any(2).double().mean(1)
        if not bool(pairs.any()):
            redundant = torch.full_like(redundant, float("nan"))
        return torch.stack([cc.nanmean(1), rmse.mean(1), redundant], 1)


def likeness(maps: Tensor, rule: Rule, neighbours: bool = False) -> Likeness:
    """Compares maps (G, N, P) of P pixels within each group, float64; all pairs, or neighbours only."""
    count, pixels = maps.shape[1:]
    mean = maps.mean(2, keepdim=True)
    centred = maps - mean
    products = centred @ centred.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    flat = squares <= FLAT * maps.square().sum(2)
    norm = squares.sqrt().masked_fill(flat, float("nan"))
    cc = (products / (norm.unsqueeze(2) * norm.unsqueeze(1))).clamp(-1, 1)
    between = squares.unsqueeze(2) + squares.unsqueeze(1) - 2 * products
    rmse = (between.clamp(min=0) / pixels + (mean - mean.transpose(1, 2)).square()).sqrt()
    apart = torch.arange(count, device=maps.device)
    apart = (apart.unsqueeze(0) - apart.unsqueeze(1)).abs()
    counted = apart == 1 if neighbours else apart > 0
    alike = (cc >= rule.correlation) | (flat.unsqueeze(2) & flat.unsqueeze(1))
    if rule.rmse is not None:
        alike = alike & (rmse <= rule.rmse)
    return Likeness(cc, rmse, counted, alike & counted)


def compare(maps: Tensor, rule: Rule) -> Tensor:
    """The figures of each clip's maps (B, C, T, H, W) of one layer, (B, 6) in the order of FIGURES."""
    channels, frames, pixels = maps.shape[1], maps.shape[2], maps.shape[3] * maps.shape[4]
    most = channels * frames * max(pixels, channels, frames)
    parts = torch.split(maps.flatten(3), max(1, VALUES // most))
    return torch.cat([_compared(part.double(), rule) for part in parts])


def _compared(maps: Tensor, rule: Rule) -> Tensor:
    """Of a few clips (B, C, T, P)."""
    if rule.scale == "range":
        span = maps.amax((1, 2, 3), keepdim=True) - maps.amin((1, 2, 3), keepdim=True)
        maps = maps / torch.where(span > 0, span, 1)
    found = []
    for along, grouped in zip(ALONG, (maps, maps.transpose(1, 2)), strict=True):
        neighbours = along == "temporal" and rule.pairs == "neighbours"
        figures = likeness(grouped.flatten(0, 1), rule, neighbours).figures()
        found.append(torch.unflatten(figures, 0, grouped.shape[:2]).nanmean(1))
    return torch.cat(found, 1)


@dataclass
class Sums:
    """What is kept of a layer whose maps are (channels, frames, height, width): sums over clips of the six figures."""

    shape: tuple[int, ...]
    total: Tensor = field(default_factory=lambda: torch.zeros(len(FIGURES), dtype=torch.float64))
    clips: Tensor = field(default_factory=lambda: torch.zeros(len(FIGURES), dtype=torch.int64))

    def add(self, figures: Tensor) -> None:
        """Adds those of some clips, (B, 6); what is not defined for a clip is not counted."""
        self.total += figures.nansum(0)
        self.clips += (~figures.isnan()).sum(0)

    @property
    def mean(self) -> Tensor:
        """Over clips (6,), NaN where nothing is defined."""
        return self.total / self.clips


class Redundancy:
    """The redundancy of a network's convolutions, summed up over a stream of clips; memory does not grow with them.

    layers: sums by the name of the convolution, in order of execution. left_out: others by name, and why.
    """

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        self.network, self.rule = network, rule
        self.layers: dict[str, Sums] = {}
        self.left_out: dict[str, str] = {}

    @torch.no_grad()
    def add(self, sample: Tensor) -> Tensor:
        """Runs a batch through the network; gives the mean over layers of each sample's figures, (B, 6), or NaN."""
        found: dict[str, list[Tensor]] = {}

        def see(name: str, maps: Tensor) -> None:
            if (seen := self._seen(name, maps, len(sample))) is not None:
                found.setdefault(name, []).append(compare(seen, self.rule).cpu())

        with watched(self.network, see):
            self.network(sample)
        each = {name: torch.stack(calls).nanmean(0) for name, calls in found.items()}
        for name, figures in each.items():
            self.layers[name].add(figures)
        nothing = torch.full((len(sample), len(FIGURES)), float("nan"), dtype=torch.float64)
        return torch.stack([nothing, *each.values()]).nanmean(0)

    def _seen(self, name: str, maps: Tensor, samples: int) -> Tensor | None:
        """A layer's output as the maps of each sample (B, C, T, H, W), or None where it is left out."""
        seen, why = as_clips(maps, samples)
        if seen is not None and (pixels := seen.shape[3] * seen.shape[4]) < self.rule.least_pixels:
            seen, why = None, f"maps of {pixels} pixels, of at least {self.rule.least_pixels}"
        if seen is None:
            self.left_out[name] = why
        else:
            self.layers.setdefault(name, Sums(tuple(seen.shape[1:])))
        return seen


def as_clips(maps: Tensor, samples: int) -> tuple[Tensor | None, str]:
    """A convolution's output as maps (B, C, T, H, W) of each sample; or None, and why not.

    A 2D convolution sees the frames of a clip as its batch, those of one sample after the other.
    """
    if maps.dim() == 4 and len(maps) % samples == 0:
        return torch.unflatten(maps, 0, (samples, -1)).transpose(1, 2), ""
    if maps.dim() == 5 and len(maps) == samples:
        return maps, ""
    return None, f"an output of shape {tuple(maps.shape)} for {samples} samples"


@contextmanager
def watched(network: nn.Module, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within it, `see` gets the name and output of each convolution as it runs, before anything overwrites it.

    Passes on the meta device, by which methods count themselves, have no values to see.
    """
    hooks = [
        module.register_forward_hook(lambda _, __, maps, name=name: None if maps.is_meta else see(name, maps))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
