"""Kernels that follow decisions on the device give the answers of the reference path, and execute what they state.

On a GPU they are compiled and run there; elsewhere Triton's interpreter runs them on tensors of a few hundred values.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.cost import Counter
from bench.inference.convolution import Convolution
from bench.method import InputSpec
from bench.policy import Forced, Learned, Policy
from vared.method import Units, VaRed
from vared.runtime import decided
from vared.runtime.decided import Blocks
from vared.runtime.device import DecidedConvolution, Decision, Stored
from vared.runtime.folding import every_fold, halved

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are first imported
kernels = pytest.importorskip("vared.runtime.kernels", reason="needs Triton", exc_type=ImportError)
cuda = pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")


def whole(values: Tensor, scales: Tensor, weights: Tensor, steps: Tensor, options: tuple[int, int]) -> Tensor:
    """What is stored (B, T, H, W, C), by its definition; two channel columns before those of time."""
    out = torch.zeros_like(values)
    _, frames, _, _, channels = values.shape
    for sample, grain in enumerate(steps.tolist()):
        for later in range(options[1]):
            period = max(grain, 2**later)
            held = values[sample][torch.arange(frames) // period * period]
            in_time = weights[sample, options[0] + later] if options[1] > 1 else 1.0
            for option in range(options[0]):
                share = weights[sample, option] * in_time if options[0] > 1 else in_time
                made = held[..., torch.arange(channels) % halved(channels, option)] * scales[option]
                out[sample] += share * made
    return out


def weights_of(generator: torch.Generator, rows: int, options: tuple[int, int]) -> Tensor:
    """Any options open, at least one in each dimension, with any weights."""
    parts = []
    for size in options:
        part = torch.rand(rows, size, generator=generator) * (torch.rand(rows, size, generator=generator) < 0.6)
        part[:, -1] += (part == 0).all(1)
        parts.append(part)
    return torch.cat(parts, 1).double()


def garbage_where_unwritten(values: Tensor, weights: Tensor, steps: Tensor, options: tuple[int, int]) -> Tensor:
    """Of each sample only what its dearest open options need; no number elsewhere."""
    out = torch.full_like(values, float("nan"))
    for sample, (own, grain) in enumerate(zip(weights, steps.tolist(), strict=True)):
        count = halved(values.shape[-1], int((own[: options[0]] > 0).int().argmax()))
        out[sample, ::grain, ..., :count] = values[sample, ::grain, ..., :count]
    return out


class Case:
    """A stored input, a convolution over it, what is decided of its output, and that by float64."""

    def __init__(
        self, seed: int, kernel: tuple[int, int, int], stride: int, x_options: Any, out_options: Any, more: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        batch, frames, channels, filters = 2, 2 + seed % 4, more + 5 + seed % 3, more + 3 + seed % 5
        self.options, self.out_options = x_options, out_options
        self.geometry = [*kernel, stride, stride, 1, *(size // 2 for size in kernel), 1, 1]
        self.weights, self.out_weights = (weights_of(generator, batch, own) for own in (x_options, out_options))
        opened = (self.weights[:, x_options[0] :] > 0).int().argmax(1)
        self.steps = (2**opened).int()
        values = torch.randn(batch, frames, 4 + more, 3, channels, generator=generator).double()
        scales = torch.rand(x_options[0], channels, generator=generator).double() + 0.5
        for option in range(x_options[0]):
            scales[option, : halved(channels, option)] = 1
        self.scales = scales
        self.values = garbage_where_unwritten(values, self.weights, self.steps, x_options)
        self.weight = torch.randn(filters, channels, *kernel, generator=generator).double()
        self.bias = torch.randn(filters, generator=generator).double()
        x = whole(values, scales, self.weights, self.steps, x_options).permute(0, 4, 1, 2, 3)
        full = F.conv3d(x, self.weight, self.bias, self.geometry[3:6], self.geometry[6:9]).relu()
        self.expected = full.permute(0, 2, 3, 4, 1)

    def run(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[int], list[int]]:
        """Output, its steps, and the multiply-adds of each sample: those of the blocks that ran, and as stated."""
        tally = torch.zeros(len(self.values), dtype=torch.int32, device=DEVICE)
        laid = every_fold(self.weight, self.scales if self.options[0] > 1 else None, copies=True)
        floats = (self.values, laid, self.bias, self.weights)
        x, laid, bias, weights = (value.to(DEVICE, dtype) for value in floats)
        shape = [self.options[0], *self.options, self.out_options[0], *self.out_options]
        decisions = (weights, self.steps.to(DEVICE), self.out_weights.to(DEVICE, dtype))
        arguments = (x, laid, bias, *decisions, shape, self.geometry, True, 0)
        out, steps = decided.launch(*arguments, tally)
        stated = decided._formula(arguments, {}, (out, steps))
        return out.cpu(), steps.cpu(), tally.tolist(), stated

    def worst(self, out: Tensor, steps: Tensor) -> float:
        """The largest error of what each sample decided, relative to the largest value."""
        worst = 0.0
        for sample, (own, step) in enumerate(zip(self.out_weights, steps.tolist(), strict=True)):
            count = halved(out.shape[-1], int((own[: self.out_options[0]] > 0).int().argmax()))
            found, expected = (each[sample, ::step, ..., :count].double() for each in (out, self.expected))
            worst = max(worst, float((found - expected).abs().max()))
        return worst / float(self.expected.abs().max())


@pytest.fixture(autouse=True)
def few_large_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter takes as long for a small block as for a large one."""
    monkeypatch.setattr(decided, "TINY", Blocks(64, 32, 128, 1, 1))
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


