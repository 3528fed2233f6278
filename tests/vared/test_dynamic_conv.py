"""Skipping equals summing, accounted equals executed, closing an option never costs more: for random gates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.cost import Counter, count_meta
from bench.method import InputSpec
from bench.policy import Forced
from bench.training import TrainingError
from vared.method import Units, VaRed

KINDS = ["depthwise", "affine", "absorbable"]


class Pointwise(nn.Module):
    """A toy network: two spatial convolutions with norm and activation between pointwise ones, odd channel counts."""

    def __init__(self, frames: int, image: bool) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if image else (nn.Conv3d, nn.BatchNorm3d)
        kernel = 3 if image else (1, 3, 3)
        padding = 1 if image else (0, 1, 1)
        self.body = nn.Sequential(
            conv(3, 7, kernel, 2 if image else (1, 2, 2), padding), norm(7), nn.ReLU(inplace=True),
            conv(7, 6, 1), norm(6), nn.SiLU(),
            conv(6, 9, 3, 1, 1), norm(9), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).flatten(2).mean(2))
        return out


class Bottleneck(nn.Module):
    """A toy block as X3D's: pointwise, depthwise, pointwise, odd channel counts, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 5, 1, (1, 2, 2))
        self.conv_a, self.norm_a = nn.Conv3d(5, 7, 1), nn.BatchNorm3d(7)
        self.conv_b, self.norm_b = nn.Conv3d(7, 7, 3, 1, 1, groups=7), nn.BatchNorm3d(7)
        self.conv_c, self.norm_c, self.head = nn.Conv3d(7, 5, 1), nn.BatchNorm3d(5), nn.Linear(5, 4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm_b(self.conv_b(self.act(self.norm_a(self.conv_a(x)))))
        out: Tensor = self.head((x + self.norm_c(self.conv_c(nn.functional.silu(y)))).flatten(2).mean(2))
        return out


BLOCK = Units(lambda name, module: "_" in name, lambda name: "block")
FORMS = {
    "clip": (lambda frames: Pointwise(frames, image=False), Units()),
    "image": (lambda frames: Pointwise(frames, image=True), Units()),
    "one policy a block": (lambda frames: Bottleneck(), BLOCK),
}


def reduced(kind: str, search_space: int, dimensions: str, frames: int, seed: int, form: str = "clip") -> VaRed:
    """A toy network in its VA-RED² form, with running statistics, scales and shifts that are not the initial ones."""
    torch.manual_seed(seed)
    spec = InputSpec("image", 8) if form == "image" else InputSpec("clip", 8, frames)
    build, units = FORMS[form]
    options = {"kind": kind, "search_space": search_space, "dimensions": dimensions, "units": units}
    method = VaRed(build(frames), spec, hidden=4, **options)
    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.2)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.eps = 0.01  # as I3D's, not the default
    return method.eval()


def drawn(method: VaRed, samples: int, closed: float) -> Forced:
    """Random gate weights, some of them zero, differing by sample."""
    trace = {}
    for point, options in method.decisions().items():
        weights = torch.rand(samples, len(options)) + 0.1
        trace[point] = weights * (torch.rand_like(weights) >= closed)
    return Forced(trace)


cases = given(
    kind=st.sampled_from(KINDS),
    search_space=st.integers(2, 4),
    dimensions=st.sampled_from(["both", "temporal", "channel"]),
    frames=st.integers(2, 9),
    seed=st.integers(0, 10**6),
    form=st.sampled_from(["clip", "one policy a block"]),
    closed=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
)


@settings(max_examples=40, deadline=None)
@cases
def test_skipping_gives_the_dense_sum(
    kind: str, search_space: int, dimensions: str, frames: int, seed: int, form: str, closed: float
) -> None:
    method = reduced(kind, search_space, dimensions, frames, seed, form).double()
    sample, policy = torch.randn(5, 3, frames, 8, 8, dtype=torch.float64), drawn(method, 5, closed)
    with torch.no_grad():
        skipped = method(sample, policy)
        with method.dense():
            summed = method(sample, policy)
    torch.testing.assert_close(skipped.logits, summed.logits, rtol=1e-9, atol=1e-9)
    assert torch.equal(skipped.cost, summed.cost)


@settings(max_examples=40, deadline=None)
@cases
def test_accounted_is_executed_for_every_sample(
    kind: str, search_space: int, dimensions: str, frames: int, seed: int, form: str, closed: float
) -> None:
    method = reduced(kind, search_space, dimensions, frames, seed, form)
    sample, policy = torch.randn(5, 3, frames, 8, 8), drawn(method, 5, closed)
    with torch.no_grad(), Counter(method, batch=5) as counter:
        prediction = method(sample, policy)
    assert counter.result().per_sample == tuple(prediction.cost.tolist())


@settings(max_examples=40, deadline=None)
@cases
def test_closing_an_option_never_raises_the_cost(
    kind: str, search_space: int, dimensions: str, frames: int, seed: int, form: str, closed: float
) -> None:
    method = reduced(kind, search_space, dimensions, frames, seed, form)
    trace = drawn(method, 8, closed).trace
    before = method.account(trace)
    for point, weights in trace.items():
        for option in range(weights.shape[1]):
            closer = weights.clone()
            closer[:, option] = 0
            assert (method.account({**trace, point: closer}) <= before).all(), (point, option)


@pytest.mark.parametrize("kind", KINDS)
def test_images_have_channels_only(kind: str) -> None:
    method = reduced(kind, 3, "both", 1, 0, "image")
    assert {point.rpartition(".")[2] for point in method.decisions()} == {"channel"}
    sample, policy = torch.randn(4, 3, 8, 8), drawn(method, 4, 0.5)
    with torch.no_grad(), Counter(method, batch=4) as counter:
        skipped = method(sample, policy)
    with torch.no_grad(), method.dense():
        summed = method(sample, policy)
    torch.testing.assert_close(skipped.logits, summed.logits, rtol=1e-4, atol=1e-5)
    assert counter.result().per_sample == tuple(skipped.cost.tolist())


