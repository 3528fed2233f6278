"""AdaFocus V1 and V2: published costs, what is skipped, where it looks, how it learns."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from toys import ToySplit

from baselines.adafocus import ppo
from baselines.adafocus.classifier import PrefixClassifier, coarse_to_fine, frame_cross_entropy, running_max
from baselines.adafocus.crop import crop, patches, scaled
from baselines.adafocus.exits import Exits, calibrate, decaying
from baselines.adafocus.extractors import BUILDERS, extractor
from baselines.adafocus.place import PlacePolicy, spread
from baselines.adafocus.spatial import SpatialPolicy
from baselines.adafocus.temporal import TemporalPolicy, weighted_frames
from baselines.adafocus.v1 import AdaFocusV1, adafocus_v1
from baselines.adafocus.v2 import AdaFocusV2, adafocus_v2
from baselines.networks.resnet import pooled
from bench.conformance import check
from bench.cost import Counter, count, count_meta
from bench.data.sampling import Sampling
from bench.gradient_stage import GradientStage
from bench.method import Batch, Method, Recipe, Stage
from bench.policy import everything, fixed, matched
from bench.training import train

TINY: dict[str, Any] = {
    **{"frames": 4, "size": 16, "patch": 8, "classes": 3, "width": 8},
    **{"glance": "resnet18", "focus": "resnet18", "glance_blocks": (1,), "focus_blocks": (1,)},
}


def v1(**options: Any) -> AdaFocusV1:
    torch.manual_seed(0)
    return adafocus_v1(**{**TINY, **options})


def v2(**options: Any) -> AdaFocusV2:
    torch.manual_seed(0)
    return adafocus_v2(**{**TINY, **options})


def videos(method: Method, batch: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(method.spec.shape(batch), generator=generator, dtype=next(method.parameters()).dtype)


def exiting(batch: int = 8, **options: Any) -> tuple[AdaFocusV2, Tensor]:
    """In double precision, with samples that leave at every exit."""
    method = v2(exits=True, **options).double().eval()
    sample = videos(method, batch)
    assert method.exits is not None
    with torch.no_grad():
        confidence = method.exits.confidence(method.prefix_logits(sample))
    method.exits.thresholds.copy_(calibrate(confidence, torch.ones(4)))
    return method, sample


# What it costs


def at_patches(macs: int, focus: nn.Module) -> list[str]:
    """Printed GFLOPs at patches of 96, 128 and 160, given all but the focus network's 16 frames."""
    frames = [count_meta(focus, (1, 3, 1, patch, patch)).macs for patch in (96, 128, 160)]
    return [f"{(macs + 16 * frame) / 1e9:.1f}" for frame in frames]


def test_v1_costs_what_is_published() -> None:
    with torch.device("meta"):
        method = adafocus_v1(classes=200)
    assert count_meta(method.place_policy, (1, 1280, 1, 7, 7)).macs == 9_954_304  # 9.95 M a frame, without the critic
    assert count_meta(method.classifier, (1, 1, 1280 + 2048)).macs == 13_574_144  # 13.57 M a step
    assert method.patch == 128 and f"{method.macs / 1e9:.1f}" == "26.5"
    rest = method.macs - count_meta(method.focus, (1, 3, 16, 128, 128)).macs
    unused = 15 * method.classifier.fc.weight.numel()  # the published cost has a classifier a frame
    assert at_patches(rest, method.focus) == at_patches(rest + unused, method.focus) == ["17.2", "26.5", "38.5"]


@pytest.mark.parametrize(
    ("options", "policy", "printed"),
    [
        ({}, 35_606_528, ["17.6", "27.0", "39.0"]),
        ({"glance": "resnet50", "glance_size": 96}, 27_529_216, ["24.8", "34.1", "46.1"]),
    ],
)
def test_v2_costs_what_is_published(options: dict[str, Any], policy: int, printed: list[str]) -> None:
    """The published figures hold the auxiliary heads and a classifier a frame, which inference has no use for."""
    with torch.device("meta"):
        method = adafocus_v2(classes=200, **options)
    parts = dict(method.parts)
    assert method.patch == 128 and parts["policy"] == 16 * policy
    if not options:
        assert parts["embedding"] + 16 * parts["classifier"] == 16 * 14_450_688  # 14.45 M a frame
    heads = sum(int(head[1].weight.numel()) for head in (method.glance_head, method.focus_head))
    unused = 16 * heads + 15 * parts["classifier"]
    assert unused < 0.0015 * sum(parts.values())
    assert at_patches(sum(parts.values()) - parts["focus"] + unused, method.focus) == printed


