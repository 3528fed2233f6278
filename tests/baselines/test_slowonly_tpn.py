"""SlowOnly and TPN against published counts (mmaction2's model zoo; VA-RED² Table 3)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.networks.slowonly import slowonly_r50
from baselines.networks.tpn import TPN, tpn, tpn_r50
from bench.chains import find_chains
from bench.cost import count_meta

Builder = Callable[..., nn.Module]
TINY: dict[str, Any] = {"width": 8, "blocks": (1, 1, 1, 1)}


class Training(nn.Module):
    """What runs in training."""

    def __init__(self, network: TPN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return [logits for _, logits in self.network.training_logits(x)]


@pytest.mark.parametrize(
    ("builder", "classes", "parameters"),
    [(slowonly_r50, 400, 32_454_096), (tpn_r50, 400, 91_498_336), (tpn, 200, 37_553_104)],
)
def test_parameters(builder: Builder, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = builder(8, 224, classes)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("builder", "size", "macs", "published"),
    [
        (slowonly_r50, 224, 41_740_828_672, 41.74),
        (slowonly_r50, 256, 54_518_382_592, 54.52),
        (tpn_r50, 224, 50_276_368_384, 50.28),
        (tpn_r50, 256, 65_666_842_624, 65.67),
    ],
)
def test_multiply_adds(builder: Builder, size: int, macs: int, published: float) -> None:
    with torch.device("meta"):
        network = builder(8, size, 400)
    assert count_meta(network, (1, 3, 8, size, size)).macs == macs
    assert macs / 1e9 == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(
    ("frames", "macs", "in_training", "published"),
    [(8, 28_067_258_368, 28_529_782_784, 28.5), (16, 55_995_621_376, 56_920_567_808, 56.8)],
)
def test_table_3_counts_the_auxiliary_convolution(frames: int, macs: int, in_training: int, published: float) -> None:
    """Print is within 0.5 % of what runs in training, and not of what runs in evaluation."""
    with torch.device("meta"):
        network = tpn(frames, 224, 200)
    shape = (1, 3, frames, 224, 224)
    assert count_meta(network, shape).macs == macs
    assert count_meta(Training(network), shape).macs == in_training
    assert in_training / 1e9 == pytest.approx(published, rel=0.005)
    assert macs / 1e9 != pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("builder", [slowonly_r50, tpn_r50, tpn])
@pytest.mark.parametrize(("frames", "size"), [(1, 16), (3, 33), (5, 71)])
def test_odd_frames_and_sizes_run(builder: Builder, frames: int, size: int) -> None:
    network = builder(frames, size, 5, **TINY).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, frames, size, size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_time_reaches_the_logits_only_through_the_last_two_stages() -> None:
    network = slowonly_r50(4, 32, 5, width=8)
    taps = {name: m.kernel_size[0] for name, m in network.named_modules() if isinstance(m, nn.Conv3d)}
    assert {name for name, kernel in taps.items() if kernel == 3} == {
        f"trunk.res{stage}.{block}.residual.0" for stage, depth in ((4, 6), (5, 3)) for block in range(depth)
    }
    assert {m.stride[0] for m in network.modules() if isinstance(m, nn.Conv3d)} == {1}


@pytest.mark.parametrize("builder", [slowonly_r50, tpn])
def test_a_step_lowers_the_loss(builder: Builder) -> None:
    torch.manual_seed(0)
    network, x, target = builder(4, 32, 3, **TINY), torch.randn(6, 3, 4, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the two losses are to differ by the step alone

    def loss() -> Tensor:
        heads = network.training_logits(x) if isinstance(network, TPN) else [(1.0, network(x))]
        return sum((weight * F.cross_entropy(logits, target) for weight, logits in heads), torch.zeros(()))

    first = loss()
    first.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    torch.optim.SGD(network.parameters(), lr=0.02).step()
    assert loss() < first
    copy.deepcopy(network)  # nothing of a training pass stays in the network


def test_the_auxiliary_classifier_acts_in_training_only() -> None:
    network, x = tpn(4, 32, 3, **TINY).eval(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        (weight, logits), (auxiliary_weight, auxiliary) = network.training_logits(x)
        assert (weight, auxiliary_weight, auxiliary.shape) == (1.0, 0.5, (2, 3))
        assert torch.equal(network(x), logits)
        network.auxiliary = nn.Sequential()
        assert torch.equal(network(x), logits)


def test_flow_is_a_cascade() -> None:
    """Bottom-up starts from res4 as top-down left it: what it adds to res5 depends on res5."""
    neck, seen = tpn(2, 32, 3, **TINY).eval().neck, []
    neck.bottom_up.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    neck.temporal4.register_forward_hook(lambda _m, _i, out: seen.append(out))
    neck.temporal5.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        neck(torch.randn(1, 32, 2, 4, 4), torch.randn(1, 64, 2, 2, 2))
    res4, res5, started_from = seen
    assert res4.shape[2] == res5.shape[2] == 1
    assert torch.equal(started_from, res4 + res5)


def test_chains() -> None:
    """Convolutions with their normalisation and activation, but for block ends (summed first) and bare ones."""
    network = tpn(4, 32, 3, **TINY)
    chains = {chain.conv: chain for chain in find_chains(network, (1, 3, 4, 32, 32))}
    ran = {n for n, m in network.named_modules() if isinstance(m, nn.Conv3d) and not n.startswith("auxiliary")}
    assert set(chains) == ran
    assert {name for name, chain in chains.items() if chain.norm is None} == {
        "neck.temporal4.conv",
        "neck.temporal5.conv",
        "neck.bottom_up",
    }
    assert {name for name, chain in chains.items() if chain.norm and not chain.act} == {
        *(f"trunk.res{stage}.0.residual.3" for stage in (2, 3, 4, 5)),
        *(f"trunk.res{stage}.0.shortcut.0" for stage in (3, 4, 5)),
    }


@pytest.mark.parametrize("builder", [tpn, tpn_r50, slowonly_r50])
def test_refused(builder: Builder) -> None:
    with pytest.raises(ValueError, match="blocks: four stages"):
        builder(8, 32, 5, blocks=(1, 1, 1))
    if builder is not slowonly_r50:
        with pytest.raises(ValueError, match="width: res4 must have a multiple of 32 channels"):
            builder(8, 32, 5, width=7)
