"""The fast form of a network gives the network's answers, and the counter sees the same work."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bench import registry
from bench.chains import sole_activations
from bench.cost import Counter, count, count_meta
from bench.cost.formulas import FORMULAS
from bench.inference import convolution
from bench.inference.convolution import Convolution, Fastest, fuse, race
from bench.inference.optimise import ClipMean, optimised
from bench.inference.products import frame_products, plain_taps
from bench.inference.settings import algorithms_tried, tf32

SMALL = {
    "r2plus1d_18": {"width": 8, "blocks": (1, 1, 1, 1)},
    "i3d": {"width": 8},
    "x3d_m": {"width": 8, "blocks": (2, 1, 1, 1)},
    "tpn": {"width": 8, "blocks": (1, 1, 1, 1)},
    "resnet50": {"width": 8},
}


def moved(module: nn.Module) -> nn.Module:
    """With statistics that a trained network could have."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
    return module.eval()


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_optimised_network_answers_as_before_at_the_same_count(name: str) -> None:
    torch.manual_seed(0)
    static = registry.build(name, frames=4, size=32, classes=5, network_options=SMALL[name])
    moved(static)
    fast = static.optimised()
    sample = torch.randn(static.spec.shape(2))
    expected, found = static(sample).logits, fast(sample).logits
    assert expected is not None and found is not None
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    full = count_meta(static.network, static.spec.shape(2)).macs
    assert 0.8 * full <= count(fast, sample).macs <= full  # products leave out taps that see only padding
    ran: list[nn.Module] = []
    for part in fast.modules():
        part.register_forward_hook(lambda module, args, result: ran.append(module))
    fast(sample)
    assert ran and not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in ran)


def test_what_slows_the_machine_for_a_while_slows_every_form_of_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], [0]

    def taking(seconds: float) -> Callable[[torch.Tensor], None]:
        def form(x: torch.Tensor) -> None:
            calls[0] += 1
            clock[0] += seconds * (10 if 3 <= calls[0] <= 4 else 1)  # the first lap that counts is disturbed

        return form

    monkeypatch.setattr("bench.inference.convolution.time.perf_counter", lambda: clock[0])
    assert race([taking(1.0), taking(0.5)], torch.zeros(1)) == pytest.approx([1.0, 0.5])


@torch.no_grad()
def test_the_original_is_left_as_it_was() -> None:
    static = moved(registry.build("x3d_m", frames=4, size=32, classes=5, network_options=SMALL["x3d_m"]))
    before = {name: value.clone() for name, value in static.state_dict().items()}
    kinds = [type(part) for part in static.modules()]
    static.optimised()
    assert kinds == [type(part) for part in static.modules()]
    assert all(torch.equal(value, before[name]) for name, value in static.state_dict().items())


class Reuses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 1)
        self.alone, self.shared = nn.SiLU(), nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.alone(self.conv(x))
        return self.shared(y) + y


@torch.no_grad()
def test_an_activation_overwrites_only_what_nothing_else_reads() -> None:
    module = Reuses().eval()
    assert sole_activations(module, (1, 3, 2, 4, 4)) == ["alone"]
    x = torch.randn(1, 3, 2, 4, 4)
    kept = x.clone()
    assert torch.allclose(optimised(module, x.shape)(x), module(x), atol=1e-6)
    assert torch.equal(x, kept)


class Weighted(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight / self.weight.norm(), self.bias)


