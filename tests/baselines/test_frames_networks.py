"""The networks for frames against published counts, on images and on clips, and what a temporal shift moves where."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from baselines.networks.frames import Frames
from baselines.networks.mobilenet import InvertedResidual, MobileNetV2, mobilenet_v2
from baselines.networks.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50
from baselines.networks.tsm import TemporalShift, tsm_mobilenet_v2, tsm_resnet18, tsm_resnet50
from bench.chains import find_chains
from bench.cost import count_meta

Builder = Callable[..., Frames]
TINY_RESNET, TINY_MOBILENET = {"width": 8, "blocks": (1, 1, 1, 1)}, {"width": 8, "last": 32}
TINY: list[tuple[Builder, dict[str, Any]]] = [
    (resnet18, TINY_RESNET),
    (resnet34, TINY_RESNET),
    (resnet50, TINY_RESNET),
    (mobilenet_v2, TINY_MOBILENET),
    (tsm_resnet18, TINY_RESNET),
    (tsm_resnet50, TINY_RESNET),
    (tsm_mobilenet_v2, TINY_MOBILENET),
]


@dataclass(frozen=True)
class Counts:
    """Of a network on one clip; of its classifier alone; values and channels that its convolutions give."""

    macs: int
    params: int
    classifier_macs: int
    classifier_params: int
    values: int
    channels: int


@functools.cache
def counts(build: Builder, frames: int, size: int, classes: int) -> Counts:
    with torch.device("meta"):
        network = build(frames, size, classes)
    found = count_meta(network, (1, 3, frames, size, size))
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv3d)}
    (head,) = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return Counts(
        found.macs,
        sum(p.numel() for p in network.parameters()),
        found.macs - sum(found.by_module[name] for name in convs),
        sum(p.numel() for p in head.parameters()),
        sum(found.by_module[name] // conv.weight[0].numel() for name, conv in convs.items()),
        sum(conv.out_channels for conv in convs.values()),
    )


def perturb(network: nn.Module) -> None:
    """Running statistics and scales of their own for every channel, so that one mistaken for another shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for values in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert values is not None
                values.add_(torch.rand_like(values) / 4)


@pytest.mark.parametrize(
    ("build", "size", "published", "macs", "params"),
    [
        (resnet50, 224, 4.0871, 4_087_136_256, 23_508_032),
        (resnet50, 96, 0.7507, 750_698_496, 23_508_032),
        (resnet34, 168, 2.2444, 2_244_439_040, 21_284_672),
        (resnet18, 112, 0.4848, 484_847_616, 11_176_512),
        (mobilenet_v2, 224, 0.29949, 299_494_272, 2_223_872),
        (mobilenet_v2, 84, 0.05036, 50_356_992, 2_223_872),
    ],
)
def test_cost_of_a_frame(build: Builder, size: int, published: float, macs: int, params: int) -> None:
    """The per-frame figures of AR-Net and AdaFocus, which leave the classifier out."""
    found = counts(build, 1, size, 1000)
    assert found.macs - found.classifier_macs == macs
    assert found.params - found.classifier_params == params
    assert macs / 1e9 == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize(
    ("build", "size", "params", "published"),
    [
        (resnet18, 112, 11_689_512, None),
        (resnet34, 168, 21_797_672, None),
        (resnet50, 224, 25_557_032, 4.089),
        (mobilenet_v2, 224, 3_504_872, 0.301),
    ],
)
def test_with_the_classifier_of_imagenet(build: Builder, size: int, params: int, published: float | None) -> None:
    found = counts(build, 1, size, 1000)
    assert found.params == params
    if published:
        assert found.macs / 1e9 == pytest.approx(published, abs=0.0005)


@pytest.mark.parametrize(
    ("build", "size", "published"), [(resnet50, 96, 750_725_056), (mobilenet_v2, 224, 299_511_328)]
)
def test_constants_of_uni_adafocus(build: Builder, size: int, published: int) -> None:
    """Its code's costs of one frame without classifier, which count one more for every channel of a convolution."""
    found = counts(build, 1, size, 1000)
    assert found.macs - found.classifier_macs + found.channels == published


def test_sixteen_frames_of_resnet50() -> None:
    """The static base of VA-RED² beside AR-Net; in IBM's benchmark 23,917,832 parameters and 65.39 G."""
    found = counts(resnet50, 16, 224, 200)
    assert found.params == 23_917_832
    assert found.classifier_macs == 16 * 2048 * 200
    assert found.macs == 65_400_733_696 == 16 * 4_087_136_256 + found.classifier_macs
    assert (found.macs - found.classifier_macs) / 1e9 == pytest.approx(65.39, abs=0.005)


