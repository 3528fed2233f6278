"""Interleaved timing: every round times each arm once on the same input, in an order drawn anew."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.speed.clock import Clock

Arms = Mapping[str, Callable[[Any], Any]]
Fresh = Callable[[str, int], Any]
"""(arm, round) -> a copy of the round's input for that arm alone, so that nothing is gained by having seen it."""

Observe = Callable[[str, int, Any, Any], None]
"""(arm, round, input, answer), called when the clock has stopped."""

WITHIN = 0.1  # warm: the median of one cycle of batches is within 10 % of that of the cycle before
CLIPS, BATCHES = 16, 3  # of a cycle, at least, so that most kinds of decision come to pass
WARM_CYCLES, WARM_SECONDS = 10, 60.0


@dataclass
class Times:
    """Of each arm, one value a round. seconds: of the device; walls: of the caller; processor: empty but on a CPU."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    walls: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)


def interleave(
    arms: Arms, fresh: Fresh, rounds: int, clock: Clock, seed: int, observe: Observe = lambda *_: None
) -> Times:
    """Times all arms in each of `rounds` rounds."""
    times = Times({name: [] for name in arms}, {name: [] for name in arms})
    shuffle = random.Random(seed)
    with _without_collection():
        for number in range(rounds):
            _round(arms, fresh, number, clock, shuffle, times, observe)
    return times


@dataclass(frozen=True)
class WarmUp:
    """How long it took after each arm's first call until times were stable, and whether they were in the end.

    batch_seconds: what a batch takes in the end, of the fastest arm.
    """

    rounds: int
    seconds: float
    batch_seconds: float
    stable: bool


def warm_up(
    arms: Arms, fresh: Fresh, clock: Clock, seed: int, batch: int, clips: int = CLIPS, seconds: float = WARM_SECONDS
) -> WarmUp:
    """Runs the same few batches of `batch` clips, at least `clips` in all, until the times of every arm are stable.

    At most `WARM_CYCLES` times over, or for `seconds` of calls; each arm's first, which may compile, does not count.
    """
    times, spent = Times({name: [] for name in arms}, {name: [] for name in arms}), 0.0
    cycle, shuffle, number = max(BATCHES, -(-clips // batch)), random.Random(seed), 0
    while number < cycle * WARM_CYCLES and spent < seconds and not _stable(times, cycle):
        _round(arms, lambda name, number: fresh(name, number % cycle), number, clock, shuffle, times, lambda *_: None)
        number += 1
        spent = sum(sum(walls[1:]) for walls in times.walls.values())
    fastest = min(median(found[-cycle:]) for found in times.seconds.values())
    return WarmUp(number, spent, fastest, _stable(times, cycle))


def _round(
    arms: Arms, fresh: Fresh, number: int, clock: Clock, shuffle: random.Random, times: Times, observe: Observe
) -> None:
    """One round. The inputs of all arms stay until its end, so that no two have the same address."""
    order, given = list(arms), {}
    shuffle.shuffle(order)
    for name in order:
        given[name] = fresh(name, number)
        timed = clock.time(arms[name], given[name])
        times.seconds[name].append(timed.seconds)
        times.walls[name].append(timed.wall)
        if timed.processor is not None:
            times.processor.setdefault(name, []).append(timed.processor)
        observe(name, number, given[name], timed.answer)


def _stable(times: Times, cycle: int) -> bool:
    """Whether the median of the last cycle is close to that of the one before, for every arm."""
    for seconds in times.seconds.values():
        if len(seconds) < 2 * cycle:
            return False
        now, before = median(seconds[-cycle:]), median(seconds[-2 * cycle : -cycle])
        if abs(now - before) > WITHIN * before:
            return False
    return True


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage is collected within: it would be one arm's or the other's by chance."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
