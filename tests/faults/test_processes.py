"""Several processes on one folder, processes that vanish, and a wall clock that jumps."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from faults.calls import answer, fails, process
from faults.harness import Bench
from faults.tiny import EVALUATE, METHOD, REPORT, REPRODUCE

from bench.workers import CallError, WorkerDiedError, Workers

Count = Callable[[str], None]
ROOT = Path(__file__).parents[2]
TWO = (*REPRODUCE, "--method", "r2plus1d_18", "--method", METHOD)


def test_two_at_once_run_every_experiment_once_and_both_end_well(bench: Bench, count: Count) -> None:
    first, second = bench.start(TWO, "first"), bench.start(TWO, "second")
    ended = bench.ended(first, "first"), bench.ended(second, "second")
    assert [one.code for one in ended] == [0, 0], ended
    assert bench.trained and set(Counter(bench.trained).values()) == {1}
    assert len(list(bench.runs.glob("records/*.json"))) == len(bench.trained)
    pages = {path: path.read_bytes() for path in (bench.runs / "report").rglob("*") if path.is_file()}
    assert bench.run(REPORT).code == 0
    assert {path: path.read_bytes() for path in pages} == pages  # of all records, whole
    count("two processes on one folder")


def test_one_killed_beside_another_leaves_it_all_to_that(bench: Bench, long: bool, count: Count) -> None:
    if not long:
        pytest.skip("takes as long as all others")
    first, second = bench.start(TWO, "first"), bench.start(TWO, "second")
    while not bench.trained:
        time.sleep(0.01)
    assert first.pid
    os.killpg(first.pid, 9)
    assert bench.ended(first, "first").code == -9
    ended = bench.ended(second, "second")
    assert ended.code == 0, ended.said
    count("two processes on one folder")


def test_a_vanished_worker_costs_its_experiment_and_no_other(bench: Bench, long: bool, count: Count) -> None:
    """Also twice of the same experiment: each run ends by itself, and the next does what is left."""
    for _ in range(2 if long else 1):
        ended = bench.harmed(TWO, "kill one", 5, below=f"runs/{METHOD.replace('/', '.')}")
        assert ended.code == 1, ended.said
        died = [line for line in ended.said.splitlines() if "its process died" in line]
        assert died and all(METHOD in line for line in died), ended.said
        count("workers killed")
    assert any("r2plus1d_18-" in path.name for path in bench.runs.glob("records/r2plus1d_18-*.json"))
    ended = bench.run(TWO)
    assert ended.code == 0 and "its process died" not in ended.said, ended.said


@pytest.mark.parametrize("processes", [1, 2])
def test_every_call_has_its_own_answer_whatever_becomes_of_others(processes: int) -> None:
    with Workers[int](processes) as workers:
        ended = dict(filter(None, workers.ended([partial(answer, number) for number in range(6)])))
    assert [ended[number] for number in (0, 1, 4, 5)] == [0, 1, 4, 5]
    assert isinstance(ended[2], WorkerDiedError) and isinstance(ended[3], ValueError)


def test_no_more_work_goes_to_where_the_gpu_is_lost() -> None:
    with Workers[int](1) as workers:
        calls = [partial(process, faulty) for faulty in (False, False, True, False, False)]
        told = [ended[1] for ended in filter(None, workers.ended(calls))]
    assert len(set(told[:3])) == len(set(told[3:])) == 1 and told[2] != told[3] and len(told) == 5


def test_an_error_that_cannot_be_sent_is_no_death() -> None:
    with Workers[int](1) as workers:
        ended = dict(filter(None, workers.ended([partial(fails, number) for number in range(3)])))
    assert (ended[0], ended[2]) == (0, 2)
    assert isinstance(ended[1], CallError) and str(ended[1]) == "OfTwoError: 1.mp4: no frame"


def test_work_that_ends_its_program_has_failed() -> None:
    with Workers[int](1) as workers:
        ended = dict(filter(None, workers.ended([partial(sys.exit, 0), partial(answer, 1)])))
    assert isinstance(ended[0], CallError) and str(ended[0]) == "SystemExit: 0" and ended[1] == 1


def test_a_wall_clock_that_jumps_changes_nothing(bench: Bench, undisturbed: Bench, count: Count) -> None:
    for words in (EVALUATE, REPORT):
        ended = bench.run(words, clock=True)
        assert ended.code == 0, ended.said
    wanted = undisturbed.end()
    drawn = {name for name in wanted if name.startswith("report/figures")}  # also of how long a step waited
    assert {name: one for name, one in bench.end().items() if name.startswith(("records", "runs"))} == {
        name: one for name, one in wanted.items() if name.startswith(("records", "runs"))
    }
    assert drawn <= bench.end().keys()
    count("wall clock jumped")


CLOCKS = {
    "time": ("time", "time_ns", "ctime", "localtime", "gmtime"),
    "datetime": ("now", "utcnow", "today"),
    "date": ("today",),
}


def asks_the_wall_clock(source: str) -> list[int]:
    """The lines that do, whatever was imported from where."""
    found = list[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            *_, owner, name = ["", *ast.unparse(node).split(".")]
            found += [node.lineno] * (name in CLOCKS.get(owner, ()))
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [node.lineno for one in node.names if one.name in CLOCKS["time"]]
    return found


def test_nothing_asks_the_wall_clock() -> None:
    rooms = ("bench", "baselines", "vared")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert [(path, lines) for path in paths if (lines := asks_the_wall_clock(path.read_text()))] == []


@pytest.mark.parametrize(
    "source",
    [
        "time.time()",
        "from time import time",
        "from time import monotonic, time_ns as now",
        "from datetime import datetime\ndatetime.now()",
        "datetime.datetime.now(tz)",
        "datetime.date.today()",
        "date.today()",
    ],
)
def test_the_wall_clock_is_seen_under_any_name(source: str) -> None:
    assert asks_the_wall_clock(source)
    assert not asks_the_wall_clock("time.monotonic()\nfrom time import sleep\nself.today()")
