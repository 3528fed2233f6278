"""AR-Net: its published costs, its skipping against closed forms and the dispatcher, its loss and its stages."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import together
from torch import Tensor, nn
from torch.nn import functional as F
from toys import ToySplit

from baselines.arnet import training
from baselines.arnet.method import ArNet, Decide, arnet
from baselines.arnet.networks import Backbone, resized
from baselines.arnet.training import DEAREST, relaxed, spending, straight_through, temperature
from bench.conformance import check
from bench.cost import Counter, both_conventions
from bench.data.sampling import Sampling, train_batches
from bench.distributed import average_values, own_part
from bench.method import Batch, Recipe, Stage
from bench.policy import Forced, everything, fixed, matched
from bench.training import train
from bench.whole_batch import synced_norms

R50, R34, R18, OWN, SKIP1, SKIP2, SKIP4 = range(7)
TINY: dict[str, Any] = {"frames": 4, "size": 32, "classes": 5, "width": 8, "blocks": (1, 1, 1)}
SMALL = TINY | {"frames": 2, "size": 8, "classes": 3, "blocks": (1, 1)}


@functools.cache
def built(**options: Any) -> ArNet:
    """In double precision, normalised and spread so that samples differ in classes and in decisions."""
    torch.manual_seed(0)
    method = arnet(**TINY | options).double()
    for module in method.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 1)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    relaxed(method.train(), clips(method, 8), tau=1.0)
    nn.init.normal_(method.policy_network.choose.weight, 0, 20)
    return method.eval()


def tiny(**options: Any) -> ArNet:
    """A copy of its own of a tiny AR-Net."""
    return copy.deepcopy(built(**options))


@functools.cache
def _small() -> ArNet:
    torch.manual_seed(0)
    return arnet(**SMALL | {"shares": (1, 1, 1), "rates": (1, 1, 0.5)})


def small() -> ArNet:
    """A fresh one to be trained on the toy videos, and random numbers from the same place on."""
    method = copy.deepcopy(_small())
    torch.manual_seed(0)
    return method


def clips(method: ArNet, batch: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(batch, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    return base + torch.randn(method.spec.shape(batch), generator=generator, dtype=torch.float64)


def forced(method: ArNet, *rows: Sequence[int]) -> Forced:
    """The policy that follows `rows`: of each sample, the action at each frame."""
    actions = torch.tensor(rows)
    return Forced({point: torch.eye(len(method.macs))[actions[:, time]] for time, point in enumerate(method.points)})


@torch.no_grad()
def run(method: ArNet, sample: Tensor, *rows: Sequence[int]) -> Any:
    return method(sample, forced(method, *rows))


# What it costs


@functools.cache
def paper() -> ArNet:
    with torch.device("meta"):
        return arnet(classes=200)


def published_macs(usage: Sequence[float], macs: Sequence[float], policy_macs: float, skips: Sequence[int]) -> float:
    """Multiply-adds a frame as the authors' code adds them up from the share of frames under each action.

    The policy network counts on frames that are not skipped, and 1/n on those under a skip of n. `ArNet.account` says
    the same of the same figures, but where the clip ends inside a skip: the policy network ran once for all of it. The
    authors' figures differ besides: 0.0032768 G for the LSTM (2·1280²), which takes 0.0036700, nothing for the two
    linear layers, and normalisation counted (ResNet-50 at 4.11 G).
    """
    once = [1.0] * (len(usage) - len(skips)) + [1 / skip for skip in skips]
    ran = sum(share * part for share, part in zip(usage, once, strict=True))
    return sum(share * cost for share, cost in zip(usage, macs, strict=True)) + ran * policy_macs


def test_published_costs_and_size() -> None:
    """4.087, 2.244, 0.485 and 0.050 G a frame; 62.59 M parameters, VA-RED²'s Table 4 has 63.0."""
    method = paper()
    assert [*(backbone.resolution for backbone in method.backbones), method.resolution] == [224, 168, 112, 84]
    branches = (4_087_136_256 + 2048 * 200, 2_244_439_040 + 512 * 200, 484_847_616 + 512 * 200)
    assert method.macs == (*branches, 512 * 200, 0, 0, 0)
    lstm = 4 * 512 * (1280 + 512)
    assert method.policy_macs == 50_356_992 + lstm + 512 * 7
    backbones = 23_508_032 + 21_284_672 + 11_176_512 + 200 * (2049 + 513 + 513)
    assert method.parameter_count == backbones + 2_223_872 + lstm + 2 * 4 * 512 + 513 * 7 + 513 * 200 == 62_588_391