def test_half_of_both_dimensions_runs_a_quarter_of_the_convolution() -> None:
    """Closed form: ⌈C/2⌉ of C filters at ⌈T/2⌉ of T frames, one scale for each channel made, copies for the frames."""
    method = reduced("absorbable", 2, "both", 5, 0)
    unit = method.units[1]  # 6 -> 9 channels, 3×3×3, 4×4 pixels, 5 frames
    cheapest = {point: options[[-1]] for point, options in method.decisions().items()}
    assert unit.geometry.macs == 9 * 5 * 16 * 6 * 27
    assert int(unit.macs(cheapest)[0]) == 5 * 3 * 16 * 6 * 27 + 4 * 3 * 16 + unit.gate.macs


def test_skipped_filters_and_frames_are_not_computed() -> None:
    method = reduced("absorbable", 2, "both", 8, 0)
    cheapest = Forced({point: options[[-1]] for point, options in method.decisions().items()})
    with torch.no_grad(), Counter(method, batch=2) as counter:
        method(torch.randn(2, 3, 8, 8, 8), cheapest)
    name = method.units[1].name
    conv = sum(macs for module, macs in counter.result().by_module.items() if module.endswith(name))
    assert conv == 2 * 5 * 4 * 16 * 6 * 27  # 5 of 9 filters, 4 of 8 frames; Φ counts in modules of its own


def test_everything_computed_with_weight_one_is_the_static_network() -> None:
    torch.manual_seed(0)
    network = Pointwise(8, image=False).eval()
    sample = torch.randn(3, 3, 8, 8, 8)
    expected = network(sample)
    method = VaRed(network, InputSpec("clip", 8, 8)).eval()
    policy = Forced({point: options[[0]] for point, options in method.decisions().items()})
    with torch.no_grad():
        torch.testing.assert_close(method(sample, policy).logits, expected, rtol=1e-5, atol=1e-6)


def test_fixed_cost_is_what_the_counter_finds_outside_the_units() -> None:
    network = Pointwise(8, image=False)
    static = count_meta(network, (1, 3, 8, 8, 8)).macs
    method = VaRed(network, InputSpec("clip", 8, 8))
    assert method.fixed_macs == static - sum(unit.geometry.macs for unit in method.units)
    gates = sum(unit.gate.macs for unit in method.units if unit.gate)
    dearest = {point: options[[0]] for point, options in method.decisions().items()}
    assert int(method.account(dearest)[0]) == static + gates


def test_a_replay_is_the_same() -> None:
    method = reduced("absorbable", 3, "both", 6, 1)
    sample = torch.randn(4, 3, 6, 8, 8)
    with torch.no_grad():
        first = method(sample, drawn(method, 4, 0.4))
        again = method(sample, Forced(first.trace))
    torch.testing.assert_close(first.logits, again.logits)


def test_a_closed_gate_lets_its_cheapest_option_stand_in() -> None:
    method = reduced("affine", 3, "both", 6, 1)
    closed = Forced({point: torch.zeros(1, len(options)) for point, options in method.decisions().items()})
    cheapest = Forced({point: options[[-1]] for point, options in method.decisions().items()})
    sample = torch.randn(2, 3, 6, 8, 8)
    with torch.no_grad():
        first, second = method(sample, closed), method(sample, cheapest)
    assert torch.equal(first.logits, second.logits) and torch.equal(first.cost, second.cost)


def test_gates_that_are_not_finite_end_as_a_training_that_failed() -> None:
    method = reduced("affine", 3, "both", 6, 1)
    for name, weight in method.named_parameters():
        if name.endswith("gate.fc2.bias"):
            torch.nn.init.constant_(weight, torch.nan)
    with torch.no_grad(), pytest.raises(TrainingError, match="the gates are not finite"):
        method(torch.randn(2, 3, 6, 8, 8))


def test_exploring_draws_single_options_for_its_share_of_samples() -> None:
    method = reduced("absorbable", 2, "both", 6, 1)
    method.session.start(Forced({}), dense=True, explore=0.2)
    torch.manual_seed(0)
    gates = torch.full((4000, 2), 0.7)
    drawn_weights = method.session._drawn(gates)
    single = (drawn_weights == 1).any(1)
    assert single.float().mean() == pytest.approx(0.2, abs=0.03)
    assert torch.equal(drawn_weights[~single], gates[~single])
    assert drawn_weights[single].sum(1).eq(1).all() and drawn_weights[single].mean(0)[0] == pytest.approx(0.5, abs=0.05)


def test_one_policy_decides_for_a_whole_block() -> None:
    method = reduced("absorbable", 2, "both", 8, 0, "one policy a block")
    assert [unit.name for unit in method.units] == ["conv_a", "conv_b", "conv_c"]
    assert list(method.decisions()) == ["block.channel", "block.temporal"]
    cheapest = {point: options[[-1]] for point, options in method.decisions().items()}
    a, b, c = (int(unit.macs(cheapest)[0]) for unit in method.units)
    pixels, frames = 16, 4
    assert a - method.units[0].gate.macs == frames * pixels * (4 * 5 + 3)  # 4 of 7 filters; 3 channels scaled
    assert b == frames * pixels * (4 * 27 + 3)  # depthwise: 4 of 7 channels
    assert c == frames * pixels * (3 * 7 + 2)
    assert [unit.gate is None for unit in method.units] == [False, True, True]
