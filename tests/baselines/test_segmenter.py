"""Dilated ResNet-18: published costs, what dilation means, loss and share of right pixels by hand, the reduced form."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.networks import segmenter
from baselines.networks.segmenter import Decoder, Encoder, Pyramid, Segmentation, Segmenter, resnet18_dilated
from bench.cost import Counter, count_meta
from bench.method import Batch, InputSpec
from bench.policy import Forced
from bench.task import task_loss
from vared.method import UNITS, VaRed

CLASSES = 4
EVERY = pytest.mark.parametrize("decoder", get_args(Decoder))


def tiny(decoder: Any = "c1_deepsup") -> Segmenter:
    torch.manual_seed(0)
    return resnet18_dilated(1, 40, CLASSES, width=8, blocks=(1, 1, 2, 1), decoder=decoder)


@pytest.mark.parametrize(
    ("decoder", "macs", "parameters", "known"),
    [
        ("c1", 11_122_012_160, 11_934_422, (11.12, 11.93)),
        ("ppm", 19_966_296_064, 24_252_118, (19.97, 24.25)),
    ],
)
def test_cost_and_parameters(decoder: Any, macs: int, parameters: int, known: tuple[float, float]) -> None:
    """Those of the public code (G multiply-adds, M parameters); the encoder's is what Table 11 prints."""
    with torch.device("meta"):
        network, deep = (resnet18_dilated(1, 224, 150, decoder=name) for name in (decoder, f"{decoder}_deepsup"))
    count = count_meta(network, (1, 3, 224, 224))
    assert count.macs == macs
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert (macs / 1e9, parameters / 1e6) == pytest.approx(known, abs=0.005)
    encoder = sum(part for name, part in count.by_module.items() if name.startswith("encoder."))
    assert encoder == 10_644_537_344 and encoder / 1e9 == pytest.approx(10.6, rel=0.005)
    assert sum(weight.numel() for weight in network.encoder.parameters()) == 11_324_992
    extra = sum(weight.numel() for weight in deep.parameters()) - parameters
    assert extra == 256 * 9 * 128 + 2 * 128 + 128 * 150 + 150


def test_dilated_stages_are_the_strided_ones_at_more_places(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    dilated = Encoder(8, (1, 2, 2, 2)).eval()
    monkeypatch.setattr(segmenter, "_dilate", lambda stage, dilation: None)
    strided = Encoder(8, (1, 2, 2, 2)).eval()
    strided.load_state_dict(dilated.state_dict())
    with torch.no_grad():
        x = torch.randn(2, 3, 75, 91)
        (three, four), (three_strided, four_strided) = dilated(x), strided(x)
    assert three.shape[2:] == four.shape[2:] == (10, 12)
    assert torch.allclose(three[:, :, ::2, ::2], three_strided, atol=1e-5)
    assert torch.allclose(four[:, :, ::4, ::4], four_strided, atol=1e-5)


@EVERY
@pytest.mark.parametrize("size", [(1, 1), (33, 50)])
def test_masks_have_the_images_size(decoder: Decoder, size: tuple[int, int]) -> None:
    network = tiny(decoder).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, *size))
    assert output.shape == (2, CLASSES, *size) and output.isfinite().all()


def test_pyramid_sets_means_of_parts_beside_its_input() -> None:
    pyramid, x = Pyramid(2, 2).eval(), torch.rand(1, 2, 12, 12)
    for level in pyramid.levels:
        level[1] = nn.Identity()
    out = pyramid(x)
    assert out.shape == (1, 10, 12, 12) and torch.equal(out[:, :2], x)
    assert torch.allclose(out[:, 2:4], x.mean((2, 3), keepdim=True).expand_as(x))
    assert torch.allclose(out[0, 4:6, 0, 0], x[0, :, :6, :6].mean((1, 2)))
    assert torch.allclose(out[0, 8:10, -1, 0], x[0, :, -2:, :2].mean((1, 2)))


