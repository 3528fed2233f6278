"""The runtime gives the answers of the reference path, under the same decisions, by less work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bench import registry
from bench.cost import Counter
from bench.inference.convolution import Convolution, Fastest
from bench.inference.products import frame_products
from bench.policy import Forced, fixed
from vared.gate import Gate, Pool
from vared.method import VaRed
from vared.runtime.absorbing import Absorbing, _taps
from vared.runtime.compact import Compact, Mixed
from vared.runtime.decision import Decided, FastGate, padded
from vared.runtime.mixing import mix_channels, mix_frames
from vared.runtime.ways import CLIPS, WAYS, Trial, Way

SMALL: dict[str, dict[str, Any]] = {
    "r2plus1d_18": {"width": 8, "blocks": (1, 1, 1, 1)},
    "i3d": {"width": 8},
    "x3d_m": {"width": 8, "blocks": (2, 1, 1, 1)},
    "tpn": {"width": 8, "blocks": (1, 1, 1, 1)},
    "corrnet": {"width": 8, "blocks": (1, 1, 1, 1)},
    "slowonly_r50": {"width": 8, "blocks": (1, 1, 1, 1)},
    "resnet50": {"width": 8, "blocks": (1, 1, 1, 1)},
    "tsm_resnet18": {"width": 8, "blocks": (1, 1)},
}


def built(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> VaRed:
    """Untrained, but with statistics, scales and gates that say something."""
    torch.manual_seed(0)
    method = registry.build(f"vared/{name}", frames=8, size=32, classes=5, network_options=SMALL[name], **options)
    assert isinstance(method, VaRed)
    for part in method.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
    for unit in method.units:
        for phi in unit.channel_phi:
            nn.init.normal_(phi.weight, 0, 0.3)
        if unit.gate is not None:
            nn.init.normal_(unit.gate.fc2.weight, 0, 2)
            nn.init.normal_(unit.gate.fc2.bias, 0.2, 0.5)
    return method.to(dtype).eval()


def drawn(method: VaRed, rows: int, dtype: torch.dtype) -> Forced:
    """At every point and sample any set of options, with any weights."""
    generator = torch.Generator().manual_seed(1)
    trace = {}
    for point, options in method.decisions().items():
        weights = torch.rand(rows, len(options), generator=generator)
        weights *= torch.rand(rows, len(options), generator=generator) < 0.6
        trace[point] = weights.to(dtype)
    return Forced(trace)


def answers(logits: Tensor | None) -> Tensor:
    assert logits is not None
    return logits.double()


@pytest.mark.parametrize("search_space", [2, 3])
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_runtime_is_the_reference_path_under_any_decisions(name: str, search_space: int) -> None:
    method = built(name, search_space=search_space)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(5), dtype=torch.float64)
    policy = drawn(method, 5, torch.float64)
    expected = method(sample, policy)
    fast._dense[sample.shape] = frozenset(unit.name for unit in method.units[::2])  # by layer
    for way in WAYS:
        fast._ways[sample.shape] = way
        found = fast(sample, policy)
        assert torch.allclose(answers(found.logits), answers(expected.logits), rtol=1e-9, atol=1e-12)
        assert torch.equal(found.cost, expected.cost)
        assert all(torch.equal(found.trace[point], rows) for point, rows in expected.trace.items())


@pytest.mark.parametrize("name", ["r2plus1d_18", "x3d_m", "resnet50"])
@torch.no_grad()
def test_runtime_decides_as_the_method_does(name: str) -> None:
    method = built(name)
    sample = torch.randn(method.spec.shape(4), dtype=torch.float64)
    expected, found = method(sample), method.optimised()(sample)
    assert len({tuple(row) for rows in expected.trace.values() for row in (rows > 0).tolist()}) > 1
    for point, rows in expected.trace.items():
        assert torch.allclose(found.trace[point], rows)
    assert torch.equal(found.cost, expected.cost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["r2plus1d_18", "i3d", "x3d_m", "tpn"])
@torch.no_grad()
def test_runtime_errs_no_more_than_the_precision(name: str, dtype: torch.dtype) -> None:
    exact = built(name)
    sample, policy = torch.randn(exact.spec.shape(3), dtype=torch.float64), drawn(exact, 3, torch.float64)
    truth = answers(exact(sample, policy).logits)
    rough = built(name).to(dtype)
    low = drawn(exact, 3, dtype)
    own = (answers(rough(sample.to(dtype), low).logits) - truth).abs().max()
    fast = rough.optimised()
    error = (answers(fast(sample.to(dtype), low).logits) - truth).abs().max()
    assert error <= 4 * own + 1e-12


@torch.no_grad()
def test_runtime_executes_less_than_is_accounted_where_layers_absorb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fastest, "__call__", lambda self, x: self.forms[0](x))  # so narrow, all may be the faster
    method = built("r2plus1d_18", torch.float32)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(2))
    fast._ways[sample.shape] = "in turn"
    shares = {}
    for name, options in (("dearest", 0), ("cheapest", 1)):
        policy = fixed(method, dict.fromkeys(method.decisions(), options))
        fast(sample, policy)  # lays out weights and chooses forms
        with Counter(fast, batch=2) as counter:
            cost = fast(sample, policy).cost
        shares[name] = counter.result().macs / int(cost.sum())
    assert shares["dearest"] == pytest.approx(1, abs=0.01)
    assert shares["cheapest"] < 0.9


@torch.no_grad()
def test_units_that_compute_everything_give_plain_tensors() -> None:
    method = built("x3d_m")
    fast, kinds = method.optimised(), set[type]()
    for unit in fast._fast_units.values():
        unit.register_forward_hook(lambda _unit, _given, found: kinds.add(type(found)))
    for option, expected in ((0, {Tensor}), (1, {Compact})):
        policy = fixed(method, dict.fromkeys(method.decisions(), option))
        fast(torch.randn(method.spec.shape(1), dtype=torch.float64), policy)
        kinds.clear()  # ways are laid out before the first sample
        fast(torch.randn(method.spec.shape(1), dtype=torch.float64), policy)
        assert kinds == expected


@pytest.mark.parametrize("kind", ["affine", "depthwise"])
@torch.no_grad()
def test_kinds_that_cannot_be_absorbed_keep_their_units(kind: str) -> None:
    method = built("r2plus1d_18", kind=kind)
    sample, policy = torch.randn(method.spec.shape(3), dtype=torch.float64), drawn(method, 3, torch.float64)
    expected, found = method(sample, policy), method.optimised()(sample, policy)
    assert torch.allclose(answers(found.logits), answers(expected.logits), rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_the_way_of_execution_is_chosen_once_a_shape_and_told() -> None:
    method = built("r2plus1d_18", torch.float32)
    fast, rows = method.optimised(), CLIPS // 2
    assert fast.details() == {"execution": {}, "dense": {}, "computed whole": []}
    for ways in ({}, {f"{rows}×3×8×32×32"}):
        fast(torch.randn(method.spec.shape(rows)))
        assert set(fast.details()["execution"]) == set(ways)
    fast(torch.randn(method.spec.shape(1)))
    assert fast.details()["execution"]["1×3×8×32×32"] == "in turn"
    assert set(fast.details()["execution"].values()) <= set(WAYS)


class Pretended:
    """Takes as long as it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.took: dict[Way, float] = {}
        monkeypatch.setattr("vared.runtime.ways.race", self._race)

    def _race(self, forms: Any, x: Tensor) -> list[float]:
        for form in (*forms, *forms):
            form(x)
        return [self.took[way] for way in WAYS]

    def execute(self, way: Way) -> None:
        pass

    def lapped(self, way: Way) -> dict[str, float]:
        return {"small": 2.0 if way == "grouped" else 1.0, "large": 1.0 if way == "grouped" else 2.0}


