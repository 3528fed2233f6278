"""A pass over one shape of batch as a CUDA graph: all launches at once, where a pass waits for nothing on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bench.method import Trace
from bench.policy import Forced, Learned, Policy

Pass = Callable[[Tensor, Policy], tuple[Any, Trace]]


class Graph:
    """`run` for samples and decisions of one shape, replayed; its kind of policy stays what it was.

    beside: a graph that is never replayed at the same time, whose memory this one shares.
    """

    def __init__(
        self, run: Pass, sample: Tensor, policy: Policy, decisions: Mapping[str, Tensor], beside: Graph | None = None
    ) -> None:
        self.sample = sample.clone()
        self.decisions = {} if isinstance(policy, Learned) else _rows(decisions, sample)
        followed = Forced(self.decisions) if self.decisions else policy
        self._given(sample, policy)
        before, aside = torch.cuda.current_stream(sample.device), torch.cuda.Stream(sample.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(before)
        try:
            with torch.cuda.stream(aside):
                run(self.sample, followed)  # what is laid out or tried when it first comes must not be captured
                with _waiting_forbidden():
                    run(self.sample, followed)  # nor must what waits: a capture that fails leaves its stream behind
        finally:
            before.wait_stream(aside)  # what was laid out is there for others
        self.graph = torch.cuda.CUDAGraph()
        pool = beside.graph.pool() if beside else None
        capture = torch.cuda.graph(self.graph, pool, aside, capture_error_mode="thread_local")
        with torch.cuda.stream(before), capture:  # outside, what restores stream and device if the capture fails
            self.found = run(self.sample, followed)

    def __call__(self, sample: Tensor, policy: Policy) -> tuple[Any, Trace]:
        """Output and decisions, copied out of the graph's memory."""
        self._given(sample, policy)
        self.graph.replay()
        found: tuple[Any, Trace] = tree_map_only(Tensor, torch.clone, self.found)
        return found

    def _given(self, sample: Tensor, policy: Policy) -> None:
        self.sample.copy_(sample)
        for point, rows in self.decisions.items():
            rows.copy_(policy.decide(point, rows))


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """An operation for which the host waits for the device is an error, as far as torch sees it."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _rows(decisions: Mapping[str, Tensor], sample: Tensor) -> dict[str, Tensor]:
    """Room for what a policy decides for each sample."""
    return {point: sample.new_zeros(len(sample), len(options)) for point, options in decisions.items()}


def captured(
    run: Pass, sample: Tensor, policy: Policy, decisions: Mapping[str, Tensor], beside: Graph | None = None
) -> Graph | str:
    """The graph, or why there is none; `beside` as of `Graph`."""
    if type(policy) not in (Learned, Forced):
        return f"a policy of another kind, {type(policy).__name__}"
    try:
        return Graph(run, sample, policy, decisions, beside)
    except Exception as error:  # whatever cannot be captured runs as it is
        return in_a_line(error)


def in_a_line(error: Exception) -> str:
    """The error, short."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
