"""Uni-AdaFocus: where it looks, what it skips, what it costs, and that it trains."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import ToySplit

from baselines.adafocus.exits import point
from baselines.adafocus.spatial import boxes, interpolated_features, over_time
from baselines.adafocus.temporal import expected_logits, segments, weighted_frames
from baselines.adafocus.uni import PrefixAnswer, UniAdaFocus, taken, uni_adafocus
from bench.conformance import check
from bench.cost import Counter, count_meta
from bench.data.sampling import Sampling
from bench.method import Batch, Recipe
from bench.policy import Forced, everything, fixed
from bench.training import train

TINY: dict[str, Any] = {
    "classes": 3,
    "width": 4,
    "patch": 8,
    "smallest": 6,
    "glance": "resnet18",
    "focus": "resnet18",
    "glance_blocks": (1, 1),
    "focus_blocks": (1,),
}
TINY_TSM = TINY | {"glance": "tsm_resnet18", "focus": "tsm_resnet18"}
TINY_X3D = TINY | {"glance": "x3d_s", "focus": "x3d_l", "width": 24}


def tiny(seed: int = 0, frames: int = 9, size: int = 16, **options: Any) -> UniAdaFocus:
    """A small method in double precision whose weights, statistics and thresholds are those of no start."""
    torch.manual_seed(seed)
    method = uni_adafocus(frames=frames, size=size, **(TINY | options)).double().eval()
    for name, value in method.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif value.is_floating_point() and name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.dim() > 0:
            value.add_(torch.randn_like(value) * 0.05)
    return method


def clips(method: UniAdaFocus, count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(method.spec.shape(count), generator=generator, dtype=torch.float64) * 2


def spread_out(method: UniAdaFocus, sample: Tensor) -> UniAdaFocus:
    """Sets thresholds with which the samples leave at different exits."""
    assert method.exits is not None
    with torch.no_grad():
        confidence = method.exits.confidence(method.every_exit(sample))
    low, high = confidence.sort(0).values[(len(sample) - 1) // 2 :][:2]  # between two samples: none lies on the edge
    method.exits.thresholds[:-1] = ((low + high) / 2)[:-1].to(method.exits.thresholds)
    return method


# Where in time


def test_even_weights_take_the_middle_of_every_part() -> None:
    frames = weighted_frames(torch.full((2, 16), 1 / 16, dtype=torch.float64), 48, 16, torch.tensor([0.5]))
    assert frames.tolist() == [list(range(1, 48, 3))] * 2


def test_frames_are_drawn_where_the_weights_are() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    frames = weighted_frames(weights, 40, 8, torch.tensor([0.5]))
    assert frames[0].tolist() == [1, 3, 6, 8, 12, 17, 22, 27]  # the function rises by 1/20, then by 1/40 a frame
    assert frames[1].tolist() == [30, 31, 33, 34, 35, 36, 38, 39]
    draws = weighted_frames(weights[:1].expand(2000, 4), 40, 8, torch.rand(2000, 8))
    assert (draws < 10).double().mean().item() == pytest.approx(0.5, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.floats(-30, 30), min_size=1, max_size=6),
    frames=st.integers(1, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_drawn_frames_always_increase(scores: list[float], frames: int, share: float, seed: int) -> None:
    weights, count = torch.tensor([scores]).softmax(1), max(1, round(share * frames))
    offset = torch.rand(1, count, generator=torch.Generator().manual_seed(seed))
    drawn = weighted_frames(weights, frames, count, offset)[0].tolist()
    assert len(set(drawn)) == count and drawn == sorted(drawn) and drawn[0] >= 0 and drawn[-1] < frames


def test_more_frames_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="cannot draw 5 different frames of 4"):
        weighted_frames(torch.ones(1, 2), 4, 5, torch.tensor([0.5]))


def test_every_frame_belongs_to_one_part() -> None:
    for frames, parts in ((48, 16), (4, 2), (8, 3), (16, 6)):
        first, length = segments(frames, parts)
        assert (length >= 1).all() and int(length.sum()) == frames and first.tolist() == sorted(set(first.tolist()))


def test_expected_logits_are_those_of_drawing_without_replacement() -> None:
    weights = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    first = expected_logits(logits, weights.log(), 1)
    assert torch.allclose(first, torch.einsum("nt,ntk->nk", weights, logits))
    second = torch.zeros(2, 3, dtype=torch.float64)  # the chance of each frame in the second draw
    for one, other in itertools.permutations(range(3), 2):
        second[:, other] += weights[:, one] * weights[:, other] / (1 - weights[:, one])
    wanted = torch.einsum("nt,ntk->nk", (weights + second) / 2, logits)
    torch.manual_seed(0)
    often = expected_logits(logits.repeat(400, 1, 1), weights.log().repeat(400, 1), 2).unflatten(0, (400, 2))
    assert torch.allclose(often.mean(0), wanted, atol=0.02)


def test_expected_logits_bear_weights_of_nothing() -> None:
    scores = torch.tensor([[0.0, -300.0, -300.0, -600.0]], requires_grad=True)
    out = expected_logits(torch.randn(1, 4, 2), scores.log_softmax(1), 3)
    (gradient,) = torch.autograd.grad(out.sum(), scores)
    assert out.isfinite().all() and gradient.isfinite().all()


# Where in space


def test_boxes_lie_between_the_smallest_and_the_frame() -> None:
    actions = torch.tensor([0.25, 0.75, 0.0, 1.0]).view(1, 4, 1)
    place, extent = boxes(actions, 96, 224)
    assert place.flatten().tolist() == [0.25, 0.75] and extent.flatten().tolist() == [96, 224]


def test_actions_of_the_glance_are_interpolated_in_time() -> None:
    actions = torch.tensor([0.0, 0.6]).expand(1, 4, 2)
    assert over_time(actions, 6)[0, 0].tolist() == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.6], abs=1e-6)
    one = torch.rand(1, 4, 1)
    assert torch.allclose(over_time(one, 5), one.expand(1, 4, 5))


def test_boxes_are_learned_on_the_maps() -> None:
    maps = torch.randn(2, 3, 4, 7, 7, dtype=torch.float64)
    whole = torch.ones(2, 4, 4, dtype=torch.float64)
    assert torch.allclose(interpolated_features(maps, whole, 3, 7), maps.mean((2, 3, 4)))
    corner = torch.zeros(2, 4, 4, dtype=torch.float64)
    assert torch.allclose(interpolated_features(maps, corner, 3, 3), maps[..., :3, :3].mean((2, 3, 4)))
    actions = torch.full((1, 4, 2), 0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: interpolated_features(maps[:1, :, :2], given, 3, 3), actions)


def spatial_gradient(method: UniAdaFocus) -> float:
    method.train()
    sample = clips(method, 4)
    method._loss(Batch(sample, torch.arange(4) % 3, torch.arange(4)))[0].backward()  # type: ignore[no-untyped-call]
    return sum(float(weight.grad.abs().sum()) for weight in method.spatial.parameters() if weight.grad is not None)


def test_the_spatial_policy_learns_from_the_maps_alone() -> None:
    method = tiny(size_loss=0.0, focus_blocks=(1,))
    assert spatial_gradient(method) > 0
    method.zero_grad()
    method.interpolated_head.weight.data.zero_()
    assert spatial_gradient(method) == 0


def test_random_patches_stand_beside_the_chosen_and_are_not_resized() -> None:
    method = tiny(patch=16)
    sample, frames = clips(method, 2), torch.tensor([[0, 4, 8], [1, 2, 3]])
    small = torch.zeros(2, 4, 3, dtype=torch.float64)
    chosen, anywhere = method._both_patches(sample, frames, small).chunk(2)
    assert torch.allclose(anywhere, taken(sample, frames))  # a patch as large as the frame has one place
    corner = torch.nn.functional.interpolate(taken(sample, frames)[..., :6, :6].flatten(0, 1), 16, mode="bilinear")
    inner = slice(2, 14)  # beyond it the box's edge shows the frame around it
    assert torch.allclose(chosen.flatten(0, 1)[..., inner, inner], corner[..., inner, inner])


# What it costs


@pytest.fixture(scope="module")
def published() -> UniAdaFocus:
    with torch.device("meta"):
        return uni_adafocus(classes=200)


def test_costs_are_the_published_ones(published: UniAdaFocus) -> None:
    parts, fc = published.parts, 4096 * 200
    # Their accounting has a classifier after every glance frame, from whose answers but the last nobody leaves.
    least = parts["glance"] + parts["glance answer"] + 15 * fc
    policies = parts["temporal"] + parts["spatial"]
    assert f"{least / 1e9:.3f}" == "4.889"
    assert f"{parts['temporal'] / 1e6:.2f}" == "4.13" and f"{parts['spatial'] / 1e6:.1f}" == "822.5"
    assert f"{policies / 1e9:.4f}" == "0.8266" and f"{parts['focus answer'] / 1e9:.5f}" == "0.01003"
    assert f"{parts['focus'] / 1e9:.4f}" == "1.3346"
    for patch, total in ((96, "17.89"), (128, "27.23"), (160, "39.24")):
        focus = count_meta(published.focus, (1, 3, 1, patch, patch)).macs
        assert f"{(least + policies + 16 * (focus + parts['focus answer'])) / 1e9:.2f}" == total


def test_a_trace_costs_what_was_reached(published: UniAdaFocus) -> None:
    parts, decisions = published.parts, published.decisions()
    assert list(decisions) == [point(exit) for exit in range(16)]
    glance = parts["glance"] + parts["glance answer"]
    step = parts["focus"] + parts["focus answer"]
    costs = []
    for left in range(17):  # after leaving, everything that is said plays no part
        trace = {point(exit): torch.eye(2)[[int(exit == left)]] for exit in range(16)}
        costs.append(int(published.account(trace)))
    assert costs[0] == glance
    assert costs[1:] == [glance + parts["temporal"] + parts["spatial"] + k * step for k in range(1, 17)]
    assert f"{costs[-1] / 1e9:.1f}" == "27.2" and f"{glance / 1e9:.2f}" == "4.88"


def test_without_exits_one_answer_is_computed() -> None:
    with_exits, without = tiny(), tiny(exits=False)
    last = {**with_exits.parts, "focus answer": without.parts["focus answer"], "focus": without.parts["focus"]}
    assert without.parts == last and without.parts["focus"] == 3 * with_exits.parts["focus"]
    assert without.decisions() == {}
    with pytest.raises(ValueError, match="takes no decisions"):
        without.account({})


def test_tsm_costs_are_the_published_ones() -> None:
    options: dict[str, Any] = {"glance": "tsm_mobilenet_v2", "focus": "tsm_resnet50", "classes": 174, "frames": 24}
    with torch.device("meta"):
        method = uni_adafocus(glances=8, focuses=8, patch=96, **options)
    others = sum(macs for part, macs in method.parts.items() if part != "focus")
    frame = {96: method.parts["focus"] // 8, 128: count_meta(method.focus, (1, 3, 1, 128, 128)).macs}
    for patch, frames, total in ((96, 8, "8.8"), (96, 12, "11.8"), (128, 12, "18.8"), (128, 16, "24.2")):
        assert f"{(others + frames * frame[patch]) / 1e9:.1f}" == total
    assert len(method.decisions()) == 1


def test_x3d_costs_are_the_published_ones() -> None:
    with torch.device("meta"):
        method = uni_adafocus(frames=96, glances=16, classes=400, glance="x3d_s", focus="x3d_l")
    parts = method.parts
    assert method.looks.focuses == 32 and method.looks.glance_size == 160
    glance = parts["glance"] + parts["glance answer"]
    assert glance == 2_415_437_312  # printed as 2.4155, with the biases of normalisations and heads
    assert f"{(parts['focus'] + parts['focus answer']) / 1e9:.4f}" == "5.9845"
    assert f"{parts['spatial'] / 1e9:.4f}" == "0.3762" and f"{parts['temporal'] / 1e9:.4f}" == "0.0015"
    assert f"{sum(parts.values()) / 1e9:.1f}" == "8.8"


# What it runs


@pytest.mark.parametrize("options", [{}, {"exits": False}, TINY_TSM, TINY_X3D, {"criterion": "entropy"}])
def test_conforms(options: dict[str, Any]) -> None:
    method = tiny(**options)
    sample = clips(method, 6)
    if method.exits is not None:
        spread_out(method, sample)
        assert len(set(method(sample).cost.tolist())) > 1
    assert check(method, sample) == []


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_any_number_of_frames_runs(frames: int) -> None:
    method = tiny(frames=frames)
    assert method.looks.glances == method.looks.focuses == -(-frames // 3)
    logits = method(clips(method, 2)).logits
    assert logits is not None and logits.shape == (2, 3)


@pytest.mark.parametrize("options", [{}, TINY_TSM])
def test_all_on_is_the_plain_computation(options: dict[str, Any]) -> None:
    method, plain = tiny(**options), tiny(exits=False, **options)
    plain.load_state_dict({k: v for k, v in method.state_dict().items() if not k.startswith("exits.")})
    sample = clips(method, 3)
    with torch.no_grad():
        on, expected, every = method(sample, everything(method)), plain(sample), method.every_exit(sample)
    assert torch.allclose(on.logits, expected.logits) and torch.allclose(every[:, -1], expected.logits)
    unused = (method.steps - 1) * method.answer.focus_fc.macs if isinstance(method.answer, PrefixAnswer) else 0
    assert (on.cost - unused).tolist() == expected.cost.tolist()


def test_nobody_leaves_early_in_training() -> None:
    method = tiny()
    spread_out(method, clips(method, 4)).train()
    prediction = method(clips(method, 4))
    assert prediction.cost.tolist() == method.account(prediction.trace).tolist()
    assert prediction.cost.tolist() == [int(method.account(everything(method).trace))] * 4


def test_every_exit_gives_the_answer_it_would_give_alone() -> None:
    method = tiny()
    sample = clips(method, 3)
    with torch.no_grad():
        every = method.every_exit(sample)
        for exit in range(3):
            assert torch.allclose(method(sample, fixed(method, {point(exit): 1})).logits, every[:, exit])


def test_what_is_after_an_exit_is_not_computed() -> None:
    method = tiny()
    sample = clips(method, 4)
    left = torch.tensor([0, 1, 3, 2])  # the exit of each sample
    trace = {point(exit): torch.eye(2)[(left <= exit).long()] for exit in range(3)}
    with torch.no_grad(), Counter(method, batch=4) as counter:
        cost = method(sample, Forced(trace)).cost
    count, parts = counter.result(), method.parts
    step = parts["focus"] + parts["focus answer"]
    policies = (left > 0) * (parts["temporal"] + parts["spatial"])
    assert list(count.per_sample) == (parts["glance"] + parts["glance answer"] + policies + left * step).tolist()
    assert cost.tolist() == list(count.per_sample) == method.account(trace).tolist()
    assert by_part(count.by_module, "focus.") == 6 * parts["focus"]
    assert by_part(count.by_module, "spatial.") == 3 * parts["spatial"]
    with torch.no_grad(), Counter(method, batch=4) as counter:
        method(sample, fixed(method, {point(0): 1}))
    modules = counter.result().by_module
    assert all(by_part(modules, part) == 0 for part in ("focus.", "spatial.", "temporal."))


def by_part(modules: Mapping[str, int], part: str) -> int:
    return sum(macs for name, macs in modules.items() if name.startswith(part))


def test_only_the_frames_and_boxes_that_were_chosen_are_seen() -> None:
    method = tiny(frames=12)
    sample = clips(method, 1)
    with torch.no_grad():
        maps, features = method._glance(sample, method._middle(1))
        frames, actions = method._chosen(maps, features)
        place, extent = boxes(actions, 6, 16)
        before = method.every_exit(sample)
        unseen = sorted(set(range(12)) - set(frames[0].tolist()) - set(method._middle(1)[0].tolist()))
        sample[:, :, unseen] += 5
        assert unseen and torch.equal(method.every_exit(sample), before)
        for number, frame in enumerate(frames[0].tolist()):  # a pixel more than the box, for the bilinear sampling
            corner = place[0, number] * (16 - extent[0, number])
            low, high = (corner - 1).floor().long().clamp(min=0), (corner + extent[0, number] + 1).ceil().long()
            inside = torch.zeros(16, 16, dtype=torch.bool)
            inside[low[0] : high[0], low[1] : high[1]] = True
            if frame not in method._middle(1)[0]:
                sample[0, :, frame, ~inside] += 5
        assert torch.equal(method.every_exit(sample), before)
        sample[:, :, frames[0]] += torch.randn(3, 1, 1, 1, dtype=torch.float64)
        assert not torch.equal(method.every_exit(sample), before)


def test_frames_are_taken_sample_by_sample() -> None:
    sample = torch.arange(12.0).view(2, 1, 6, 1, 1)
    assert taken(sample, torch.tensor([[5, 0], [1, 2]])).flatten().tolist() == [5, 0, 7, 8]


# How it learns

LEARNING: dict[str, Any] = TINY | {"frames": 6, "size": 8, "patch": 4, "smallest": 3, "glance_blocks": (1,)}
RECIPE = Recipe(epochs=3, batch=6, lr=0.1)


def learner(**options: Any) -> UniAdaFocus:
    torch.manual_seed(0)
    return uni_adafocus(**{**LEARNING, **options})


def trained(folder: Path, stops: tuple[int, ...] = (), **options: Any) -> UniAdaFocus:
    method = learner(**options)
    for stop_after in (*stops, None):
        if stop_after is not None or stops:
            method = learner(**options)  # a new process knows nothing but the checkpoint
        torch.manual_seed(7)
        train(method, ToySplit(), Sampling(), RECIPE, 0, folder, log_every=1, stop_after=stop_after)
    return method


def test_training_that_was_interrupted_ends_the_same(tmp_path: Path) -> None:
    whole, cut = trained(tmp_path / "whole"), trained(tmp_path / "cut", (2, 4, 1))
    assert whole.exits is not None and whole.exits.thresholds[0].isfinite()
    for name, value in whole.state_dict().items():
        assert torch.equal(cut.state_dict()[name], value), name


@pytest.mark.parametrize("options", [{"exits": False}, {"focus": "tsm_resnet18", "glance": "tsm_resnet18"}])
def test_every_form_trains(options: dict[str, Any], tmp_path: Path) -> None:
    method = trained(tmp_path, **options)
    assert all(value.isfinite().all() for name, value in method.state_dict().items() if name != "exits.thresholds")


def steps(method: UniAdaFocus, number: int) -> list[float]:
    """Losses of `number` steps on one batch."""
    stage = method.stages(RECIPE)[0]
    stage.begin(2 * number)  # so that the rate does not come to zero
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(12) % 3
    sample = torch.randn(method.spec.shape(12), generator=generator) + target.view(-1, 1, 1, 1, 1)
    return [stage.step(Batch(sample, target, torch.arange(12)))["loss"] for _ in range(number)]


@pytest.mark.parametrize("options", [{}, TINY_TSM, TINY_X3D | {"focus_blocks": (1, 1)}])
def test_steps_reach_every_parameter(options: dict[str, Any]) -> None:
    method = learner(**{**options, "size": 8, "patch": 4})
    steps(method, 2)  # the second, since X3D's blocks begin as their shortcuts
    unreached = [name for name, weight in method.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == []
    grouped = [id(weight) for group in method.stages(RECIPE)[0].groups for weight in group["params"]]  # type: ignore[attr-defined]
    assert len(grouped) == len(set(grouped)) and set(grouped) == {id(weight) for weight in method.parameters()}


def test_a_box_costs_by_what_its_sides_lack_of_the_whole_frame() -> None:
    """Wherever it lies."""
    method = tiny()
    side = method.glance.side(method.looks.glance_size)
    maps = torch.randn(2, method.glance.channels, method.looks.glances, side, side, dtype=torch.float64)
    actions, losses = torch.rand(2, 4, method.looks.glances, dtype=torch.float64), []
    for method.size_loss in (0.0, 0.5):
        losses.append(method._spatial_loss(maps, actions, torch.tensor([0, 1])))
    height, width = actions[:, 2], actions[:, 3]
    torch.testing.assert_close(losses[1] - losses[0], 0.25 * ((1 - height).square() + (1 - width).square()).mean())


def test_steps_lower_the_loss() -> None:
    losses = steps(learner(), 25)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_learning_rates_are_the_published_ratios() -> None:
    """That of the fastest part is the recipe's."""
    groups = learner().stages(RECIPE)[0].groups  # type: ignore[attr-defined]
    assert [group["scale"] for group in groups] == [0.025, 0.01, 0.01, 0.05, 1.0]
    groups = learner(**TINY_TSM).stages(RECIPE)[0].groups  # type: ignore[attr-defined]
    assert [group["scale"] for group in groups] == [0.5, 0.2, 0.2, 1.0]


def test_stages_divide_the_epochs() -> None:
    for epochs, wanted in ((1, [1]), (2, [1, 1]), (50, [49, 1])):
        assert [stage.epochs for stage in learner().stages(Recipe(epochs=epochs))] == wanted
        assert [stage.epochs for stage in learner(exits=False).stages(Recipe(epochs=epochs))] == [epochs]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch": 9}, "patch must be in 1..8, got 9"),
        ({"smallest": 0}, "smallest must be in 1..8"),
        ({"glance_size": 16}, "glance_size must be in 1..8"),
        ({"glances": 7}, "glances must be in 1..6"),
        ({"focuses": 0}, "focuses must be in 1..6"),
        ({"glance": "resnet9"}, "no extractor 'resnet9'"),
        ({"focus": "tsm_resnet18"}, "do not go together"),
        ({"exit_decay": 0.0}, "exit_decay must be above 0"),
        ({"criterion": "mood"}, "no criterion 'mood'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        learner(**options)
