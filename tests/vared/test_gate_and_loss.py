"""The gate starts open; the loss is the published formula; its gradient closes the dearest open option and no other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vared.efficiency_loss import efficiency_loss, step_share
from vared.gate import Gate


@pytest.mark.parametrize("pool", ["space", "motion"])
@pytest.mark.parametrize("shape", [(4, 3, 8, 5, 5), (4, 3, 5, 5), (4, 3, 1, 5, 5)])
def test_gate_starts_open(pool: str, shape: tuple[int, ...]) -> None:
    frames = shape[2] if len(shape) == 5 else 1
    gate = Gate(3, frames, [1.0] * 4, hidden=8, pool=pool, leak=0.0)  # type: ignore[arg-type]
    z, openness = gate(torch.randn(shape))
    assert openness.shape == (4, 4) and bool((openness > 0).all()) and bool((openness < 1).all())
    torch.testing.assert_close(openness, torch.tanh(z))


def test_motion_pool_of_a_still_clip_has_no_change() -> None:
    gate = Gate(2, 6, [1.0] * 3, hidden=4, pool="motion", leak=0.0)
    still = torch.randn(2, 2, 1, 4, 4).expand(2, 2, 6, 4, 4)
    assert torch.equal(gate._pooled(still)[:, 2:], torch.zeros(2, 2))


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


def test_efficiency_loss_counts_correct_samples_only() -> None:
    ratio = torch.tensor([0.5, 1.0, 0.8])
    correct = torch.tensor([True, False, True])
    assert float(efficiency_loss(ratio, correct)) == pytest.approx((0.25 + 0.64) / 3)


def test_start_may_be_whole_numbers() -> None:
    gate = Gate(2, 1, [1, 0.5], hidden=4, pool="space", leak=0.0)
    assert gate.fc2.bias.tolist() == [1.0, 0.5]
    assert Gate(2, 1, [1, 1], hidden=4, pool="space", leak=0.0).fc2.bias.dtype == torch.float32