def test_range_of_costs_does_not_single_out_table_4s() -> None:
    """44.8 G for 16 frames lies between what single choices take: it is a mixture that was not published."""
    method = paper()
    totals = [int(method.account(fixed(method, dict.fromkeys(method.points, k)).trace)) for k in range(7)]
    policy = method.policy_macs
    assert totals == [*(16 * (cost + policy) for cost in method.macs[:5]), 8 * policy, 4 * policy]
    assert [round(total / 1e9, 2) for total in totals] == [66.27, 36.78, 8.62, 0.87, 0.86, 0.43, 0.22]
    assert totals == sorted(totals, reverse=True)
    middle = matched(method, 44_800_000_000, draws=64)
    assert method.account(middle.trace).double().mean() == pytest.approx(44.8e9, rel=0.005)


def test_published_accounting_by_hand() -> None:
    """16 frames: 4 ResNet-50, 1 own, a skip of 1, one of 2, two of 4; and then a skip that the end cuts off."""
    method = paper()
    whole = [R50] * 4 + [OWN] + [SKIP1] + [SKIP2] * 2 + [SKIP4] * 8
    trace = forced(method, whole).trace
    usage = method.usage(trace)[0]
    assert usage.tolist() == [4 / 16, 0, 0, 1 / 16, 1 / 16, 2 / 16, 8 / 16]
    runs = 4 + 1 + 1 + 1 + 2
    by_hand = (4 * method.macs[R50] + method.macs[OWN] + runs * method.policy_macs) / 16
    published = published_macs(usage.tolist(), method.macs, method.policy_macs, (1, 2, 4))
    assert published == pytest.approx(by_hand) and int(method.account(trace)) == by_hand * 16
    cut = forced(method, [R50] * 13 + [SKIP4] * 3).trace  # three of the four frames are there
    usage = method.usage(cut)[0]
    published = published_macs(usage.tolist(), method.macs, method.policy_macs, (1, 2, 4))
    assert int(method.account(cut)) - 16 * published == pytest.approx(method.policy_macs / 4)


def test_authors_own_constants() -> None:
    """A usage that is all ResNet-50, with their 4.11 G and their LSTM of 2·1280²; and one of skips only."""
    lstm = 2 * 1280**2
    assert lstm == 3_276_800
    assert published_macs([1, 0, 0, 0, 0, 0, 0], [4.11e9] + [0] * 6, 50e6 + lstm, (1, 2, 4)) == 4.11e9 + 50e6 + lstm
    assert published_macs([0, 0, 0, 0, 0, 0.5, 0.5], [0] * 7, 100, (1, 2, 4)) == 37.5


@pytest.mark.parametrize("number", range(3))
def test_backbones_count_as_other_counters_do(number: int) -> None:
    method = tiny()
    backbone = method.backbones[number]
    assert isinstance(backbone, Backbone)
    size = backbone.resolution
    assert both_conventions(backbone.network.float(), (1, 3, size, size))[0] == method.macs[number]


# What it decides and runs


@pytest.mark.parametrize("decide", ["argmax", "sample"])
def test_conforms(decide: Decide) -> None:
    method = tiny()
    method.decide = decide
    sample = clips(method, 6)
    assert check(method, sample) == []
    with torch.no_grad():
        trace = method(sample).trace
    assert list(trace) == list(method.decisions()) == method.points
    rows = torch.stack([trace[point] for point in method.points], 1)
    assert set(rows.sum(2).unique().tolist()) == {0.0, 1.0}, "no frame is skipped"
    assert len(rows[:, 0].unique(dim=0)) > 2, "samples decide alike"


