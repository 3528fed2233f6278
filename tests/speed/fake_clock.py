"""A clock for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.speed.clock import Timed


class FakeClock:
    """Time stands still but for what the called say. shares: of it, what arms got of the processor; None: not told."""

    name = "fake"

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        self.now, self.shares = 0.0, shares

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def time(self, call: Callable[[Any], Any], given: Any) -> Timed:
        start = self.now
        answer = call(given)
        seconds = self.now - start
        got = None if self.shares is None else self.shares.get(getattr(call, "key", ""), 1.0) * seconds
        return Timed(seconds, seconds, answer, got)
