"""X3D against published counts (VA-RED² Tables 2 and 5; the public model zoos)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines.networks.x3d import X3D, Block, SqueezeExcitation, squeezed, x3d_l, x3d_m, x3d_s, x3d_xs
from bench.chains import find_chains
from bench.cost import count_meta


def tiny(frames: int = 4, size: int = 32) -> X3D:
    torch.manual_seed(0)
    return x3d_m(frames, size, 10, width=8, blocks=(2, 2, 1, 1), dropout=0.0)


@pytest.mark.parametrize(("builder", "parameters"), [(x3d_m, 3_794_274), (x3d_l, 6_153_384)])
def test_parameters(builder: Callable[..., X3D], parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in builder(16, 224, 400).parameters()) == parameters


@pytest.mark.parametrize(
    ("builder", "frames", "size", "macs", "published"),
    [
        (x3d_xs, 4, 160, 605_256_512, 0.60),
        (x3d_s, 13, 160, 1_962_892_112, 1.96),
        (x3d_m, 16, 182, 3_349_641_920, 3.35),
        (x3d_m, 16, 224, 4_732_468_736, 4.732),
        (x3d_m, 16, 256, 6_180_613_376, 6.181),
        (x3d_l, 16, 312, 18_367_710_176, 18.37),
    ],
)
def test_multiply_adds(builder: Callable[..., X3D], frames: int, size: int, macs: int, published: float) -> None:
    """At 400 classes, to the last digit that is printed (0.60 is printed for 0.605)."""
    with torch.device("meta"):
        network = builder(frames, size, 400)
    assert count_meta(network, (1, 3, frames, size, size)).macs == macs
    assert macs / 1e9 == pytest.approx(published, abs=0.0055 if published < 1 else published * 2e-3)


def test_the_two_published_gflops_fit_one_convention_each() -> None:
    """Within 0.5 %: 6.20 the multiply-adds, 6.42 these with two a value of every normalisation (fvcore)."""
    with torch.device("meta"):
        network, normalised = x3d_m(16, 256, 400), []
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.register_forward_hook(lambda _m, _i, out: normalised.append(out.numel()))
        network(torch.empty(1, 3, 16, 256, 256))
    total = 6_180_613_376 + 2 * sum(normalised)
    assert total == 6_394_522_880
    assert [6.180613376, total / 1e9] == pytest.approx([6.20, 6.42], rel=0.005)


def test_where_the_cost_lies() -> None:
    with torch.device("meta"):
        network = x3d_m(16, 256, 200)
    count = count_meta(network, (1, 3, 16, 256, 256))
    parts = {"conv_a": 44.0, "conv_b": 14.1, "conv_c": 35.7, "stem": 3.3, "shortcut": 1.5, "head": 1.4}
    shares = {
        part: 100 * sum(macs for name, macs in count.by_module.items() if part in name.split(".")) / count.macs
        for part in parts
    }
    assert shares == pytest.approx(parts, abs=0.05)


def test_squeeze_and_excitation_in_every_other_block() -> None:
    assert [squeezed(channels) for channels in (54, 108, 216, 432)] == [8, 8, 16, 32]
    with torch.device("meta"):
        network = x3d_m(16, 224, 400)
    excited = [[isinstance(block.excite, SqueezeExcitation) for block in stage] for stage in network.stages]
    assert excited == [[position % 2 == 0 for position in range(depth)] for depth in (3, 5, 11, 7)]


def test_a_block_begins_as_its_shortcut() -> None:
    torch.manual_seed(0)
    network, clip = tiny().eval(), torch.randn(2, 8, 3, 6, 6)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert len(blocks) == 6
    with torch.no_grad():
        assert torch.equal(blocks[0](clip), blocks[0].shortcut(clip).relu())
        assert blocks[0](clip).shape == (2, 8, 3, 3, 3)
        assert torch.equal(blocks[1](clip), clip.relu())


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 24, 24), (5, 33, 17), (3, 5, 40)])
def test_any_size_runs(frames: int, height: int, width: int) -> None:
    network = tiny(frames, height).eval()
    clip = torch.randn(2, 3, frames, height, width)
    with torch.no_grad():
        assert network.stages(network.stem(clip)).shape == (2, 64, frames, -(-height // 32), -(-width // 32))
        assert network(clip).shape == (2, 10)
        assert network(clip).isfinite().all()


@pytest.mark.parametrize("options", [{"width": 0}, {"blocks": ()}, {"blocks": (1, 0)}])
def test_what_cannot_be_built_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        x3d_m(8, 24, 10, **options)


def test_one_step_lowers_the_loss() -> None:
    network, clip, target = tiny(), torch.randn(4, 3, 4, 32, 32), torch.arange(4)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    before = F.cross_entropy(network(clip), target)
    before.backward()
    optimiser.step()
    assert F.cross_entropy(network(clip), target) < before


def test_chains() -> None:
    """SiLU follows the depthwise normalisation at once only where nothing excites; the residual ends without any."""
    network = tiny()
    chains = {chain.conv: (chain.norm, chain.act) for chain in find_chains(network, (1, 3, 4, 32, 32))}
    for name, block in network.named_modules():
        if isinstance(block, Block):
            excited = isinstance(block.excite, SqueezeExcitation)
            assert chains[f"{name}.conv_a"] == (f"{name}.norm_a", f"{name}.act_a")
            assert chains[f"{name}.conv_b"] == (f"{name}.norm_b", None if excited else f"{name}.act_b")
            assert chains[f"{name}.conv_c"] == (f"{name}.norm_c", None)
    assert chains["stem.1"] == ("stem.2", "stem.3")