def test_all_on_is_the_plain_network() -> None:
    method = tiny()
    sample = clips(method, 2)
    backbone = method.backbones[0]
    assert isinstance(backbone, Backbone)
    with torch.no_grad():
        found = method(sample, everything(method)).logits
        plain = torch.stack([backbone.network(sample[:, :, time]) for time in range(4)]).mean(0)
    torch.testing.assert_close(found, plain)


def test_each_answer_is_its_network_at_its_resolution() -> None:
    """Frames: ResNet-18 at half, the LSTM's own answer, a skip of one, ResNet-34 at three quarters."""
    method = tiny()
    sample = clips(method, 2)
    small, middle = method.backbones[R18], method.backbones[R34]
    assert isinstance(small, Backbone) and isinstance(middle, Backbone)
    network = method.policy_network
    with torch.no_grad():
        found = run(method, sample, [R18, OWN, SKIP1, R34]).logits
        state = None
        for time in range(2):
            state = network.lstm(network.describe(resized(sample[:, :, time], 12)), state)
        assert state is not None
        first = small.network(resized(sample[:, :, 0], 16))
        last = middle.network(resized(sample[:, :, 3], 24))
        torch.testing.assert_close(found, (first + network.classify(state[0]) + last) / 3)


def test_resizing_looks_at_every_pixel() -> None:
    """An image of one value keeps it; one of two keeps its mean; the same size is the same image."""
    image = torch.cat([torch.zeros(1, 3, 8, 4), torch.ones(1, 3, 8, 4)], 3)
    assert resized(image, 8) is image
    assert resized(image, 4).mean() == pytest.approx(0.5)
    corner = torch.zeros(1, 3, 8, 8)
    corner[..., 0, 0] = 1
    assert (resized(corner, 2)[..., 0, 0] > 0).all()
    torch.testing.assert_close(resized(torch.full((1, 3, 8, 8), 0.7), 3), torch.full((1, 3, 3, 3), 0.7))


def test_all_skipped_is_no_answer() -> None:
    method = tiny()
    found = run(method, clips(method, 2), [SKIP4] * 4, [SKIP2] * 4)
    assert not found.logits.any()
    assert found.cost.tolist() == [method.policy_macs, 2 * method.policy_macs]


def test_what_is_skipped_changes_nothing() -> None:
    """Neither the pixels of skipped frames nor what is forced there; both LSTM states pass them unchanged."""
    method = tiny(frames=6)
    sample = clips(method, 3)
    other = sample.clone()
    other[:, :, 1:4] = torch.randn_like(other[:, :, 1:4])
    one = run(method, sample, [SKIP4, R50, R50, R50, OWN, R18])
    two = run(method, other, [SKIP4, R18, OWN, SKIP2, OWN, R18])
    assert torch.equal(one.logits, two.logits) and torch.equal(one.cost, two.cost)
    assert all(torch.equal(one.trace[point], two.trace[point]) for point in method.points)
    assert not any(one.trace[f"frame.{time}"].any() for time in (1, 2, 3))
    network = method.policy_network
    with torch.no_grad():
        state = network.lstm(network.describe(resized(sample[:, :, 0], 12)))
        state = network.lstm(network.describe(resized(sample[:, :, 4], 12)), state)
        last = Forced(run(method, sample, [SKIP4, 0, 0, 0, OWN, SKIP1]).trace)
        torch.testing.assert_close(method(sample, last).logits, network.classify(state[0]))


def executed(method: ArNet, sample: Tensor, *rows: Sequence[int]) -> Any:
    with torch.no_grad(), Counter(method, batch=len(sample)) as counter:
        method(sample, forced(method, *rows))
    return counter.result()


