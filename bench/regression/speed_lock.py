"""Speeds kept for where there is no base to time: only as good as the machine is the same, and as idle."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from pydantic import ValidationError

from bench.faults import first_fault
from bench.records import Strict
from bench.regression.costs import LockError
from bench.regression.judgement import Pair
from bench.regression.timing import REFERENCE, Setting, Time

PAIRS = 6
"""Of measurements of every method in the lock."""


class SpeedLock(Strict):
    """What was measured, where, and what the speed command was told; of each method all pairs."""

    device: str
    setting: dict[str, int]
    methods: dict[str, list[Pair]]


def measure_lock(timed: Time, methods: Sequence[str], root: Path, setting: Setting) -> SpeedLock:
    """What a lock of this tree on this machine holds.

    Raises:
        GateError: a method that cannot be timed.
    """
    found: dict[str, list[Pair]] = {}
    for method in methods:
        times = [timed(root, method) for _ in range(2 * PAIRS)]
        logs = [each.log_ratio for each in times]
        found[method] = list(zip(logs[::2], logs[1::2], strict=True))
    return SpeedLock(device=times[0].device, setting=asdict(setting), methods=found)


def read_speed_lock(path: Path) -> SpeedLock | None:
    """The lock as it stands; None where there is none.

    Raises:
        LockError: it is not what it should be; names file and field.
    """
    try:
        return SpeedLock.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise LockError(f"{path}: {first_fault(error)}") from None
    except ValueError as error:
        raise LockError(f"{path}: {error}") from None


def changed_speeds(locked: SpeedLock | None, found: SpeedLock) -> list[str]:
    """A line for the device and for every method, old and new."""
    before = locked.methods if locked else {}
    lines = [f"device: locked {locked.device if locked else 'nothing'}, found {found.device}"]
    for method in {**before, **found.methods}:
        old, new = (_speed(pairs.get(method, [])) for pairs in (before, found.methods))
        lines.append(f"{method}: speed over {REFERENCE}: locked {old}, found {new}")
    return lines


def _speed(pairs: Sequence[Pair]) -> str:
    return f"{math.exp(fmean(value for pair in pairs for value in pair)):.3f}" if pairs else "nothing"
