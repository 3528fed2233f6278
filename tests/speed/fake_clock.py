"""A clock for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.speed.clock import Timed


class FakeClock:
    """Time stands still but for what the called say."""

    name = "fake"

    def __init__(self) -> None:
        self.now = 0.0

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def time(self, call: Callable[[Any], Any], given: Any) -> Timed:
        start = self.now
        answer = call(given)
        return Timed(self.now - start, self.now - start, answer)