def test_skipping_really_skips() -> None:
    """Of every network, only what was chosen runs, once, booked on the samples that chose it."""
    method = tiny()
    sample = clips(method, 2)
    found = executed(method, sample, [R50, R50, SKIP2, SKIP2], [SKIP1, SKIP1, OWN, R50])
    first = 3 * method.policy_macs + 2 * method.macs[R50]
    second = 4 * method.policy_macs + method.macs[R50] + method.macs[OWN]
    assert found.per_sample == (first, second)

    def of(part: str) -> int:
        return sum(macs for name, macs in found.by_module.items() if name.startswith(part))

    assert of("backbones.0") == 3 * method.macs[R50]
    assert of("backbones.1") == of("backbones.2") == 0
    assert of("policy_network.classify") == method.macs[OWN]
    assert of("policy_network") == 7 * method.policy_macs + method.macs[OWN]
    calls: list[int] = []
    method.backbones[0].register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    run(method, sample, [R50, R50, SKIP2, SKIP2], [SKIP1, SKIP1, OWN, R50])
    assert calls == [3], "a backbone runs more than once"


@settings(max_examples=6, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=3))
def test_any_decisions_can_be_forced_and_cost_what_runs(rows: list[list[int]]) -> None:
    method = built()
    sample = clips(method, len(rows))
    accounted = method.account(forced(method, *rows).trace)
    found = run(method, sample, *rows)
    assert accounted.tolist() == found.cost.tolist() == list(executed(method, sample, *rows).per_sample)
    assert found.logits.isfinite().all()


# Drawn decisions


def test_draws_depend_on_the_seed_and_the_pixels_only() -> None:
    method = tiny()
    method.decide = "sample"
    nn.init.zeros_(method.policy_network.choose.weight)  # all actions alike
    sample = clips(method, 4)
    sample[3] = sample[0]
    drawn = []
    for seed in (0, 1, 0):
        method.seed = seed
        torch.manual_seed(len(drawn))  # the global generator plays no part
        with torch.no_grad():
            drawn.append(torch.stack(list(method(sample).trace.values()), 1))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0][0], drawn[0][3]) and not torch.equal(drawn[0][0], drawn[0][1])


