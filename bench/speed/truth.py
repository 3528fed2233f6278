"""What ran besides what was accounted, how fast the device allows it to be, and what energy it takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

import torch

from bench.cost import Counter, CountError
from bench.speed import ceilings, roofline, telemetry
from bench.speed.arms import Arms, TimedArm
from bench.speed.ceilings import CeilingError, Ceilings
from bench.speed.forms import DTYPES
from bench.speed.inputs import Given
from bench.speed.record import Precision

Why = dict[str, str]
"""What could not be found, and why; added to."""


def executed(arms: Arms, arm: TimedArm, batches: Sequence[int], missing: Why) -> float | None:
    """Mean multiply-adds a clip that the dispatcher sees on some batches; None where it does not know an operation."""
    total = 0
    try:
        for number in batches:
            given = Given(arms.sample(arm, number), arms.policy(arm.side, number))
            with Counter(arm.method, batch=arms.setting.batch) as counter:
                arm(given)
            total += counter.result().macs
    except CountError as error:
        missing[f"executed by {arm.label}"] = str(error)
        return None
    return total / (len(batches) * arms.setting.batch)


def bound(arms: Arms, batches: Sequence[int], missing: Why) -> dict[str, float] | None:
    """Clips/s of a and b at the most on some batches, and the ceilings that this follows from."""
    try:
        found = _ceilings(arms.pair.device, arms.setting.precision, torch.get_num_threads())
        clips = len(batches) * arms.setting.batch
        speeds: dict[str, float] = {key: clips / _least(arms, arms.all[key], batches, found) for key in ("a", "b")}
    except (CountError, CeilingError) as error:
        missing["bound"] = str(error)
        return None
    return {**speeds, **asdict(found)}


def _ceilings(device: torch.device, precision: Precision, threads: int) -> Ceilings:
    """The highest seen in this job in each precision, in which the caller has torch compute: other work lowers them."""
    found, key = ceilings.measure(device, DTYPES[precision]), (device, precision, threads)
    seen = _SEEN.get(key, found)
    _SEEN[key] = Ceilings(
        max(found.macs_per_second, seen.macs_per_second), max(found.bytes_per_second, seen.bytes_per_second)
    )
    return _SEEN[key]


_SEEN: dict[tuple[torch.device, Precision, int], Ceilings] = {}


def _least(arms: Arms, arm: TimedArm, batches: Sequence[int], found: Ceilings) -> float:
    """Seconds at the least, by a roofline of what ran or of the method as it is written, whichever takes less.

    Raises:
        CountError: neither can be counted.
    """
    least, problem = float("inf"), ""
    for method in (arm.method, copy.deepcopy(arm.side.method).to(arms.dtype)):
        try:
            seconds = sum(
                roofline.bound(method, arms.sample(arm, number), arms.policy(arm.side, number), found)
                for number in batches
            )
            least = min(least, seconds)
        except (CountError, RuntimeError) as error:  # RuntimeError: as written it may not run in this precision
            problem = problem or str(error)
    if least == float("inf"):
        raise CountError(f"{arm.label}: {problem}")
    return least


def energy(arms: Arms) -> dict[str, Any]:
    """Of each of a and b, in a window of its own that is long enough; nothing where there is no GPU."""
    if arms.pair.device.type != "cuda":
        return {}
    return {"energy": {key: _window(arms, arms.all[key]) for key in ("a", "b")}}


def _window(arms: Arms, arm: TimedArm) -> dict[str, Any]:
    """The energy of one arm, batch after batch."""
    given, batches = [arms.given(arm, number) for number in range(4)], 0
    torch.cuda.synchronize(arms.pair.device)  # what is seen first is the idle GPU
    with telemetry.Watch(arms.pair.device, interval=0.1) as device:  # nothing is timed that this could disturb
        end = monotonic() + 1.1 * telemetry.ENERGY_WINDOW
        while monotonic() < end:
            arm(given[batches % len(given)])
            torch.cuda.synchronize(arms.pair.device)
            batches += 1
    return device.energy(batches * arms.setting.batch)