KERNELS = [(1, 3, 3), (3, 1, 1), (3, 3, 3), (1, 1, 1)]
OPTIONS = [(1, 1), (2, 1), (1, 2), (2, 2), (3, 3)]


@given(
    seed=st.integers(0, 10**6),
    kernel=st.sampled_from(KERNELS),
    stride=st.sampled_from([1, 2]),
    x_options=st.sampled_from(OPTIONS),
    out_options=st.sampled_from(OPTIONS),
)
@settings(max_examples=10 if DEVICE == "cpu" else 20, deadline=None, derandomize=True)
def test_the_kernel_is_the_convolution_of_the_whole(
    seed: int, kernel: tuple[int, int, int], stride: int, x_options: tuple[int, int], out_options: tuple[int, int]
) -> None:
    case = Case(seed, kernel, stride, x_options, out_options)
    out, steps, ran, stated = case.run(torch.float32)
    assert case.worst(out, steps) < 1e-5
    assert ran == stated


@pytest.mark.parametrize("kernel", KERNELS[:2])
def test_output_beyond_one_block_is_the_same(kernel: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decided, "TINY", Blocks(8, 4, 16, 1, 1))  # of 12 places, 5 filters, 5 channels of 4 bytes
    monkeypatch.setattr(decided, "BLOCKS", (Blocks(16, 16, 64, 1, 1),))  # a GPU has no smaller products
    case = Case(12, kernel, 1, (2, 2), (2, 1), more=0 if DEVICE == "cpu" else 16)
    out, steps, ran, stated = case.run(torch.float32)
    assert case.worst(out, steps) < 1e-5
    assert ran == stated


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_half_precision_errs_no_more_than_it_must(dtype: torch.dtype, error: float) -> None:
    case = Case(4, (3, 1, 1), 1, (2, 2), (2, 2))
    out, steps, _, _ = case.run(dtype)
    assert case.worst(out, steps) < error