def test_draws_have_the_chances_of_the_policy() -> None:
    """In evaluation and in training; with the noise the wrong way round the first would have 0.68."""
    chances = torch.tensor([1 / 2, *[1 / 12] * 6], dtype=torch.float64)
    method = tiny(frames=1)
    method.decide = "sample"
    nn.init.zeros_(method.policy_network.choose.weight)
    method.policy_network.choose.bias.data = chances.log()
    pixels = torch.rand(600, 3, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        evaluated = method(pixels).trace["frame.0"].mean(0)
    trained = straight_through(chances.log().repeat(600, 1), 2.0).mean(0)
    for found in (evaluated, trained):
        assert (found - chances).abs().max() < 4 * math.sqrt(0.25 / 600)


# The training form and the loss


def test_training_form_is_the_evaluated_one_under_the_same_decisions() -> None:
    method = tiny(frames=6)
    sample = clips(method, 5)
    nn.init.zeros_(method.policy_network.choose.weight)  # every action is drawn
    with torch.no_grad():
        logits, decisions = relaxed(method, sample, tau=1.0)
        trace = {point: decisions[:, time] for time, point in enumerate(method.points)}
        replayed = method(sample, Forced(trace))
    torch.testing.assert_close(replayed.logits, logits)
    torch.testing.assert_close(method.usage(replayed.trace), decisions.mean(1))
    assert decisions[..., SKIP2:].any(), "nothing was skipped"


def test_temperature_falls_as_published() -> None:
    assert temperature(0) == 5
    assert temperature(46 / 50) == pytest.approx(0.6309, abs=1e-4)  # the value that the last stage is published with


def test_loss_by_hand() -> None:
    """Half ResNet-50, a quarter own, a quarter skip: the cost keeps its published weight in a small network."""
    method = tiny()
    decisions = torch.eye(7, dtype=torch.float64)[torch.tensor([[R50, R50, OWN, SKIP1]])]
    cost, uneven = spending(method, decisions)
    assert float(cost) == pytest.approx(DEAREST / 2)
    usage = [0.5, 0, 0, 0.25, 0.25, 0, 0]
    assert float(uneven) == pytest.approx(math.sqrt(sum((share - 1 / 7) ** 2 for share in usage)))
    cost, _ = spending(method, torch.eye(7, dtype=torch.float64)[torch.tensor([[R18]])])
    assert float(cost) == pytest.approx(DEAREST * method.macs[R18] / method.macs[R50])
    even = torch.eye(7, dtype=torch.float64).reshape(1, 7, 7)
    assert float(spending(method, even)[1]) == pytest.approx(0)


def test_loss_weighs_accuracy_against_cost() -> None:
    method = tiny().train()
    joint = method.stages(Recipe(epochs=11))[1]
    joint.begin(10)
    batch = some_batch(method)
    torch.manual_seed(3)
    loss, logged = joint.loss(batch)  # type: ignore[attr-defined]
    torch.manual_seed(3)
    logits, decisions = relaxed(method, batch.sample, 5.0)
    cost, uneven = spending(method, decisions)
    by_hand = 0.95 * F.cross_entropy(logits, batch.target) + 0.05 * (cost + 3 * uneven)
    assert loss.item() == pytest.approx(by_hand.item()) and logged["tau"] == 5.0


# Training


def some_batch(method: ArNet, batch: int = 12) -> Batch:
    return Batch(clips(method, batch), torch.arange(batch) % 3, torch.arange(batch))


def stages(method: ArNet, epochs: int = 3) -> Sequence[Stage]:
    found = method.stages(Recipe(epochs=epochs, batch=6, lr=0.05))
    for stage in found:
        stage.begin(4)
    return found


def test_stages_share_the_epochs_and_rates_as_published() -> None:
    method = tiny()
    recipe = Recipe(epochs=110, lr=0.1, clip_norm=1.0)
    found = method.stages(recipe)
    assert [(stage.name, stage.epochs) for stage in found] == [("apart", 10), ("joint", 50), ("frozen", 50)]
    assert [stage.recipe.lr for stage in found] == pytest.approx([0.1, 0.005, 0.0025])  # type: ignore[attr-defined]
    assert {stage.recipe.clip_norm for stage in found} == {1.0}  # type: ignore[attr-defined]
    assert {stage.recipe.clip_norm for stage in method.stages(Recipe(epochs=2))} == {20.0}  # type: ignore[attr-defined]
    assert [stage.epochs for stage in method.stages(Recipe(epochs=2))] == [0, 1, 1]


def test_gradients_reach_every_parameter_and_the_right_ones() -> None:
    method = tiny()
    nn.init.zeros_(method.policy_network.choose.weight)  # every action is drawn
    reached = []
    for stage in stages(method):
        method.zero_grad()
        stage.step(some_batch(method))
        reached.append({name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()})
    names = {name for name, _ in method.named_parameters()}
    choice = {name for name in names if ".choose." in name}
    backbones = {name for name in names if name.startswith("backbones.")}
    assert reached[0] == names - choice
    assert reached[1] == names
    assert reached[2] <= backbones


def test_policy_stands_still_in_the_last_stage() -> None:
    method = tiny()
    stages(method)[1].step(some_batch(method))
    before = {key: value.clone() for key, value in method.state_dict().items()}
    stages(method)[2].step(some_batch(method))
    assert all(weight.grad is None for weight in method.policy_network.parameters()), "clipping counts old gradients"
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith("backbones.") for key in changed)


@pytest.mark.parametrize("number", range(3))
def test_steps_lower_the_loss(number: int) -> None:
    method = small()
    recipe = Recipe(epochs=3, batch=12, lr=0.05, warmup=0.0)
    stage = method.stages(recipe)[number]
    stage.begin(1000)
    (batch,) = train_batches(ToySplit(12), method.spec, Sampling(), 12, 0, 0)
    losses = []
    for _ in range(5):
        torch.manual_seed(5)  # the same draws, so that only the weights differ
        losses.append(stage.step(batch)["loss"])
    assert losses[-1] < losses[0], losses


