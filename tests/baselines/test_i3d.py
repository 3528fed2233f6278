"""I3D against published counts (VA-RED² Tables 2, 5 and 6) and against the structure that the paper draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines.networks.i3d import I3D, i3d
from bench.chains import find_chains
from bench.cost import Count, count_meta


def tiny(frames: int = 8, size: int = 24) -> I3D:
    torch.manual_seed(0)
    return i3d(frames, size, 10, width=8, dropout=0.0)


def cost(frames: int, size: int, classes: int) -> Count:
    with torch.device("meta"):
        network = i3d(frames, size, classes)
    return count_meta(network, (1, 3, frames, size, size))


def test_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in i3d(16, 224, 400).parameters()) == 12_697_264


@pytest.mark.parametrize(
    ("frames", "size", "classes", "macs", "known"),
    [
        (16, 224, 400, 42_823_526_400, 42.82),
        (64, 224, 400, 171_294_105_600, 171.3),
        (16, 256, 400, 55_932_518_400, 55.93),
    ],
)
def test_multiply_adds(frames: int, size: int, classes: int, macs: int, known: float) -> None:
    assert cost(frames, size, classes).macs == macs
    assert macs / 1e9 == pytest.approx(known, rel=2e-4)


@pytest.mark.parametrize(("frames", "published"), [(16, 56.0), (32, 112.0)])
def test_published_gflops_fit_both_conventions(frames: int, published: float) -> None:
    """Multiply-adds, and these plus two a value of every normalisation (fvcore), within 0.2 % of print."""
    macs, normalised = cost(frames, 256, 200).macs, []
    assert macs == 55_932_108_800 * frames // 16
    with torch.device("meta"):
        network = i3d(frames, 256, 200)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.register_forward_hook(lambda _m, _i, out: normalised.append(out.numel()))
        network(torch.empty(1, 3, frames, 256, 256))
    total = macs + 2 * sum(normalised)
    assert total == 56_023_822_336 * frames // 16
    assert [macs / 1e9, total / 1e9] == pytest.approx([published] * 2, rel=0.002)


def test_where_the_cost_lies() -> None:
    """Stem 30.9 %, the third convolution 38.9 %, 3×3×3 in the blocks 25.8 %, 1×1×1 4.5 %."""
    count = cost(16, 256, 200)
    kernels = {name: m.kernel_size[0] for name, m in tiny().named_modules() if isinstance(m, nn.Conv3d)}
    shares = {"stem": 0.0, "conv3": 0.0, "cubes": 0.0, "points": 0.0}
    for name, kernel in kernels.items():
        part = "conv3" if name.startswith("stem.conv3") else {7: "stem", 3: "cubes", 1: "points"}[kernel]
        shares[part] += 100 * count.by_module[name] / count.macs
    assert shares == pytest.approx({"stem": 30.9, "conv3": 38.9, "cubes": 25.8, "points": 4.5}, abs=0.05)


@pytest.mark.parametrize(("frames", "height", "width", "steps"), [(1, 24, 24, 1), (9, 33, 17, 2), (17, 5, 40, 3)])
def test_any_size_runs(frames: int, height: int, width: int, steps: int) -> None:
    network = tiny(frames, height).eval()
    clip = torch.randn(2, 3, frames, height, width)
    with torch.no_grad():
        assert network.blocks(network.stem(clip)).shape == (2, 128, steps, -(-height // 32), -(-width // 32))
        assert network(clip).shape == (2, 10)
        assert network(clip).isfinite().all()


def test_too_narrow_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be 4 or more, got 3"):
        i3d(8, 24, 10, width=3)


def test_one_step_lowers_the_loss() -> None:
    network, clip, target = tiny(), torch.randn(4, 3, 8, 24, 24), torch.arange(4)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    before = F.cross_entropy(network(clip), target)
    before.backward()
    optimiser.step()
    assert F.cross_entropy(network(clip), target) < before


def test_chains() -> None:
    """Every convolution has its normalisation and activation; 20 of the 57 look around, the stem's among them."""
    network = tiny()
    chains = find_chains(network, (1, 3, 8, 24, 24))
    assert len(chains) == 3 + 9 * 6
    assert all(isinstance(network.get_submodule(chain.norm or ""), nn.BatchNorm3d) for chain in chains)
    assert all(isinstance(network.get_submodule(chain.act or ""), nn.ReLU) for chain in chains)
    wide = [chain.conv for chain in chains if network.get_submodule(chain.conv).kernel_size[-1] > 1]
    assert len(wide) == 20 and wide[0] == "stem.conv1.0"


def test_normalisation_has_the_published_epsilon() -> None:
    assert {m.eps for m in tiny().modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}
