"""The gate starts open; the loss is the published formula; its gradient closes the dearest open option and no other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import registry
from bench.gradient_stage import GradientStage
from bench.method import Batch, Recipe
from bench.policy import Forced
from vared.efficiency_loss import efficiency_loss, step_share
from vared.gate import Gate, space_mean
from vared.method import VaRed


@pytest.mark.parametrize("pool", ["space", "motion"])
@pytest.mark.parametrize("shape", [(4, 3, 8, 5, 5), (4, 3, 5, 5), (4, 3, 1, 5, 5)])
def test_gate_starts_open(pool: str, shape: tuple[int, ...]) -> None:
    frames = shape[2] if len(shape) == 5 else 1
    gate = Gate(3, frames, [1.0] * 4, hidden=8, pool=pool, leak=0.0)  # type: ignore[arg-type]
    z, openness = gate(torch.randn(shape))
    assert openness.shape == (4, 4) and bool((openness > 0).all()) and bool((openness < 1).all())
    torch.testing.assert_close(openness, torch.tanh(z))


def test_a_single_sample_is_trained_on_by_what_earlier_ones_were_like() -> None:
    """As in evaluation, and it changes no running statistics; gradients flow."""
    gate = Gate(3, 1, [1.0] * 2, hidden=8, pool="space", leak=0.0)
    gate(torch.randn(16, 3, 4, 4))
    before, x = gate.norm.running_mean.clone(), torch.randn(1, 3, 4, 4)
    z, _ = gate(x)
    z.sum().backward()
    assert gate.fc1.weight.grad is not None and bool(gate.fc1.weight.grad.any())
    torch.testing.assert_close(z, gate.eval()(x)[0])
    assert torch.equal(gate.norm.running_mean, before)


def test_motion_pool_of_a_still_clip_has_no_change() -> None:
    gate = Gate(2, 6, [1.0] * 3, hidden=4, pool="motion", leak=0.0)
    still = torch.randn(2, 2, 1, 4, 4).expand(2, 2, 6, 4, 4)
    assert torch.equal(gate.pooled(space_mean(still))[:, 2:], torch.zeros(2, 2))


def test_leak_lets_a_closed_option_feel_the_loss() -> None:
    for leak, expected in ((0.0, 0.0), (0.5, 0.5)):
        gate = Gate(2, 1, [1.0], hidden=4, pool="space", leak=leak)
        torch.nn.init.zeros_(gate.fc2.weight)
        torch.nn.init.constant_(gate.fc2.bias, -1e-6)
        _, openness = gate(torch.randn(3, 2, 4, 4))
        assert torch.equal(openness, torch.zeros(3, 1))
        openness.sum().backward()
        assert float(gate.fc2.bias.grad) == pytest.approx(3 * expected)


weights = st.lists(st.sampled_from([0.0, 0.2, 0.9]), min_size=3, max_size=3)


@given(weights)
def test_step_share_is_the_dearest_active_option(values: list[float]) -> None:
    shares = torch.tensor([1.0, 0.5, 0.25])
    z = torch.zeros(1, 3, requires_grad=True)
    share = step_share(z, torch.tensor([values]), shares)
    active = [float(s) for s, v in zip(shares, values, strict=True) if v > 0] or [0.25]
    assert float(share.detach()) == max(active)
    share.sum().backward()
    after = sorted(active, reverse=True)[1:] or [0.25]
    expected = [0.0, 0.0, 0.0]
    expected[shares.tolist().index(max(active))] = max(active) - max(after)
    assert z.grad is not None and z.grad[0].tolist() == expected


def test_motion_is_the_mean_absolute_change_between_frames() -> None:
    """What comes and goes again moves, though it ends as it began."""
    gate = Gate(1, 3, [1.0], hidden=2, pool="motion", leak=0.0)
    assert gate.pooled(torch.tensor([[[0.0, 3.0, 0.0]]])).tolist() == [[1.0, 3.0]]


def test_efficiency_loss_counts_correct_samples_only() -> None:
    ratio = torch.tensor([0.5, 1.0, 0.8])
    correct = torch.tensor([True, False, True])
    assert float(efficiency_loss(ratio, correct)) == pytest.approx((0.25 + 0.64) / 3)


def test_start_may_be_whole_numbers() -> None:
    gate = Gate(2, 1, [1, 0.5], hidden=4, pool="space", leak=0.0)
    assert gate.fc2.bias.tolist() == [1.0, 0.5]
    assert Gate(2, 1, [1, 1], hidden=4, pool="space", leak=0.0).fc2.bias.dtype == torch.float32


def reduced(**options: object) -> VaRed:
    """A small X3D, whose blocks have three convolutions under one policy, with every option open."""
    torch.manual_seed(0)
    small = {"width": 8, "blocks": (1, 2)}
    method = registry.build("vared/x3d_m", frames=6, size=16, classes=3, network_options=small, **options)
    assert isinstance(method, VaRed)
    return method


def test_the_ratio_is_the_cost_weighted_sum_of_r_over_R() -> None:
    method = reduced(search_space=3)
    trace = {}
    for point, options in method.decisions().items():
        trace[point] = torch.rand(5, len(options)) * (torch.rand(5, len(options)) < 0.5) + options[-1] * 0.1
    method.eval()(torch.randn(5, 3, 6, 16, 16), Forced(trace))
    total, expected = sum(unit.geometry.macs for unit in method.units), torch.zeros(5)
    for unit in method.units:
        for sample in range(5):
            share = unit.geometry.macs / total
            if len(unit.counts) > 1:
                first = int((trace[f"{unit.policy}.channel"][sample] > 0).nonzero()[0])
                share *= unit.counts[first] / unit.counts[0]
            if len(unit.strides) > 1:
                first = int((trace[f"{unit.policy}.temporal"][sample] > 0).nonzero()[0])
                share *= -(-unit.geometry.frames // unit.strides[first]) / unit.geometry.frames
            expected[sample] += share
    torch.testing.assert_close(method._ratio(), expected)


def test_the_two_stages_share_a_schedule_and_what_sets_them_apart_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    method = reduced(finetune=0.4, gate_scales=[0.2, 0.7], explore=0.3, efficiency=0.9)
    gates = {id(weight) for unit in method.units if unit.gate is not None for weight in unit.gate.parameters()}
    every = {id(weight) for weight in method.parameters() if weight.requires_grad}
    seen: list[tuple[float, float]] = []
    monkeypatch.setattr(method, "_loss", lambda batch, explore, efficiency: seen.append((explore, efficiency)))
    told = []
    for stage in method.stages(Recipe(epochs=10)):
        assert isinstance(stage, GradientStage)
        others, own = ({id(weight) for weight in group["params"]} for group in stage.groups)
        assert (others, own) == (every - gates, gates)
        told.append((stage.name, stage.epochs, stage.span, [group.get("scale", 1.0) for group in stage.groups]))
        stage.loss(Batch(torch.zeros(0), torch.zeros(0), torch.zeros(0)))
    assert told == [("train", 6, (0.0, 0.6), [1.0, 0.2]), ("finetune", 4, (0.6, 1.0), [1.0, 0.7])]
    assert seen == [(0.3, 0.0), (0.0, 0.9)]


def test_training_adds_lambda_times_the_efficiency_loss() -> None:
    method = reduced(search_space=2)
    method.eval()  # so that both passes see the same
    batch = Batch(torch.randn(6, 3, 6, 16, 16), torch.arange(6) % 3, torch.arange(6))
    plain, logged = method._loss(batch, 0.0, 0.0)
    ratio, correct = method._ratio(), method.network(batch.sample).argmax(1) == batch.target
    loss, _ = method._loss(batch, 0.0, 0.6)
    assert 0 < logged["ratio"] <= 1 and bool(correct.any())
    torch.testing.assert_close(loss - plain, 0.6 * (ratio * correct).square().mean())


def test_the_efficiency_loss_closes_gates_and_its_absence_does_not() -> None:
    ratios = {}
    for efficiency in (0.0, 5.0):
        method = reduced(efficiency=efficiency, gate_scales=[1.0, 1.0])
        gates = [unit.gate for unit in method.units if unit.gate is not None]
        optimiser = torch.optim.SGD([p for gate in gates for p in gate.parameters()], lr=0.5)
        batch = Batch(torch.randn(8, 3, 6, 16, 16), torch.zeros(8, dtype=torch.int64), torch.arange(8))
        for _ in range(20):
            loss, logged = method._loss(batch, 0.0, efficiency)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        ratios[efficiency] = logged["ratio"]
    assert ratios[5.0] < 0.6 < ratios[0.0]
