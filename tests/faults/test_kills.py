"""Killed at any moment, again and again: the end is that of a run that nothing disturbed, byte for byte."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable

import pytest
from faults.harness import Bench
from faults.tiny import EVALUATE, REPORT

Count = Callable[[str], None]
NEVER = 10**9


def reset(bench: Bench) -> None:
    shutil.rmtree(bench.runs, ignore_errors=True)
    bench.runs.mkdir()


def test_killed_at_random_moments_while_it_trains_scores_and_records(
    bench: Bench, undisturbed: Bench, kills: int, count: Count
) -> None:
    draws, killed = random.Random(1), 0
    wanted = {name: found for name, found in undisturbed.end().items() if not name.startswith("report")}
    while killed < kills // 3:
        reset(bench)
        for longest in itertools.count(1):  # so that it ends on a processor of any speed
            ended = bench.killed(EVALUATE, draws.uniform(0, longest))
            if ended.code == 0:
                break
            assert ended.code == -9, ended.said
            killed += 1
            count("kills at a random moment")
        assert bench.end() == wanted and not bench.leftovers()


@pytest.mark.parametrize("words", [EVALUATE, REPORT], ids=["evaluate", "report"])
def test_killed_at_a_touch_of_the_disk(
    words: tuple[str, ...], bench: Bench, undisturbed: Bench, kills: int, count: Count
) -> None:
    """In the middle of writing, between writing and renaming, after renaming, ...: each time where nothing is safe."""
    draws, killed = random.Random(2), 0
    rendering = words == REPORT
    wanted = {name: found for name, found in undisturbed.end().items() if rendering or not name.startswith("report")}
    while killed < kills // 3:
        reset(bench)
        if rendering:
            shutil.copytree(undisturbed.runs / "records", bench.runs / "records")
            wanted = {name: found for name, found in wanted.items() if not name.startswith("runs")}
        for at in iter(lambda: draws.randint(1, 60), None):
            ended = bench.harmed(words, "kill", at)
            if ended.code == 0:
                break
            assert ended.code == -9, ended.said
            killed += 1
            count("kills at a touch of the disk")
        assert bench.end() == wanted and not bench.leftovers()


def test_a_run_that_is_not_harmed_touches_the_disk_often_enough(bench: Bench) -> None:
    """So that faults at its n-th touch are faults everywhere."""
    assert bench.harmed(EVALUATE, "kill", NEVER).touches > 40