def test_what_is_stored_stands_for_the_whole() -> None:
    case = Case(5, (1, 1, 1), 1, (2, 2), (1, 1))
    expected = whole(case.values.nan_to_num(), case.scales, case.weights, case.steps, (2, 2)).movedim(-1, 1).float()
    floats = (case.values, case.scales, case.weights)
    values, scales, weights = (value.to(DEVICE, torch.float32) for value in floats)
    stored = Stored(values, scales, case.steps.to(DEVICE), Decision(weights, 2, 2, 2), image=False)
    other = torch.randn(expected.shape)
    assert stored.shape == expected.shape
    assert torch.allclose((other.to(DEVICE) + stored).cpu(), other + expected, atol=1e-5)
    assert torch.allclose(stored.mean((-2, -1)).cpu(), expected.mean((-2, -1)), atol=1e-5)
    assert torch.allclose(F.relu(stored).cpu(), expected.relu(), atol=1e-5)


def test_images_are_clips_of_one_frame() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(2, 5, 4, 4), torch.tensor([[0.5, 0.25], [0.0, 1.0]])
    first = Convolution(torch.randn(4, 5, 3, 3), torch.randn(4), (1, 1), (1, 1), (1, 1), 1, True)
    last = Convolution(torch.randn(3, 4, 3, 3), torch.randn(3), (2, 2), (2, 2), (2, 2), 1, False)
    scales = torch.tensor([[1, 1, 1, 1], [1, 1, 0.5, 2]])
    y = first(x).unsqueeze(2).movedim(1, -1)
    y = whole(y, scales, weights, torch.ones(2).int(), (2, 1)).movedim(-1, 1).squeeze(2)
    decision = Decision(weights.to(DEVICE), 2, 2, 1)
    stored = DecidedConvolution(first.to(DEVICE))(x.to(DEVICE), decision, scales.to(DEVICE))
    assert isinstance(stored, Stored) and stored.shape == y.shape
    found = DecidedConvolution(last.to(DEVICE))(stored)
    assert torch.allclose(found.cpu(), last.cpu()(y), atol=1e-4)


