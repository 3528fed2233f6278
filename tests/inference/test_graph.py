"""A pass as a graph: what surrounds a capture, by stand-ins for what it needs of CUDA; on a GPU the real one."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.cost import Counter
from bench.inference.graph import KEPT, Graph, Graphs, captured
from bench.inference.optimise import Batched
from bench.inference.settings import tf32

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Pretended:
    """A CUDA graph as far as its user sees: what was captured runs again, over the same memory."""

    def __init__(self) -> None:
        self.run: Callable[[], Tensor] | None = None
        self.found: Tensor | None = None

    def pool(self) -> str:
        return "its own"

    def replay(self) -> None:
        assert self.run is not None and self.found is not None
        self.found.copy_(self.run())


def replayable(graph: Graph, run: Callable[..., Tensor]) -> Graph:
    """The same, whose stand-in for a CUDA graph knows what was captured."""
    pretended: Any = graph.graph
    pretended.run, pretended.found = lambda: run(*graph.inputs), graph.found
    return graph


class Pretence:
    """Stands in for CUDA. said: in order what was entered ("stream A"), and what then runs. free, used: bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.free, self.used = 100, 0
        names = iter(f"aside {number}" for number in range(99))
        for name, stand_in in {
            "current_stream": lambda device: self._stream(f"current of {device}"),
            "Stream": lambda device: self._stream(next(names)),
            "stream": lambda stream: self._entered(stream.name),
            "CUDAGraph": Pretended,
            "graph": self._capture,
            "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": lambda mode: self.said.append(f"waiting: {mode}"),
            "reset_peak_memory_stats": lambda device: None,
            "memory_allocated": lambda device: 7,
            "max_memory_allocated": lambda device: 7 + self.used,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device: (self.free, 10**6),
            "synchronize": lambda device: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    def _stream(self, name: str) -> Any:
        def wait(other: Any) -> None:
            self.said.append(f"{name} waits for {other.name}")

        return types.SimpleNamespace(name=name, wait_stream=wait)

    @contextmanager
    def _entered(self, what: str) -> Iterator[None]:
        self.said.append(what)
        yield
        self.said.append(f"end of {what}")

    def _capture(self, graph: Any, pool: Any, stream: Any, capture_error_mode: str) -> Any:
        return self._entered(f"capture on {stream.name}, pool {pool}")


@pytest.fixture
def pretence(monkeypatch: pytest.MonkeyPatch) -> Pretence:
    return Pretence(monkeypatch)


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def test_a_graph_follows_new_inputs_and_its_answers_stay(pretence: Pretence) -> None:
    def run(x: Tensor, y: Tensor) -> Tensor:
        return x * 2 + y

    graph = captured(run, [torch.zeros(2), torch.zeros(2)])
    assert isinstance(graph, Graph)
    replayable(graph, run)
    given = [(torch.full((2,), float(n)), torch.full((2,), 0.1 * n)) for n in range(3)]
    found = [graph(*each) for each in given]
    assert all(torch.equal(answer, run(*each)) for answer, each in zip(found, given, strict=True))


def test_what_cannot_be_captured_is_told(pretence: Pretence) -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    said = captured(broken, [torch.ones(1)])
    assert said == "RuntimeError: operation not permitted when stream is capturing"


def test_nothing_that_waits_is_captured_and_the_stream_is_of_the_inputs_device(pretence: Pretence) -> None:
    said, runs = pretence.said, 0

    def waits(x: Tensor) -> Tensor:
        nonlocal runs
        runs += 1
        if said[-1] == "waiting: error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return x

    assert captured(waits, [torch.ones(1)]) == "RuntimeError: called a synchronizing CUDA operation"
    assert runs == 2 and said[-2:] == ["waiting: 0", "current of cpu waits for aside 0"]  # and no capture

    said.clear()
    first = captured(doubled, [torch.ones(1)])
    assert isinstance(first, Graph)
    captures = [f"{each}capture on aside 1, pool None" for each in ("", "end of ")]
    assert said[-4:] == ["current of cpu", *captures, "end of current of cpu"]
    captured(doubled, [torch.ones(1)], first)
    assert "capture on aside 1, pool its own" in said  # the same stream, or memory is not shared


def test_without_memory_for_a_pass_nothing_is_captured(pretence: Pretence) -> None:
    pretence.free = 3 * 2**20
    for pretence.used, fits in ((3 * 2**20, True), (3 * 2**20 + 1, False)):
        found = captured(doubled, [torch.ones(1)])
        assert isinstance(found, Graph) is fits
    assert found == "RuntimeError: a capture takes 3 MiB, and 3 are free"
    assert sum("capture" in each for each in pretence.said) == 2  # begun and ended, once


def test_few_graphs_are_kept_each_for_what_it_fixes(pretence: Pretence) -> None:
    graphs, runs = Graphs(), []

    def run(x: Tensor) -> Tensor:
        runs.append(tuple(x.shape))
        return x

    for number in (*range(1, KEPT + 2), 2):
        graphs.of(run, [torch.ones(number)])
    shapes = [f"{number}" for number in range(2, KEPT + 2)]
    assert sorted(graphs.reasons(), key=int) == shapes and set(graphs.reasons().values()) == {""}
    assert {runs.count((number,)) for number in range(1, KEPT + 2)} == {3}  # each captured once, after two passes
    assert sum("pool its own" in each and "end" not in each for each in pretence.said) == KEPT
    runs.clear()
    wanted: list[Any] = [torch.ones(3, dtype=torch.float64), torch.ones(6)[::2], torch.ones(3)]
    for sample in wanted[:2]:
        graphs.of(run, [sample])
    with torch.inference_mode():
        graphs.of(run, [wanted[2]])
    with tf32(not torch.backends.cudnn.allow_tf32):
        graphs.of(run, [wanted[2]])
    graphs.of(run, [wanted[2]], kind="another")
    assert len(runs) == 5 * 3
    graphs.drop(torch.Size([3]))
    assert "3" not in graphs.reasons() and graphs.reasons()


def test_a_graph_that_is_judged_badly_is_not_used_and_not_made_again(pretence: Pretence) -> None:
    graphs, judged = Graphs(), []

    def judge(graph: Graph) -> str:
        judged.append(graph)
        return "too dear"

    assert [graphs.of(doubled, [torch.ones(2)], judge=judge) for _ in range(2)] == ["too dear"] * 2
    assert len(judged) == 1 and graphs.reasons() == {"2": "too dear"}


@pytest.mark.parametrize(("seconds", "said"), [((1.0, 2.0), "graph"), ((2.0, 1.0), "launch by launch: no faster")])
def test_a_static_network_runs_as_is_faster_and_says_so(
    seconds: tuple[float, float], said: str, pretence: Pretence, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Linear(3, 2).requires_grad_(False)
    fast, sample, ran = Batched(network), torch.randn(2, 3), list[str]()

    def race(forms: Any, x: Tensor) -> list[float]:
        replayable(forms[0], network)
        assert torch.equal(forms[0](x), forms[1](x))
        return list(seconds)

    monkeypatch.setattr("bench.inference.optimise.race", race)
    assert fast.details() == {}
    expected, other = network(sample), network(sample + 1)
    network.register_forward_hook(lambda *_: ran.append("network"))
    monkeypatch.setattr(Tensor, "is_cuda", True)
    assert torch.equal(fast(sample), expected) and torch.equal(fast(sample + 1), other)
    [(shape, told)] = fast.details()["execution"].items()
    assert shape == "2×3" and told.startswith(said)
    graphs, ran[:] = fast._graphs.reasons(), []
    with Counter(fast, batch=2) as counter:
        fast(sample[:1].repeat(2, 1))
    assert counter.result().macs == 2 * 3 * 2 and ran == ["network"] and fast._graphs.reasons() == graphs
    assert fast.double().details() == {}  # what was captured has other weights


def test_a_static_network_that_cannot_be_captured_runs_and_says_why(
    pretence: Pretence, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if pretence.said[-1:] == ["waiting: error"]:
                raise RuntimeError("called a synchronizing CUDA operation")
            return 2 * x

    fast = Batched(Waits())
    monkeypatch.setattr(Tensor, "is_cuda", True)
    assert torch.equal(fast(torch.ones(3)), torch.full((3,), 2.0))
    why = "launch by launch: RuntimeError: called a synchronizing CUDA operation"
    assert fast.details() == {"execution": {"3": why}}


@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_on_a_gpu_a_static_network_answers_as_without_a_graph(dtype: torch.dtype) -> None:
    from bench import registry

    torch.manual_seed(0)
    static = registry.build("r2plus1d_18", frames=4, size=32, classes=5, network_options={"width": 8}).eval()
    fast, exact = static.optimised().to("cuda", dtype), static.to("cuda")
    for _ in range(2):
        sample = torch.randn(static.spec.shape(2), device="cuda")
        with tf32(False):
            expected, found = exact(sample).logits, fast(sample.to(dtype)).logits
        scale = float(expected.abs().max())
        assert torch.allclose(found.float(), expected, atol=(1e-3 if dtype == torch.float32 else 0.1) * scale)
    [told] = fast.details()["execution"].values()
    assert told == "graph" or "no faster" in told