def test_loss_and_right_pass_over_void_pixels() -> None:
    task, output = Segmentation(), torch.randn(3, CLASSES, 2, 3)
    target = torch.randint(CLASSES, (3, 2, 3))
    target[0, 0], target[1] = -1, -1
    known = [(b, y, x) for b in range(3) for y in range(2) for x in range(3) if target[b, y, x] >= 0]
    shares = output.softmax(1)
    expected = -sum(float(shares[b, target[b, y, x], y, x].log()) for b, y, x in known) / len(known)
    assert float(task.loss(output, target)) == pytest.approx(expected, rel=1e-5)
    said = output.argmax(1)
    hits = [float((said[b] == target[b])[target[b] >= 0].float().mean()) if b != 1 else 0.0 for b in range(3)]
    assert task.right(output, target).tolist() == pytest.approx(hits)
    assert task.answer(output) == {"masks": output}


def test_an_image_of_nothing_but_void_has_no_gradient() -> None:
    output = torch.randn(1, CLASSES, 2, 2, requires_grad=True)
    loss = Segmentation().loss(output, torch.full((1, 2, 2), -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0 and output.grad is not None and not output.grad.any()


@EVERY
def test_the_auxiliary_classifier_acts_in_training_only(decoder: Decoder) -> None:
    network, x = tiny(decoder).eval(), torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        found = network.training_logits(x)
        assert [weight for weight, _ in found] == ([1.0, 0.4] if decoder.endswith("deepsup") else [1.0])
        assert all(logits.shape == (2, CLASSES, 40, 40) for _, logits in found)
        assert torch.equal(network(x), found[0][1])
        network.auxiliary = None
        assert torch.equal(network(x), found[0][1])
    copy.deepcopy(network)


@EVERY
def test_training_lowers_the_loss_and_reaches_every_weight(decoder: Decoder) -> None:
    """Of all classifiers, each at its weight."""
    network, images = tiny(decoder), torch.randn(4, 3, 40, 40)
    for module in network.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    batch = Batch(images, torch.randint(-1, CLASSES, (4, 40, 40)), torch.arange(4))
    twin = copy.deepcopy(network)
    expected = sum(
        (
            weight * F.cross_entropy(logits, batch.target, ignore_index=-1)
            for weight, logits in twin.training_logits(images)
        ),
        torch.zeros(()),
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss, right = task_loss(network, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        assert right.shape == (4,) and not right.requires_grad
    assert losses[0] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert losses[-1] < losses[0]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_refused() -> None:
    with pytest.raises(ValueError, match="no decoder 'upernet'; there are c1, c1_deepsup, ppm, ppm_deepsup"):
        tiny("upernet")
    with pytest.raises(ValueError, match="four stages of a block or more"):
        resnet18_dilated(1, 40, CLASSES, blocks=(1, 1, 1))


def drawn(method: VaRed, rows: int) -> Forced:
    generator = torch.Generator().manual_seed(1)
    trace: dict[str, Tensor] = {}
    for point, options in method.decisions().items():
        weights = torch.rand(rows, len(options), generator=generator, dtype=torch.float64) + 0.1
        trace[point] = weights * (torch.rand(rows, len(options), generator=generator) < 0.6)
    return Forced(trace)


@pytest.mark.parametrize("decoder", ["c1_deepsup", "ppm"])
def test_the_reduced_form_skips_channels_of_the_encoder_alone(decoder: Decoder) -> None:
    spec = InputSpec("image", 40, unit="image")
    method = VaRed(tiny(decoder), spec, units=UNITS["resnet18_dilated"]).double().eval()
    assert {unit.name.partition(".")[0] for unit in method.units} == {"encoder"}
    assert len(method.decisions()) == 3 + 2 * 5
    assert all(point.endswith(".channel") for point in method.decisions())
    sample, policy = torch.randn(spec.shape(3), dtype=torch.float64), drawn(method, 3)
    with torch.no_grad():
        with Counter(method, batch=3) as counter:
            skipped = method(sample, policy)
        with method.dense():
            summed = method(sample, policy)
        fast = method.optimised()
        alone = [fast(sample[row : row + 1], policy.rows(torch.tensor([row]))) for row in range(3)]
    assert counter.result().per_sample == tuple(skipped.cost.tolist())
    assert skipped.cost.unique().numel() == 3
    assert torch.equal(skipped.cost, summed.cost) and skipped.cost.tolist() == [int(one.cost) for one in alone]
    assert skipped.masks is not None
    for row, one in enumerate(alone):
        torch.testing.assert_close(one.masks, skipped.masks[row : row + 1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(summed.masks, skipped.masks, rtol=1e-8, atol=1e-8)