class Chain(nn.Module):
    """Every way in which units meet: after a tensor, a unit, a pointwise convolution; before a sum and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = self._part(3, 6, (1, 3, 3), 2)
        self.time = self._part(6, 7, (3, 1, 1))
        self.space = self._part(7, 5, (3, 1, 1))
        self.unit = self._part(5, 7, (1, 1, 1), act=nn.SiLU())
        self.depthwise = self._part(7, 7, (3, 3, 3), groups=7)
        self.point = self._part(7, 7, (1, 1, 1), act=nn.Identity())
        self.last = self._part(7, 6, (1, 1, 3))
        self.head = nn.Linear(6, 4)

    @staticmethod
    def _part(
        inputs: int, outputs: int, kernel: Any, stride: int = 1, act: nn.Module | None = None, groups: int = 1
    ) -> nn.Sequential:
        padding = tuple(size // 2 for size in kernel)
        conv = nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), padding, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm3d(outputs), act or nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.time(self.stem(x))
        x = self.point(self.depthwise(self.unit(self.space(x)))) + x
        out: Tensor = self.head(self.last(x).mean((2, 3, 4)))
        return out


NAMES = ("stem.0", "space.0", "unit.0", "depthwise.0", "last.0")


def chain(search_space: int, frames: int = 2) -> VaRed:
    """Reduced and untrained, with statistics, scales and gates that say something."""
    torch.manual_seed(search_space)
    units = Units(lambda name, module: name in NAMES)
    method = VaRed(Chain(), InputSpec("clip", 8, frames), units=units, search_space=search_space, hidden=4)
    for part in method.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(part.bias, 0.2, 0.3)
    for unit in method.units:
        for phi in unit.channel_phi:
            nn.init.normal_(phi.weight, 0, 0.3)  # type: ignore[arg-type]
        assert unit.gate is not None
        nn.init.normal_(unit.gate.fc2.weight, 0, 2)
        nn.init.normal_(unit.gate.fc2.bias, 0, 0.5)
    return method.to(DEVICE).eval()


@pytest.mark.parametrize(("search_space", "batch", "frames"), [(2, 3, 2), (3, 1, 5)])
@torch.no_grad()
def test_a_network_decides_and_answers_as_the_reference_path(search_space: int, batch: int, frames: int) -> None:
    method = chain(search_space, frames)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(batch), device=DEVICE)
    fast._ways[sample.shape] = "device"
    expected = method(sample)
    with Counter(fast, batch=batch, strict=False) as counter:  # the first pass also lays weights out
        found = fast(sample)
    if DEVICE == "cuda":  # where blocks are tried, of which nothing may be counted
        fast(sample)
        with Counter(fast, batch=batch, strict=False) as again:
            fast(sample)
        assert again.result().macs == counter.result().macs
    assert torch.allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    assert torch.equal(found.cost, expected.cost)
    for point, rows in expected.trace.items():
        assert torch.allclose(found.trace[point], rows, atol=1e-5)
    count = counter.result()
    assert sum(count.per_sample) == count.macs and "vared.decided_convolution" in count.by_operation


@torch.no_grad()
def test_each_point_may_be_the_only_one_that_is_closed() -> None:
    method = chain(2, frames=3)
    points = method.decisions()
    trace = {point: options[[0]].repeat(len(points), 1) for point, options in points.items()}
    for row, (point, options) in enumerate(points.items()):
        trace[point][row] = options[1]
    fast, sample = method.optimised(), torch.randn(method.spec.shape(len(points)), device=DEVICE)
    fast._ways[sample.shape] = "device"
    expected, found = method(sample, Forced(trace)), fast(sample, Forced(trace))
    assert torch.allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


@torch.no_grad()
def test_where_every_option_is_closed_the_cheapest_stands_in() -> None:
    method = chain(2)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(2), device=DEVICE)
    fast._ways[sample.shape] = "device"
    closed = Forced({point: torch.zeros(2, len(options)) for point, options in method.decisions().items()})
    expected, found = method(sample, closed), fast(sample, closed)
    assert torch.allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    assert all(torch.equal(found.trace[point], rows) for point, rows in expected.trace.items())


@torch.no_grad()
def test_gates_that_are_no_numbers_are_an_error() -> None:
    method = chain(2)
    fast, sample = method.optimised(), torch.full(method.spec.shape(1), float("nan"), device=DEVICE)
    fast._ways[sample.shape] = "device"
    with pytest.raises(RuntimeError, match="no numbers"):
        fast(sample)


class Launched:
    """Stands for the kernels: notes launches and computes nothing."""

    def __init__(self) -> None:
        self.grids: list[Any] = []

    def __getitem__(self, grid: Any) -> Any:
        self.grids.append(grid)
        return lambda *arguments, **options: None


class Watched(TorchDispatchMode):
    """Lets no operation through that would make the host wait for values, or move any between it and the device."""

    WAIT = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "unique", "is_nonzero", "item")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.strip("_")
        assert not any(name.startswith(waiting.strip("_")) for waiting in self.WAIT), name
        if name in ("index", "index_put"):
            assert all(index is None or index.dtype not in (torch.bool, torch.uint8) for index in args[1]), name
        assert torch.device((kwargs or {}).get("device") or "meta").type == "meta", name
        out = func(*args, **(kwargs or {}))
        devices = {each.device.type for each in tree_leaves((args, kwargs, out)) if isinstance(each, Tensor)}
        assert devices <= {"meta"}, (name, devices)
        return out


@torch.no_grad()
def test_nothing_on_the_path_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On meta tensors, which have no values: what would read one is an error."""
    launched = Launched()
    fake = types.SimpleNamespace(convolve=launched, rebuild=launched)
    monkeypatch.setitem(sys.modules, "vared.runtime.kernels", fake)
    monkeypatch.setattr("vared.runtime.kernels", fake)
    method = chain(3)
    fast, sample = method.optimised().to("meta"), torch.empty(method.spec.shape(3), device="meta")
    with monkeypatch.context() as inner:  # the operations as they are, not as fake tensors see them
        inner.setattr(decided, "convolution", lambda *arguments: decided.launch(*arguments, None))
        inner.setattr(decided, "rebuilt", decided.rebuild)
        fast._found("device", sample, Learned())  # weights are laid out once
        with Watched():
            [(logits, trace)] = fast._found("device", sample, Learned())
    assert logits.shape == (3, 4) and set(trace) == set(method.decisions())
    assert len(launched.grids) > 5
    with pytest.raises(AssertionError, match="to_copy"), Watched():
        fast._found("grouped", sample, Learned())  # which does read


