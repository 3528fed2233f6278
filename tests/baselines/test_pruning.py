"""Pruning cuts what it says, by multiply-adds; what it cut stays cut; what structured pruning leaves is what runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import ToySplit

from baselines.pruning.chains import find_chains
from baselines.pruning.compact import Restore
from baselines.pruning.method import Pruned, Retrain, pruned
from baselines.pruning.semi_structured import semi_structured
from bench.conformance import check
from bench.cost import Counter, count_meta
from bench.data.sampling import Sampling
from bench.method import Batch, InputSpec, Recipe
from bench.registry import build_network
from bench.training import train
from bench.weights import spec_of

TINY: dict[str, Any] = {"width": 4, "blocks": (1, 1), "stem": (1, 3, 3)}
SMALL: dict[str, dict[str, Any]] = {
    "corrnet": {"width": 8, "blocks": (1, 1), "kernel": 3, "dilation": 1},
    "i3d": {"width": 4},
    "r2plus1d_18": {"width": 8, "blocks": (1, 1)},
    "tpn": {"width": 8, "blocks": (1, 1, 1, 1)},
    "tsm_resnet50": {"width": 8, "blocks": (1, 2)},
    "x3d_m": {"width": 8, "blocks": (2, 2)},
}
KINDS = pytest.mark.parametrize("kind", ["weights", "channels", "2:4"])


def tiny(seed: int = 0, **options: Any) -> Pruned:
    torch.manual_seed(seed)
    return pruned("r2plus1d_18", frames=4, size=8, classes=3, network_options=TINY, **options)


def small(name: str, **options: Any) -> Pruned:
    """In double precision, with norms that have seen data and scale every channel in its own way."""
    torch.manual_seed(0)
    method = pruned(name, frames=4, size=24, classes=5, network_options=SMALL[name], **options).double()
    for norm in method.modules():
        if isinstance(norm, nn.BatchNorm3d):
            for value in (norm.weight, norm.bias, norm.running_mean):
                assert value is not None
                value.data.normal_(0.5, 0.3)
    return method


def clips(method: Pruned, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(method.spec.shape(count), generator=generator, dtype=next(method.parameters()).dtype)


class Toy(nn.Module):
    """A 1×1×1 convolution of three channels to two, at 8 positions, and a classifier of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
        self.conv.weight.data = torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5, 0.6]).view(2, 3, 1, 1, 1)
        self.head.weight.data = torch.tensor([[0.15, -0.25], [0.35, 0.45]])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.conv(x).mean((-3, -2, -1)))
        return out


SPEC = InputSpec("clip", 2, 2)


def test_threshold_is_found_on_multiply_adds() -> None:
    """6 · 8 + 4 = 52; of magnitudes in order .1 (8), .15 (1), .2 (8), .25 (1) and .3 (8) go, until 26 are left."""
    method = Pruned(Toy(), SPEC, budget=0.5)
    method.prune(0.5)
    assert (method.static, method.scheme.macs) == (52, 26)
    assert method.network.conv.weight.flatten().tolist() == pytest.approx([0, 0, 0, -0.4, 0.5, 0.6])
    assert method.network.head.weight.flatten().tolist() == pytest.approx([0, 0, 0.35, 0.45])
    assert method.sparsity() == {"conv": 0.5, "head": 0.5}


def test_thresholds_of_layers_share_one_quality() -> None:
    """Ten times larger weights in one layer change nothing of what goes."""
    plain, scaled = (Pruned(Toy(), SPEC, scope="layer") for _ in range(2))
    scaled.network.head.weight.data *= 10
    for method in (plain, scaled):
        method.prune(0.6)
    assert plain.sparsity() == scaled.sparsity() and plain.scheme.macs <= 0.6 * 52


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_budget_is_met_within_one_weight_and_small_weights_go(scope: Any) -> None:
    method = tiny(scope=scope, budget=0.3)
    before = {name: layer.weight.detach().clone() for name, layer in layers(method)}
    method.prune(0.3)
    macs = count_meta(method.network, method.spec.shape()).by_module
    positions = {name: macs[name] // weight.numel() for name, weight in before.items()}
    left = sum(positions[name] * int(layer.weight.count_nonzero()) for name, layer in layers(method))
    assert method.scheme.macs == left and 0 <= int(0.3 * method.static) - left < max(positions.values())
    gone, kept = [], []
    for name, layer in layers(method):
        size = before[name].abs() / (before[name].std(correction=0) if scope == "layer" else 1)
        gone.append(size[layer.weight == 0].max())
        kept.append(size[(layer.weight != 0) & (size < size.max())])  # the largest stays, however small
    assert max(gone) <= torch.cat(kept).min()


def layers(method: Pruned) -> list[tuple[str, Any]]:
    return [(n, layer) for n, layer in method.network.named_modules() if isinstance(layer, nn.Conv3d | nn.Linear)]


def test_two_of_every_four_inputs_are_kept() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 6), nn.Linear(6, 2))
    network[3].weight.data = torch.tensor([[4.0, -3, 2, 1, 0.1, 0.2], [-1, 2, -3, 4, 0.1, 0.2]])
    method = Pruned(network, SPEC, kind="2:4")
    for _ in range(2):  # pruning again finds it done
        method.prune(1.0)
        assert network[3].weight.tolist()[0] == pytest.approx([4, -3, 0, 0, 0.1, 0.2])
        assert network[3].weight.tolist()[1] == pytest.approx([0, 0, -3, 4, 0.1, 0.2])
    assert method.scheme.macs == 3 * 6 + 2 * 4 and len(method.stages(Recipe(epochs=5))) == 2


