"""`reduce` finds chains in any network, and leaves alone what it could not reduce without changing the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.networks.r2plus1d import r2plus1d_18
from bench import registry
from bench.chains import find_chains
from bench.cost import count_meta
from vared.method import VaRed, factorised_spatial, vared
from vared.reduce import reduce


class Branching(nn.Module):
    """The first convolution is heard twice, the second has a functional activation, the third runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.b, self.norm_b = nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.c = nn.Conv3d(4, 4, 3, padding=1)
        self.mirror = nn.Conv3d(4, 4, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = F.relu(self.norm_b(self.b(self.norm_a(a) + a)))
        out: Tensor = self.mirror(self.c(self.c(b)))
        return out


def test_chains_end_where_something_else_listens() -> None:
    chains = {chain.conv: chain for chain in find_chains(Branching(), (1, 3, 4, 8, 8))}
    assert chains["a"].norm is None
    assert (chains["b"].norm, chains["b"].act) == ("norm_b", None)
    assert "c" not in chains


def test_reduced_branching_network_is_unchanged_when_everything_is_computed() -> None:
    torch.manual_seed(0)
    network, sample = Branching().eval(), torch.randn(2, 3, 4, 8, 8)
    expected = network(sample)
    units = reduce(network, (1, 3, 4, 8, 8), kind="affine")
    assert {unit.name for unit in units} == {"a", "b"}  # reflect padding and the double call stay static
    for unit in units:
        nn.init.zeros_(unit.gate.fc2.weight)
        unit.gate.fc2.bias.data.fill_(-1.0)
        for point in unit.points:
            part = 0 if point.endswith("channel") else len(unit.counts)
            unit.gate.fc2.bias.data[part] = 20.0  # tanh(20) is 1 in single precision
    network.eval()
    torch.testing.assert_close(network(sample), expected, rtol=1e-5, atol=1e-6)


def test_r2plus1d_units_are_the_spatial_convolutions() -> None:
    """16 spatial 1×3×3 convolutions hold 72.3 % of the static cost (reference: 0.723 of 27.5 G at 8×128²)."""
    with torch.device("meta"):
        network = r2plus1d_18(8, 128, 200)
    units = reduce(network, (1, 3, 8, 128, 128), choose=factorised_spatial)
    assert len(units) == 16
    assert sum(unit.geometry.macs for unit in units) / 27_524_567_040 == pytest.approx(0.723, abs=0.001)


@pytest.mark.parametrize(
    ("name", "frames", "size", "units", "policies", "share"),
    [
        ("r2plus1d_18", 8, 128, 16, 16, 0.723),
        ("i3d", 16, 256, 20, 20, 0.955),  # the stem's 0.309 among them
        ("x3d_m", 16, 256, 78, 26, 0.938),  # three convolutions a block, one policy
        ("tpn", 8, 224, 18, 18, 0.989),
        ("resnet50", 16, 224, 53, 53, 1.0),
    ],
)
def test_units_of_the_tables_networks(
    name: str, frames: int, size: int, units: int, policies: int, share: float
) -> None:
    """Shares of the static cost as the reference derives them from the published ratios."""
    with torch.device("meta"):
        method = registry.build(f"vared/{name}", frames=frames, size=size, classes=200)
        static = count_meta(registry.build_network(name, frames=frames, size=size, classes=200), method.spec.shape(1))
    assert isinstance(method, VaRed)
    assert len(method.units) == units and len({unit.policy for unit in method.units}) == policies
    assert sum(unit.gate is not None for unit in method.units) == policies
    assert sum(unit.geometry.macs for unit in method.units) / static.macs == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "foo"},
        {"dimensions": "foo"},
        {"pool": "foo"},
        {"search_space": 0},
        {"search_space": 1},
        {"search_space": 9},
        {"hidden": 0},
        {"start": [1]},
        {"leak": 2},
        {"finetune": 2.0},
        {"explore": -1},
        {"efficiency": -1},
        {"gate_scales": [1]},
    ],
)
def test_options_that_cannot_be_are_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(registry.RegistryError) as caught:
        registry.build("vared/r2plus1d_18", frames=4, size=16, classes=5, network_options={"width": 4}, **options)
    assert "\n" not in str(caught.value)


class Standardised(nn.Conv3d):
    """A convolution that does something else with its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.weight - self.weight.mean(), None, self.stride, self.padding)


def test_convolutions_of_another_kind_stay_as_they_are() -> None:
    network = nn.Sequential(Standardised(3, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1))
    assert [unit.name for unit in reduce(network, (1, 3, 4, 8, 8))] == ["1"]


def test_one_frame_has_no_temporal_option() -> None:
    method = vared("r2plus1d_18", frames=8, size=32, classes=5, network_options={"width": 8})
    last = method.units[-1]
    assert last.geometry.frames == 1 and last.strides == (1,)


def test_depthwise_convolutions_save_nothing() -> None:
    network = nn.Sequential(nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), groups=4), nn.BatchNorm3d(4))
    with pytest.raises(ValueError, match="no convolution can be made dynamic"):
        reduce(network, (1, 4, 8, 8, 8), kind="depthwise")


def test_options_of_a_single_dimension() -> None:
    for dimensions in ("temporal", "channel"):
        method = vared("r2plus1d_18", frames=8, size=32, classes=5, network_options={"width": 8}, dimensions=dimensions)
        assert {point.rpartition(".")[2] for point in method.decisions()} == {dimensions}


class Folded(nn.Module):
    """Frames as a batch: its first convolution does not see samples, its second does."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.clips = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.frames(x.transpose(1, 2).flatten(0, 1))
        out: Tensor = self.clips(frames.unflatten(0, (len(x), -1)).mean(1))
        return out


def test_convolutions_whose_batch_is_not_the_samples_stay_static() -> None:
    assert [unit.name for unit in reduce(Folded(), (1, 3, 6, 8, 8))] == ["clips"]


def test_units_of_one_policy_need_the_same_options() -> None:
    network = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.Conv3d(8, 8, 3, (4, 1, 1), 1))  # 8 frames, then 2
    with pytest.raises(ValueError, match=r"p.temporal: 1 has 2 options, others 3"):
        reduce(network, (1, 3, 8, 8, 8), policy=lambda name: "p", search_space=3)