def test_least_cost_of_exits_is_a_frame() -> None:
    method, sample = exiting()
    frame = (sum(method.parts.values()) - method.parts["classifier"]) // 4 + method.parts["classifier"]
    costs = [int(method(sample, fixed(method, {f"exit.{exit}": 1})).cost[0]) for exit in range(3)]
    assert [*costs, int(method(sample, everything(method)).cost[0])] == [frame, 2 * frame, 3 * frame, 4 * frame]


# What runs


@pytest.mark.parametrize(
    "options",
    [
        {"patch_policy": "random"},
        {"patch_policy": "centre"},
        {"glance_size": 8},
        {"glance": "tsm_resnet18", "focus": "tsm_resnet50", "per_video": True},
        {"focus": "x3d_s", "focus_blocks": (1, 1)},
    ],
)
def test_v2_conforms(options: dict[str, Any]) -> None:
    method = v2(**options).double()
    assert check(method, videos(method, 4)) == []
    assert method.decisions() == {}


def test_v2_with_exits_conforms() -> None:
    method, sample = exiting()
    with torch.no_grad():
        assert method(sample).cost.unique().numel() == 4  # decisions differ
    assert check(method, sample) == []


def test_v1_conforms() -> None:
    method = v1().double()
    with torch.no_grad():
        method.place_policy.actor.weight.mul_(50)  # so that places differ between samples
        chosen = method.place_policy(method.eval().glance(videos(method, 4))).argmax(2)
    assert (chosen[0] != chosen[1:]).any()
    assert check(method, videos(method, 4)) == []


def test_published_networks_conform_when_small() -> None:
    method = adafocus_v2(frames=2, size=32, classes=5, width=8, exits=True, focus_blocks=(1, 1, 1, 1)).double()
    assert check(method, videos(method, 2)) == []


@torch.no_grad()
def test_exits_answer_as_the_plain_computation_does() -> None:
    method, sample = exiting()
    plain = method.prefix_logits(sample)
    torch.testing.assert_close(method(sample, everything(method)).logits, plain[:, -1])
    prediction = method(sample)
    left = method.exits.reached(prediction.trace)  # type: ignore[union-attr]
    torch.testing.assert_close(prediction.logits, plain[torch.arange(8), left])
    without = v2().double().eval()
    without.load_state_dict({k: w for k, w in method.state_dict().items() if not k.startswith("exits.")})
    torch.testing.assert_close(without(sample).logits, plain[:, -1])


@torch.no_grad()
def test_after_an_exit_nothing_runs() -> None:
    method, sample = exiting()
    order = coarse_to_fine(4)
    for exit in range(3):
        leave = fixed(method, {f"exit.{exit}": 1})
        with Counter(method, batch=8) as counter:
            first = method(sample, leave)
        assert counter.result().per_sample == tuple(first.cost.tolist())
        unseen = sample.clone()
        unseen[:, :, order[exit + 1 :]] = torch.nan
        assert torch.equal(method(unseen, leave).logits, first.logits)


