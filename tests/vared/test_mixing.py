"""What training computes in its quick form is the plain sum over options, and so are its gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.policy import Learned
from vared import mixing
from vared.cheap import Cheap
from vared.dynamic_conv import DynamicUnit, Geometry, Session
from vared.gate import Gate, space_mean
from vared.mixing import AbsorbableMix


def options(channels: int, channel_options: int, temporal_options: int) -> tuple[list[int], list[int]]:
    return [-(-channels // 2**i) for i in range(channel_options)], [2**j for j in range(temporal_options)]


def summed(
    counts: list[int], strides: list[int], y: Tensor, channel: Tensor, temporal: Tensor, *scales: Tensor
) -> Tensor:
    """The definition, value by value: channels first, then frames."""
    mixed = torch.zeros_like(y)
    for c, (option, count) in itertools.product(range(counts[0]), enumerate(counts)):
        made = y[:, c] if c < count else y[:, (c - count) % count] * scales[option - 1][c - count]
        mixed[:, c] += channel[:, option].view(-1, *(1,) * (y.dim() - 2)) * made
    if y.dim() == 4:
        return mixed * temporal.unsqueeze(2).unsqueeze(3)
    out = torch.zeros_like(y)
    for t, (option, stride) in itertools.product(range(y.shape[2]), enumerate(strides)):
        out[:, :, t] += temporal[:, option, None, None, None] * mixed[:, :, t - t % stride]
    return out


def arguments(
    counts: list[int], strides: list[int], shape: tuple[int, ...], closed: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Features, channel and temporal weights, scales; all with gradients, in float64."""
    torch.manual_seed(0)
    y = torch.randn(shape[0], counts[0], *shape[1:], dtype=torch.float64)
    weights = [torch.rand(shape[0], len(each), dtype=torch.float64) for each in (counts, strides)]
    channel, temporal = (weight * (torch.rand_like(weight) >= closed) for weight in weights)
    scales = [torch.rand(counts[0] - count, dtype=torch.float64) + 0.5 for count in counts[1:]]
    for tensor in (y, channel, temporal, *scales):
        tensor.requires_grad_()
    return y, channel, temporal, scales


@pytest.mark.parametrize(
    ("channels", "wide", "long", "shape"),
    [
        (4, 2, 2, (2, 4, 1, 2)),
        (7, 2, 2, (2, 5, 2, 1)),  # channels and frames that no option divides
        (5, 3, 3, (2, 6, 1, 2)),
        (4, 1, 3, (2, 3, 1, 2)),  # fewer frames than the longest R
        (9, 4, 1, (2, 2, 1, 2)),
        (7, 3, 1, (2, 2, 3)),  # images
    ],
)
def test_gradients_are_those_of_the_function(
    monkeypatch: pytest.MonkeyPatch, channels: int, wide: int, long: int, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(mixing, "CACHED", 1)  # a period at a time
    counts, strides = options(channels, wide, long)
    mix = AbsorbableMix(counts, strides).double()
    y, channel, temporal, scales = arguments(counts, strides, shape, closed=0.3)
    torch.autograd.gradcheck(lambda *given: mix(*given[:3], given[3:]), (y, channel, temporal, *scales), fast_mode=True)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 9),
    wide=st.integers(1, 4),
    long=st.integers(1, 4),
    frames=st.integers(1, 9),
    image=st.booleans(),
    closed=st.sampled_from([0.0, 0.4, 1.0]),
    last=st.booleans(),
    cached=st.sampled_from([1, 200, 2**19]),
)
def test_output_and_gradients_are_those_of_the_definition(
    channels: int, wide: int, long: int, frames: int, image: bool, closed: float, last: bool, cached: int
) -> None:
    counts, strides = options(channels, wide, 1 if image else long)
    y, channel, temporal, scales = arguments(counts, strides, (3, 4, 5) if image else (3, frames, 2, 3), closed)
    given_ = (y, channel, temporal, *scales)
    features = y.contiguous(memory_format=torch.channels_last if image else torch.channels_last_3d) if last else y
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "CACHED", cached)
        found = AbsorbableMix(counts, strides).double()(features, channel, temporal, scales)
        direction = torch.randn_like(found)
        gradients = torch.autograd.grad(found, given_, direction)
    expected = summed(counts, strides, *given_)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected, given_, direction, materialize_grads=True)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other)