def test_half_precision_stays_finite() -> None:
    # Not at 8 pixels: of maps of one pixel oneDNN's bf16 weight gradient under a stride reads memory nobody wrote.
    torch.manual_seed(0)
    method = arnet(**SMALL | {"size": 64})
    batch = Batch(torch.randn(method.spec.shape(12)), torch.arange(12) % 3, torch.arange(12))
    for stage in method.stages(Recipe(epochs=3, precision="bf16")):
        stage.begin(2)
        for _ in range(2):
            logged = stage.step(batch)
            assert all(math.isfinite(value) for value in logged.values()), (stage.name, logged)
    assert all(bool(weight.isfinite().all()) for weight in method.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert method.eval()(batch.sample).logits.isfinite().all()


def test_draws_of_zero_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "exponential_", Tensor.zero_)
    log_chances = torch.zeros(2, 7, requires_grad=True)
    drawn = straight_through(log_chances, 0.5)
    (drawn**2).sum().backward()
    assert drawn.isfinite().all() and log_chances.grad is not None and log_chances.grad.isfinite().all()


def trained(folder: Path, interrupted: Sequence[int] = ()) -> dict[str, Tensor]:
    for stop_after in (*interrupted, None):
        method = small()
        recipe = Recipe(epochs=3, batch=12, lr=0.05)
        train(method, ToySplit(), Sampling(), recipe, 0, folder, log_every=1, stop_after=stop_after)
    return method.state_dict()


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log but for what is measured by the clock."""
    return [json.loads(line) | {"waited": None} for line in (folder / "log.jsonl").read_text().splitlines()]


def test_interrupted_training_ends_the_same(tmp_path: Path) -> None:
    """Two steps a stage; interrupted inside the second, and inside the third."""
    whole = trained(tmp_path / "whole")
    cut = trained(tmp_path / "cut", interrupted=(3, 2))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert logged(tmp_path / "whole") == logged(tmp_path / "cut")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbones": ("resnet50", "vgg")}, "must be some of resnet50"),
        ({"backbones": ()}, "got none"),
        ({"resolutions": (16, 32, 16, 12)}, "from the dearest"),
        ({"resolutions": (32, 16)}, "a resolution each"),
        ({"skips": (0, 1)}, "1 frame or more"),
        ({"skips": (4, 2)}, "the shortest first"),
        ({"skips": (1, 2, 3, 4, 5)}, "can be 8 actions"),
        ({"decide": "guess"}, "argmax, sample"),
        ({"cost_weight": 1.5}, "cost_weight"),
        ({"rates": (0.1, 0.1)}, "three rates"),
        ({"shares": (0, 0, 0)}, "three shares"),
        ({"dropout": 1.0}, "dropout"),
        ({"blocks": (1, 0)}, "blocks"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        arnet(**TINY | options)


def stepped() -> tuple[list[float], list[float], dict[str, Any]]:
    """Losses and unevenness of three joint steps, each process on its part of eight samples, and the weights then.

    In double precision and without draws, which differ between processes.
    """
    training.straight_through = lambda log_chances, tau: sharpened(log_chances / tau)
    torch.manual_seed(0)
    method = arnet(**SMALL | {"dropout": 0.0}).double()
    whole = Batch(clips(method, 8), torch.arange(8) % 3, torch.arange(8))
    rows = torch.from_numpy(own_part(np.arange(8)))
    stage = method.stages(Recipe(epochs=3, batch=8, lr=0.05))[1]
    stage.begin(9)
    with synced_norms(method):
        steps = [stage.step(Batch(whole.sample[rows], whole.target[rows], rows)) for _ in range(3)]
    found = [average_values(one) for one in steps]
    weights = {name: value.detach().numpy() for name, value in method.state_dict().items()}
    return [one["loss"] for one in found], [one["uneven"] for one in found], weights


def sharpened(log_chances: Tensor) -> Tensor:
    soft = log_chances.softmax(1)
    return F.one_hot(soft.argmax(1), soft.shape[1]) - soft.detach() + soft


def test_balance_is_that_of_the_whole_batch_whatever_the_processes() -> None:
    (alone,) = together(1, stepped)
    for losses, uneven, weights in together(2, stepped):
        np.testing.assert_allclose(losses, alone[0], rtol=1e-6)
        np.testing.assert_allclose(uneven, alone[1], rtol=1e-6)
        for name, value in alone[2].items():
            np.testing.assert_allclose(weights[name], value, rtol=1e-6, atol=1e-9)
