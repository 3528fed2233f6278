"""What is called compiled is compiled: with its weights, for one shape, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import EarlyExit

from bench.cost import Counter
from bench.method import Prediction
from bench.policy import Learned, Policy
from bench.speed.arms import TimedArm
from bench.speed.forms import Compiled, freezing
from bench.speed.inputs import Given
from bench.speed.pair import Side

compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    with torch.no_grad(), freezing(wanted=True):
        yield
    torch._dynamo.reset()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    ).eval()


@compiler
def test_weights_are_in_the_code_of_each_network() -> None:
    x, one, other = torch.randn(2, 3, 4, 4), network(), network()
    forms = Compiled(one), Compiled(other)
    expected = [each(x) for each in (one, other)]
    for _ in range(2):
        assert all(torch.allclose(form(x), own, atol=1e-6) for form, own in zip(forms, expected, strict=True))
        for each in (one, other):  # what is frozen no longer looks
            each[0].weight.mul_(3)  # type: ignore[index]
    assert not torch.allclose(one(x), expected[0], atol=1e-3)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sizes of inputs of every graph that dynamo gives to a compiler, which here runs them as they are."""
    seen: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append([size for each in inputs if isinstance(each, Tensor) for size in each.shape])
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return seen


def test_no_size_is_symbolic_however_many_there_are(graphs: list[Any]) -> None:
    form = Compiled(network())
    for rows in (2, 3, 4, 3):
        form(torch.zeros(rows, 3, 4, 4))
    assert len(graphs) == 3 and all(type(size) is int for sizes in graphs for size in sizes)


def test_what_is_compiled_too_often_fails(graphs: list[Any]) -> None:
    form = Compiled(network())
    with torch._dynamo.config.patch(recompile_limit=2):
        for rows in (2, 3, 2):
            form(torch.zeros(rows, 3, 4, 4))
        with pytest.raises(RuntimeError, match="compiled too often"):
            form(torch.zeros(4, 3, 4, 4))
    assert len(graphs) == 2


def test_what_cannot_be_compiled_whole_fails(graphs: list[Any]) -> None:
    class Prints(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return x + 1

    with pytest.raises(RuntimeError):
        Compiled(Prints())(torch.zeros(1))
    assert not graphs


def test_what_was_compiled_before_does_not_count(graphs: list[Any]) -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(3):
            with freezing(wanted=True):
                Compiled(network())(torch.zeros(2, 3, 4, 4))
    assert len(graphs) == 3


def test_what_is_counted_runs_as_it_is(graphs: list[Any]) -> None:
    x, form = torch.zeros(2, 3, 4, 4), Compiled(network())
    form(x)
    with Counter(form, batch=2) as counter:
        form(x)
    assert counter.result().macs == 2 * (2 * 2 * 4 * 27 + 16 * 2) and len(graphs) == 1


@pytest.mark.parametrize("steady", [True, False])
def test_algorithms_are_tried_only_where_shapes_stay(steady: bool) -> None:
    seen: list[bool] = []

    class Looks(EarlyExit):
        def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
            seen.append(torch.backends.cudnn.benchmark)
            return super().forward(sample, policy)

    method = Looks().eval()
    method.steady = steady
    before = torch.backends.cudnn.benchmark
    TimedArm("a", "looks", Side("looks", {}, method, trained=False), "optimised", method)(
        Given(torch.zeros(method.spec.shape(2)), Learned())
    )
    assert seen == [steady] and torch.backends.cudnn.benchmark is before
