"""Wrong answers of kernels are told from rounding, and every option of every point is tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.inference.settings import tf32
from bench.method import Trace
from bench.policy import Forced, Learned, Policy
from vared.runtime.agreement import agreement, every_option
from vared.runtime.compact import Compact
from vared.runtime.method import FastVaRed, Unable

EXPECTED = torch.tensor([[100.0, -50.0], [0.01, 0.02]])


def disagreement(found: Any, expected: Any, other: Any, dtype: torch.dtype) -> str:
    return agreement(found, expected, [other], dtype).doubt


@pytest.fixture(params=[False, True])
def tf32_or_not(request: pytest.FixtureRequest) -> Iterator[bool]:
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32 = allowed


def test_rounding_is_no_disagreement(tf32_or_not: bool) -> None:
    other, found = EXPECTED * (1 + 1e-3), EXPECTED * (1 - 3e-3)
    assert disagreement(found, EXPECTED, other, torch.float32) == ""
    assert disagreement(EXPECTED * (1 - 0.01), EXPECTED, other, torch.float32)
    assert bool(disagreement(found, EXPECTED, EXPECTED, torch.float32)) is not tf32_or_not
    assert disagreement(found.double(), EXPECTED.double(), EXPECTED.double(), torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_of_small_answers_may_not_be_wrong(dtype: torch.dtype) -> None:
    found = EXPECTED.clone()
    found[1] *= 1.2  # 0.00004 of the largest of the batch
    assert disagreement(found, EXPECTED, EXPECTED, dtype)


@pytest.mark.parametrize(
    "found", [EXPECTED * torch.nan, EXPECTED[:1], None, "answer", 1.0, [EXPECTED, EXPECTED], EXPECTED[:, :1]]
)
def test_what_is_not_alike_disagrees(found: Any) -> None:
    assert disagreement(found, EXPECTED, EXPECTED, torch.float32)


def test_parts_are_compared_and_what_stands_for_a_tensor_is_rebuilt() -> None:
    x = torch.ones(2, 3, 1, 2, 2)
    half, wrong = (Compact(x[:, :2], torch.tensor([scale]), 1, 1) for scale in (1.0, 2.0))
    assert disagreement({"map": half, "none": None}, {"map": x, "none": None}, {"map": x, "none": None}, x.dtype) == ""
    assert disagreement({"map": wrong}, {"map": x}, {"map": x}, x.dtype)
    assert disagreement(torch.ones(0, 4), torch.ones(0, 4), torch.ones(0, 4), x.dtype) == ""


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_every_option_of_every_point_is_followed(rows: int) -> None:
    decisions = {"a": torch.eye(2), "b": torch.eye(2), "c": torch.eye(3)}
    asked = list(every_option(decisions, rows))
    for point, options in decisions.items():
        opened = {tuple(row) for policy in asked for row in (policy.trace[point] > 0).tolist()}
        assert opened == {*map(tuple, (options > 0).tolist()), (True,) * len(options)}
    assert all(len(policy.trace["a"]) == rows for policy in asked)
    assert all(not torch.equal(policy.trace["a"], policy.trace["b"]) for policy in asked)


def network() -> FastVaRed:
    from test_runtime import built

    return built("resnet50", torch.float32).optimised()


def refused(sample: Tensor) -> Any:
    raise RuntimeError("no graph")


def test_kernels_that_fail_once_chosen_are_left_for_the_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = network()
    sample = torch.randn(fast.spec.shape(2))
    expected = fast(sample).logits
    fast._ways[sample.shape] = "device"
    for each in (sample, torch.ones(9)):
        fast._graphs.of(refused, [each])

    def broken(sample: Tensor, policy: Policy) -> tuple[Any, Trace]:
        raise RuntimeError("out of\nshared memory")

    monkeypatch.setattr(fast, "_on_device", broken)
    with pytest.raises(KeyError):  # what was given is wrong: no fault of the kernels
        fast(sample, Forced({"none": torch.ones(2, 1)}))
    assert fast._ways[sample.shape] == "device"
    assert torch.allclose(fast(sample).logits, expected, rtol=1e-3, atol=1e-4)  # type: ignore[arg-type]
    assert list(fast.details()["not on device"].values()) == ["RuntimeError: out of shared memory"]
    assert "device" not in fast._trials[sample.shape].ways and sample.shape not in fast._ways
    assert list(fast._graphs.reasons()) == ["9"]
    fast(sample)


def test_kernels_that_fail_in_a_later_lap_leave_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = network()
    sample = torch.randn(fast.spec.shape(2))
    found, laps = fast._found, []
    monkeypatch.setattr(fast, "_offered", lambda sample, policy: ("in turn", "grouped", "dense", "by layer", "device"))

    def failing(way: Any, sample: Tensor, policy: Policy) -> Any:
        laps.append(way)
        if way == "device" and laps.count("device") == 2:
            raise Unable("RuntimeError: launch failed")
        return found("grouped", sample, policy)

    monkeypatch.setattr(fast, "_found", failing)
    fast(sample)
    assert laps.count("device") == 2 and "device" not in fast._trials[sample.shape].ways
    assert fast._refused[sample.shape] == "RuntimeError: launch failed"


def test_kinds_without_fast_units_are_not_offered_the_way() -> None:
    from test_runtime import built

    fast = built("resnet50", torch.float32, kind="affine").optimised()
    assert fast._doubt(torch.randn(fast.spec.shape(2)), Learned()) == "no units of the absorbable kind"


@torch.no_grad()
def test_how_well_kernels_agree_is_told_and_one_that_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = network()
    sample = torch.randn(fast.spec.shape(3))
    found, wrong = fast._found, [1.0]

    def pretending(way: Any, sample: Tensor, policy: Policy) -> Any:
        parts = found("grouped" if way == "device" else way, sample, policy)
        return [(output * wrong[0], trace) for output, trace in parts] if way == "device" else parts

    monkeypatch.setattr(fast, "_found", pretending)
    assert fast._doubt(sample, Learned()) == ""
    [told] = fast.details()["agreement on device"].values()
    assert 0 <= told["error"] <= told["allowed"] and told["allowed"] >= 4 * told["own"]
    wrong[0] = 1.1
    assert fast._doubt(sample, Learned()).startswith("answers differ by 0.1")


def test_in_tf32_all_ways_are_held_to_one_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = network()
    sample, trace = torch.ones(1), {"point": torch.ones(1, 1)}
    coarse = {"device": 1 + 3e-2, "dense": 1 + 1e-2, "grouped": 1 + 1e-2}  # the others alike, as by one library

    def found(way: Any, sample: Tensor, policy: Policy) -> Any:
        return [(sample * (coarse[way] if torch.backends.cudnn.allow_tf32 else 1.0), trace)]

    monkeypatch.setattr(fast, "_found", found)
    with tf32(True):
        assert fast._agreement(sample, Learned()).doubt == ""
        coarse["device"] = 1 + 6e-2
        assert fast._agreement(sample, Learned()).doubt
        assert torch.backends.cudnn.allow_tf32


def test_one_graph_takes_all_decisions_at_once_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = network()
    sample, asked = torch.randn(fast.spec.shape(2)), []
    trace = {point: options[[0, 1]] / 2 for point, options in fast.decisions().items()}

    def of(run: Any, inputs: Any, kind: object) -> Any:
        asked.append((kind, [tuple(each.shape) for each in inputs[1:]]))
        return run

    expected = fast._answer(sample, Forced(trace), dense=False), fast._answer(sample, Learned(), dense=False)
    monkeypatch.setattr(fast._graphs, "of", of)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    found = fast._on_device(sample, Forced(trace)), fast._on_device(sample, Learned())
    total = sum(len(options) for options in fast.decisions().values())
    assert asked == [(Forced, [(2, total)]), (Learned, [])]
    for (output, decided), (wanted, followed) in zip(found, expected, strict=True):
        assert torch.allclose(output, wanted, rtol=1e-3, atol=1e-4) and decided.keys() == followed.keys()
        assert all(torch.allclose(decided[point], rows, atol=1e-4) for point, rows in followed.items())


def test_what_a_policy_of_another_kind_looks_at_is_not_captured() -> None:
    class Other(Forced):
        pass

    with pytest.raises(TypeError, match="a policy of another kind, Other"):
        network()._replayable(Other({}))(torch.ones(1))