def test_least_bytes_are_of_what_is_decided() -> None:
    x, weight = torch.empty(2, 4, 6, 6, 8), torch.empty(1, 3, 1, 8, 16)
    geometry = [3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1]
    output = torch.empty(2, 4, 6, 6, 10), torch.ones(2)
    plain = (x, weight, torch.empty(10), None, None, None, [0, 1, 1, 0, 1, 1], geometry)
    assert decided._moved(plain, {}, output) == 4 * (x.numel() + 10 + 3 * 8 * 10 + output[0].numel())
    weights = torch.tensor([[0.0, 1, 0, 1], [0, 1, 0, 1]])
    half = (*plain[:3], weights, torch.tensor([2, 2]), weights, [2, 2, 2, 2, 2, 2], geometry)
    assert decided._moved(half, {}, output) == 4 * (x.numel() // 4 + 10 + 3 * 4 * 5 + output[0].numel() // 4)
    assert decided._formula(plain, {}, output) == [(3 * 4 - 2) * 36 * 8 * 10] * 2
    assert decided._formula(half, {}, output) == [(1 + 2) * 36 * 4 * 5] * 2


@cuda
@pytest.mark.parametrize("forced", [False, True])
@torch.no_grad()
def test_compiled_nothing_waits_and_a_graph_answers_as_the_pass(forced: bool) -> None:
    method = chain(3)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(4), device=DEVICE)
    trace = method(sample).trace
    policy: Policy = Forced(trace) if forced else Learned()
    assert fast._doubt(sample, policy) == ""
    fast.followed.on_device = True
    torch.cuda.set_sync_debug_mode("error")
    try:
        expected = fast._answer(sample, policy, dense=False)[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for _ in range(2):
        fast._on_device(torch.randn_like(sample), policy)
        assert torch.allclose(fast._on_device(sample, policy)[0], expected, rtol=1e-4, atol=1e-5)
    assert fast._graphs.reasons() == {"×".join(map(str, sample.shape)): ""}


@cuda
@pytest.mark.parametrize("name", ["r2plus1d_18", "i3d", "x3d_m", "tpn", "resnet50"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_compiled_networks_err_no_more_than_the_precision(name: str, dtype: torch.dtype) -> None:
    from test_runtime import answers, built, drawn

    exact = built(name, search_space=3)
    sample, policy = torch.randn(exact.spec.shape(3), dtype=torch.float64), drawn(exact, 3, torch.float64)
    truth = answers(exact(sample, policy).logits)
    rough = built(name, dtype, search_space=3).to(DEVICE)
    low, given_sample = drawn(exact, 3, dtype), sample.to(DEVICE, dtype)
    own = (answers(rough(given_sample, low).logits).cpu() - truth).abs().max()
    fast = rough.optimised()
    fast._ways[given_sample.shape] = "device"
    error = (answers(fast(given_sample, low).logits).cpu() - truth).abs().max()
    assert error <= 4 * own + 1e-6


@torch.no_grad()
def test_the_way_is_for_gpus_alone_and_a_failure_to_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    method = chain(2).cpu()
    fast, sample = method.optimised(), torch.randn(method.spec.shape(2))
    assert "device" not in fast._offered(sample, Learned()) and "not on device" not in fast.details()

    def broken(*arguments: Any) -> None:
        raise ImportError("no module named triton\nhere")

    monkeypatch.setattr(Tensor, "is_cuda", True)
    monkeypatch.setattr(decided, "convolution", broken)
    assert "device" not in fast._offered(sample, Learned())
    assert list(fast.details()["not on device"].values()) == ["ImportError: no module named triton here"]