def chain_of_three() -> nn.Sequential:
    """Convolutions 3 to 4 to 4 to 2 channels at 8 positions, the second depthwise, both with normalisation."""
    norms = [nn.BatchNorm3d(4), nn.ReLU(inplace=True)], [nn.BatchNorm3d(4), nn.ReLU()]
    first, middle, last = nn.Conv3d(3, 4, 1), nn.Conv3d(4, 4, 3, padding=1, groups=4), nn.Conv3d(4, 2, 1)
    first.weight.data = torch.tensor([4.0, 1, 2, 3]).view(4, 1, 1, 1, 1).expand(4, 3, 1, 1, 1).clone()
    nn.init.ones_(last.weight)
    return nn.Sequential(first, *norms[0], middle, *norms[1], last, nn.AdaptiveAvgPool3d(1), nn.Flatten())


def test_filters_take_their_channel_along() -> None:
    """With the weakest filter go a quarter of the first and the depthwise layer and of the last one's inputs."""
    network = chain_of_three()
    assert [(c.conv, c.links, c.consumer) for c in find_chains(network, SPEC.shape())] == [
        ("0", ("1", "2", "3", "4", "5"), "6"),
        ("6", ("7",), ""),
    ]
    method = Pruned(network, SPEC, kind="channels", budget=0.8)
    method.prune(0.8)
    assert method.static == 8 * (12 + 4 * 27 + 8) and method.scheme.macs == method.static * 3 // 4
    for weight in (network[0].weight, network[0].bias, network[1].weight, network[1].bias, network[3].weight):
        assert [bool(part.any()) for part in weight][1] is False
    assert not network[6].weight[:, 1].any() and network[6].weight[:, 0].any()


@pytest.mark.parametrize(("kind", "scope", "budget"), [("weights", "layer", 0.4), ("channels", "global", 0.7)])
def test_a_layer_is_measured_by_what_it_has_left(kind: Any, scope: Any, budget: float) -> None:
    """What was cut before has no say: without it the layer would rank the rest as it does."""
    network = chain_of_three()
    method = Pruned(network, SPEC, kind=kind, scope=scope, budget=budget)
    method.prune(budget)
    weight, mask = network[0].weight, network[0].get_buffer("mask")
    left = weight[mask]
    scores, expected = (method.scheme._scores(*of) for of in ((weight, mask), (left, mask[mask])))
    assert not mask.all() and torch.equal(scores[mask.flatten()], expected)


@KINDS
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_is_closed_stays_closed_whatever_is_written_there(kind: Any, scope: Any) -> None:
    method = tiny(kind=kind, scope=scope)
    method.prune(0.6)
    before = [mask.clone() for _, mask in method.scheme.masked()]
    for weight, mask in method.scheme.masked():
        weight.data.masked_fill_(~mask, 100)
    method.prune(0.6)
    for (weight, mask), was in zip(method.scheme.masked(), before, strict=True):
        assert torch.equal(mask, was) and not weight[(~mask).expand_as(weight)].any()


@pytest.mark.parametrize("name", SMALL)
def test_pruned_channels_are_not_computed(name: str) -> None:
    """The same answers as of the whole network with zeros in it, at the cost that is accounted."""
    method = small(name, kind="channels", budget=0.6)
    method.prune(0.6)
    sample = clips(method)
    assert check(method, sample) == []
    with torch.no_grad():
        torch.testing.assert_close(method(sample).logits, method.network(sample), rtol=1e-9, atol=1e-9)
        with Counter(method, batch=3) as counter:
            method(sample)
    assert counter.result().macs == 3 * method.scheme.macs <= 3 * 0.6 * method.static
    assert method.scheme.macs > 0.45 * method.static


@KINDS
def test_unpruned_is_the_plain_network(kind: Any) -> None:
    method = tiny(kind=kind).eval()
    torch.manual_seed(0)
    plain = build_network("r2plus1d_18", frames=4, size=8, classes=3, **TINY).eval()
    sample = clips(method)
    with torch.no_grad():
        answer = method(sample)
        assert torch.equal(answer.logits, plain(sample))
    assert answer.cost.tolist() == [count_meta(plain, method.spec.shape()).macs] * 3 and check(method, sample) == []


