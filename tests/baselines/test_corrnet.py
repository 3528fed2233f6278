"""CorrNet: the correlation operator against its definition, its gradient and its cost; the networks around it."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.networks.corrnet import Correlation, CorrelationBlock, correlation, corrnet, corrnet_26, corrnet_50
from baselines.networks.r2plus1d import r2plus1d_18
from baselines.networks.r2plus1d_bottleneck import r2plus1d_26, r2plus1d_50
from bench.chains import find_chains
from bench.cost import Counter, count, count_meta

TINY = {"width": 8, "kernel": 3, "dilation": 1, "blocks": (1, 1, 1, 1)}


def as_defined(x: Tensor, weight: Tensor, groups: int, dilation: int) -> Tensor:
    """Value by value, with no padding: what lies outside the frame is left out of the sum."""
    batch, channels, frames, height, width = x.shape
    kernel = weight.shape[-1]
    out = x.new_zeros(batch, groups, kernel, kernel, frames, height, width)
    for t, i, j, row, column in product(range(frames), range(kernel), range(kernel), range(height), range(width)):
        y, z = row + dilation * (i - kernel // 2), column + dilation * (j - kernel // 2)
        if 0 <= y < height and 0 <= z < width:
            products = weight[:, t, i, j] * x[:, :, t, row, column] * x[:, :, max(t - 1, 0), y, z]
            out[:, :, i, j, t, row, column] = products.view(batch, groups, channels // groups).mean(2)
    return out.flatten(1, 3)


@pytest.mark.parametrize(
    ("channels", "frames", "size", "kernel", "groups", "dilation"),
    [(4, 3, (4, 5), 3, 2, 2), (6, 1, (3, 3), 3, 1, 1), (3, 2, (2, 1), 5, 3, 2), (2, 2, (3, 2), 1, 1, 1)],
)
def test_operator_is_its_definition(
    channels: int, frames: int, size: tuple[int, int], kernel: int, groups: int, dilation: int
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, channels, frames, *size), torch.randn(channels, frames, kernel, kernel)
    wanted = as_defined(x, weight, groups, dilation)
    torch.testing.assert_close(correlation(x, weight, groups, dilation), wanted)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(correlation(last, weight, groups, dilation), wanted)


def test_moved_clip_peaks_at_its_displacement() -> None:
    """Content that moves 2 down and 4 left was 2 up and 4 right: at D = 2 one step up, two right of the centre.

    Maps of ±1 correlate with themselves to exactly 1; the first frame, with itself, peaks at the centre.
    """
    first = torch.randn(1, 16, 24, 24, generator=torch.Generator().manual_seed(0)).sign()
    clip = torch.stack([first.roll((2 * t, -4 * t), (2, 3)) for t in range(3)], 2)
    out = correlation(clip, torch.ones(16, 3, 7, 7), 1, 2).view(7, 7, 3, 24, 24)[..., 6:-6, 6:-6]
    for t, peak in enumerate([(3, 3), (2, 5), (2, 5)]):
        assert bool((out[(*peak, t)] == 1).all())
        elsewhere = out[:, :, t].clone()
        elsewhere[peak] = 0
        assert elsewhere.amax() < 1


@pytest.mark.parametrize(
    ("shape", "groups", "dilation"),
    [((2, 2, 3, 2, 2), 1, 1), ((1, 4, 1, 3, 2), 2, 2)],
    ids=["three frames", "one frame"],
)
def test_gradient(shape: tuple[int, ...], groups: int, dilation: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(*shape[1:3], 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: correlation(x, w, groups, dilation), (x, weight))


def test_operator_is_well_registered() -> None:
    x, weight = torch.randn(2, 4, 2, 3, 3, requires_grad=True), torch.randn(4, 2, 3, 3, requires_grad=True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.baselines.correlation, (x, weight, 2, 1), test_utils=checks)
    gradient = torch.randn(2, 18, 2, 3, 3)
    arguments = (gradient, x.detach(), weight.detach(), 2, 1)
    torch.library.opcheck(torch.ops.baselines.correlation_backward, arguments, test_utils=checks)


def test_half_precision_maps_meet_full_precision_filters() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    x = torch.randn(2, 4, 3, 5, 5).bfloat16().requires_grad_()
    exact = x.detach().float().requires_grad_()
    out, wanted = correlation(x, weight, 2, 1), correlation(exact, weight, 2, 1)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, wanted.bfloat16())
    out.sum().backward()
    assert (x.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(x.grad, torch.autograd.grad(wanted.sum(), exact)[0].bfloat16())


def test_nothing_of_window_size_is_kept_for_the_backward_pass() -> None:
    kept: list[Tensor] = []
    x, weight = torch.randn(1, 4, 2, 3, 3, requires_grad=True), torch.randn(4, 2, 7, 7, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        correlation(x, weight, 4, 1)
    assert [tuple(t.shape) for t in kept] == [tuple(x.shape), tuple(weight.shape)]


def test_block_adds_the_expanded_correlation_and_starts_as_nothing() -> None:
    torch.manual_seed(0)
    block, x = CorrelationBlock(16, 3, 2, 3, 1).eval(), torch.randn(2, 16, 3, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x.relu())
        block.expand[1].weight.fill_(2)
        block.correlation.weight.normal_()
        inner = F.conv3d(x, block.reduce[0].weight).relu()
        outer = F.conv3d(as_defined(inner, block.correlation.weight, 2, 1), block.expand[0].weight)
        torch.testing.assert_close(block(x), (x + 2 * outer).relu(), rtol=1e-4, atol=1e-3)


def test_counter_sees_the_closed_form() -> None:
    """Output values × channels per group; three times that in the backward pass."""
    batch, frames, pixels = 2, 3, 20
    module, x = Correlation(8, frames, 2, 5, 2), torch.randn(batch, 8, frames, 4, 5, requires_grad=True)
    values = batch * 2 * 5 * 5 * frames * pixels
    assert count(module, x).by_operation == {"baselines.correlation": values * 4}
    assert count(module, x).per_sample == (values * 2, values * 2)
    assert count_meta(module, x.shape).macs == values * 4
    with Counter(module, batch=batch) as counter:
        module(x).sum().backward()
    expected = {"baselines.correlation": values * 4, "baselines.correlation_backward": 3 * values * 4}
    assert counter.result().by_operation == expected


def blocks_macs(maps: list[tuple[int, int, int]], kernel: int = 7) -> int:
    """Of (channels, groups, frames · pixels) of each block: both convolutions and the operator."""
    return sum(values * (c * (c // 4) + (c // 4) * kernel**2 + groups * kernel**2 * c) for c, groups, values in maps)


def blocks_params(maps: list[tuple[int, int, int]], kernel: int = 7) -> int:
    """Of (channels, groups, frames): both convolutions, their normalisations, the filters."""
    return sum(
        c * (c // 4) + 2 * (c // 4) + (c // 4) * frames * kernel**2 + groups * kernel**2 * c + 2 * c
        for c, groups, frames in maps
    )


@pytest.mark.parametrize(
    ("builder", "base", "classes", "size", "stages"),
    [
        (corrnet, r2plus1d_18, 200, 128, [(64, 16, 16, 64), (128, 32, 8, 32), (256, 32, 4, 16)]),
        (corrnet_26, r2plus1d_26, 400, 224, [(256, 32, 16, 56), (512, 32, 16, 28), (1024, 32, 8, 14)]),
        (corrnet_50, r2plus1d_50, 400, 224, [(256, 32, 16, 56), (512, 32, 16, 28), (1024, 32, 8, 14)]),
    ],
)
def test_counts_are_the_base_and_three_blocks(builder, base, classes: int, size: int, stages) -> None:
    with torch.device("meta"):
        network, without = builder(16, size, classes), base(16, size, classes)
    shape = (1, 3, 16, size, size)
    extra = count_meta(network, shape).macs - count_meta(without, shape).macs
    assert extra == blocks_macs([(c, groups, frames * side**2) for c, groups, frames, side in stages])
    more = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in without.parameters())
    assert more == blocks_params([(c, groups, frames) for c, groups, frames, _ in stages])


def test_corrnet_beside_the_published_60_8() -> None:
    """Not what the paper says it is, but what follows from the description: 0.4 % below print."""
    with torch.device("meta"):
        network = corrnet(16, 128, 200)
    macs = count_meta(network, (1, 3, 16, 128, 128)).macs
    assert macs == 60_577_452_032
    assert sum(p.numel() for p in network.parameters()) == 33_993_662
    assert macs / 1e9 == pytest.approx(60.8, rel=0.005)


def test_weights_of_the_base_keep_their_names() -> None:
    options = {"width": 8, "blocks": (1, 1, 1, 1)}
    found = corrnet(8, 24, 3, **options).load_state_dict(r2plus1d_18(8, 24, 3, **options).state_dict(), strict=False)
    assert not found.unexpected_keys
    assert {name.rpartition(".")[0].split(".")[0] for name in found.missing_keys} == {"stages"}
    assert {name.split(".")[2] for name in found.missing_keys} == {"1"}, "the block is the last of its stage"


@pytest.mark.parametrize("builder", [corrnet, corrnet_26])
def test_training_lowers_the_loss(builder) -> None:
    torch.manual_seed(0)
    network, clip = builder(8, 24, 3, **TINY), torch.randn(3, 3, 8, 24, 24)
    target, optimiser = torch.arange(3), torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        losses.append(F.cross_entropy(network(clip), target))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("builder", [corrnet, corrnet_26])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 9, 9), (7, 25, 33)])
def test_odd_sizes_and_widths_run(builder, frames: int, height: int, width: int) -> None:
    network = builder(frames, height, 5, width=5, blocks=(1, 1, 1, 1)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, frames, height, width)).shape == (1, 5)


@pytest.mark.parametrize(("channels", "groups"), [(64, 16), (256, 32), (40, 10), (148, 1), (160, 20), (3, 1)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    with torch.device("meta"):
        block = CorrelationBlock(channels, 2, 32, 3, 1)
    assert block.correlation.groups == groups


def test_chains_are_found_around_the_operator() -> None:
    with torch.device("meta"):
        network = corrnet(8, 24, 3, **TINY)
    chains = {chain.conv: chain for chain in find_chains(network, (1, 3, 8, 24, 24))}
    assert set(chains) == {name for name, part in network.named_modules() if isinstance(part, torch.nn.Conv3d)}
    reduce, expand = chains["stages.0.1.reduce.0"], chains["stages.0.1.expand.0"]
    assert (reduce.norm, reduce.act) == ("stages.0.1.reduce.1", "stages.0.1.reduce.2")
    assert (expand.norm, expand.act) == ("stages.0.1.expand.1", None)
    assert chains["stages.1.0.conv1.0.0"].act is not None, "the network's own chains stay whole"


def test_another_length_is_refused() -> None:
    network = corrnet(8, 24, 3, **TINY)
    with pytest.raises(ValueError, match="8 frames, got 2 channels of 4 frames"):
        network(torch.randn(1, 3, 4, 24, 24))


@pytest.mark.parametrize("options", [{"kernel": 4}, {"kernel": 0}, {"groups": 0}, {"dilation": 0}, {"frames": 0}])
def test_impossible_windows_are_refused(options: dict[str, int]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="odd kernel and positive"):
        corrnet(**{"frames": 8, "size": 24, "classes": 3, "width": 8, **options})


@pytest.mark.parametrize(
    ("shape", "groups", "reason"),
    [
        ((5, 2, 3, 3), 1, "weights for 5 channels of 2 frames, got 4 channels of 2 frames"),
        ((4, 1, 3, 3), 1, "weights for 4 channels of 1 frames, got 4 channels of 2 frames"),
        ((4, 2, 2, 2), 1, "odd square window, got 2x2"),
        ((4, 2, 3, 1), 1, "odd square window, got 3x1"),
        ((4, 2, 3, 3), 3, "3 groups do not divide 4 channels"),
    ],
)
def test_operator_refuses_what_does_not_fit(shape: tuple[int, ...], groups: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        correlation(torch.randn(1, 4, 2, 3, 3), torch.randn(shape), groups, 1)
