"""AdaFocus V2 (Wang et al., "AdaFocus V2: End-to-End Training of Spatial Dynamic Networks", CVPR 2022).

A cheap network glances at every frame, a policy says from that where a costly one looks closely, and a classifier
answers from both for all frames so far. Where to look is learned through the crop's bilinear sampling. With exits a
sample that is sure leaves, and nothing of its later frames is computed.

Of the classifiers only those run that an answer is taken from. The published costs also hold the two auxiliary ones,
which act in training only, and one classifier a frame: with them ours are the published ones to the printed digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.adafocus.classifier import Embedding, PrefixClassifier, coarse_to_fine, frame_cross_entropy, running_max
from baselines.adafocus.crop import patches, scaled
from baselines.adafocus.exits import Criterion, Exits, Remaining, decaying, end_to_end
from baselines.adafocus.extractors import Extractor, extractor
from baselines.adafocus.place import PlacePolicy, spread
from baselines.networks.resnet import pooled
from bench.cost import count_meta, samples
from bench.inference.optimise import with_optimised
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy

PatchPolicy = Literal["learned", "random", "centre"]


class AdaFocusV2(Method):
    """Glance, policy, focus and one classifier for every number of frames seen.

    glance_size: pixels that the glance is scaled to. patch: pixels of what is looked at. width: 64 for the published
    policy and classifier. patch_policy: "learned"; "random" places in training, in evaluation those of `place.spread`;
    or the "centre". per_video: one place for all frames of a video, said after its last (Something-Something). exits:
    one for each frame, or None. exit_decay: q, of the samples a share proportional to q^k is meant to leave at exit k.

    Frames are taken coarse to fine where the extractors take them one by one, else in their order.

    Raises:
        ValueError: a patch or glance larger than the frame, an unknown policy, exits that could not skip a frame.
    """

    def __init__(
        self,
        spec: InputSpec,
        classes: int,
        glance: Extractor,
        focus: Extractor,
        *,
        glance_size: int,
        patch: int,
        width: int,
        patch_policy: PatchPolicy,
        per_video: bool,
        exits: Exits | None,
        exit_decay: float,
    ) -> None:
        super().__init__()
        framewise = glance.framewise and focus.framewise
        if not 1 <= patch <= spec.size or not 1 <= glance_size <= spec.size:
            raise ValueError(f"patch and glance_size must be in 1..{spec.size}, got {patch} and {glance_size}")
        if spec.frames < 1:
            raise ValueError(f"frames must be 1 or more, got {spec.frames}")
        if patch_policy not in get_args(PatchPolicy):
            raise ValueError(f"patch_policy must be one of {get_args(PatchPolicy)}, got {patch_policy!r}")
        if exits is not None and (per_video or not framewise):
            raise ValueError("exits need frames that are computed one by one: no shifts, no X3D, no place per video")
        self.spec, self.glance_size, self.patch, self.per_video = spec, glance_size, patch, per_video
        self.patch_policy, self.glance, self.focus = patch_policy, glance, focus
        self.order = coarse_to_fine(spec.frames) if framewise else list(range(spec.frames))
        self.exits, self.shares = exits, decaying(spec.frames, exit_decay)
        side, both, hidden = glance.side(glance_size), glance.channels + focus.channels, 64 * width
        self.place_policy = PlacePolicy(glance.channels, side, width) if patch_policy == "learned" else None
        self.embedding = Embedding(both, hidden)
        self.classifier = PrefixClassifier(hidden, classes, spec.frames)
        self.glance_head = nn.Sequential(nn.Dropout(0.2), nn.Linear(glance.channels, classes))
        self.focus_head = nn.Sequential(nn.Dropout(0.2), nn.Linear(focus.channels, classes))
        self.parts = self._parts()

    def _parts(self) -> Mapping[str, int]:
        """Multiply-adds of all frames of a video, part by part; of the classifier those of one prefix."""
        frames, side = self.spec.frames, self.glance.side(self.glance_size)
        parts = {
            "glance": count_meta(self.glance, (1, 3, frames, self.glance_size, self.glance_size)).macs,
            "focus": count_meta(self.focus, (1, 3, frames, self.patch, self.patch)).macs,
            "embedding": frames * self.embedding.linear.weight.numel(),
            "classifier": self.classifier.macs,
        }
        if self.place_policy is not None:
            parts["policy"] = count_meta(self.place_policy, (1, self.glance.channels, frames, side, side)).macs
        return parts

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits after the last frame, or, with exits and unless training, after the one a sample leaves at."""
        if self.exits is not None and not self.training:
            return self._one_by_one(sample, self.exits, policy or Learned())
        logits = self.classifier.at(-1, self._features(sample)[:, -1])
        go_on = sample.new_tensor([[1.0, 0.0]]).expand(len(sample), 2)
        trace = {point: go_on for point in self.decisions()}
        cost = self.account(trace) if trace else torch.full((len(sample),), sum(self.parts.values()))
        return Prediction(cost, trace, logits=logits)

    def optimised(self) -> AdaFocusV2:
        """With the convolutions of glance, focus and policy in their fastest form."""
        frames, side = 1 if self.exits is not None else self.spec.frames, self.glance.side(self.glance_size)
        shapes: dict[str, tuple[int, ...]] = {
            "glance": (1, 3, frames, self.glance_size, self.glance_size),
            "focus": (1, 3, frames, self.patch, self.patch),
        }
        if self.place_policy is not None:
            shapes["place_policy"] = (1, self.glance.channels, frames, side, side)
        return with_optimised(self, shapes)

    def prefix_logits(self, sample: Tensor) -> Tensor:
        """Logits (B, T, classes) after every frame, all of them computed."""
        return self.classifier(self._features(sample))  # type: ignore[no-any-return]

    def _one_by_one(self, sample: Tensor, exits: Exits, policy: Policy) -> Prediction:
        """Frame after frame over the samples that have not left."""
        remaining = Remaining(exits, policy, sample)
        state, known = None, None
        for exit, frame in enumerate(self.order):
            with samples(remaining.rows):
                clips = sample[:, :, frame : frame + 1][remaining.rows]
                maps = self._glance(clips)
                places, state = self._places(maps, exit, state)
                seen = self._embed(maps, self._look(clips, places))[:, 0]
                known = seen if known is None else torch.maximum(known, seen)
                logits = self.classifier.at(exit, known)
            kept = remaining.leave(exit, logits)
            if not len(kept):
                break
            known, state = known[kept], None if state is None else state[kept]
        return Prediction(self.account(remaining.trace), remaining.trace, logits=remaining.logits)

    def _features(self, sample: Tensor) -> Tensor:
        """What is known after every frame, (B, T, hidden), all frames in one call."""
        clips = sample[:, :, self.order]
        maps = self._glance(clips)
        places, _ = self._places(maps, 0, None)
        return running_max(self._embed(maps, self._look(clips, places)))

    def _glance(self, clips: Tensor) -> Tensor:
        """Glance maps (N, C, T, h, w) of clips (N, 3, T, H, W)."""
        size = self.glance_size
        if size < self.spec.size:
            clips = F.interpolate(clips, (clips.shape[2], size, size), mode="trilinear")
        maps: Tensor = self.glance(clips)
        return maps

    def _places(self, maps: Tensor, first: int, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Places (N, T, 2) for T glance maps from number `first` on, by the policy, and its state after them."""
        frames = maps.shape[2]
        if self.place_policy is not None:
            # Detached: where to look is learned from what is seen there, and does not shape the glance.
            places, state = self.place_policy(maps.detach(), state)
        elif self.patch_policy == "centre":
            places = maps.new_full((len(maps), frames, 2), 0.5)
        elif self.training:
            return self._anywhere(maps), None
        else:
            chosen = torch.tensor(spread(self.spec.frames)[first : first + frames], dtype=torch.float64)
            places = chosen.to(maps.device, torch.promote_types(maps.dtype, torch.float32)).expand(len(maps), -1, -1)
        return (places[:, -1:].expand(-1, frames, -1) if self.per_video else places), state

    def _anywhere(self, maps: Tensor) -> Tensor:
        """Uniformly random places (N, T, 2), one a video if that is the rule."""
        videos, frames = len(maps), maps.shape[2]
        drawn = torch.rand(videos, 1 if self.per_video else frames, 2, device=maps.device)
        return drawn.expand(-1, frames, -1)

    def _look(self, clips: Tensor, places: Tensor) -> Tensor:
        """Features (N, T, C) of the patches at `places`."""
        extent = torch.full_like(places, self.patch)
        return pooled(self.focus(patches(clips, places, extent, self.patch)))

    def _embed(self, maps: Tensor, looked: Tensor) -> Tensor:
        """Glance and look of every frame, together, (N, T, hidden)."""
        embedded: Tensor = self.embedding(torch.cat([pooled(maps), looked], 2))
        return embedded

    def decisions(self) -> Mapping[str, Tensor]:
        """[go on, stop] after every frame but the last, where there are exits."""
        return self.exits.decisions() if self.exits is not None else {}

    def account(self, trace: Trace) -> Tensor:
        """A sample's frames up to the one it leaves at, with a classifier each."""
        if self.exits is None:
            return super().account(trace)
        whole = sum(macs for part, macs in self.parts.items() if part != "classifier")
        frame = whole // self.spec.frames + self.parts["classifier"]
        return (self.exits.reached(trace).cpu() + 1) * frame

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One stage end to end; with exits another, which sets their thresholds on training data held out of it.

        The recipe's learning rate is the classifier's, the others are to it as published: glance 0.5, policy 0.1, focus
        1 and classifier 5.
        """
        rates: dict[float, list[nn.Module]] = {
            0.5: [self.glance, self.glance_head],
            1.0: [self.focus, self.focus_head],
            5.0: [self.embedding, self.classifier],
        }
        if self.place_policy is not None:
            rates[0.1] = [self.place_policy]
        groups = [
            {"params": [p for part in parts for p in part.parameters()], "scale": rate / 5}
            for rate, parts in rates.items()
        ]
        return end_to_end(self, groups, self._loss, recipe, self.exits, self.prefix_logits, self.shares)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy after every frame and of both auxiliary heads, mean over the policy's and random places.

        Random places beside the policy's keep the focus network good anywhere; a fixed rule has no need of them.
        """
        clips, target = batch.sample[:, :, self.order], batch.target
        maps = self._glance(clips)
        passes = [self._places(maps, 0, None)[0]]
        if self.place_policy is not None:
            passes.append(self._anywhere(maps))
        loss = frame_cross_entropy(self.glance_head(pooled(maps)), target)
        correct = []
        for places in passes:
            looked = self._look(clips, places)
            logits = self.classifier(running_max(self._embed(maps, looked)))
            own = frame_cross_entropy(logits, target) + frame_cross_entropy(self.focus_head(looked), target)
            loss = loss + own / len(passes)
            correct.append(float((logits[:, -1].argmax(1) == target).float().mean()))
        return loss, {"correct": correct[0], "correct_random": correct[-1]}


def adafocus_v2(
    *,
    frames: int = 16,
    size: int = 224,
    classes: int,
    width: int = 64,
    patch: int | None = None,
    glance: str = "mobilenet_v2",
    focus: str = "resnet50",
    glance_size: int | None = None,
    glance_blocks: Sequence[int] | None = None,
    focus_blocks: Sequence[int] | None = None,
    patch_policy: PatchPolicy = "learned",
    per_video: bool = False,
    exits: bool = False,
    exit_decay: float = 1.0,
    criterion: Criterion = "confidence",
) -> AdaFocusV2:
    """AdaFocus V2 on `frames` segments of a video; options as of `AdaFocusV2`, `extractor` and `Exits`.

    patch: by default 128 of 224 pixels. glance_size: by default `size`. The published "RN" has a ResNet-50 at 96 of 224
    pixels for its glance.

    Raises:
        ValueError: an option that cannot be.
    """
    return AdaFocusV2(
        InputSpec("clip", size, frames),
        classes,
        extractor(glance, width, glance_blocks, frames),
        extractor(focus, width, focus_blocks, frames),
        glance_size=size if glance_size is None else glance_size,
        patch=scaled(128, size) if patch is None else patch,
        width=width,
        patch_policy=patch_policy,
        per_video=per_video,
        exits=Exits(frames, criterion) if exits else None,
        exit_decay=exit_decay,
    )
