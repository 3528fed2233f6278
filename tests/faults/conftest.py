"""How much is harmed: the environment variable VARED_FAULTS is the number of kills, a dozen by default.

What was done is counted over all tests, and printed as a table where `VARED_FAULTS` is set.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.harness import Bench
from faults.tiny import EVALUATE, REPORT

from bench.tables.paths import published as all_published

COUNT = "VARED_FAULTS"


@pytest.fixture(scope="session")
def kills() -> int:
    """How many kills at least."""
    return int(os.environ.get(COUNT, "12"))


@pytest.fixture(scope="session")
def long(kills: int) -> bool:
    """Whether every position is tried, and not some."""
    return kills > 12


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Counts one thing of a kind that was done."""
    return lambda kind: record_property("faults", kind)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one published table, without shipped records beside it."""
    folder = tmp_path_factory.mktemp("results") / "published"
    folder.mkdir()
    shutil.copy(all_published() / "table10.toml", folder)
    return folder


@pytest.fixture
def bench(tmp_path: Path, published: Path) -> Bench:
    """An empty one."""
    return Bench(tmp_path / "bench", published)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, published: Path) -> Bench:
    """One in which an experiment was evaluated and the report rendered, and nothing was harmed."""
    found = Bench(tmp_path_factory.mktemp("undisturbed") / "bench", published)
    for words in (EVALUATE, REPORT):
        ended = found.run(words)
        assert ended.code == 0, ended.said
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are of faults."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("faults")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of what was done and what was lost."""
    if COUNT not in os.environ:
        return
    ended = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    done = Counter(str(value) for report in ended for name, value in report.user_properties if name == "faults")
    done["bad inputs tried"] += sum("bad_input" in report.keywords for report in ended)
    terminalreporter.section("faults")
    for kind, number in sorted(done.items()):
        terminalreporter.write_line(f"{kind:46}{number:8,}")
    lost = len(terminalreporter.stats.get("failed", [])) + len(terminalreporter.stats.get("error", []))
    terminalreporter.write_line(f"{'tests in which something was lost':46}{lost:8,}")
