"""R(2+1)D-18 against published counts (VA-RED² Tables 1 and 10; torchvision)."""

from __future__ import annotations

import pytest
import torch

from baselines.networks.r2plus1d import mid_planes, r2plus1d_18, r2plus1d_18_torchvision
from bench.cost import count_meta


@pytest.mark.parametrize(("frames", "published"), [(8, 27.7), (16, 55.2), (32, 110.5)])
def test_published_gflops_are_fvcore_totals(frames: int, published: float) -> None:
    """Multiply-adds plus two a value of every normalisation, as fvcore totals them, within 0.5 % of print."""
    with torch.device("meta"):
        network = r2plus1d_18(frames, 128, 200)
        normalised = []
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.register_forward_hook(lambda _m, _i, out: normalised.append(out.numel()))
        macs = count_meta(network, (1, 3, frames, 128, 128)).macs
        network(torch.empty(1, 3, frames, 128, 128))
    assert macs == 27_524_567_040 * frames // 8 - (frames // 8 - 1) * 512 * 200
    assert (macs + 2 * sum(normalised)) / 1e9 == pytest.approx(published, rel=0.005)


def test_torchvision_layout() -> None:
    with torch.device("meta"):
        network = r2plus1d_18_torchvision(16, 112, 400)
    assert sum(p.numel() for p in network.parameters()) == 31_505_325
    assert count_meta(network, (1, 3, 16, 112, 112)).macs / 1e9 == pytest.approx(40.52, abs=0.005)


def test_middle_channels_match_the_weights_of_a_full_convolution() -> None:
    assert [mid_planes(64, 64), mid_planes(64, 128), mid_planes(256, 512)] == [144, 230, 921]