def test_an_untypical_first_batch_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, pretended, batch = Trial(), Pretended(monkeypatch), torch.zeros(CLIPS // 4, 1)
    for number in range(4):
        assert not trial.done
        pretended.took = {"in turn": 0.3, "grouped": 0.2, "dense": 0.01 if number == 0 else 0.5, "by layer": 0.15}
        trial.run(batch, pretended.execute, pretended.lapped)
        assert trial.fastest == ("dense" if number == 0 else "by layer")
    assert trial.done and trial.dense == {"small"}


def test_units_are_timed_apart_from_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def race(forms: Any, x: Tensor) -> list[float]:
        for form in forms:
            form(x)
        said.append("end of the race")
        return [1.0] * len(forms)

    def lapped(way: Way) -> dict[str, float]:
        said.append(f"{way}, unit by unit")
        return {"unit": 1.0}

    monkeypatch.setattr("vared.runtime.ways.race", race)
    Trial(("in turn", "device")).run(torch.zeros(1), said.append, lapped)
    assert said == ["in turn", "device", "end of the race"]
    said.clear()
    Trial().run(torch.zeros(2), said.append, lapped)
    assert said[:5] == [*WAYS, "end of the race"]
    assert said[5:] == ["grouped, unit by unit", "dense, unit by unit"] * 2


@given(size=st.integers(1, 40), more=st.integers(0, 40))
def test_groups_are_padded_to_few_sizes_by_samples_of_their_own(size: int, more: int) -> None:
    members, batch = list(range(size)), size + more
    found = padded(members, batch)
    assert found[:size] == members and set(found) == set(members)
    assert len(found) == batch or (len(found) & (len(found) - 1) == 0 and len(found) <= batch)
    assert len(found) < 2 * size


@torch.no_grad()
def test_rows_that_come_twice_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    method = built("r2plus1d_18")
    fast, sample = method.optimised(), torch.randn(method.spec.shape(5), dtype=torch.float64)
    policy, sizes = drawn(method, 5, torch.float64), set[int]()
    expected = method(sample, policy)
    sorted_ = Decided.sorted.func  # type: ignore[attr-defined]

    def padding(self: Decided) -> Any:
        with monkeypatch.context() as inner:  # only here, as on a GPU
            inner.setattr(Tensor, "is_cuda", True)
            found = sorted_(self)
        sizes.update(len(choice.rows) for choice in found if choice.rows is not None)
        return found

    monkeypatch.setattr(Decided, "sorted", property(padding))
    for way in ("grouped", "by layer"):
        fast._ways[sample.shape] = way  # type: ignore[assignment]
        found = fast(sample, policy)
        assert torch.allclose(answers(found.logits), answers(expected.logits), rtol=1e-9, atol=1e-12)
        assert torch.equal(found.cost, expected.cost)
    assert 2 in sizes and sizes <= {1, 2, 4}


@torch.no_grad()
def test_on_a_gpu_groups_of_every_size_are_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, sizes = built("r2plus1d_18").optimised(), dict[int, int]()

    def found(way: Way, sample: Tensor, policy: Any) -> Any:
        sizes[len(sample)] = sizes.get(len(sample), 0) + 1

    monkeypatch.setattr(fast, "_found", found)
    fast._lay_out(torch.zeros(6, 1))
    assert list(sizes) == [1]
    passes = sizes.pop(1)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    fast._lay_out(torch.zeros(6, 1))
    assert sizes == dict.fromkeys((1, 2, 4, 6), passes)
    monkeypatch.setattr("vared.runtime.method.LAYING_OUT", -1.0)
    fast._lay_out(torch.zeros(6, 1))
    assert passes > 1 and sizes == dict.fromkeys((1, 2, 4, 6), passes + 1)


def test_long_trials_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, pretended = Trial(), Pretended(monkeypatch)
    pretended.took = dict.fromkeys(WAYS, 5.0)
    trial.run(torch.zeros(2, 1), pretended.execute, pretended.lapped)
    assert trial.done


def test_runtime_cannot_be_trained() -> None:
    from bench.method import Recipe

    with pytest.raises(ValueError, match="cannot be trained"):
        built("r2plus1d_18").optimised().stages(Recipe(epochs=1, batch=1))


def whole(computed: Tensor, scale: Tensor | None, frames: int, repeat: int) -> Tensor:
    """The tensor that something compact stands for, by its definition."""
    if scale is not None:
        made = torch.arange(len(scale)) % computed.shape[1]
        computed = torch.cat([computed, computed[:, made] * scale.view(-1, 1, 1, 1)], 1)
    return computed[:, :, torch.arange(frames) // repeat]


COMPACT = {
    "frames": st.integers(1, 8),
    "repeat": st.sampled_from([1, 2, 4]),
    "count": st.integers(1, 3),
    "made": st.integers(0, 4),
}


def compact(frames: int, repeat: int, count: int, made: int) -> tuple[Compact, Tensor]:
    torch.manual_seed(frames + 10 * made)
    computed = torch.randn(2, count, -(-frames // repeat), 4, 4, dtype=torch.float64)
    scale = torch.rand(made, dtype=torch.float64) + 0.1 if made else None
    return Compact(computed, scale, frames, repeat), whole(computed, scale, frames, repeat)


@given(**COMPACT)
@settings(max_examples=40, deadline=None)
def test_whatever_torch_does_with_compact_is_done_to_the_whole(frames: int, repeat: int, count: int, made: int) -> None:
    def fresh() -> Compact:
        return compact(frames, repeat, count, made)[0]

    tensor = compact(frames, repeat, count, made)[1]
    assert fresh().shape == tensor.shape
    assert torch.equal(fresh().whole(), tensor)
    assert torch.allclose(fresh().mean((-2, -1)), tensor.mean((-2, -1)))
    assert torch.allclose(fresh().mean((1, 2)), tensor.mean((1, 2)))
    other = torch.randn_like(tensor)
    assert torch.allclose(fresh() + other, tensor + other) and torch.allclose(other + fresh(), tensor + other)
    assert torch.allclose(fresh() + fresh(), 2 * tensor)
    assert torch.allclose(torch.cat([other, fresh()], 1), torch.cat([other, tensor], 1))
    assert torch.allclose(torch.cat([fresh(), other], 1), torch.cat([tensor, other], 1))
    assert torch.allclose(torch.cat([fresh(), other], 2), torch.cat([tensor, other], 2))
    weight = torch.rand(2, tensor.shape[1], 1, 1, 1, dtype=torch.float64)
    assert torch.allclose((fresh() * weight).whole(), tensor * weight)
    assert torch.allclose(torch.sigmoid(fresh()), tensor.sigmoid())
    for call in (
        F.silu,
        F.relu,
        lambda x: F.adaptive_avg_pool3d(x, 1),
        lambda x: F.adaptive_avg_pool3d(x, (None, 1, 1)),
    ):
        found = call(fresh())
        assert torch.allclose(found.whole() if isinstance(found, Compact) else found, call(tensor))


@given(**COMPACT, time=st.sampled_from([1, 3]), stride=st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_maxima_of_compact(frames: int, repeat: int, count: int, made: int, time: int, stride: int) -> None:
    pool = nn.MaxPool3d((time, 3, 3), (stride, 2, 2), (time // 2, 1, 1))
    part, tensor = compact(frames, repeat, count, made)
    found = pool(part)
    assert torch.allclose(found.whole(), pool(tensor))


@given(
    **COMPACT,
    kernel=st.sampled_from([(1, 3, 3), (3, 1, 1), (3, 3, 3), (1, 1, 1), (5, 1, 1)]),
    stride=st.sampled_from([1, 2]),
    step=st.sampled_from([1, 2, 4]),
    filters=st.integers(1, 4),
    padded=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_absorbing_is_the_convolution_of_the_whole(
    frames: int,
    repeat: int,
    count: int,
    made: int,
    kernel: tuple[int, ...],
    stride: int,
    step: int,
    filters: int,
    padded: bool,
) -> None:
    part, tensor = compact(frames, repeat, count, made)
    channels = count + made
    weight, bias = torch.randn(4, channels, *kernel, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    padding = [kernel[0] // 2 * padded, kernel[1] // 2, kernel[2] // 2]
    if frames + 2 * padding[0] < kernel[0]:
        return
    full = F.conv3d(tensor, weight, bias, (stride, 1, 1), padding).relu()
    module = Absorbing(Convolution(weight, bias, (stride, 1, 1), padding, (1, 1, 1), 1, True))
    for given_form in (part, tensor):
        plan = module._plan(given_form, filters, step)
        ways = [form(plan.read(given_form)) for form in plan.run.forms]  # among them all of it, and the rest left
        assert all(torch.allclose(way, ways[0]) for way in ways)
        found = module.part(given_form, filters, step)
        kept = full[:, :filters, ::step]
        assert torch.allclose(found.whole()[:, :, ::step], kept)
        assert found.frames == full.shape[2] and found.copies % step == 0


@given(**COMPACT, pool=st.sampled_from(["space", "motion"]))
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_fast_gate_of_compact_is_the_gate_of_the_whole(
    frames: int, repeat: int, count: int, made: int, pool: Pool
) -> None:
    part, tensor = compact(frames, repeat, count, made)
    gate = Gate(count + made, frames, [1.0, 1.0, 1.0], hidden=4, pool=pool, leak=0.0).double().eval()
    nn.init.normal_(gate.fc2.weight)
    assert gate.norm.running_mean is not None and gate.norm.running_var is not None
    gate.norm.running_mean.normal_(), gate.norm.running_var.uniform_(0.5, 1.5)
    fast = FastGate(gate, "unit", {"unit.channel": 3})
    for given_form in (tensor, part):
        assert torch.allclose(fast.openness(given_form), gate(tensor)[1])


@given(
    frames=st.integers(1, 6),
    repeat=st.sampled_from([1, 2]),
    own=st.integers(1, 4),
    computed=st.integers(1, 4),
    step=st.sampled_from([1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_absorbing_depthwise_takes_the_channels_it_gives(
    frames: int, repeat: int, own: int, computed: int, step: int
) -> None:
    part, tensor = compact(frames, repeat, computed, 4 - computed)
    weight, bias = torch.randn(4, 1, 3, 3, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    full = F.conv3d(tensor, weight, bias, 1, 1, groups=4)
    module = Absorbing(Convolution(weight, bias, (1, 1, 1), (1, 1, 1), (1, 1, 1), 4, False))
    plan = module._plan(part, own, step)
    assert all(torch.allclose(form(plan.read(part)), full[:, :own, ::step]) for form in plan.run.forms)
    assert torch.allclose(module.part(part, own, 1).whole(), full[:, :own])


@given(frames=st.integers(1, 4), repeat=st.sampled_from([1, 2, 4]), taps=st.integers(1, 5), stride=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_products_over_copied_frames_are_the_convolution_of_the_whole(
    frames: int, repeat: int, taps: int, stride: int
) -> None:
    part, tensor = compact(frames * repeat, repeat, 3, 0)
    weight, bias, padding = torch.randn(4, 3, taps, 1, 1, dtype=torch.float64), torch.zeros(4).double(), taps // 2
    expected = F.conv3d(tensor, weight, bias, (stride, 1, 1), (padding, 0, 0))
    found = frame_products(part.computed, _taps(weight, frames, stride, padding, repeat), bias, relu=False)
    assert torch.allclose(found, expected)


def test_operators_of_compact_are_those_of_the_whole() -> None:
    def part() -> Compact:
        return compact(4, 2, 2, 1)[0]

    tensor = compact(4, 2, 2, 1)[1]
    assert torch.equal(part()[:, 1:], tensor[:, 1:]) and len(part()) == 2 and torch.equal(-part(), -tensor)
    assert torch.allclose(part() / 2 - 1, tensor / 2 - 1) and torch.equal(part() > 0, tensor > 0)
    assert torch.allclose(part().mean(), tensor.mean()) and torch.equal(
        part().repeat(2, 1, 1, 1, 1), tensor.repeat(2, 1, 1, 1, 1)
    )
    small = torch.randn(1, 3, 1, 1, 1, dtype=torch.float64)
    assert torch.allclose(part().add(small), tensor + small) and torch.allclose(part() + small, tensor + small)
    assert torch.allclose(F.max_pool3d(part(), 2), F.max_pool3d(tensor, 2))
    assert torch.equal(torch.cat(tensors=[part(), tensor], dim=1), torch.cat([tensor, tensor], 1))


@torch.no_grad()
def test_mixed_batches_pass_through_convolutions_and_everything_else() -> None:
    one, other = compact(4, 2, 2, 1), compact(4, 1, 3, 0)
    mixed = Mixed([(torch.tensor([2, 0]), one[0]), (torch.tensor([1, 3]), other[0])], 4)
    tensor = torch.empty(4, 3, 4, 4, 4, dtype=torch.float64)
    tensor[[2, 0]], tensor[[1, 3]] = one[1], other[1]
    assert torch.equal(mixed.whole(), tensor)
    assert torch.equal(F.relu(mixed), F.relu(tensor)) and torch.equal(mixed + tensor, 2 * tensor)
    weight, bias = torch.randn(4, 3, 3, 1, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    module = Absorbing(Convolution(weight, bias, (1, 1, 1), (1, 0, 0), (1, 1, 1), 1, False))
    found = module(mixed)
    assert torch.allclose(found, F.conv3d(tensor, weight, bias, padding=(1, 0, 0)))


@given(
    counts=st.sampled_from([(6,), (6, 3), (5, 3), (7, 4, 2), (4, 2), (3, 2), (3,)]),
    channels=st.sampled_from([6, 7]),
)
@settings(deadline=None)
def test_mixing_channels_is_the_weighted_sum(counts: tuple[int, ...], channels: int) -> None:
    if counts[0] > channels:
        return
    torch.manual_seed(channels)
    y = torch.randn(2, counts[0], 2, 3, 3, dtype=torch.float64)
    scales = [torch.rand(channels - count, dtype=torch.float64) if count < channels else None for count in counts]
    weights = torch.rand(2, len(counts), dtype=torch.float64) + 0.1
    options = [whole(y[:, :count], scale, 2, 1) for count, scale in zip(counts, scales, strict=True)]
    shares = weights / weights.sum(1, keepdim=True)
    expected = sum(shares[:, i].view(2, 1, 1, 1, 1) * option for i, option in enumerate(options))
    assert torch.allclose(mix_channels(y.clone(), counts, scales, shares.unbind(1), channels), expected)


@given(periods=st.sampled_from([(1, 2), (1, 4), (1, 2, 4), (1, 1, 2)]), frames=st.integers(1, 9))
@settings(deadline=None)
def test_mixing_frames_is_the_weighted_sum(periods: tuple[int, ...], frames: int) -> None:
    torch.manual_seed(frames)
    y = torch.randn(2, 3, frames, 2, 2, dtype=torch.float64)
    weights = torch.rand(2, len(periods), dtype=torch.float64) + 0.1
    shares = weights / weights.sum(1, keepdim=True)
    kept = [y[:, :, torch.arange(frames) // period * period] for period in periods]
    expected = sum(shares[:, i].view(2, 1, 1, 1, 1) * option for i, option in enumerate(kept))
    assert torch.allclose(mix_frames(y.clone(), periods, shares.unbind(1)), expected)


def test_what_stands_for_a_tensor_answers_as_it_does_or_refuses() -> None:
    """Of operations that our own networks do not ask for."""
    x, scale = torch.randn(2, 2, 3, 6, 6), torch.rand(2) + 0.5

    def half() -> Compact:
        return Compact(x.clone(), scale, 6, 2)

    whole = half().whole()
    asked: list[Callable[[Any], Any]] = [
        lambda y: torch.max_pool3d(y, [1, 3, 3], [1, 2, 2], [0, 1, 1]),
        lambda y: F.max_pool3d(y, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        lambda y: y * torch.full((2, 1, 1, 1, 1), 3.0),
        lambda y: y * torch.rand(1, 4, 1, 1, 1, generator=torch.Generator().manual_seed(0)),
        lambda y: y * torch.full((2, 4, 1, 1, 1), 2.0, dtype=torch.float64),
        lambda y: y + torch.ones_like(whole).double(),
        lambda y: F.relu(y, inplace=True),
    ]
    for call in asked:
        found, expected = call(half()), call(whole.clone())
        found = found.whole() if isinstance(found, Compact) else found
        assert found.dtype == expected.dtype and torch.allclose(found, expected)
    with pytest.raises(TypeError, match="relu_ would change a copy"):
        half().relu_()


def test_a_network_can_be_copied_and_made_fast_after_a_pass_with_gradients() -> None:
    method = built("r2plus1d_18")
    sample = torch.randn(method.spec.shape(1), dtype=torch.float64)
    expected = method(sample).logits
    assert torch.allclose(copy.deepcopy(method)(sample).logits, expected)
    assert torch.allclose(method.optimised()(sample).logits, expected)
