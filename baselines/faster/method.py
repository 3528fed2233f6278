"""FASTER as a method of the harness: clip networks by a pattern, their aggregation, the two stages of training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from baselines.faster.aggregation import Aggregation, MapRecurrence, aggregate, pool
from bench import registry
from bench.cost import count_meta
from bench.gradient_stage import GradientStage
from bench.inference.optimise import with_optimised
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage
from bench.policy import Policy
from bench.task import logged_loss


class ClipNetwork(nn.Module):
    """A network on clips (B, C, T, H, W), cut at its last feature map, with its own classifier.

    clip: the shape of one clip (C, T, H, W).

    Raises:
        ValueError: the network is not made of `stem`, `stages` and a linear `head` on the pooled map.
    """

    def __init__(self, network: nn.Module, clip: Sequence[int]) -> None:
        super().__init__()
        stem, stages, head = (getattr(network, part, None) for part in ("stem", "stages", "head"))
        if not (isinstance(stem, nn.Module) and isinstance(stages, nn.Module) and isinstance(head, nn.Linear)):
            raise ValueError(f"faster takes R(2+1)D networks and CorrNets, not {type(network).__name__}")
        self.trunk, self.head = nn.Sequential(stem, stages), head
        self.match: nn.Module = nn.Identity()
        weights = {name: value.to("meta") for name, value in self.trunk.state_dict().items()}
        with torch.no_grad():
            one = functional_call(self.trunk.eval(), weights, torch.empty(1, *clip, device="meta"))
        self.trunk.train()
        self.shape = tuple(one.shape[1:])
        """Of the feature map of one clip: channels, frames, height, width."""

    def widen(self, channels: int) -> None:
        """Brings the maps that are aggregated to `channels` channels by a 1×1×1 convolution, where they have others."""
        if channels != self.shape[0]:
            convolution = nn.Conv3d(self.shape[0], channels, 1, bias=False)
            self.match = nn.Sequential(convolution, nn.BatchNorm3d(channels), nn.ReLU(inplace=True))

    def classify(self, clips: Tensor) -> Tensor:
        """The logits of each clip by itself."""
        out: Tensor = self.head(pool(self.trunk(clips)))
        return out

    def forward(self, clips: Tensor) -> Tensor:
        """The maps that are aggregated."""
        out: Tensor = self.match(self.trunk(clips))
        return out


class ClipSequence(nn.Module):
    """Clip networks by a pattern, and what makes one answer of their clips: (B, N, C, T, H, W) to (B, classes).

    networks: by letter, those of the pattern only. pattern: the letter of each of the N clips. aggregator: takes the
    maps (B, N, C', T', H', W'); without one, logits are averaged. Each network runs once, on its clips of all samples.
    """

    def __init__(self, networks: Mapping[str, ClipNetwork], pattern: str, aggregator: nn.Module | None) -> None:
        super().__init__()
        self.networks, self.aggregator = nn.ModuleDict(networks), aggregator
        self.places = {letter: [place for place, of in enumerate(pattern) if of == letter] for letter in networks}
        by_network = [place for places in self.places.values() for place in places]
        self.order = [by_network.index(place) for place in range(len(pattern))]

    def named_networks(self) -> Iterable[tuple[str, ClipNetwork]]:
        """Letters and networks."""
        return cast(Iterable[tuple[str, ClipNetwork]], self.networks.items())

    def forward(self, sample: Tensor) -> Tensor:
        """Class logits."""
        if self.aggregator is None:
            return torch.cat(list(self.clip_logits(sample).values()), 1).mean(1)
        maps = [self._on_its_clips(sample, letter, network) for letter, network in self.named_networks()]
        out: Tensor = self.aggregator(torch.cat(maps, 1)[:, self.order])
        return out

    def clip_logits(self, sample: Tensor) -> dict[str, Tensor]:
        """Letter -> the logits (B, n, classes) of the n clips of that network."""
        networks = self.named_networks()
        return {letter: self._on_its_clips(sample, letter, network.classify) for letter, network in networks}

    def _on_its_clips(self, sample: Tensor, letter: str, part: Callable[[Tensor], Tensor]) -> Tensor:
        places = self.places[letter]
        out = part(sample[:, places].flatten(0, 1))
        return out.view(len(sample), len(places), *out.shape[1:])


class Faster(Method):
    """A video classifier that spends its multiply-adds on few of a video's clips.

    aggregation_share: of all epochs, for the second stage. backbone_scale: learning rate of the clip networks there,
    relative. Neither is known from the paper.

    Raises:
        ValueError: a share or a scale that is not in 0..1.
    """

    def __init__(
        self, network: ClipSequence, spec: InputSpec, *, aggregation_share: float = 0.4, backbone_scale: float = 0.1
    ) -> None:
        super().__init__()
        if not 0 <= aggregation_share <= 1 or not 0 <= backbone_scale <= 1:
            raise ValueError("aggregation_share and backbone_scale must be in 0..1")
        self.network, self.spec = network, spec
        self.aggregation_share, self.backbone_scale = aggregation_share, backbone_scale

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-adds of one video."""
        return count_meta(self.network, self.spec.shape(1)).macs

    def details(self) -> dict[str, Any]:
        """Multiply-adds of one video by its clips, as the paper states them: (E + (n - 1)·C)/n and the aggregation."""
        return {"multiply-adds per clip": self.macs / self.spec.clips}

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits of videos (B, N, C, T, H, W), at the same cost for all: the pattern looks at nothing."""
        cost = torch.full((len(sample),), self.macs, dtype=torch.int64)
        return Prediction(cost, logits=self.network(sample))

    def optimised(self) -> Faster:
        """With the clip networks, and the gates of FAST-GRU, in their fastest form."""
        clip, aggregator = (1, *self.spec.shape(1)[2:]), self.network.aggregator
        parts: dict[str, tuple[int, ...]] = {f"network.networks.{name}": clip for name in self.network.networks}
        if isinstance(aggregator, MapRecurrence):
            size = next(network.shape[1:] for _, network in self.network.named_networks())  # alike for all
            both = (1, 2 * aggregator.head.in_features, *size)
            parts |= {f"network.aggregator.cell.{gate}": both for gate in ("read", "update")}
        fast = with_optimised(self, parts)
        fast.macs = self.macs  # by the convention: products may leave out taps that see only padding
        return fast

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The clip networks, each on its own clips; then the aggregator, and the clip networks at a lower rate.

        The average of logits has nothing to train in a second stage: its first takes all epochs.
        """
        aggregator, networks = self.network.aggregator, dict(self.network.named_networks()).values()
        shares = (1.0,) if aggregator is None else (1 - self.aggregation_share, self.aggregation_share)
        epochs = recipe.divided(shares)
        if epochs[-1] == 0:  # a single epoch: an aggregator that was never trained would answer
            epochs = [0, recipe.epochs]
        clips: list[dict[str, Any]] = [{"params": part.parameters()} for n in networks for part in (n.trunk, n.head)]
        stages = [GradientStage("clips", self, clips, self._clip_loss, recipe, epochs[0])]
        if aggregator is not None:
            groups: list[dict[str, Any]] = [
                {"params": [p for part in (aggregator, *(n.match for n in networks)) for p in part.parameters()]},
                {"params": [p for n in networks for p in n.trunk.parameters()], "scale": self.backbone_scale},
            ]
            loss = functools.partial(logged_loss, self.network)
            stages.append(GradientStage("sequence", self, groups, loss, recipe, epochs[1]))
        return stages

    def _clip_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The sum over networks of the mean cross-entropy of their clips: each learns as if it were alone."""
        losses, logged = [], {}
        for letter, logits in self.network.clip_logits(batch.sample).items():
            target = batch.target.repeat_interleave(logits.shape[1])
            losses.append(F.cross_entropy(logits.flatten(0, 1), target))
            logged[f"correct_{letter}"] = _correct(logits.flatten(0, 1), target)
        return torch.stack(losses).sum(), logged


def _correct(logits: Tensor, target: Tensor) -> float:
    return float((logits.argmax(1) == target).float().mean())


def faster(
    *,
    frames: int,
    size: int,
    classes: int,
    width: int = 64,
    clips: int = 4,
    pattern: str = "ECCC",
    aggregation: Aggregation = "fast_gru",
    reduction: int = 4,
    expensive: str = "r2plus1d_50",
    cheap: str = "r2plus1d_26",
    expensive_options: Mapping[str, Any] | None = None,
    cheap_options: Mapping[str, Any] | None = None,
    aggregation_share: float = 0.4,
    backbone_scale: float = 0.1,
) -> Faster:
    """FASTER on videos of `clips` clips of `frames` frames each.

    pattern: E for the expensive and C for the cheap network, repeated over the clips; a network that it does not name
    is not built, so that "E" and "C" are the controls. reduction: of the channels in FAST-GRU's gates. expensive,
    cheap: registered networks of the R(2+1)D family. expensive_options, cheap_options: theirs, besides `width`, which
    both get. Others as of `Faster`.

    Raises:
        ValueError: an option that cannot be.
        RegistryError: a network, or an option of one, that cannot be.
    """
    if clips < 1 or not pattern or set(pattern) - {"E", "C"}:
        raise ValueError(f"faster needs 1 clip or more and a pattern of E and C, got {clips} and {pattern!r}")
    spec = InputSpec("clips", size, frames, clips, unit="video")
    letters = (pattern * clips)[:clips]
    given = {"E": (expensive, expensive_options), "C": (cheap, cheap_options)}
    networks = {}
    for letter in sorted(set(letters)):
        name, options = given[letter][0], {"width": width, **(given[letter][1] or {})}
        if registry.WEIGHTS in options:
            raise ValueError(f"{name} under faster is trained in its own first stage, it takes no weights")
        network = registry.build_network(name, frames=frames, size=size, classes=classes, **options)
        networks[letter] = ClipNetwork(network, spec.shape()[2:])
    aggregator = None
    if aggregation != "average":
        aggregator = aggregate(aggregation, _alike(networks.values()), clips, classes, reduction)
    return Faster(
        ClipSequence(networks, letters, aggregator),
        spec,
        aggregation_share=aggregation_share,
        backbone_scale=backbone_scale,
    )


def _alike(networks: Iterable[ClipNetwork]) -> int:
    """Gives the networks' maps the same channels, as many as the widest has, and says how many.

    Raises:
        ValueError: they differ in time or space.
    """
    sizes = {network.shape[1:] for network in networks}
    if len(sizes) > 1:
        raise ValueError(f"clips can be aggregated from feature maps of one size only, not of {sorted(sizes)}")
    channels: int = max(network.shape[0] for network in networks)
    for network in networks:
        network.widen(channels)
    return channels