def unit(frames: int, search_space: int) -> DynamicUnit:
    """An absorbable unit of 7 channels without a gate, its scales not the initial ones."""
    torch.manual_seed(0)
    counts, strides = options(7, search_space, search_space)
    chain = (nn.Conv3d(3, 7, (1, 3, 3), padding=(0, 1, 1), bias=False), nn.BatchNorm3d(7), nn.ReLU(inplace=True))
    geometry = Geometry(7, frames, 16, 27)
    made = DynamicUnit(
        "conv", chain, geometry, counts, strides, "absorbable", Session(), policy="conv", gate=None, decides={}
    )
    for phi in made.channel_phi:
        assert isinstance(phi, Cheap)
        nn.init.normal_(phi.weight)
    return made.double().eval()


@pytest.mark.parametrize("frames", [4, 5])
@pytest.mark.parametrize("search_space", [2, 3])
def test_training_follows_the_gradients_of_the_sum_option_by_option(frames: int, search_space: int) -> None:
    """The form that skips, with nothing skipped, is the other way to compute the unit and its gradients."""
    made, found = unit(frames, search_space), []
    x = torch.randn(3, 3, frames, 4, 4, dtype=torch.float64, requires_grad=True)
    channel, temporal = (torch.rand(3, search_space, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for dense in (True, False):
        made.session.start(Learned(), dense=dense)
        made.session.trace = {"conv.channel": channel, "conv.temporal": temporal}
        out = made(x)
        learned = [parameter for parameter in made.parameters() if parameter.requires_grad]
        found.append([out, *torch.autograd.grad(out.square().sum(), [x, channel, temporal, *learned])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_sums_and_expanded_gradients_pass() -> None:
    """The gradient of a mean is one value for all places, not laid out in memory."""
    counts, strides = options(6, 2, 2)
    y, channel, temporal, scales = arguments(counts, strides, (2, 4, 3, 3))
    given_ = (y, channel, temporal, *scales)
    found = torch.autograd.grad(AbsorbableMix(counts, strides).double()(y, channel, temporal, scales).mean(), given_)
    for one, other in zip(found, torch.autograd.grad(summed(counts, strides, *given_).mean(), given_), strict=True):
        torch.testing.assert_close(one, other)


def test_channels_stay_last_and_16_bits_stay_16() -> None:
    mix = AbsorbableMix([6, 3], [1, 2])
    y = (
        torch.randn(2, 6, 4, 3, 3, dtype=torch.bfloat16)
        .contiguous(memory_format=torch.channels_last_3d)
        .requires_grad_()
    )
    weights = torch.rand(2, 2, requires_grad=True)
    out = mix(y, weights, weights, [torch.ones(3)])
    torch.autograd.backward(out.sum())
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last_3d)
    assert y.grad is not None and y.grad.dtype == torch.bfloat16
    assert weights.grad is not None and weights.grad.dtype == torch.float32


def test_checkpoints_hold_nothing_of_it() -> None:
    assert not AbsorbableMix([6, 3], [1, 2]).state_dict()
    assert not any(name.startswith("mix") for name in unit(4, 2).state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_all_options_are_closed_the_cheapest_has_weight_one(dtype: torch.dtype) -> None:
    session = Session()
    weights = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.25]], dtype=dtype, requires_grad=True)
    session.decide("point", weights, weights)
    followed = session.trace["point"]
    assert followed.tolist() == [[0, 0, 1], [0.5, 0, 0], [0, 0, 0.25]] and followed.dtype == dtype
    torch.autograd.backward(followed.sum())
    assert weights.grad is not None and weights.grad.tolist() == [[1.0] * 3] * 3  # so that a closed gate can reopen


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("last", [True, False])
def test_the_gates_mean_over_space_and_its_gradient(shape: tuple[int, ...], last: bool) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    if last:
        x = x.contiguous(memory_format=torch.channels_last_3d if len(shape) == 5 else torch.channels_last)
    x.requires_grad_()
    gate = Gate(3, 4, [1.0, 1.0], hidden=2, pool="space", leak=0.0)
    torch.testing.assert_close(gate.pooled(space_mean(x)), x.mean((-2, -1)).flatten(1))
    torch.autograd.gradcheck(space_mean, x, fast_mode=True)
