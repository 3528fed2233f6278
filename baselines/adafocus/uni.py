"""Uni-AdaFocus (Wang et al., "Uni-AdaFocus: Spatial-Temporal Dynamic Computation for Video Recognition", TPAMI 2024).

A cheap network glances at some of the candidate frames. From its maps a temporal policy says which frames, and a
spatial policy which box of each, a costly network focuses on; a video leaves as soon as its answer is sure enough.

Of the classifiers only those run that an answer is taken from. The published costs hold one for every glance frame and
every focus frame: with them ours are the published ones to the printed digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.adafocus.answers import PrefixAnswer, SumAnswer, head
from baselines.adafocus.classifier import frame_cross_entropy
from baselines.adafocus.crop import patches, scaled
from baselines.adafocus.exits import Criterion, Exits, Remaining, decaying, end_to_end
from baselines.adafocus.extractors import Extractor, extractor
from baselines.adafocus.looks import Looks
from baselines.adafocus.spatial import SpatialPolicy, boxes, interpolated_features, over_time
from baselines.adafocus.temporal import TemporalPolicy, expected_logits, segments, weighted_frames
from baselines.networks.resnet import pooled
from bench.cost import count_meta, samples
from bench.inference.optimise import with_optimised
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy


@dataclass(frozen=True)
class Scales:
    """Learning rates of the parts, relative to that of the focus network; the fastest part has the recipe's.

    The defaults are the published ones, for pretrained extractors whose own rate was 0.002; where all parts begin from
    nothing, they learn better with a classifier of 1.
    """

    glance: float = 0.5
    temporal: float = 0.2
    spatial: float = 0.2
    classifier: float = 20.0

    def __post_init__(self) -> None:
        """Checks every rate."""
        for name, rate in vars(self).items():
            if not rate > 0:
                raise ValueError(f"{name}_scale must be above 0, got {rate}")


class UniAdaFocus(Method):
    """Glance, temporal and spatial policy, focus, and answers on the way.

    width: 64 for the published policies. exits: one after the glance and one after every frame of the focus, or after
    the whole focus where the answer is a `SumAnswer`; None: none. shares: (exits,), of samples that are meant to leave
    at each. size_loss: weight of the loss that draws boxes to the whole frame (published: 1 for ActivityNet and FCVID,
    0.75 Mini-Kinetics, 0.5 Something-Something, 0.25 Jester).
    """

    def __init__(
        self,
        looks: Looks,
        classes: int,
        glance: Extractor,
        focus: Extractor,
        answer: PrefixAnswer | SumAnswer,
        *,
        width: int,
        exits: Exits | None,
        shares: Tensor,
        size_loss: float,
        scales: Scales,
    ) -> None:
        super().__init__()
        self.spec, self.looks = InputSpec("clip", looks.size, looks.frames), looks
        self.glance, self.focus, self.answer = glance, focus, answer
        self.temporal = TemporalPolicy(glance.channels, width)
        side, one_box = glance.side(looks.glance_size), not glance.framewise
        self.spatial = SpatialPolicy(glance.channels, looks.glances, side, 2 * width, one_box)
        self.interpolated_head = nn.Linear(glance.channels, classes)
        self.exits, self.shares, self.size_loss, self.scales = exits, shares, size_loss, scales
        self.steps = looks.focuses if exits is not None and isinstance(answer, PrefixAnswer) else 1
        self.parts = self._parts(side)

    def _parts(self, side: int) -> Mapping[str, int]:
        """Multiply-adds of a video part by part; of the focus, and of the answer after it, those of one step."""
        looks, channels, frames = self.looks, self.glance.channels, self.looks.focuses // self.steps
        answers = self.answer.macs(looks.glances, frames)
        return {
            "glance": count_meta(self.glance, (1, 3, looks.glances, looks.glance_size, looks.glance_size)).macs,
            "glance answer": answers[0],
            "temporal": count_meta(self.temporal, (1, looks.glances, channels)).macs,
            "spatial": count_meta(self.spatial, (1, channels, looks.glances, side, side)).macs,
            "focus": count_meta(self.focus, (1, 3, frames, looks.patch, looks.patch)).macs,
            "focus answer": answers[1],
        }

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits at the exit that a sample leaves at; after the whole focus in training, or without exits."""
        maps, features = self._glance(sample, self._middle(len(sample)))
        logits, state = self.answer.after_glance(features)
        if self.exits is None or self.training:
            clips = self._patches(sample, *self._chosen(maps, features))
            logits, _ = self.answer.after_focus(self._focus(clips), state, self.looks.focuses - 1)
            return self._all_on(logits)
        remaining = Remaining(self.exits, policy or Learned(), sample)
        kept = remaining.leave(0, logits)
        if len(kept):
            with samples(remaining.rows):
                frames, actions = self._chosen(maps[kept], features[kept])
            self._step_by_step(sample, frames, actions, state[kept], remaining)
        return Prediction(self.account(remaining.trace), remaining.trace, logits=remaining.logits)

    def _all_on(self, logits: Tensor) -> Prediction:
        """The prediction where nobody leaves early."""
        go_on = logits.new_tensor([[1.0, 0.0]]).expand(len(logits), 2)
        trace = {point: go_on for point in self.decisions()}
        cost = self.account(trace) if trace else torch.full((len(logits),), sum(self.parts.values()))
        return Prediction(cost, trace, logits=logits)

    def _step_by_step(
        self, sample: Tensor, frames: Tensor, actions: Tensor, state: Tensor, remaining: Remaining
    ) -> None:
        """The focus over the samples that have not left: `frames` (n, K), `actions` (n, 4, K) and `state` of each."""
        size = self.looks.focuses // self.steps
        for step in range(self.steps):
            now = slice(step * size, (step + 1) * size)
            with samples(remaining.rows):
                clips = self._patches(sample[remaining.rows], frames[:, now], actions[:, :, now])
                logits, state = self.answer.after_focus(self._focus(clips), state, now.stop - 1)
            kept = remaining.leave(step + 1, logits)
            if not len(kept):
                break
            frames, actions, state = frames[kept], actions[kept], state[kept]

    def optimised(self) -> UniAdaFocus:
        """With the convolutions of glance, focus and spatial policy in their fastest form."""
        looks, side = self.looks, self.glance.side(self.looks.glance_size)
        shapes = {
            "glance": (1, 3, looks.glances, looks.glance_size, looks.glance_size),
            "focus": (1, 3, looks.focuses // self.steps, looks.patch, looks.patch),
            "spatial": (1, self.glance.channels, looks.glances, side, side),
        }
        return with_optimised(self, shapes)

    def every_exit(self, sample: Tensor) -> Tensor:
        """Logits (B, exits, classes) at every exit, all of them computed."""
        maps, features = self._glance(sample, self._middle(len(sample)))
        focused = self._focus(self._patches(sample, *self._chosen(maps, features)))
        return self.answer.every(features, focused)[:, -1 - self.steps :]

    def _middle(self, videos: int) -> Tensor:
        """The middle frame of every part, (videos, T)."""
        first, length = segments(self.looks.frames, self.looks.glances)
        return (first + (length - 1) // 2).to(self.device).expand(videos, -1)

    def _anywhere(self, videos: int) -> Tensor:
        """A random frame of every part, (videos, T)."""
        first, length = (part.to(self.device) for part in segments(self.looks.frames, self.looks.glances))
        return first + (torch.rand(videos, len(first), device=self.device) * length).long().minimum(length - 1)

    def _glance(self, sample: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, C, T, h, w) of the frames (B, T), and features (B, T, C)."""
        size = self.looks.glance_size
        clips = taken(sample, frames)
        if size < self.looks.size:
            clips = F.interpolate(clips, (clips.shape[2], size, size), mode="trilinear")
        maps = self.glance(clips)
        return maps, pooled(maps)

    def _chosen(self, maps: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The frames (N, K) to focus on by the temporal policy, and the spatial policy's actions (N, 4, K) for them."""
        half = features.new_full((1,), 0.5)
        frames = weighted_frames(self.temporal(features).exp(), self.looks.frames, self.looks.focuses, half)
        return frames, self._at(self.spatial(maps), frames)

    def _at(self, actions: Tensor, frames: Tensor) -> Tensor:
        """Actions (N, 4, T) of the glance, or one for all, at the frames (N, K): (N, 4, K)."""
        return over_time(actions, self.looks.frames).gather(2, frames.unsqueeze(1).expand(-1, 4, -1))

    def _patches(self, sample: Tensor, frames: Tensor, actions: Tensor) -> Tensor:
        """What the boxes show of the frames (N, K): (N, 3, K, patch, patch)."""
        place, extent = boxes(actions, self.looks.smallest, self.looks.size)
        return patches(taken(sample, frames), place, extent, self.looks.patch)

    def _focus(self, clips: Tensor) -> Tensor:
        """Features (N, K, C) of patches."""
        return pooled(self.focus(clips))

    def decisions(self) -> Mapping[str, Tensor]:
        """[go on, stop] at every exit but the last, where there are exits."""
        return self.exits.decisions() if self.exits is not None else {}

    def account(self, trace: Trace) -> Tensor:
        """The glance; for those that go on the policies, and the focus up to the exit they leave at."""
        if self.exits is None:
            return super().account(trace)
        parts, steps = self.parts, self.exits.reached(trace).cpu()
        policies = (steps > 0) * (parts["temporal"] + parts["spatial"])
        return parts["glance"] + parts["glance answer"] + policies + steps * (parts["focus"] + parts["focus answer"])

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One stage end to end; with exits another, which sets their thresholds on training data held out of it."""
        return end_to_end(self, self._groups(), self._loss, recipe, self.exits, self.every_exit, self.shares)

    def _groups(self) -> list[dict[str, Any]]:
        """Every parameter in the group of its part; the recipe's rate is that of the fastest."""
        answer = self.answer
        parts: list[tuple[float, list[nn.Module]]] = [
            (self.scales.glance, [self.glance, answer.glance_head, self.interpolated_head]),
            (self.scales.temporal, [self.temporal]),
            (self.scales.spatial, [self.spatial]),
            (1.0, [self.focus, answer.focus_head]),
        ]
        if isinstance(answer, PrefixAnswer):
            own: list[nn.Module] = [answer.glance_embedding, answer.focus_embedding, answer.glance_fc, answer.focus_fc]
            parts.append((self.scales.classifier, own))
        fastest = max(scale for scale, _ in parts)
        return [
            {"params": [p for part in some for p in part.parameters()], "scale": scale / fastest}
            for scale, some in parts
        ]

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of all answers and heads, mean over the policy's and random patches, and what teaches policies.

        The patches' actions are detached: the spatial policy learns from the glance maps, the temporal one from what
        the glance says of the frames that it would draw.
        """
        sample, target, looks = batch.sample, batch.target, self.looks
        maps, features = self._glance(sample, self._anywhere(len(sample)))
        log_weights, actions = self.temporal(features), self.spatial(maps.detach())
        framewise = self.answer.glance_head(features)
        noise = torch.rand(len(sample), looks.focuses, device=sample.device)
        frames = weighted_frames(log_weights.detach().exp(), looks.frames, looks.focuses, noise)
        focused = self._focus(self._both_patches(sample, frames, self._at(actions.detach(), frames)))
        logits = self.answer.every(features.repeat(2, 1, 1), focused)
        twice, judged = target.repeat(2), self.answer.judged
        loss = (
            frame_cross_entropy(logits, twice)
            + frame_cross_entropy(judged(framewise), target)
            + frame_cross_entropy(judged(self.answer.focus_head(focused)), twice)
            + F.cross_entropy(expected_logits(framewise, log_weights, max(1, looks.glances // 3)), target)
            + self._spatial_loss(maps.detach().to(sample.dtype), actions, target)
        )
        correct = (logits[:, -1].argmax(1) == twice).float().view(2, -1).mean(1)
        logged = {"correct": correct[0], "correct_random": correct[1], "extent": actions[:, 2:].detach().mean()}
        return loss, {name: float(value) for name, value in logged.items()}

    def _both_patches(self, sample: Tensor, frames: Tensor, actions: Tensor) -> Tensor:
        """The policy's patches of the frames (B, K), and after them random ones of `patch` pixels: (2B, 3, K, P, P)."""
        clips, patch = taken(sample, frames), self.looks.patch
        place, extent = boxes(actions, self.looks.smallest, self.looks.size)
        anywhere = torch.rand_like(place)
        return torch.cat(
            [patches(clips, place, extent, patch), patches(clips, anywhere, torch.full_like(extent, patch), patch)]
        )

    def _spatial_loss(self, maps: Tensor, actions: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of what the boxes show of the maps (B, C, T, h, h), and the price of narrow boxes."""
        cell = maps.shape[-1] / self.looks.size
        out = max(1, round(self.looks.patch * cell))
        features = interpolated_features(maps, actions.expand(-1, -1, maps.shape[2]), self.looks.smallest * cell, out)
        narrow = (1 - actions[:, 2:]).square().mean()
        return F.cross_entropy(self.interpolated_head(features), target) + self.size_loss * narrow


def taken(clips: Tensor, frames: Tensor) -> Tensor:
    """The frames (N, K) of clips (N, C, T, H, W): (N, C, K, H, W)."""
    rows = torch.arange(len(clips), device=clips.device).unsqueeze(1)
    return clips.transpose(1, 2)[rows, frames].transpose(1, 2)


def uni_adafocus(
    *,
    frames: int = 48,
    size: int = 224,
    classes: int,
    width: int = 64,
    glances: int | None = None,
    focuses: int | None = None,
    patch: int | None = None,
    smallest: int | None = None,
    glance: str = "mobilenet_v2",
    focus: str = "resnet50",
    glance_size: int | None = None,
    glance_blocks: Sequence[int] | None = None,
    focus_blocks: Sequence[int] | None = None,
    exits: bool = True,
    exit_decay: float = 1.0,
    criterion: Criterion = "confidence",
    size_loss: float = 1.0,
    glance_scale: float = 0.5,
    temporal_scale: float = 0.2,
    spatial_scale: float = 0.2,
    classifier_scale: float = 20.0,
) -> UniAdaFocus:
    """Uni-AdaFocus on `frames` candidate frames, with options as of `Looks`, `extractor`, `Exits` and `UniAdaFocus`.

    glances, focuses: by default a third of the frames each, rounded up. patch, smallest: by default 128 and 96 of 224
    pixels. glance_size: by default `size`, for X3D 160 of 224 pixels. exit_decay: q, of the samples a share
    proportional to q^k is meant to leave at exit k. glance_scale, ...: learning rates as of `Scales`.

    Raises:
        ValueError: an option that cannot be.
    """
    third = -(-frames // 3)
    looks = Looks(
        frames=frames,
        size=size,
        glances=third if glances is None else glances,
        focuses=third if focuses is None else focuses,
        glance_size=(scaled(160, size) if glance.startswith("x3d") else size) if glance_size is None else glance_size,
        patch=scaled(128, size) if patch is None else patch,
        smallest=scaled(96, size) if smallest is None else smallest,
    )
    glancing = extractor(glance, width, glance_blocks, looks.glances)
    focusing = extractor(focus, width, focus_blocks, looks.focuses)
    answer = _answer((glance, focus), (glancing, focusing), classes, width, looks)
    number = 1 + (looks.focuses if glancing.framewise else 1)
    return UniAdaFocus(
        looks,
        classes,
        glancing,
        focusing,
        answer,
        width=width,
        exits=Exits(number, criterion) if exits else None,
        shares=decaying(number, exit_decay),
        size_loss=size_loss,
        scales=Scales(glance_scale, temporal_scale, spatial_scale, classifier_scale),
    )


def _answer(
    names: tuple[str, str], extractors: tuple[Extractor, Extractor], classes: int, width: int, looks: Looks
) -> PrefixAnswer | SumAnswer:
    """What answers from glance and focus, by whether their networks look at single frames."""
    glancing, focusing = extractors
    if glancing.framewise != focusing.framewise:
        raise ValueError(
            f"{names[0]} and {names[1]} do not go together: one looks at single frames, the other at all at once"
        )
    if glancing.framewise:
        return PrefixAnswer(glancing.channels, focusing.channels, 64 * width, classes, looks)
    heads = [head(name, part.channels, classes, width) for name, part in zip(names, extractors, strict=True)]
    return SumAnswer(*heads)
