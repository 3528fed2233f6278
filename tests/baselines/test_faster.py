"""FASTER: FAST-GRU against its equations, costs against the published formula, each network on its clips only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import ToySplit

from baselines.faster.aggregation import Aggregation, FastGRU, aggregate
from baselines.faster.method import Faster, faster
from baselines.networks.r2plus1d_bottleneck import r2plus1d_50
from bench.conformance import check
from bench.cost import count, count_meta
from bench.data.sampling import Sampling
from bench.method import Batch, Recipe
from bench.registry import RegistryError
from bench.training import train

EVERY = pytest.mark.parametrize("aggregation", get_args(Aggregation))
NETWORKS = {"E": 53_217_886_208, "C": 31_638_192_128}
"""Multiply-adds of 16 frames at 224², the classifier of 400 classes included."""
HEAD = 2048 * 400


def tiny(**options: Any) -> Faster:
    """Maps of 32 channels, 2 frames and 2×2 from clips of 4 frames and 8×8."""
    torch.manual_seed(0)
    small = {"blocks": (1, 1), "stem": (1, 3, 3)}
    given = {"frames": 4, "size": 8, "classes": 3, "width": 16, "clips": 3, "pattern": "ECC"}
    given |= {"expensive": "r2plus1d_18", "expensive_options": small | {"blocks": (2, 1)}}
    given |= {"cheap": "r2plus1d_18", "cheap_options": small}
    return faster(**{**given, **options})


def perturbed(method: Faster) -> Faster:
    """In double precision and evaluation, with normalisation that has seen something."""
    for part in method.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.bias.data.normal_(0, 0.2)
    return method.double().eval()


def videos(method: Faster, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(method.spec.shape(batch), generator=generator, dtype=next(method.parameters()).dtype)


def full_size(size: int = 224, **options: Any) -> Faster:
    with torch.device("meta"):
        return faster(**{"frames": 16, "size": size, "classes": 400, **options})


def step_macs(channels: int, reduction: int, frames: int, height: int, width: int) -> int:
    """One step of FAST-GRU: a candidate of 2C·C, two gates of 2C·h + h·C, at every position."""
    hidden = channels // reduction
    return frames * height * width * (2 * channels**2 + 2 * (2 * channels * hidden + hidden * channels))


def test_closed_update_gate_passes_the_state_through_exactly() -> None:
    torch.manual_seed(0)
    cell, x, state = FastGRU(8, 4).eval(), torch.randn(2, 8, 3, 2, 2), torch.randn(2, 8, 3, 2, 2)
    assert not torch.equal(cell(x, state), state)
    last = cell.update[3]
    last.weight.data.zero_()
    last.bias.data.fill_(-1e4)
    assert torch.equal(cell(x, state), state)
    last.bias.data.fill_(1e4)
    torch.testing.assert_close(cell(x, state), cell(x, state).clamp(-1, 1))  # fully open: the candidate alone


def test_fast_gru_is_its_equations() -> None:
    torch.manual_seed(0)
    cell, x, state = FastGRU(6, 2).double().eval(), torch.randn(2, 6, 2, 1, 3).double(), torch.randn(2, 6, 2, 1, 3)
    state = state.double()

    def linear(conv: torch.nn.Module, value: Tensor) -> Tensor:
        out = torch.einsum("oi,bithw->bothw", conv.weight[:, :, 0, 0, 0], value)
        return out if conv.bias is None else out + conv.bias.view(-1, 1, 1, 1)

    def gate(part: torch.nn.Sequential, value: Tensor) -> Tensor:
        return linear(part[3], part[1](linear(part[0], value)).relu()).sigmoid()

    both = torch.cat([x, state], 1)
    candidate = linear(cell.candidate, torch.cat([x, gate(cell.read, both) * state], 1)).tanh()
    update = gate(cell.update, both)
    torch.testing.assert_close(cell(x, state), (1 - update) * state + update * candidate)


def test_fast_gru_keeps_the_layout() -> None:
    """Each position sees itself only: a change there changes the state there and nowhere else."""
    torch.manual_seed(0)
    cell, x, state = FastGRU(8, 2).eval(), torch.randn(1, 8, 2, 3, 3), torch.randn(1, 8, 2, 3, 3)
    other = x.clone()
    other[:, :, 1, 2, 0] += 1
    moved = (cell(x, state) != cell(other, state)).any(1)[0]
    assert moved.nonzero().tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(("letter", "blocks"), [("E", (3, 4, 6, 3)), ("C", (2, 2, 2, 2))])
@pytest.mark.parametrize("size", [224, 112])
def test_clip_networks(letter: str, blocks: Sequence[int], size: int) -> None:
    """53.2 and 31.6 G for 16 frames at 224²; at 112² a little over their quarters, since 7×7 halves to 4×4."""
    first, side = 3 * 49 * 64 * 16 * (size // 2) ** 2, size // 4
    total, inputs, frames = first, 64, 16
    for stage, depth in enumerate(blocks):
        planes, before, frames_before = 64 * 2**stage, side, frames
        side, frames = -(-side // 2) if stage else side, frames // 2 if stage > 1 else frames
        now = frames * side**2
        total += inputs * planes * frames_before * before**2 + 9 * planes**2 * frames_before * side**2
        total += 3 * planes**2 * now + 4 * planes**2 * now + inputs * 4 * planes * now  # the last is the shortcut
        total += (depth - 1) * (4 + 9 + 3 + 4) * planes**2 * now
        inputs = 4 * planes
    alone = full_size(size, pattern=letter, clips=2, aggregation="average")
    assert alone.details()["multiply-adds per clip"] == total + HEAD
    assert alone.macs == 2 * (total + HEAD)
    assert size == 112 or total + HEAD == NETWORKS[letter]


@pytest.mark.parametrize(("pattern", "clips", "reduction"), [("ECCC", 4, 4), ("ECCCCCCC", 8, 16), ("CCE", 5, 3)])
def test_cost_is_the_published_formula(pattern: str, clips: int, reduction: int) -> None:
    """Per clip (E + (n - 1)·C)/n and one step of FAST-GRU on the map (2048, 4, 7, 7); per video one classifier."""
    aggregation = clips * step_macs(2048, reduction, 4, 7, 7) + HEAD
    letters = (pattern * clips)[:clips]
    method = full_size(pattern=pattern, clips=clips, reduction=reduction)
    assert method.macs == sum(NETWORKS[letter] - HEAD for letter in letters) + aggregation
    if letters.count("E") * len(pattern) == clips:
        rest = len(pattern) - 1
        networks = (NETWORKS["E"] - HEAD + rest * (NETWORKS["C"] - HEAD)) / len(pattern)
        assert method.details()["multiply-adds per clip"] == pytest.approx(networks + aggregation / clips, rel=1e-12)


def test_cost_of_each_aggregation() -> None:
    """An LSTM has four products of C×C with input and with state, a GRU three; the fc of a concatenation sees all."""
    maps, clips = (1, 4, 2048, 4, 7, 7), 4
    expected = {
        "concatenation": clips * HEAD,
        "lstm": clips * 8 * 2048**2 + HEAD,
        "gru": clips * 6 * 2048**2 + HEAD,
        "fast_gru": clips * step_macs(2048, 4, 4, 7, 7) + HEAD,
    }
    with torch.device("meta"):
        found = {name: count_meta(aggregate(name, 2048, clips, 400, 4), maps).macs for name in expected}
    assert found == expected


@EVERY
def test_conformance(aggregation: Aggregation) -> None:
    method = perturbed(tiny(aggregation=aggregation))
    assert check(method, videos(method)) == []
    assert method.decisions() == {} and method.spec.unit == "video"


def test_defaults_run_at_small_sizes() -> None:
    method = faster(frames=4, size=32, classes=5, width=8).eval()
    sample = videos(method, 2)
    assert sample.shape == (2, 4, 3, 4, 32, 32)
    assert count(method, sample).per_sample == (method.macs,) * 2


@EVERY
def test_each_clip_is_read_by_its_network(aggregation: Aggregation) -> None:
    """Against the plain way: clip by clip, in order."""
    method = perturbed(tiny(aggregation=aggregation, clips=4, pattern="ECC"))
    sample, network = videos(method), method.network
    with torch.no_grad():
        readers = [network.networks[letter] for letter in "ECCE"]
        if aggregation == "average":
            logits = sum(reader.classify(sample[:, place]) for place, reader in enumerate(readers)) / 4
        else:
            logits = network.aggregator(torch.stack([reader(sample[:, i]) for i, reader in enumerate(readers)], 1))
        torch.testing.assert_close(method(sample).logits, logits)
        shuffled = method(sample[:, [3, 1, 2, 0]]).logits
    assert torch.allclose(shuffled, logits) == (aggregation == "average"), "only the average forgets the order"


def test_all_expensive_is_the_plain_network() -> None:
    torch.manual_seed(0)
    options = {"width": 4, "blocks": (1, 1, 1, 1)}
    plain = r2plus1d_50(8, 32, 5, **options).double().eval()
    torch.manual_seed(0)
    method = faster(
        frames=8, size=32, classes=5, pattern="E", width=4, aggregation="average", expensive_options=options
    )
    method = method.double().eval()
    sample = videos(method, 2)
    assert list(method.network.networks) == ["E"], "what the pattern does not name is not built"
    assert method.parameter_count == sum(p.numel() for p in plain.parameters())
    with torch.no_grad():
        expected = torch.stack([plain(clip) for clip in sample.unbind(1)]).mean(0)
        torch.testing.assert_close(method(sample).logits, expected)


def test_each_network_runs_once_and_only_on_its_clips() -> None:
    method = perturbed(tiny(clips=4, pattern="ECCC"))
    seen: list[tuple[str, int]] = []
    accounted = method.macs  # counted on a copy, which would take the hooks along

    def note(letter: str) -> Any:
        return lambda module, inputs: seen.append((letter, len(inputs[0])))

    with ExitStack() as hooks:
        for letter, network in method.network.named_networks():
            hooks.callback(network.trunk.register_forward_pre_hook(note(letter)).remove)
        found = count(method, videos(method, 5))
    assert sorted(seen) == [("C", 15), ("E", 5)]
    assert found.per_sample == (accounted,) * 5
    for letter, clips in (("E", 1), ("C", 3)):
        ran = sum(macs for name, macs in found.by_module.items() if name.startswith(f"network.networks.{letter}."))
        trunk = method.network.networks[letter].trunk
        assert ran == 5 * clips * count_meta(trunk, (1, *method.spec.shape()[2:])).macs


def test_narrower_maps_are_widened() -> None:
    small = {"blocks": (1, 1), "stem": (1, 3, 3), "width": 8}
    method = tiny(cheap_options=small)
    cheap = method.network.networks["C"]
    assert cheap.shape == (16, 2, 2, 2) and cheap(torch.randn(2, 3, 4, 8, 8)).shape == (2, 32, 2, 2, 2)
    same = tiny(cheap_options=small | {"width": 16})
    difference = count_meta(same.network.networks["C"].trunk, (1, 3, 4, 8, 8)).macs
    difference -= count_meta(cheap.trunk, (1, 3, 4, 8, 8)).macs + 16 * 32 * 8
    assert same.macs - method.macs == 2 * difference
    assert tiny(cheap_options=small, aggregation="average").network.networks["C"].match.__class__ is torch.nn.Identity


class Kept(dict[str, Tensor]):
    """A copy of the weights."""

    def __init__(self, method: Faster) -> None:
        super().__init__({name: value.clone() for name, value in method.state_dict().items()})


def test_interrupted_training_ends_the_same(tmp_path: Path) -> None:
    recipe, weights = Recipe(epochs=2, batch=8, lr=0.05), []  # one epoch of three steps for each stage
    for cuts in ((), (1, 3)):
        method = tiny()
        for stop_after in (*cuts, None):
            folder = tmp_path / str(len(cuts))
            folder.mkdir(exist_ok=True)
            train(method, ToySplit(), Sampling(), recipe, 0, folder, log_every=1, stop_after=stop_after)
            weights.append(Kept(method))
            method = tiny()
    assert all(torch.equal(weights[0][name], value) for name, value in weights[-1].items())


@EVERY
def test_every_parameter_learns_in_some_stage_and_losses_fall(aggregation: Aggregation) -> None:
    method = tiny(aggregation=aggregation, cheap_options={"blocks": (1, 1), "stem": (1, 3, 3), "width": 8})
    batch = Batch(videos(method, 6), torch.arange(6) % 3, torch.arange(6))
    untouched = {name for name, _ in method.named_parameters()}
    for stage in method.stages(Recipe(epochs=10, lr=0.05, warmup=0)):
        stage.begin(8)
        before, losses = Kept(method), []
        for _ in range(5):
            losses.append(stage.step(batch)["loss"])
        assert losses[-1] < losses[0], stage.name
        moved = {name for name, weight in method.named_parameters() if not torch.equal(weight, before[name])}
        if stage.name == "clips":
            assert not any("aggregator." in name or ".match." in name for name in moved)
        else:
            assert not any(".head." in name for name in moved if "aggregator." not in name)
        untouched -= moved
    assert not untouched


@pytest.mark.parametrize("aggregation", ["lstm", "gru", "fast_gru"])
def test_half_precision_trains_both_stages(aggregation: Aggregation) -> None:
    small = {"blocks": (1, 1)}
    method = faster(
        frames=4, size=16, classes=3, width=8, aggregation=aggregation, expensive_options=small, cheap_options=small
    )
    batch = Batch(videos(method, 6), torch.arange(6) % 3, torch.arange(6))
    for stage in method.stages(Recipe(epochs=10, lr=0.05, precision="bf16")):
        stage.begin(2)
        for _ in range(2):
            assert stage.step(batch)["loss"] < 10
    assert all(bool(weight.isfinite().all()) for weight in method.parameters())


def test_stages_share_the_epochs_and_the_networks_go_on_slower() -> None:
    first, second = tiny(backbone_scale=0.2).stages(Recipe(epochs=10, lr=0.5, warmup=0))
    assert (first.epochs, second.epochs) == (6, 4)
    method = tiny(aggregation_share=1.0, backbone_scale=0.0)
    second = method.stages(Recipe(epochs=3))[1]
    assert second.epochs == 3
    second.begin(3)
    before = Kept(method)
    second.step(Batch(videos(method), torch.arange(4) % 3, torch.arange(4)))
    frozen = [name for name, _ in method.named_parameters() if ".trunk." in name]
    assert frozen and all(torch.equal(before[name], method.state_dict()[name]) for name in frozen)
    (only,) = tiny(aggregation="average").stages(Recipe(epochs=5))
    assert only.epochs == 5


def test_loss_of_the_first_stage_weighs_networks_alike() -> None:
    """One expensive clip counts as much as both cheap ones together."""
    method = tiny()
    batch = Batch(videos(method), torch.arange(4) % 3, torch.arange(4))
    stage = method.stages(Recipe(epochs=2, lr=0.05))[0]
    stage.begin(2)
    with torch.no_grad():
        method.train()
        each = method.network.clip_logits(batch.sample)
        expected = F.cross_entropy(each["E"][:, 0], batch.target)
        expected = expected + sum(F.cross_entropy(each["C"][:, place], batch.target) for place in (0, 1)) / 2
    assert stage.step(batch)["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"pattern": "EXC"}, ValueError, "pattern of E and C"),
        ({"pattern": ""}, ValueError, "pattern of E and C"),
        ({"clips": 0}, ValueError, "1 clip or more"),
        ({"aggregation": "mean"}, ValueError, "aggregation must be one of average, .*'mean'"),
        ({"reduction": 0}, ValueError, r"reduction must be in 1\.\.32"),
        ({"reduction": 33}, ValueError, r"reduction must be in 1\.\.32"),
        ({"aggregation_share": 1.5}, ValueError, "aggregation_share"),
        ({"backbone_scale": -1}, ValueError, "backbone_scale"),
        ({"cheap": "x3d_s", "cheap_options": {}}, ValueError, "not X3D"),
        ({"cheap_options": {"blocks": (1, 1, 1)}}, ValueError, "one size only"),
        ({"cheap_options": {"weights": "file"}}, ValueError, "takes no weights"),
        ({"cheap": "r2plus1d_27"}, RegistryError, "did you mean 'r2plus1d_26'"),
        ({"cheap_options": {"depth": 3}}, RegistryError, "option 'depth'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tiny(**options)