class Careful(nn.Module):
    """Activations of what others own or see, a norm of two names, and a convolution of a kind of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.norm = nn.SiLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.tail = nn.Sequential(self.norm, nn.SiLU())
        self.weighted, self.part, self.bias = Weighted(4, 4, 1), nn.SiLU(), nn.Parameter(torch.randn(4, 1, 1))
        self.of_bias = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.weighted(self.tail(self.conv(self.first(x))))
        return torch.cat([self.part(y[:, :2]), y[:, 2:]], 1) + y + self.of_bias(self.bias)


@torch.no_grad()
def test_what_cannot_be_replaced_is_left_alone() -> None:
    module, x = moved(Careful()), torch.randn(2, 3, 4, 4)
    fast, kept = optimised(module, (1, 3, 4, 4)), x.clone()
    for _ in range(2):
        assert torch.allclose(fast(x), module(x), atol=1e-5)
        assert torch.equal(x, kept)


@torch.no_grad()
def test_fewer_frames_stay_fewer_and_copies_of_fast_forms_are_fast_forms() -> None:
    method = registry.build(
        "subsampled/r2plus1d_18", frames=4, size=32, classes=5, network_options=SMALL["r2plus1d_18"], share=0.5
    ).eval()
    sample = torch.randn(method.spec.shape(2))
    fast = method.optimised()
    for form in (fast, copy.deepcopy(fast)):
        found, expected = form(sample), method(sample)
        assert found.logits is not None and expected.logits is not None
        assert torch.allclose(found.logits, expected.logits, atol=1e-4) and torch.equal(found.cost, expected.cost)


def test_circular_padding_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.ReLU())
    assert isinstance(optimised(module, (1, 3, 8, 8))[0], nn.Conv2d)


@given(
    frames=st.integers(1, 7),
    taps=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    relu=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_frame_products_are_the_convolution(frames: int, taps: int, stride: int, padding: int, relu: bool) -> None:
    if frames + 2 * padding < taps:
        return
    torch.manual_seed(frames)
    x = torch.randn(2, 3, frames, 2, 3, dtype=torch.float64)
    weight, bias = torch.randn(5, 3, taps, 1, 1, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    expected = F.conv3d(x, weight, bias, (stride, 1, 1), (padding, 0, 0))
    found = frame_products(x, plain_taps(weight, frames, stride, padding), bias, relu)
    assert torch.allclose(found, expected.relu() if relu else expected)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("groups", "kernel"), [(1, 3), (2, 3), (8, 3), (1, (3, 1, 1))])
@torch.no_grad()
def test_every_form_of_a_convolution_agrees_within_what_the_precision_allows(
    dtype: torch.dtype, groups: int, kernel: int | tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    padding = 1 if isinstance(kernel, int) else (1, 0, 0)
    conv, norm = nn.Conv3d(8, 8, kernel, (2, 1, 1), padding, groups=groups), nn.BatchNorm3d(8)
    moved(nn.Sequential(conv, norm))
    x = torch.randn(2, 8, 5, 6, 6)
    exact = norm.double()(conv.double()(x.double())).relu()
    rough = norm.to(dtype)(conv.to(dtype)(x.to(dtype))).relu()
    own_error = float((rough.double() - exact).abs().max())
    fast = fuse(conv.double(), norm.double(), relu=True).to(dtype)
    for form in fast.forms(x.to(dtype)):
        error = float((form(x.to(dtype)).double() - exact).abs().max())
        assert error <= 4 * own_error + 1e-12


def test_a_wrong_form_is_told_also_where_its_square_overflows_half_precision() -> None:
    first = torch.full((1000, 1000), 100.0, dtype=torch.float16)
    assert convolution._agree(first, first) and not convolution._agree(-first, first)


@torch.no_grad()
def test_another_precision_lays_the_weights_out_again() -> None:
    conv = fuse(nn.Conv3d(3, 4, 1), None, relu=False)
    x = torch.randn(1, 3, 2, 4, 4)
    first = conv(x)
    assert torch.allclose(conv.double()(x.double()), first.double(), atol=1e-6)


def test_the_fastest_form_is_tried_once_a_shape() -> None:
    calls: list[str] = []

    def form(name: str) -> object:
        def call(x: torch.Tensor) -> torch.Tensor:
            calls.append(name)
            return x

        return call

    chosen = Fastest([form("one"), form("other")])  # type: ignore[list-item]
    chosen(torch.zeros(1, 1))
    assert {"one", "other"} <= set(calls)
    calls.clear()
    chosen(torch.ones(1, 1))
    chosen(torch.ones(5, 1))
    assert len(calls) == 2 and len(set(calls)) == 1
    chosen(torch.ones(1, 2))
    assert len(calls) > 3


def test_a_form_that_does_not_run_is_left_out() -> None:
    calls = []

    def broken(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        raise RuntimeError("no such kernel")

    fastest = Fastest([broken, lambda x: x + 1])
    for _ in range(2):
        assert torch.equal(fastest(torch.zeros(1, 1)), torch.ones(1, 1))
    assert len(calls) == 1
    with pytest.raises(RuntimeError, match="no such kernel"):
        Fastest([broken, broken])(torch.zeros(1, 1))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.2, 0.0])
def test_a_form_that_answers_otherwise_is_left_out(wrong: float) -> None:
    """However fast it is."""

    def right(x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return x + 1

    fastest = Fastest([right, lambda x: wrong * (x + 1)])
    assert torch.equal(fastest(torch.zeros(2, 3)), torch.ones(2, 3))
    rounded = Fastest([right, lambda x: 1.01 * (x + 1)])
    assert not torch.equal(rounded(torch.zeros(2, 3)), torch.ones(2, 3))
    assert fastest(torch.zeros(0, 5)).shape == (0, 5)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_the_size_of_the_batch_decides_too_and_what_is_counted_is_not_tried() -> None:
    calls: list[str] = []
    fastest = Fastest([lambda x: (calls.append("one"), x)[1], lambda x: (calls.append("other"), x)[1]])
    with Counter(nn.Identity(), batch=3):
        fastest(torch.ones(3, 2))
    assert calls == ["one"]
    for rows, tried in ((3, True), (4, False), (1, True), (5, True), (8, False)):
        calls.clear()
        fastest(torch.ones(rows, 2))
        assert (len(calls) > 1) is tried


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.usefixtures("as_on_a_gpu")
@torch.no_grad()
def test_on_a_gpu_both_layouts_are_tried_with_relu_apart_and_within(
    dimensions: int, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    plain: dict[int, Callable[..., torch.Tensor]] = {2: F.conv2d, 3: F.conv3d}
    seen: list[tuple[str, bool]] = []

    def note(name: str) -> Callable[..., torch.Tensor]:
        def call(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
            layouts = {each.is_contiguous(memory_format=last) for each in (x, weight)}
            assert len(layouts) == 1
            seen.append((name, *layouts))
            out = plain[dimensions](x, weight, *rest)
            return out.relu() if name == "fused" else out

        return call

    conv = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(4, 6, 3, stride=2, padding=1)
    x = torch.randn(2, 4, *(5,) * dimensions)
    expected = conv(x).relu() if relu else conv(x)
    monkeypatch.setattr(F, f"conv{dimensions}d", note("plain"))
    monkeypatch.setattr(torch, "cudnn_convolution_relu", note("fused"))
    fused = fuse(conv, None, relu)
    for form in fused.forms(x):
        assert torch.allclose(form(x), expected, atol=1e-6)
    calls = ["plain", "fused"] if relu else ["plain"]
    assert seen == [(name, layout) for layout in (True, False) for name in calls]
    assert torch.allclose(fused(x), expected, atol=1e-6)


def test_what_cudnn_fuses_has_the_cost_of_the_convolution() -> None:
    x, weight = torch.empty(2, 4, 3, 8, 8), torch.empty(6, 2, 3, 3, 3)
    output = F.conv3d(x, weight, None, 1, 1, 1, 2)
    arguments = (x, weight, torch.empty(6), [1] * 3, [1] * 3, [1] * 3, 2)
    assert FORMULAS[torch.ops.aten.cudnn_convolution_relu](arguments, {}, output) == output.numel() * 2 * 27


def test_settings_are_put_back_whatever_happens() -> None:
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.backends.cudnn.benchmark, *(each.allow_tf32 for each in flags)
    for wanted in (True, False):
        with pytest.raises(ValueError, match="inside"), tf32(wanted), algorithms_tried(wanted):
            assert (torch.backends.cudnn.benchmark, *(each.allow_tf32 for each in flags)) == (wanted,) * 3
            raise ValueError("inside")
        assert (torch.backends.cudnn.benchmark, *(each.allow_tf32 for each in flags)) == before


def test_convolution_keeps_no_gradient() -> None:
    conv = fuse(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), relu=True)
    assert isinstance(conv, Convolution) and not list(conv.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_mean_over_the_clip_is_the_pool(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64).to(memory_format=layout)
    mean = ClipMean()
    for form in (mean, *mean._fastest.forms, copy.deepcopy(mean)):
        assert torch.allclose(form(x), nn.AdaptiveAvgPool3d(1)(x)) and form(x).shape == (2, 3, 1, 1, 1)
    kept = optimised(nn.Sequential(nn.Conv3d(3, 4, 1), nn.AdaptiveAvgPool3d((2, 1, 1))), (1, 3, 4, 5, 6))
    assert isinstance(kept[1], nn.AdaptiveAvgPool3d)
