"""Rounds by a clock that tells what the arms say they took."""

from __future__ import annotations

import gc
import operator
from collections.abc import Callable
from functools import partial
from time import process_time, sleep
from typing import Any

import pytest
import torch
from speed.fake_clock import FakeClock

from bench.speed.clock import HostClock, clock_of
from bench.speed.pairing import WARM_CYCLES, WarmUp, interleave, warm_up


def arm(clock: FakeClock, seconds: Callable[[int], float], log: list[Any], name: str) -> Callable[[Any], Any]:
    def call(given: Any) -> Any:
        clock.tick(seconds(given[1]))
        log.append((name, *given))
        return name

    return call


def test_every_round_times_every_arm_once_on_its_own_copy_in_a_new_order() -> None:
    clock, log, seen = FakeClock(), list[Any](), list[Any]()
    arms = {name: arm(clock, partial(operator.add, i), log, name) for i, name in enumerate("xyz", 1)}

    def fresh(name: str, number: int) -> tuple[str, int]:
        clock.tick(100)  # what happens between the calls is in nobody's time
        return name, number

    def observe(name: str, number: int, given: Any, answer: Any) -> None:
        clock.tick(100)
        seen.append((name, number, given, answer))

    times = interleave(arms, fresh, 12, clock, 0, observe)
    assert times.seconds == times.walls == {name: [i + n for n in range(12)] for i, name in enumerate("xyz", 1)}
    assert all(name == given for name, given, _ in log)
    orders = ["".join(name for name, _, number in log if number == n) for n in range(12)]
    assert {"".join(sorted(order)) for order in orders} == {"xyz"} and len(set(orders)) > 3
    assert [(name, number) for name, number, *_ in seen] == [(name, number) for name, _, number in log]
    assert all(given == (name, number) and answer == name for name, number, given, answer in seen)
    again = list[Any]()
    interleave({name: arm(clock, lambda _: 1, again, name) for name in "xyz"}, fresh, 12, clock, 0)
    assert again == log  # the order comes of the seed alone


def test_no_two_arms_of_a_round_get_one_address() -> None:
    addresses: list[int] = []
    arms = {name: lambda given: addresses.append(given.data_ptr()) for name in "xyz"}
    interleave(arms, lambda name, number: torch.zeros(1000), 4, HostClock(), 0)
    assert all(len(set(addresses[first : first + 3])) == 3 for first in range(0, 12, 3))


def test_garbage_is_not_collected_while_the_clock_runs() -> None:
    enabled: list[bool] = []
    interleave({"x": lambda given: enabled.append(gc.isenabled())}, lambda name, number: None, 2, HostClock(), 0)
    assert enabled == [False, False] and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        interleave({"x": lambda given: 1 / 0}, lambda name, number: None, 2, HostClock(), 0)
    assert gc.isenabled()


def warmed(takes: Callable[[int], float], seconds: float = 1e9, batch: int = 8) -> tuple[WarmUp, list[int]]:
    clock, calls, given = FakeClock(), list[int](), list[int]()

    def slow_start(number: int) -> None:
        calls.append(number)
        given.append(number)
        clock.tick(takes(len(calls) - 1))

    arms: dict[str, Any] = {"even": lambda number: clock.tick(1.0), "slow start": slow_start}
    return warm_up(arms, lambda name, number: number, clock, 0, batch, seconds=seconds), given


def test_warming_up_ends_when_all_arms_are_stable_over_the_same_batches() -> None:
    found, given = warmed(lambda call: 1.0)
    assert vars(found) == {"rounds": 6, "seconds": 10, "batch_seconds": 1, "stable": True}
    assert given == [0, 1, 2, 0, 1, 2]
    # two of the last three rounds, and of the three before, must be as fast as the rest
    assert warmed(lambda call: 9.0 if call < 4 else 1.0)[0].rounds == 4 + 5
    assert warmed(lambda call: 1.0 + call % 3)[0].rounds == 6  # one batch costs more than another


def test_what_compiles_first_leaves_time_to_warm_up() -> None:
    found, _ = warmed(lambda call: 1.0 if call else 1000.0, seconds=60)
    assert vars(found) == {"rounds": 6, "seconds": 10, "batch_seconds": 1, "stable": True}


def test_small_batches_warm_up_with_more_of_them() -> None:
    found, given = warmed(lambda call: 1.0 + call % 16, batch=1)
    assert found.stable and given == [*range(16), *range(16)]


def test_as_many_clips_warm_up_as_are_asked_for() -> None:
    """On a GPU all drawn decisions: every size of a group is laid out and tried before it counts."""
    clock, given = FakeClock(), list[int]()

    def arm(number: int) -> None:
        given.append(number)
        clock.tick(1.0)

    found = warm_up({"a": arm}, lambda name, number: number, clock, 0, 8, 60)
    assert found.stable and given == [*range(8), *range(8)]


def test_warming_up_has_limits_and_says_when_they_were_met() -> None:
    found, _ = warmed(lambda call: 2.0**call)
    assert (found.rounds, found.stable) == (3 * WARM_CYCLES, False)
    found, _ = warmed(lambda call: 2.0**call, seconds=37)
    assert (found.rounds, found.seconds, found.stable) == (6, 62 + 5, False)


def test_the_clock_of_a_cpu_is_monotonic_and_gives_the_answer() -> None:
    clock = clock_of(torch.device("cpu"))
    timed = clock.time(lambda given: given + 1, 41)
    assert timed.answer == 42 and timed.seconds == timed.wall >= 0


def test_the_clock_of_a_cpu_tells_work_from_waiting() -> None:
    def work(given: float) -> None:
        end = process_time() + given
        while process_time() < end:
            pass

    waited, worked = HostClock().time(sleep, 0.05), HostClock().time(work, 0.05)
    assert waited.processor is not None and waited.processor < 0.5 * waited.wall
    assert worked.processor is not None and worked.processor >= 0.05


def test_the_clock_of_a_gpu_waits_for_the_whole_device_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("event")

        def elapsed_time(self, end: Event) -> float:
            return 5.0  # milliseconds

    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda at: log.append(f"all of {at}"))
    timed = clock_of(device).time(lambda given: log.append(given), "call")
    assert log == ["all of cuda", "event", "call", "event", "all of cuda"]
    assert timed.seconds == 0.005 and timed.wall >= 0