@pytest.mark.parametrize("kind", ["weights", "2:4"])
def test_scattered_zeros_are_accounted_and_run_dense(kind: Any) -> None:
    method = tiny(kind=kind)
    method.prune(0.72)
    method.eval()
    with Counter(method, batch=2) as counter, torch.no_grad():
        answer = method(clips(method, 2))
    assert counter.result().macs == 2 * method.static > 2 * int(answer.cost[0]) and not method.exact
    problems = check(method, clips(method))
    assert [p for p in problems if not p.startswith("cost is not what runs")] == []


class Wired(nn.Module):
    """Two convolutions with a norm and an activation in between, which `run` puts together."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv3d(3, 4, 1), nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4)
        self.act, self.run = nn.ReLU(inplace=True), run
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x).mean((2, 3, 4))


def used_twice(net: Any, x: Tensor) -> Tensor:
    y = net.act(net.norm(net.one(x)))
    return net.two(y) + y  # type: ignore[no-any-return]


def renamed(net: Any, x: Tensor) -> Tensor:
    y = net.norm(net.one(x))
    net.act(y)
    return net.two(y) * y.amax((1, 2, 3, 4), keepdim=True)  # type: ignore[no-any-return]


def read_before(net: Any, x: Tensor) -> Tensor:
    y = net.norm(net.one(x))
    z = y * 2
    return net.two(net.act(y)) + z  # type: ignore[no-any-return]


def called_twice(net: Any, x: Tensor) -> Tensor:
    return net.two(net.two(net.act(net.norm(net.one(x)))))  # type: ignore[no-any-return]


def answered(net: Any, x: Tensor) -> Tensor:
    y = net.one(x)
    net.two(y)
    return y  # type: ignore[no-any-return]


@pytest.mark.parametrize("run", [used_twice, renamed, read_before, called_twice, answered])
def test_what_others_see_is_put_back(run: Callable[[Any, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    method = Pruned(Wired(run).double(), SPEC, kind="channels", scope="layer", budget=0.85)
    method.prune(0.85)
    assert not any(chain.consumer for chain in method.scheme.chains)
    assert check(method, clips(method)) == []
    with torch.no_grad():
        torch.testing.assert_close(method(clips(method)).logits, method.network(clips(method)))
    assert method.scheme.macs < method.static


@KINDS
def test_weights_in_any_memory_format_are_pruned_alike(kind: Any) -> None:
    plain, moved = tiny(kind=kind, budget=0.5), tiny(kind=kind, budget=0.5).to(memory_format=torch.channels_last_3d)
    for method in (plain, moved):
        method.prune(0.5)
    assert all(torch.equal(value, moved.state_dict()[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last_3d])
def test_channels_are_put_back_in_the_format_they_came_in(form: Any) -> None:
    x = torch.randn(2, 2, 3, 4, 5).contiguous(memory_format=form)
    full = Restore(5, torch.tensor([1, 3]))(x)
    assert full.is_contiguous(memory_format=form)
    assert torch.equal(full[:, [1, 3]], x) and not full[:, [0, 2, 4]].any()


def test_what_runs_follows_the_weights() -> None:
    """Loading, converting and pruning while in evaluation are seen at once."""
    method, other = tiny(kind="channels").eval(), tiny(1, kind="channels")
    other.prune(0.5)
    other.eval()
    sample = clips(method)
    with torch.no_grad():
        before = method(sample)
        method.load_state_dict(other.state_dict())
        after = method(sample)
        assert torch.equal(after.logits, other(sample).logits) and torch.equal(after.cost, other(sample).cost)
        assert bool((after.cost < before.cost).all())
        assert method.double()(sample.double()).logits.dtype == torch.float64
        method.prune(0.3)
        assert bool((method(sample.double()).cost < after.cost).all())


RECIPE = Recipe(epochs=4, batch=8, lr=0.05)
OPTIONS: dict[str, Any] = {"budget": 0.4, "rounds": 2, "retrain": 0.5}


def trained(kind: str, folder: Path, stops: list[int]) -> Pruned:
    """Trains to the end, in pieces of as many steps as `stops` says, each by a method built anew."""
    for stop in [*stops, None]:
        method = tiny(kind=kind, **OPTIONS)
        train(method, ToySplit(), Sampling(), RECIPE, 0, folder, stop_after=stop)
    return method


@KINDS
def test_interrupted_and_resumed_ends_the_same(kind: str, tmp_path: Path) -> None:
    """Twelve steps: six before, three in each round (2:4: six in one); stops within stages and at their ends."""
    whole = trained(kind, tmp_path / "whole", [])
    cut = trained(kind, tmp_path / "cut", [4, 2, 1, 2, 1])
    for key, value in whole.state_dict().items():
        assert torch.equal(cut.state_dict()[key], value), key
    assert whole.scheme.macs < (0.4 if kind != "2:4" else 1) * whole.static
    for weight, mask in whole.scheme.masked():
        assert not weight[(~mask).expand_as(weight)].any() and weight.any()


@KINDS
def test_what_is_cut_stays_cut_and_the_rest_learns(kind: Any) -> None:
    method = tiny(kind=kind, budget=0.5)
    batch = Batch(clips(method, 6), torch.arange(6) % 3, torch.arange(6))
    first, *rounds = method.stages(Recipe(epochs=10, lr=0.05, warmup=0.0))
    first.begin(8)
    losses = [first.step(batch)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and bool(p.grad.any()) for p in method.parameters() if p.requires_grad)
    closed: list[Tensor] = []
    for stage in rounds:
        assert isinstance(stage, Retrain)
        stage.begin(5)
        found = [(weight, (~mask).expand_as(weight)) for weight, mask in method.scheme.masked()]
        before = torch.cat([weight.detach().flatten() for weight, _ in found])
        logged = []
        for _ in range(5):
            logged.append(stage.step(batch))
            assert not any(bool(weight[gone].any()) for weight, gone in found)
            assert not any(bool(weight.grad[gone].any()) for weight, gone in found if weight.grad is not None)
        stage.end()
        assert logged[-1]["loss"] < logged[0]["loss"] and logged[0]["lr"] == pytest.approx(0.1 * 0.05)
        gone = torch.cat([gone.flatten() for _, gone in found])
        assert not closed or bool((gone | ~closed[-1]).all())  # what was cut once is never opened
        assert bool((torch.cat([weight.detach().flatten() for weight, _ in found]) != before)[~gone].any())
        closed.append(gone)
    method.zero_grad()
    method.network(batch.sample).square().sum().backward()
    assert any(
        weight.grad is not None and bool(weight.grad[gone].any()) for weight, gone in found
    )  # the hooks are gone


def test_rounds_get_geometric_budgets_and_few_epochs_go_to_the_last() -> None:
    method = tiny(budget=0.512)
    assert method.budgets == pytest.approx([0.8, 0.64, 0.512])
    assert [stage.epochs for stage in method.stages(Recipe(epochs=20))] == [12, 2, 3, 3]
    assert [stage.epochs for stage in method.stages(Recipe(epochs=2))] == [1, 0, 0, 1]
    assert [stage.name for stage in method.stages(Recipe(epochs=2))] == ["train", "retrain1", "retrain2", "retrain3"]


@pytest.mark.parametrize(("frames", "printed"), [(8, 19.9), (16, 40.3), (32, 79.6)])
def test_default_budget_is_that_of_table_7(frames: int, printed: float) -> None:
    """R(2+1)D at 128² and 200 classes; print is within 2 % of 0.72 of the network's 27.5, 55.0 and 110.1 G."""
    with torch.device("meta"):
        method = pruned("r2plus1d_18", frames=frames, size=128, classes=200, network_options={})
    assert method.static == {8: 27_524_567_040, 16: 55_049_031_680, 32: 110_097_960_960}[frames]
    assert method.budgets[-1] * method.static / 1e9 == pytest.approx(printed, rel=0.02)


