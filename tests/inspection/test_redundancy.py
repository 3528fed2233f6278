"""Redundancy of feature maps: closed forms, invariants, and a memory that does not grow."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.inspection import redundancy
from bench.inspection.redundancy import FIGURES, Redundancy, compare, likeness, watched
from bench.inspection.settings import Rule

PLAIN = Rule()
RAW = Rule(scale="none")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def figures(maps: Tensor, rule: Rule = PLAIN) -> dict[str, float]:
    """Of one clip, (C, T, H, W)."""
    return dict(zip(FIGURES, compare(maps[None], rule)[0].tolist(), strict=True))


def test_identical_frames_are_all_redundant() -> None:
    found = figures(noise(6, 1, 8, 8).expand(6, 5, 8, 8))
    assert found["temporal.CC"] == pytest.approx(1, abs=1e-9)
    assert found["temporal.RMSE"] == pytest.approx(0, abs=1e-7)
    assert found["temporal.RP"] == 1
    assert abs(found["channel.CC"]) < 0.1 and found["channel.RP"] == 0


def test_identical_channels_are_all_redundant() -> None:
    found = figures(noise(1, 5, 8, 8).expand(6, 5, 8, 8))
    assert found["channel.CC"] == pytest.approx(1, abs=1e-9)
    assert found["channel.RMSE"] == pytest.approx(0, abs=1e-7)
    assert found["channel.RP"] == 1 and found["temporal.RP"] == 0


def test_independent_noise_is_not_alike() -> None:
    """Its RMSE is √2 standard deviations."""
    found = figures(noise(16, 8, 24, 24), RAW)
    for along in ("temporal", "channel"):
        assert abs(found[f"{along}.CC"]) < 0.01 and found[f"{along}.RP"] == 0
        assert found[f"{along}.RMSE"] == pytest.approx(math.sqrt(2), abs=0.02)


def test_against_numpy() -> None:
    maps = noise(4, 3, 5, 5, seed=1) + noise(4, 1, 5, 5, seed=2)
    flat, found = maps.flatten(2).double().numpy(), figures(maps, RAW)
    upper = np.triu_indices(3, 1)
    assert found["temporal.CC"] == pytest.approx(np.mean([np.corrcoef(flat[c])[upper] for c in range(4)]))
    upper = np.triu_indices(4, 1)
    apart = [np.sqrt(((flat[i, t] - flat[j, t]) ** 2).mean()) for t in range(3) for i, j in zip(*upper, strict=True)]
    assert found["channel.RMSE"] == pytest.approx(np.mean(apart))


def test_the_proportion_counts_maps_that_have_a_twin() -> None:
    frames = noise(1, 4, 8, 8)
    frames[:, 1] = frames[:, 0]
    assert figures(frames)["temporal.RP"] == 0.5


def test_the_threshold_is_met_from_its_value_on() -> None:
    """Two orthogonal maps of equal power: x and 0.6 x + 0.8 y correlate by 0.6."""
    x, y = torch.zeros(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    x[0], x[1], y[2], y[3] = 1, -1, 1, -1
    pair = torch.stack([x, 0.6 * x + 0.8 * y]).view(1, 2, 4, 4)
    assert figures(pair, Rule(correlation=0.6 - 1e-9))["temporal.RP"] == 1
    assert figures(pair, Rule(correlation=0.6 + 1e-9))["temporal.RP"] == 0


def test_opposite_maps_are_not_redundant() -> None:
    frame = noise(1, 1, 8, 8)
    found = figures(torch.cat([frame, -frame], 1))
    assert found["temporal.CC"] == pytest.approx(-1) and found["temporal.RP"] == 0


def test_neighbours_do_not_see_what_comes_back_later() -> None:
    a, b = noise(2, 1, 8, 8), noise(2, 1, 8, 8, seed=1)
    maps = torch.cat([a, b, a, b], 1)
    assert figures(maps)["temporal.RP"] == 1
    assert figures(maps, Rule(pairs="neighbours"))["temporal.RP"] == 0
    apart = {name: value for name, value in figures(maps, Rule(pairs="neighbours")).items() if "channel" in name}
    assert apart.items() <= figures(maps).items()  # channels have no neighbours: nothing changes for them


def test_a_limit_of_the_error_holds_beside_that_of_the_correlation() -> None:
    """x and 2x correlate fully; they differ by x, whose root mean square is 1."""
    x = torch.ones(16)
    x[::2] = -1
    pair = torch.stack([x, 2 * x]).view(1, 2, 4, 4)
    assert figures(pair, RAW)["temporal.RP"] == 1
    assert figures(pair, Rule(scale="none", rmse=1.0))["temporal.RP"] == 1
    assert figures(pair, Rule(scale="none", rmse=0.99))["temporal.RP"] == 0


def test_errors_in_shares_of_the_range_do_not_see_the_unit() -> None:
    maps = noise(3, 4, 5, 5)
    assert figures(maps)["channel.RMSE"] == pytest.approx(figures(1000 * maps - 7)["channel.RMSE"], rel=1e-4)
    assert figures(1000 * maps, RAW)["channel.RMSE"] == pytest.approx(1000 * figures(maps, RAW)["channel.RMSE"])


def test_a_constant_map_has_no_correlation() -> None:
    """Its pairs are left out of CC, count in RMSE, and make nothing redundant."""
    frame = noise(1, 1, 8, 8)
    maps = torch.cat([frame, frame, torch.full((1, 1, 8, 8), 0.3)], 1)
    found = figures(maps, RAW)
    assert found["temporal.CC"] == pytest.approx(1) and found["temporal.RP"] == pytest.approx(2 / 3)
    rest = float((frame - 0.3).square().mean().sqrt())
    assert found["temporal.RMSE"] == pytest.approx(2 * rest / 3, rel=1e-5)


def test_constant_maps_make_each_other_redundant_and_have_no_mean_correlation() -> None:
    found = figures(torch.full((1, 4, 8, 8), 0.1))
    assert math.isnan(found["temporal.CC"]) and found["temporal.RMSE"] == 0 and found["temporal.RP"] == 1


def test_one_frame_has_no_pair_in_time() -> None:
    found = figures(noise(4, 1, 8, 8))
    assert all(math.isnan(found[name]) for name in FIGURES if name.startswith("temporal"))
    assert not any(math.isnan(found[name]) for name in FIGURES if name.startswith("channel"))


shapes = st.tuples(st.integers(2, 5), st.integers(2, 4), st.integers(3, 5), st.integers(3, 5))


@given(shapes, st.integers(0, 99), st.floats(0.01, 100), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_scaling_one_map_changes_no_correlation(
    shape: tuple[int, int, int, int], seed: int, scale: float, shift: float
) -> None:
    maps = noise(*shape, seed=seed).double()
    other = maps.clone()
    other[0, 1] = scale * other[0, 1] + shift
    before, after = figures(maps, RAW), figures(other, RAW)
    for name in ("temporal.CC", "channel.CC", "temporal.RP", "channel.RP"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)


@given(shapes, st.integers(0, 99), st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_of_channels_and_of_frames_changes_nothing(
    shape: tuple[int, int, int, int], seed: int, data: st.DataObject
) -> None:
    maps = noise(*shape, seed=seed) + noise(shape[0], 1, *shape[2:], seed=seed + 1)
    channels, frames = (data.draw(st.permutations(range(count))) for count in shape[:2])
    assert figures(maps[list(channels)][:, list(frames)]) == pytest.approx(figures(maps), abs=1e-9)


def test_few_values_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = noise(5, 3, 4, 6, 6)
    whole = compare(maps, PLAIN)
    monkeypatch.setattr(redundancy, "VALUES", 1)
    assert torch.equal(compare(maps, PLAIN), whole)


class Net(nn.Module):
    """A 3D convolution, a 2D one that sees frames as its batch, and one whose maps are too small."""

    def __init__(self) -> None:
        super().__init__()
        self.clip, self.frame, self.small = nn.Conv3d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1), nn.Conv3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.clip(x)).transpose(1, 2)
        z = self.frame(y.flatten(0, 1)).unflatten(0, y.shape[:2]).transpose(1, 2)
        out: Tensor = self.small(z[..., ::4, ::4])
        return out


def summed(batches: list[Tensor], rule: Rule = PLAIN) -> tuple[Redundancy, Tensor]:
    torch.manual_seed(0)
    found = Redundancy(Net(), rule)
    return found, torch.cat([found.add(batch) for batch in batches])


def test_layers_are_named_and_those_left_out_say_why() -> None:
    found, _ = summed([noise(2, 1, 4, 8, 8)])
    assert {name: sums.shape for name, sums in found.layers.items()} == {"clip": (4, 4, 8, 8), "frame": (3, 4, 8, 8)}
    assert found.left_out == {"small": "maps of 4 pixels, of at least 16"}
    assert "small" in summed([noise(2, 1, 4, 8, 8)], Rule(least_pixels=4))[0].layers


def test_a_2d_convolution_is_compared_along_the_frames_of_each_sample() -> None:
    """Frames of one sample are alike, those of different samples are not."""
    clips = noise(2, 1, 1, 8, 8).expand(2, 1, 4, 8, 8)
    found, _ = summed([clips])
    means = dict(zip(FIGURES, found.layers["frame"].mean.tolist(), strict=True))
    assert means["temporal.RP"] == 1 or means["temporal.CC"] > 0.4  # borders in time differ: the first layer pads


def test_batches_do_not_matter() -> None:
    clips = noise(6, 1, 4, 8, 8)
    one, each = summed([clips])
    two, again = summed([clips[:1], clips[1:4], clips[4:]])
    assert torch.allclose(each, again) and each.shape == (6, len(FIGURES))
    for name in one.layers:
        assert torch.allclose(one.layers[name].mean, two.layers[name].mean)
    together = torch.stack([sums.mean for sums in one.layers.values()]).mean(0)
    assert torch.allclose(each.mean(0), together)


def test_memory_does_not_grow_with_the_clips() -> None:
    """All that is kept, hooks and the network's own leftovers included, is as large after 30 batches as after 3."""
    found, kept = summed([noise(2, 1, 4, 8, 8)])[0], list[int]()
    for batches in (3, 27):
        for number in range(batches):
            found.add(noise(2, 1, 4, 8, 8, seed=number))
        kept.append(len(pickle.dumps(vars(found))))
    assert kept[0] == kept[1]
    assert int(found.layers["clip"].clips[0]) == 2 * 31


def test_nothing_watches_once_it_is_over() -> None:
    net, seen = Net(), list[Any]()
    with pytest.raises(RuntimeError), watched(net, lambda name, maps: seen.append(name)):
        net(noise(1, 2, 4, 8, 8))  # two channels, where one is expected
    net(noise(1, 1, 4, 8, 8))
    assert seen == []


def test_a_count_on_the_meta_device_is_not_seen() -> None:
    net, seen = Net().to("meta"), list[Any]()
    with watched(net, lambda name, maps: seen.append(name)):
        net(torch.empty(1, 1, 4, 8, 8, device="meta"))
    assert seen == []


def test_pairs_are_symmetric_and_no_map_is_its_own_twin() -> None:
    like = likeness(noise(2, 5, 30).double(), PLAIN)
    assert torch.equal(like.alike, like.alike.transpose(1, 2)) and not like.alike.diagonal(dim1=1, dim2=2).any()
    assert torch.allclose(like.cc, like.cc.transpose(1, 2))
