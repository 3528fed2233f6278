"""What every test leaves as it found it."""

from __future__ import annotations

from bench.data.loading import Loading, use


def pytest_runtest_teardown() -> None:
    """A command puts in force how its process reads videos; the next test's is not of that command."""
    use(Loading())
