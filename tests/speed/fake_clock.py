"""A clock for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.speed.clock import Timed


class FakeClock:
    """Time stands still but for what the called say. share: of it, what they got of the processor; None: not told."""

    name = "fake"

    def __init__(self, share: float | None = None) -> None:
        self.now, self.share = 0.0, share

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def time(self, call: Callable[[Any], Any], given: Any) -> Timed:
        start = self.now
        answer = call(given)
        seconds = self.now - start
        return Timed(seconds, seconds, answer, None if self.share is None else self.share * seconds)
