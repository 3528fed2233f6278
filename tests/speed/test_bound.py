"""Ceilings by a fake clock, and the roofline against closed forms: bytes, multiply-adds, and what they bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from toys import EarlyExit, Segmenter, Toy

import vared.cheap  # noqa: F401  registers its operation
from bench import registry
from bench.cost import FORMULAS, UncountedError, count
from bench.method import Prediction
from bench.policy import Learned, Policy, everything, fixed
from bench.speed import ceilings, roofline
from bench.speed.ceilings import CeilingError, Ceilings, best_seconds, measure
from bench.speed.roofline import bound, bytes_moved, eta_max, layers

CPU = torch.device("cpu")
UNIT = Ceilings(1.0, 1.0)
COMPUTE, MEMORY = Ceilings(1.0, math.inf), Ceilings(math.inf, 1.0)


class Machine(TorchDispatchMode):
    """Runs nothing and moves a clock instead: every product at its rate, every copy at the bandwidth."""

    def __init__(self, rates: dict[str, float], bandwidth: float) -> None:
        super().__init__()
        self.rates, self.bandwidth, self.now = rates, bandwidth, 0.0

    def perf_counter(self) -> float:
        return self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket).removeprefix("aten.")
        if name == "copy_":
            self.now += 2 * args[0].nbytes / self.bandwidth
            return args[0]
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in FORMULAS:
            self.now += FORMULAS[func.overloadpacket](args, kwargs or {}, output) / self.rates.get(name, 1e5)
        return output


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "SIDES", (32, 64))
    monkeypatch.setattr(ceilings, "BUFFER", {"cpu": 2**12})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fastest", ["mm", "convolution"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ceilings_are_the_best_product_and_the_copied_bytes(
    monkeypatch: pytest.MonkeyPatch, fastest: str, dtype: torch.dtype
) -> None:
    machine = Machine({fastest: 3e8}, 5e6)
    monkeypatch.setattr(ceilings, "time", machine)
    with machine:
        found = measure(CPU, dtype)
    assert found.macs_per_second == pytest.approx(3e8, rel=1e-6)
    assert found.bytes_per_second == pytest.approx(5e6, rel=1e-6)


@pytest.mark.usefixtures("small")
def test_ceilings_of_this_machine_are_positive() -> None:
    found = measure(CPU, torch.float32)
    assert 0 < found.macs_per_second < math.inf and 0 < found.bytes_per_second < math.inf


def test_sizes_grow_only_as_far_as_a_call_fits_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def form(side: int, dtype: torch.dtype) -> Callable[[], object]:
        sides.append(side)
        return lambda: None

    for name in ("_square", "_linear", "_pointwise"):
        monkeypatch.setattr(ceilings, name, form)
    rate = 600**3 / ceilings.RUN  # a product of side 512 still fits
    assert ceilings._products(lambda call, repeats: repeats * sides[-1] ** 3 / rate, torch.float32) == (
        pytest.approx(rate)
    )
    assert sides == [256, 512] * 3


def test_the_best_run_counts_and_the_first_call_does_not() -> None:
    calls, runs = [], iter([(1, 0.001), (20, 0.05), (20, 0.03), (20, 0.04)])

    def timer(call: Callable[[], object], repeats: int) -> float:
        expected, seconds = next(runs)
        assert repeats == expected and calls == ["untimed"]
        return seconds

    assert best_seconds(timer, lambda: calls.append("untimed")) == 0.03 / 20
    assert next(runs, None) is None


@pytest.mark.parametrize(
    ("device", "dtype", "said"), [("meta", torch.float32, "'meta'"), ("cpu", torch.int32, "torch.int32")]
)
def test_what_cannot_be_measured_is_said(device: str, dtype: torch.dtype, said: str) -> None:
    with pytest.raises(CeilingError, match=said):
        measure(torch.device(device), dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(CeilingError, match="'cuda'"):
        measure(torch.device("cuda"), torch.float32)


class Calls(Toy):
    """Whatever a test runs, as a method."""

    def __init__(self, run: Callable[[Tensor], Any], part: nn.Module | None = None) -> None:
        super().__init__()
        self.run, self.part = run, part or nn.Identity()
        self.eval()

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        self.run(sample)
        return Prediction(torch.zeros(len(sample), dtype=torch.int64))


def only(run: Callable[[Tensor], Any], sample: Tensor, ceilings: Ceilings = UNIT) -> roofline.Layer:
    """The one layer of `run`."""
    (layer,) = layers(Calls(run), sample, Learned(), ceilings)
    return layer


def convolved(x: Sequence[int], weight: Sequence[int], **options: Any) -> int:
    """Elements that a convolution without bias moves."""
    moved = only(lambda sample: F.conv3d(sample, torch.ones(weight), **options), torch.ones(x)).bytes
    return moved // 4


def test_a_linear_layer_reads_input_weight_and_bias_and_writes_its_output() -> None:
    (layer,) = layers(Toy().eval(), torch.randn(2, 3, 4, 8, 8), Learned(), UNIT)
    assert (layer.operation, layer.module) == ("aten.addmm", "head")
    assert layer.macs == 2 * 15 and layer.bytes == 4 * (2 * 3 + 15 + 5 + 2 * 5)


def test_the_slower_of_compute_and_memory_binds() -> None:
    toy, sample = Toy().eval(), torch.randn(2, 3, 4, 8, 8)
    macs, moved = 30, 144
    for peak, bandwidth, binds in [
        (1.0, 10.0, "compute"),
        (10.0, 10.0, "memory"),
        (1e3, 1e3 * moved / macs, "compute"),
    ]:
        (layer,) = layers(toy, sample, Learned(), Ceilings(peak, bandwidth))
        assert layer.binds == binds and layer.seconds == max(macs / peak, moved / bandwidth)
        assert bound(toy, sample, Learned(), Ceilings(peak, bandwidth)) == layer.seconds


def test_a_convolution_reads_its_input_once_however_many_taps_meet_it() -> None:
    assert convolved((2, 3, 4, 8, 8), (5, 3, 3, 3, 3), padding=1) == 2 * 3 * 256 + 5 * 81 + 2 * 5 * 256
    assert bound(Segmenter().eval(), torch.randn(1, 3, 8, 8), Learned(), MEMORY) == 4 * (3 * 64 + 15 + 5 + 5 * 64)


def test_places_between_the_windows_of_a_strided_convolution_are_not_read() -> None:
    out = 2 * 5 * 2 * 4 * 4
    assert convolved((2, 3, 4, 8, 8), (5, 3, 1, 1, 1), stride=2) == 2 * 3 * (2 * 4 * 4) + 15 + out
    every_second_frame = convolved((2, 3, 4, 8, 8), (5, 3, 1, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1))
    assert every_second_frame == 2 * 3 * (2 * 8 * 8) + 5 * 27 + 2 * 5 * (2 * 8 * 8)
    assert convolved((2, 3, 4, 8, 8), (5, 3, 3, 3, 3), stride=2, padding=1) == 2 * 3 * 256 + 5 * 81 + out


def test_a_transposed_convolution_reads_its_whole_input() -> None:
    layer = only(lambda x: F.conv_transpose2d(x, torch.ones(3, 2, 2, 2), stride=2), torch.ones(1, 3, 4, 4))
    assert layer.bytes == 4 * (48 + 24 + 2 * 64)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_onednns_fused_convolution_in_its_own_layout_moves_what_the_plain_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pointwise = torch.ops.mkldnn._convolution_pointwise
    monkeypatch.setitem(FORMULAS, pointwise, FORMULAS.get(pointwise, lambda args, kwargs, output: 8))
    x, weight, places = torch.ones(2, 16, 8, 8), torch.ones(32, 16, 1, 1), ([0, 0], [2, 2], [1, 1])
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *places, 1, list(x.shape))
    alone = only(lambda x: pointwise(x, packed, None, *places, 1, "relu", [], ""), x)
    out, read = 2 * 32 * 16, 2 * 16 * 16 + 32 * 16
    assert alone.bytes == 4 * (read + out)
    addend = torch.ones(2, 32, 4, 4)
    fused = only(lambda x: pointwise(x, addend, packed, None, *places, 1, "add", None, "relu", [], ""), x)
    assert fused.bytes == 4 * (read + 2 * out)


def test_the_same_memory_is_read_once() -> None:
    x = torch.ones(4, 6)
    assert only(lambda x: torch.mm(x, x.T), x).bytes == 4 * (24 + 16)
    assert only(lambda x: torch.mm(x, x.T.clone()), x).bytes == 4 * (48 + 16)
    halves = torch.ones(4, 8)
    assert only(lambda x: torch.mm(x[:, :4], x[:, 4:]), halves).bytes == 4 * (16 + 16 + 16)


def test_what_is_accumulated_into_is_read_and_written() -> None:
    total = torch.zeros(4, 4)
    assert only(lambda x: total.addmm_(x, x.T), torch.ones(4, 6)).bytes == 4 * (24 + 16 + 16)


@given(st.data())
def test_a_view_has_the_bytes_that_it_addresses(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    # Steps of a regular grid: dense, expanded (0), spread, or sliding over itself.
    strides, step = [], data.draw(st.integers(1, 3))
    for n in shape:
        kind = data.draw(st.sampled_from(["grid", "expanded", "sliding"]))
        strides.append(0 if kind == "expanded" else step)
        step = step * n if kind == "grid" else step
    view = torch.arange(1000).as_strided(shape, strides)
    assert roofline._size(view) == 8 * len(view.unique())
    assert roofline._memory(view) == roofline._memory(view.permute(*reversed(range(view.dim()))))


def test_neither_gaps_nor_repetitions_of_a_view_are_read() -> None:
    assert roofline._size(torch.ones(8, 9)[:, :5].expand(3, 8, 5)) == 4 * 40


def test_empty_tensors_move_nothing() -> None:
    x = torch.ones(0, 3, 4, 4)
    assert bytes_moved("aten.convolution", (x, torch.ones(0, 3, 1, 1)), {}, torch.ones(0, 0, 4, 4)) == 0


def test_a_copy_that_counts_nothing_still_moves_its_bytes() -> None:
    layer = only(lambda x: torch.ops.vared.cheap(x, torch.ones(3), torch.zeros(3), "copy"), torch.ones(2, 3, 4, 4))
    assert layer.macs == 0 and layer.binds == "memory" and layer.bytes == 4 * (96 + 3 + 3 + 96)


def test_element_wise_work_is_taken_as_fused() -> None:
    assert layers(Calls(lambda x: (x.relu() + x).sum().exp()), torch.ones(2, 3), Learned(), UNIT) == []


def test_an_unknown_operation_is_an_error() -> None:
    with pytest.raises(UncountedError, match="fft"):
        bound(Calls(lambda x: torch.fft.fft(x)), torch.ones(2, 4), Learned(), UNIT)


def test_a_policy_decides_what_is_bounded() -> None:
    method, sample = EarlyExit().eval(), torch.randn(4, 3, 4, 8, 8)
    assert bound(method, sample, everything(method), COMPUTE) == 4 * (15 + 60)
    assert bound(method, sample, fixed(method, {"exit": 1}), COMPUTE) == 4 * 15


@pytest.fixture(scope="module")
def network() -> Iterator[Any]:
    yield registry.build("vared/r2plus1d_18", frames=4, size=16, classes=3).eval()


def test_without_memory_the_bound_is_what_the_counter_counts(network: Any) -> None:
    sample = torch.randn(1, 3, 4, 16, 16)
    assert bound(network, sample, Learned(), COMPUTE) == count(network, sample).macs
    found = layers(network, sample, Learned(), UNIT)
    assert sum(layer.macs for layer in found) == count(network, sample).macs
    assert {layer.module for layer in found} <= set(dict(network.named_modules()))


def test_the_bound_is_the_sum_of_its_layers_and_scales_with_the_ceilings(network: Any) -> None:
    sample = torch.randn(1, 3, 4, 16, 16)
    here = Ceilings(4e10, 5e9)
    seconds = [layer.seconds for layer in layers(network, sample, Learned(), here)]
    assert bound(network, sample, Learned(), here) == math.fsum(seconds) > 0
    assert bound(network, sample, Learned(), Ceilings(8e10, 1e10)) == pytest.approx(math.fsum(seconds) / 2)
    faster = [bound(network, sample, Learned(), Ceilings(*pair)) for pair in ((8e10, 5e9), (4e10, 1e10))]
    assert max(faster) <= math.fsum(seconds)


def test_cheaper_decisions_have_a_lower_bound(network: Any) -> None:
    sample = torch.randn(1, 3, 4, 16, 16)
    cheapest = fixed(network, {point: len(options) - 1 for point, options in network.decisions().items()})
    assert bound(network, sample, cheapest, COMPUTE) < bound(network, sample, everything(network), COMPUTE)


def test_bounding_leaves_the_method_as_it_was(network: Any) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers(network, torch.randn(1, 3, 4, 16, 16), Learned(), UNIT)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match=r"training mode"):
        layers(Toy(), torch.randn(1, 3, 4, 8, 8), Learned(), UNIT)


@given(st.floats(1e-3, 1e3), st.floats(0.05, 0.95))
def test_eta_max_is_one_where_time_follows_cost(seconds: float, ratio: float) -> None:
    assert eta_max(seconds, seconds * ratio, ratio) == pytest.approx(1)
    assert eta_max(seconds, seconds, ratio) == 0
    assert eta_max(seconds, 2 * seconds, ratio) == pytest.approx(-0.5 / (1 / ratio - 1))


def test_eta_max_by_the_papers_figures_and_where_it_says_nothing() -> None:
    assert eta_max(1.12, 1.0, 0.73) == pytest.approx(0.324, abs=1e-3)
    assert eta_max(1.0, 0.5, 1.0) is None
    for bad in ((0.0, 1.0, 0.5), (1.0, -1.0, 0.5), (1.0, 1.0, 0.0), (math.nan, 1.0, 0.5), (1.0, math.nan, 0.5)):
        with pytest.raises(ValueError, match="positive"):
            eta_max(*bad)
