"""A pass over one shape of batch as a CUDA graph: all launches at once, where a pass waits for nothing on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

KEPT = 8
"""Graphs of one network at the most, the last ones used: each has memory of its own for its inputs and answers."""

Pass = Callable[..., Any]
"""Tensors to tensors, or collections of them."""


class Graph:
    """`run` for inputs of these shapes, replayed.

    beside: a graph that is never replayed at the same time, whose memory this one shares: it is captured on the same
    stream, since what was used on one is not given out on another.
    """

    def __init__(self, run: Pass, inputs: Sequence[Tensor], beside: Graph | None = None) -> None:
        self.inputs = [each.clone() for each in inputs]
        device = inputs[0].device
        before = torch.cuda.current_stream(device)
        self.stream: torch.cuda.Stream
        self.stream = aside = beside.stream if beside else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(before)
        try:
            with torch.cuda.stream(aside):
                run(*self.inputs)  # what is laid out or tried when it first comes must not be captured
                with _waiting_forbidden():  # nor must what waits: a capture that fails leaves its stream behind
                    needed = _peak(run, self.inputs)
        finally:
            before.wait_stream(aside)  # what was laid out is there for others
        _refuse_for_memory(device, needed)
        self.graph = torch.cuda.CUDAGraph()
        pool = beside.graph.pool() if beside else None
        capture = torch.cuda.graph(self.graph, pool, aside, capture_error_mode="thread_local")
        with torch.cuda.stream(before), capture:  # outside, what restores stream and device if the capture fails
            self.found = run(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """What `run` gives, copied out of the graph's memory."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return tree_map_only(Tensor, torch.clone, self.found)


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """An operation for which the host waits for the device is an error, as far as torch sees it."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _peak(run: Pass, inputs: Sequence[Tensor]) -> int:
    """Bytes that a pass has in use at the most, besides what is there before it."""
    device = inputs[0].device
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run(*inputs)
    return torch.cuda.max_memory_allocated(device) - before


def _refuse_for_memory(device: torch.device, needed: int) -> None:
    """A capture that runs out of memory never gives back what it had.

    Raises:
        RuntimeError: less is free than a pass takes.
    """
    torch.cuda.empty_cache()  # a capture takes nothing of what torch keeps
    free, _ = torch.cuda.mem_get_info(device)
    if free < needed:
        raise RuntimeError(f"a capture takes {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} are free")


def captured(run: Pass, inputs: Sequence[Tensor], beside: Graph | None = None) -> Graph | str:
    """The graph, or why there is none; `beside` as of `Graph`."""
    try:
        return Graph(run, inputs, beside)
    except Exception as error:  # whatever cannot be captured runs as it is
        return in_a_line(error)


class Graphs:
    """The graphs of one network, or why there are none: by shape, and by what else a capture fixes."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Graph | str] = {}

    def of(
        self, run: Pass, inputs: Sequence[Tensor], kind: object = None, judge: Callable[[Graph], str] = lambda graph: ""
    ) -> Graph | str:
        """The graph of `run` for such inputs, of which the first is the sample, captured when they first come.

        kind: what else tells one `run` from another. judge: says of a new graph why it is not to be used, or "".
        """
        sample, allowed = inputs[0], (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        key = sample.shape, sample.dtype, sample.stride(), kind, *allowed, torch.is_inference_mode_enabled()
        graph = self._known.pop(key, None)
        if graph is None:
            beside = next((each for each in self._known.values() if isinstance(each, Graph)), None)
            graph = captured(run, inputs, beside)
            if isinstance(graph, Graph):
                graph = judge(graph) or graph
        self._known = dict([*self._known.items(), (key, graph)][-KEPT:])
        return graph

    def drop(self, shape: torch.Size) -> None:
        """Frees those for samples of this shape."""
        self._known = {key: graph for key, graph in self._known.items() if key[0] != shape}

    def reasons(self) -> dict[str, str]:
        """By shape of sample, why there is no graph; "" where there is."""
        return {_said(key[0]): graph if isinstance(graph, str) else "" for key, graph in self._known.items()}


def _said(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def in_a_line(error: Exception) -> str:
    """The error, short."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