@pytest.mark.parametrize(
    ("build", "size", "classes", "gflops", "params"),
    [(tsm_resnet50, 224, 174, 32.88, 23.87), (tsm_mobilenet_v2, 256, 400, 3.269, 2.736)],
)
def test_published_figures_of_tsm(build: Builder, size: int, classes: int, gflops: float, params: float) -> None:
    """MMAction2's for 8 frames: multiply-adds plus two a value of every normalisation; MobileNetV2's fit at 256²."""
    found = counts(build, 8, size, classes)
    assert (found.macs + 2 * found.values) / 1e9 == pytest.approx(gflops, rel=0.0015)
    assert found.params / 1e6 == pytest.approx(params, rel=0.0003)


@pytest.mark.parametrize(
    ("shifting", "plain", "options"),
    [
        (tsm_resnet18, resnet18, TINY_RESNET),
        (tsm_resnet50, resnet50, TINY_RESNET),
        (tsm_mobilenet_v2, mobilenet_v2, TINY_MOBILENET),
    ],
)
def test_shifts_are_free(shifting: Builder, plain: Builder, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        with_shifts, without = shifting(4, 32, 5, **options), plain(4, 32, 5, **options)
    shape = (1, 3, 4, 32, 32)
    assert count_meta(with_shifts, shape).macs == count_meta(without, shape).macs
    assert list(with_shifts.state_dict()) == list(without.state_dict())


@pytest.mark.parametrize(
    "image_network",
    [
        lambda: ResNet(BasicBlock, (2, 1), 5, 8),
        lambda: ResNet(Bottleneck, (1, 2, 1), 5, 8),
        lambda: MobileNetV2(5, width=8, last=64),
    ],
)
def test_clips_are_averaged_images(image_network: Callable[[], Any]) -> None:
    """On clips a network gives the mean of its own logits on every frame, at odd sizes too."""
    torch.manual_seed(0)
    network = image_network().eval()
    perturb(network)
    clips = torch.randn(2, 3, 5, 27, 35)
    with torch.no_grad():
        frames = [clips[:, :, t] for t in range(5)]
        each = [network(images) for images in frames]
        features = network.features(frames[0])
        assert features.shape[:2] == (2, network.channels)
        torch.testing.assert_close(network.classify(features), each[0])
        generator = torch.get_rng_state()
        on_clips = Frames(network)
        assert torch.equal(torch.get_rng_state(), generator), "random numbers were drawn for weights thrown away"
        torch.testing.assert_close(on_clips(clips), torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


def test_names_of_parameters_are_the_public_ones() -> None:
    """Those of torchvision, whose weights are so imported by name; clips only add `network.` and a dimension of one."""
    with torch.device("meta"):
        bottlenecks, basic, mobile = ResNet(Bottleneck, (3, 4, 6, 3), 10), resnet18(8, 32, 10), MobileNetV2(10)
    names = {name: tuple(value.shape) for name, value in bottlenecks.state_dict().items()}
    assert len(names) == 320
    assert names["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert names["layer4.2.conv2.weight"] == (512, 512, 3, 3)
    assert {"conv1.weight", "bn1.running_var", "layer3.5.bn3.bias", "layer1.0.downsample.1.weight"} <= set(names)
    assert names["fc.weight"] == (10, 2048)
    clip_names = {name: tuple(value.shape) for name, value in basic.state_dict().items()}
    assert len(clip_names) == 122
    assert clip_names["network.layer1.0.conv1.weight"] == (64, 64, 1, 3, 3)
    mobile_names = {name: tuple(value.shape) for name, value in mobile.state_dict().items()}
    assert len(mobile_names) == 314
    assert mobile_names["features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert mobile_names["features.2.conv.2.weight"] == (24, 96, 1, 1)
    assert {"features.0.1.bias", "features.17.conv.3.running_mean", "features.18.0.weight"} <= set(mobile_names)
    assert mobile_names["classifier.1.weight"] == (10, 1280)


@pytest.mark.parametrize(
    ("channels", "frames", "shift_div"), [(16, 5, 8), (17, 4, 8), (8, 1, 8), (6, 3, 2), (7, 4, 3), (4, 4, 8)]
)
def test_which_channel_holds_which_frame(channels: int, frames: int, shift_div: int) -> None:
    """Every value of x names its channel and frame, so the closed form says the whole output."""
    t, c = torch.meshgrid(torch.arange(frames), torch.arange(channels), indexing="ij")
    x = (100.0 * (c + 1) + t + 1).T.reshape(1, channels, frames, 1, 1).expand(2, -1, -1, 3, 2)
    share = channels // shift_div
    wanted = torch.zeros(channels, frames)
    for channel in range(channels):
        source = 1 if channel < share else -1 if channel < 2 * share else 0
        for frame in range(frames):
            if 0 <= frame + source < frames:
                wanted[channel, frame] = 100 * (channel + 1) + frame + source + 1
    found = TemporalShift(shift_div)(x)
    assert torch.equal(found, wanted.view(1, channels, frames, 1, 1).expand(2, -1, -1, 3, 2))


def test_shares_that_would_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="shift_div must be at least 2, for two shares of the channels; got 1"):
        tsm_resnet18(4, 32, 5, width=8, shift_div=1)


def test_only_residual_branches_are_shifted() -> None:
    """Every block of a ResNet; of MobileNetV2 the ten whose input is added. Shortcuts see the clip unshifted."""
    with torch.device("meta"):
        networks = [tsm_resnet18(8, 32, 5), tsm_resnet50(8, 32, 5), tsm_mobilenet_v2(8, 32, 5)]
    shifts = [sum(isinstance(m, TemporalShift) for m in network.modules()) for network in networks]
    assert shifts == [8, 16, 10]
    network = networks[2].network
    assert isinstance(network, MobileNetV2)
    shifted = [n for n, m in enumerate(network.features) if isinstance(getattr(m, "shift", None), TemporalShift)]
    assert shifted == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck, InvertedResidual])
def test_a_shortcut_carries_the_clip_unshifted(kind: Any) -> None:
    """With a branch that gives zero, the block is its shortcut."""
    x = torch.rand(1, 16, 4, 5, 5)
    block = InvertedResidual(16, 16, 1, 6) if kind is InvertedResidual else kind(16, 16 // kind.expansion, 1)
    block.shift = TemporalShift(8)
    on_clips = Frames(block)
    last = [module for module in on_clips.modules() if isinstance(module, nn.BatchNorm3d)][-1]
    nn.init.zeros_(last.weight)
    assert torch.equal(on_clips.network.eval()(x), x)


def reach(build: Builder) -> list[int]:
    """Frames of the input that the features of the fifth of nine depend on, two blocks deep."""
    torch.manual_seed(0)
    network = build(9, 16, 5, width=8, blocks=(1, 1)).eval().network
    assert isinstance(network, ResNet)
    clip = torch.randn(1, 3, 9, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.features(clip)[:, :, 4].square().sum(), clip)
    touched: list[int] = gradient.abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()
    return touched


def test_every_block_reaches_one_frame_further() -> None:
    assert reach(resnet18) == [4]
    assert reach(tsm_resnet18) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("build", "options", "linear"),
    [
        (resnet18, TINY_RESNET, ("conv2", "downsample.0")),
        (tsm_resnet50, TINY_RESNET, ("conv3", "downsample.0")),
        (tsm_mobilenet_v2, TINY_MOBILENET, (".conv.1", ".conv.2")),
    ],
)
def test_convolutions_stand_in_chains(build: Builder, options: dict[str, Any], linear: tuple[str, ...]) -> None:
    """Each is called once, followed by its norm, and by its activation unless it is the last before a sum or `linear`.

    Time is a dimension of every chain, so that a decision is about a clip, and about its frames.
    """
    with torch.device("meta"):
        network = build(4, 32, 5, **options)
    chains = find_chains(network, (1, 3, 4, 32, 32))
    convs = [name for name, module in network.named_modules() if isinstance(module, nn.Conv3d)]
    assert sorted(chain.conv for chain in chains) == sorted(convs)
    assert all(chain.norm and len(chain.outputs) == 5 and chain.outputs[2] == 4 for chain in chains)
    assert {chain.conv for chain in chains if chain.act is None} == {name for name in convs if name.endswith(linear)}


@pytest.mark.parametrize(("build", "options"), TINY)
def test_a_training_step_lowers_the_loss(build: Builder, options: dict[str, Any]) -> None:
    """At an odd size and number of frames."""
    torch.manual_seed(0)
    network = build(3, 41, 5, **options).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the loss before and after must be of one function
    clips, target = torch.randn(4, 3, 3, 41, 43), torch.arange(4)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4)
    loss = nn.functional.cross_entropy(network(clips), target)
    torch.autograd.backward(loss)
    optimiser.step()
    assert nn.functional.cross_entropy(network(clips), target).item() < loss.item()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize(("build", "options"), TINY)
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 7, 33), (5, 45, 31)])
def test_any_size_and_length_runs(
    build: Builder, options: dict[str, Any], frames: int, height: int, width: int
) -> None:
    network = build(frames, height, 3, **{**options, "width": 4}).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, frames, height, width)).shape == (2, 3)
