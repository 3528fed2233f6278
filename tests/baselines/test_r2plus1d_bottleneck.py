"""R(2+1)D-26 and -50 against counts measured on an independent build of the same description (400 classes)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from baselines.networks.r2plus1d_bottleneck import r2plus1d_26, r2plus1d_50
from bench.chains import find_chains
from bench.cost import count_meta


@pytest.mark.parametrize(
    ("builder", "blocks", "params", "macs"),
    [
        (r2plus1d_26, (2, 2, 2, 2), 16_858_576, 31_638_192_128),  # 16.9 M, 31.6 G
        (r2plus1d_50, (3, 4, 6, 3), 28_107_600, 53_217_886_208),  # 28.1 M, 53.2 G
        (r2plus1d_50, (3, 4, 23, 3), 50_450_768, 88_156_438_528),  # 50.5 M, 88.2 G: the 101-layer form
    ],
)
def test_counts(builder, blocks, params: int, macs: int) -> None:
    with torch.device("meta"):
        network = builder(16, 224, 400, blocks=blocks)
    assert sum(p.numel() for p in network.parameters()) == params
    assert count_meta(network, (1, 3, 16, 224, 224)).macs == macs
    pooled = 400 * 2048  # the classifier sees one pooled map, however long the clip
    assert count_meta(network, (1, 3, 32, 224, 224)).macs == 2 * macs - pooled


def test_defaults_are_26_and_50_layers() -> None:
    with torch.device("meta"):
        assert [len(stage) for stage in r2plus1d_26(16, 224, 400).stages] == [2, 2, 2, 2]
        assert [len(stage) for stage in r2plus1d_50(16, 224, 400).stages] == [3, 4, 6, 3]


def test_features_are_the_map_before_pooling() -> None:
    torch.manual_seed(0)
    network, clip = r2plus1d_26(8, 32, 5, width=4, blocks=(1, 1, 1, 1)).eval(), torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        features = network.features(clip)
        assert features.shape == (2, 4 * 8 * 4, 2, 1, 1)
        torch.testing.assert_close(network(clip), network.head(features.mean((2, 3, 4))))


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 1, 1), (7, 33, 25), (8, 24, 24)])
def test_any_frames_and_size_run(frames: int, height: int, width: int) -> None:
    network = r2plus1d_26(frames, height, 5, width=5, blocks=(1, 1, 1, 1)).eval()
    clip = torch.randn(1, 3, frames, height, width)
    assert network(clip).shape == (1, 5)
    assert network.features(clip).shape[2:] == (-(-frames // 4), -(-height // 32), -(-width // 32))


def test_every_convolution_is_the_head_of_a_chain() -> None:
    with torch.device("meta"):
        network = r2plus1d_26(8, 32, 5, width=8, blocks=(2, 1, 1, 1))
    chains = {chain.conv: chain for chain in find_chains(network, (1, 3, 8, 32, 32))}
    assert set(chains) == {name for name, part in network.named_modules() if isinstance(part, torch.nn.Conv3d)}
    spatial = chains["stages.0.1.spatial.0"]
    assert (spatial.norm, spatial.act) == ("stages.0.1.spatial.1", "stages.0.1.spatial.2")
    assert chains["stages.0.1.expand.0"].act is None, "the sum with the shortcut comes before the activation"


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network, clip = r2plus1d_26(8, 24, 3, width=8, blocks=(1, 1, 1, 1)), torch.randn(3, 3, 8, 24, 24)
    target, optimiser = torch.arange(3), torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        losses.append(F.cross_entropy(network(clip), target))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