@torch.no_grad()
def test_forced_decisions_of_any_kind_run() -> None:
    method, sample = exiting()
    frame = int(method(sample, fixed(method, {"exit.0": 1})).cost[0])
    control = matched(method, 5 * frame // 2, draws=64, tolerance=0.05)
    prediction = method(sample, control)
    assert torch.equal(prediction.cost, method.account(control.trace)[:8])
    assert torch.equal(prediction.cost, method.account(prediction.trace))


# Shared parts


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_extractors_give_maps_of_every_frame(name: str) -> None:
    blocks = None if name.endswith("mobilenet_v2") else (1, 1)
    network = extractor(name, 8, blocks, frames=3).eval()
    clips = torch.randn(2, 3, 3, 20, 20)
    side = network.side(20)
    with torch.no_grad():
        maps = network(clips)
        alone = torch.cat([network(clips[:, :, t : t + 1]) for t in range(3)], 2)
    assert maps.shape == (2, network.channels, 3, side, side)
    assert network.framewise == (not name.startswith(("tsm", "x3d")))
    assert (float((maps - alone).abs().max() / maps.abs().max()) < 1e-3) == network.framewise
    assert not any(weight.shape[0] == 1 for weight in network.parameters())  # no classifier is left


def test_extractors_at_published_size() -> None:
    with torch.device("meta"):
        networks = {name: extractor(name) for name in ("mobilenet_v2", "resnet50", "x3d_s")}
    assert [(n.channels, n.stride) for n in networks.values()] == [(1280, 32), (2048, 32), (432, 32)]
    assert [count_meta(networks["resnet50"], (1, 3, 1, s, s)).macs // 10**5 for s in (96, 128)] == [7506, 13345]


@pytest.mark.parametrize(("size", "dtype", "tolerance"), [(32, torch.float32, 0), (224, torch.float64, 1e-9)])
def test_a_whole_crop_is_a_slice(size: int, dtype: torch.dtype, tolerance: float) -> None:
    frames = torch.randn(2, 3, size, size, dtype=dtype)
    place = torch.tensor([[0.0, 1.0], [0.5, 0.25]], dtype=dtype)
    out = size // 2
    cut = crop(frames, place, torch.full((2, 2), float(out), dtype=dtype), out)
    middle, quarter = out // 2, out // 4
    slices = [frames[0, :, :out, out:], frames[1, :, middle : middle + out, quarter : quarter + out]]
    torch.testing.assert_close(cut, torch.stack(slices), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_moves_no_crop_and_picks_no_other_frames(dtype: torch.dtype) -> None:
    frames, place = torch.rand(2, 3, 224, 224).to(dtype), torch.rand(2, 2)
    extent = torch.full((2, 2), 128.0)
    torch.testing.assert_close(crop(frames, place, extent, 128), crop(frames.float(), place, extent, 128).to(dtype))
    weights = torch.randn(4, 128).softmax(1).to(dtype)
    picked = [weighted_frames(one, 128, 48, torch.tensor(0.5)) for one in (weights, weights.float())]
    assert torch.equal(*picked)
    maps = torch.randn(2, 4, 3, 5, 5).to(dtype)
    said = [
        PlacePolicy(4, 5, 2).eval().to(dtype)(maps)[0],
        SpatialPolicy(4, 3, 5, 8).eval().to(dtype)(maps),
        TemporalPolicy(4, 8).eval().to(dtype)(maps.mean((3, 4)).transpose(1, 2)),
    ]
    assert [one.dtype for one in said] == [torch.float32] * 3


def test_a_crop_of_a_ramp_reads_its_coordinates() -> None:
    """Height 10 to 26 at 32 pixels, shrunk to 8: pixel centres of areas 2 high, and gradients to place and extent."""
    ramp = torch.arange(32.0, dtype=torch.float64)[:, None].expand(1, 1, 32, 32)
    place = torch.tensor([[10 / 16, 0.5]], dtype=torch.float64, requires_grad=True)
    extent = torch.tensor([[16.0, 8.0]], dtype=torch.float64, requires_grad=True)
    cut = crop(ramp, place, extent, 8)
    torch.testing.assert_close(cut[0, 0, :, 0], 10.5 + 2 * torch.arange(8, dtype=torch.float64))
    cut.mean().backward()
    torch.testing.assert_close(place.grad, torch.tensor([[16.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(extent.grad, torch.tensor([[0.5 - 10 / 16, 0.0]], dtype=torch.float64))


def test_patches_are_crops_frame_by_frame() -> None:
    clips, place = torch.randn(2, 3, 4, 16, 16), torch.rand(2, 4, 2)
    extent = torch.full_like(place, 8)
    cut = patches(clips, place, extent, 8)
    torch.testing.assert_close(cut[1, :, 2], crop(clips[1:, :, 2], place[1:, 2], extent[1:, 2], 8)[0])


def test_published_pixels_scale() -> None:
    assert [scaled(128, size) for size in (224, 112, 32, 24, 10, 6)] == [128, 64, 16, 16, 8, 6]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8, 16, 37])
def test_coarse_to_fine_covers_ever_finer(frames: int) -> None:
    order = coarse_to_fine(frames)
    assert sorted(order) == list(range(frames))
    assert order[:3] == list(dict.fromkeys((frames // 2, 0, frames - 1)))
    gaps = [max(b - a for a, b in pairwise(sorted(order[:n]))) for n in range(3, frames)]
    assert gaps == sorted(gaps, reverse=True)
    assert coarse_to_fine(16)[:7] == [8, 0, 15, 4, 11, 2, 6]


def test_prefixes_know_no_later_frame() -> None:
    features = torch.randn(2, 5, 6)
    known = running_max(features)
    torch.testing.assert_close(known[:, 3], features[:, :4].amax(1))
    classifier = PrefixClassifier(6, 3, 5)
    torch.testing.assert_close(classifier(known)[:, 3], classifier.at(3, known[:, 3]))
    assert classifier.macs == count(classifier.fc[0], known[:1, 0]).macs == 18


def test_frame_cross_entropy_is_the_mean_over_frames() -> None:
    logits, target = torch.randn(3, 4, 5), torch.tensor([0, 2, 4])
    each = [torch.nn.functional.cross_entropy(logits[:, t], target) for t in range(4)]
    torch.testing.assert_close(frame_cross_entropy(logits, target), torch.stack(each).mean())


def test_spread_fills_the_frame() -> None:
    places = torch.tensor(spread(16))
    assert places.min() >= 0 and places.max() < 1
    quarters = (places * 2).long() @ torch.tensor([2, 1])
    assert quarters.bincount(minlength=4).min() >= 3


# Exits


@pytest.mark.parametrize("shares", [[1, 1, 1, 1], [4, 3, 2, 1], [0, 2, 0, 2], [1, 0, 0, 0]])
def test_calibration_gives_the_shares(shares: list[int]) -> None:
    confidence = torch.rand(200, 4, generator=torch.Generator().manual_seed(3))
    wanted = torch.tensor(shares).float()
    thresholds = calibrate(confidence, wanted)
    leaves = (confidence >= thresholds).long().argmax(1).bincount(minlength=4)
    assert leaves.tolist() == (wanted / wanted.sum() * 200).long().tolist()
    assert thresholds[-1] == -torch.inf


def test_shares_decay() -> None:
    assert decaying(3, 2.0).tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    with pytest.raises(ValueError, match="above 0"):
        decaying(3, 0.0)


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_criteria_order_from_unsure_to_sure(criterion: Any) -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    confidence = Exits(2, criterion).confidence(logits)
    assert (confidence.diff() > 0).all()
    assert float(confidence[0]) == pytest.approx({"confidence": 1 / 3, "entropy": -1.0986123}[criterion])


def test_nobody_leaves_before_calibration() -> None:
    method = v2(exits=True).eval()
    with torch.no_grad():
        assert (method(videos(method, 2)).cost == method.account(everything(method).trace)).all()


def test_calibration_data_is_held_out_and_fills_a_batch() -> None:
    split = ToySplit(60)
    method = v2(exits=True)
    stages = method.stages(Recipe(epochs=5, batch=2))
    assert [(len(stage.view(split)), stage.epochs) for stage in stages] == [(54, 4), (6, 1)]


# Where it looks


@torch.no_grad()
def test_v1_looks_at_whole_pixels_of_the_grid() -> None:
    method = v1(patch=9).eval()
    sample, seen = videos(method, 1), []
    method.focus.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    method.look(sample, torch.tensor([[0, 6, 24, 48]]))  # the corners of a 7×7 grid, its middle
    corners = [(0, 0), (0, 7), (3, 3), (7, 7)]  # of the room of 7 pixels, rounded down
    slices = [sample[0, :, t, y : y + 9, x : x + 9] for t, (y, x) in enumerate(corners)]
    torch.testing.assert_close(seen[0][0], torch.stack(slices, 1), rtol=0, atol=1e-5)


def test_v2_learns_where_to_look_through_the_crop_alone() -> None:
    method = v2()
    sample = videos(method, 4).requires_grad_()
    maps = method._glance(sample)
    places, _ = method._places(maps, 0, None)
    assert places.shape == (4, 4, 2) and places.min() > 0 and places.max() < 1
    (gradient,) = torch.autograd.grad(places.sum(), sample, allow_unused=True)
    assert gradient is None  # the glance is not shaped by it
    method._look(sample, places).square().sum().backward()
    assert all(bool(weight.grad.any()) for weight in method.place_policy.parameters())  # type: ignore[union-attr]


def test_controls_look_where_they_say() -> None:
    maps = torch.zeros(2, 8, 4, 4, 4)
    centre, random = v2(patch_policy="centre"), v2(patch_policy="random")
    assert centre.place_policy is None and random.place_policy is None
    assert (centre._places(maps, 0, None)[0] == 0.5).all()
    fixed_places = random.eval()._places(maps, 1, None)[0]
    torch.testing.assert_close(fixed_places[1, :3], torch.tensor(spread(4)[1:]))
    drawn = random.train()._places(maps, 0, None)[0]
    assert not torch.equal(drawn[0], drawn[1])
    one = v2(glance="tsm_resnet18", per_video=True)._anywhere(maps)
    assert torch.equal(one[:, :1].expand_as(one), one) and not torch.equal(one[0], one[1])


# The policy of V1


def test_returns_are_discounted_from_behind() -> None:
    rewards = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(ppo.discounted(rewards, 0.5), torch.tensor([[1.5, 1.0, 2.0], [0.5, 1.0, 0.0]]))


def test_proximal_loss_in_closed_form() -> None:
    """Two equal actions, drawn with probability 1/4 before: a ratio of 2, clipped at 1.2 where it would gain."""
    policy = Categorical(logits=torch.zeros(1, 2, 2))
    actions, before = torch.zeros(1, 2, dtype=torch.long), torch.full((1, 2), 0.25).log()
    values, worth = torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])
    wanted = -(1.2 - 2.0) / 2 + 0.5 * 1.0 - 0.01 * 0.6931472
    assert float(ppo.proximal_loss(policy, values, actions, before, worth)) == pytest.approx(wanted)


@torch.no_grad()
def test_a_patch_gains_nothing_over_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    method = v1().eval()
    batch = Batch(videos(method, 3), torch.tensor([0, 1, 2]), torch.arange(3))
    maps, actions = method.glance(batch.sample), torch.tensor([[0, 7, 14, 21]] * 3)
    assert ppo.gains(method, batch, maps, actions).any()
    monkeypatch.setattr(method, "anywhere", lambda sample: actions)
    torch.testing.assert_close(ppo.gains(method, batch, maps, actions), torch.zeros(3, 4), rtol=0, atol=1e-6)


def test_the_first_patch_gains_what_it_adds_to_the_confidence_in_the_right_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Later ones follow on those before; the first on nothing, and so does what it is held against."""
    method = v1(grid=5).eval()
    batch = Batch(videos(method, 3), torch.tensor([0, 2, 1]), torch.arange(3))
    maps, chosen, other = method.glance(batch.sample), torch.tensor([[0] * 4] * 3), torch.tensor([[24] * 4] * 3)
    monkeypatch.setattr(method, "anywhere", lambda sample: other)

    def confidence(places: Tensor) -> Tensor:
        states = method.classifier.states(torch.cat([pooled(maps), method.look(batch.sample, places)], 2))
        return method.classifier.classify(states)[:, 0].softmax(1)[torch.arange(3), batch.target]

    torch.testing.assert_close(ppo.gains(method, batch, maps, chosen)[:, 0], confidence(chosen) - confidence(other))


def test_the_policy_goes_where_it_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppo, "gains", lambda method, batch, maps, actions: (actions == 5).float())
    method = v1(grid=3, passes=2, discount=0.0)
    batch = Batch(videos(method, 8), torch.zeros(8, dtype=torch.long), torch.arange(8))
    stage = method.stages(Recipe(epochs=4, lr=1.0))[2]
    stage.begin(20)
    before = {name: weight.clone() for name, weight in method.state_dict().items()}
    rewards = [stage.step(batch)["reward"] for _ in range(20)]
    assert sum(rewards[:3]) / 3 < 0.4 and sum(rewards[-3:]) / 3 > 0.8
    moved = {name for name, weight in method.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved and all(name.startswith("place_policy.") for name in moved)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_an_update_of_the_policy_that_is_not_finite_is_not_made(clip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    method = v1(grid=3, passes=2)
    batch = Batch(videos(method, 4), torch.zeros(4, dtype=torch.long), torch.arange(4))
    stage = method.stages(Recipe(epochs=4, lr=1.0, clip_norm=clip))[2]
    stage.begin(20)
    assert 0 < stage.step(batch)["gradient_norm"] < float("inf")
    before = [weight.clone() for weight in method.parameters()]
    monkeypatch.setattr(ppo, "gains", lambda method, batch, maps, actions: actions * float("nan"))
    assert not math.isfinite(stage.step(batch)["gradient_norm"])
    assert all(torch.equal(weight, old) for weight, old in zip(method.parameters(), before, strict=True))


# Training


def batch_of(method: Method, size: int = 6) -> Batch:
    target = torch.arange(size) % 3
    return Batch(videos(method, size) + target[:, None, None, None, None], target, torch.arange(size))


def test_every_parameter_is_trained_in_some_stage() -> None:
    for method in (v1(), v2(), v2(exits=True), v2(patch_policy="random"), v2(focus="x3d_s", focus_blocks=(1,))):
        for name, weight in method.named_parameters():
            if name.endswith("norm_c.weight"):
                weight.data.normal_()  # X3D's blocks begin as their shortcut
        reached = set()
        for stage in method.stages(Recipe(epochs=8, batch=6)):
            method.zero_grad()
            stage.begin(1)
            stage.step(batch_of(method))
            grown = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
            reached |= grown
        assert {name for name, _ in method.named_parameters()} - reached == set()


def test_stages_train_what_they_should_at_published_rates() -> None:
    networks, random, _, classifier = v1().stages(Recipe(epochs=125, lr=0.05))
    assert [stage.epochs for stage in v1().stages(Recipe(epochs=125))] == [15, 50, 50, 10]
    assert [stage.epochs for stage in v1(shares=(4, 2, 2, 1)).stages(Recipe(epochs=9))] == [4, 2, 2, 1]
    rates = [[0.05 * g["scale"] for g in s.groups] for s in (networks, random, classifier)]  # type: ignore[attr-defined]
    assert [pytest.approx(r) for r in rates] == [[0.01] * 4, [5e-4, 0.05], [5e-3]]
    (end_to_end,) = v2().stages(Recipe(epochs=3))
    assert [group["scale"] for group in end_to_end.groups] == [0.1, 0.2, 1.0, 0.02]  # type: ignore[attr-defined]


def test_frozen_networks_stand_still() -> None:
    method = v1()
    for number, still in ((1, ("glance.", "place_policy.")), (3, ("glance.", "focus.", "place_policy."))):
        before = {name: weight.clone() for name, weight in method.state_dict().items()}
        stage = method.stages(Recipe(epochs=8))[number]
        stage.begin(1)
        stage.step(batch_of(method))
        after = method.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before if name.startswith(still))


def test_steps_lower_the_loss() -> None:
    recipe = Recipe(epochs=8, lr=0.05, warmup=0.0)
    first, third = v1(dropout=0.0), v2()
    stages: list[tuple[Method, Stage]] = [(first, first.stages(recipe)[n]) for n in (0, 1, 3)]
    for method, stage in [*stages, (third, third.stages(recipe)[0])]:
        assert isinstance(stage, GradientStage)
        batch = batch_of(method)
        stage.begin(10)
        losses = []
        for _ in range(10):
            torch.manual_seed(5)  # the same patches and dropout
            losses.append(stage.step(batch)["loss"])
        assert losses[-1] < losses[0], stage.name


@pytest.mark.parametrize(
    ("build", "options", "epochs", "stops"), [(v1, {}, 8, (3, 19)), (v2, {"exits": True}, 2, (5, 28))]
)
def test_interrupted_training_goes_on_as_if_nothing_was(
    build: Any, options: dict[str, Any], epochs: int, stops: tuple[int, ...], tmp_path: Path
) -> None:
    split, sampling = ToySplit(8 if build is v1 else 60), Sampling("uniform")
    recipe = Recipe(epochs=epochs, batch=2, lr=0.01)

    def trained(folder: str, *stops: int | None) -> dict[str, Tensor]:
        for stop in (*stops, None):
            method = build(**options, size=10)
            train(method, split, sampling, recipe, 0, tmp_path / folder, stop_after=stop)
        return dict(method.state_dict())

    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir()
    whole = trained("whole")
    first, second = stops
    cut_up = trained("cut", first, second - first)
    assert [name for name in whole if not torch.equal(whole[name], cut_up[name])] == []
    if "exits.thresholds" in whole:
        assert whole["exits.thresholds"][:-1].isfinite().any()


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (v2, {"patch": 17}, "patch and glance_size must be in 1..16"),
        (v2, {"glance_size": 0}, "patch and glance_size"),
        (v2, {"patch_policy": "left"}, "patch_policy must be one of"),
        (v2, {"exits": True, "per_video": True}, "exits need frames"),
        (v2, {"exits": True, "focus": "tsm_resnet18"}, "exits need frames"),
        (v2, {"exits": True, "frames": 1}, "at least 2"),
        (v2, {"exits": True, "criterion": "logit"}, "no criterion 'logit'"),
        (v2, {"exit_decay": -1.0}, "exit_decay"),
        (v2, {"glance": "vgg"}, "no extractor 'vgg'"),
        (v2, {"glance": "mobilenet_v2"}, "has no blocks"),
        (v2, {"focus_blocks": ()}, "every stage's blocks"),
        (v1, {"grid": 1}, "grid 2"),
        (v1, {"passes": 0}, "passes 1 or more"),
        (v1, {"dropout": 1.0}, "dropout and discount"),
        (v1, {"shares": (1, 1)}, "shares must be four"),
    ],
)
def test_options_that_cannot_be_are_refused(build: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(**options)
