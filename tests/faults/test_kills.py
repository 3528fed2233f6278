"""Killed at any moment, again and again: the end is that of a run that nothing disturbed, byte for byte."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from faults.harness import Bench, Ended
from faults.tiny import EVALUATE, REPORT

Count = Callable[[str], None]
NEVER = 10**9


Harmed = Iterator[Callable[[], Ended]]
"""One run after the other, each harmed in its own way, of the same command on the same folder."""


def killed_until_it_ends(runs: Harmed, bench: Bench, wanted: dict[str, Any], count: Callable[[], None]) -> int:
    """Kills runs until one comes to its end, and holds what is stored then against what is wanted; gives how many."""
    killed = 0
    while (ended := next(runs)()).code:
        assert ended.code == -9, ended.said
        killed += 1
        count()
    assert bench.end() == wanted and not bench.leftovers()
    return killed


def reset(bench: Bench) -> None:
    shutil.rmtree(bench.runs, ignore_errors=True)
    bench.runs.mkdir()


def test_killed_at_random_moments_while_it_trains_scores_and_records(
    bench: Bench, undisturbed: Bench, kills: int, count: Count
) -> None:
    draws, killed = random.Random(1), 0
    wanted = {name: found for name, found in undisturbed.end().items() if not name.startswith("report")}
    noted = partial(count, "kills at a random moment")
    while killed < kills // 3:
        reset(bench)
        longest = itertools.count(1)  # so that it ends on a processor of any speed
        runs = (partial(bench.killed, EVALUATE, draws.uniform(0, most)) for most in longest)
        killed += killed_until_it_ends(runs, bench, wanted, noted)


@pytest.mark.parametrize("words", [EVALUATE, REPORT], ids=["evaluate", "report"])
def test_killed_at_a_touch_of_the_disk(
    words: tuple[str, ...], bench: Bench, undisturbed: Bench, kills: int, count: Count
) -> None:
    """In the middle of writing, between writing and renaming, after renaming, ...: each time where nothing is safe."""
    draws, killed = random.Random(2), 0
    rendering = words == REPORT
    apart = "runs" if rendering else "report"
    wanted = {name: found for name, found in undisturbed.end().items() if not name.startswith(apart)}
    noted = partial(count, "kills at a touch of the disk")
    while killed < kills // 3:
        reset(bench)
        if rendering:
            shutil.copytree(undisturbed.runs / "records", bench.runs / "records")
        runs = (partial(bench.harmed, words, "kill", draws.randint(1, 60)) for _ in itertools.count())
        killed += killed_until_it_ends(runs, bench, wanted, noted)


def test_a_run_that_is_not_harmed_touches_the_disk_often_enough(bench: Bench) -> None:
    """So that faults at its n-th touch are faults everywhere."""
    assert bench.harmed(EVALUATE, "kill", NEVER).touches > 40