def test_published_network_loses_filters_to_its_budget() -> None:
    """At full size what the network without its filters costs, recounted, is what is accounted."""
    torch.manual_seed(0)
    network = build_network("r2plus1d_18", frames=8, size=128, classes=200)
    method = Pruned(network, spec_of(network, 128, 8), kind="channels")
    method.prune(0.72)
    assert count_meta(method.compact(), method.spec.shape()).macs == method.scheme.macs
    assert 0.715 * method.static < method.scheme.macs <= 0.72 * method.static


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 0}, "budget must be above 0"),
        ({"budget": 1.5}, "at most 1"),
        ({"rounds": 0}, "rounds 1 or more"),
        ({"retrain": 2}, "retrain in 0..1"),
        ({"retrain_lr": 0}, "retrain_lr above 0"),
        ({"scope": "block"}, "no 'block'; there are global, layer"),
        ({"kind": "rows"}, "no 'rows'; there are weights, channels, 2:4"),
        ({"kind": "channels", "budget": 0.01}, r"0\.01 cannot be reached: pruning channels leaves 0\.\d+ or more"),
        ({"budget": 1e-6}, "cannot be reached"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny(**options)


def test_semi_structured_answers_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = semi_structured()
    assert found > 0 if isinstance(found, float) else found
    if not torch.cuda.is_available():
        assert found == "no CUDA device: torch has 2:4 kernels for no other"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a device that then cannot be used
        assert str(semi_structured()).startswith("2:4 kernels do not run here: ")
