"""The speed gate: every gated method in the base's tree and in the change's, in turns, until the answer is clear."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from bench.regression.judgement import Judgement, Pair, judge
from bench.regression.speed_lock import SpeedLock
from bench.regression.timing import DisturbedError, GateError, Setting, Time

ROUNDS = 2, 6
"""At least, and at most where the noise asks for more. In each, both trees are measured twice."""
Tree = Literal["base", "change"]
Tell = Callable[[str], None]
"""Takes a line on how far things are."""


@dataclass
class Result:
    """One method. base, change: every pair measured; reason: why there is no judgement."""

    method: str
    base: list[Pair] = field(default_factory=list)
    change: list[Pair] = field(default_factory=list)
    reason: str = ""

    @property
    def judgement(self) -> Judgement | None:
        """What follows from the pairs."""
        return judge(self.base, self.change) if self.base and self.change and not self.reason else None

    @property
    def status(self) -> Literal["fine", "regressed", "unclear"]:
        """As of the judgement; unclear without one."""
        return self.judgement.status if self.judgement else "unclear"


def alternate(method: str, timed: Callable[[Tree], float], locked: Sequence[Pair] = ()) -> Result:
    """Rounds of base, change, change, base and the reverse, until settled; with `locked`, of the change alone.

    A round in which the machine was disturbed is left out; if too few are left, the disturbance is the reason.
    """
    result, disturbance = Result(method, list(locked)), ""
    least, most = ROUNDS
    for _ in range(most):
        try:
            base, change = _round(timed, len(result.change), alone=bool(locked))
        except DisturbedError as error:
            disturbance = str(error)
            continue
        except GateError as error:
            result.reason = str(error)
            return result
        result.base += base
        result.change += change
        if len(result.change) >= least and result.judgement and result.judgement.settled:
            break
    if len(result.change) < least:
        result.reason = disturbance
    return result


def _round(timed: Callable[[Tree], float], number: int, alone: bool) -> tuple[list[Pair], list[Pair]]:
    """The pair of the base, none where the change is timed alone, and that of the change."""
    order: tuple[Tree, ...] = ("base", "change", "change", "base")
    if number % 2:
        order = ("change", "base", "base", "change")
    times: dict[Tree, list[float]] = {"base": [], "change": []}
    for tree in order:
        if tree == "change" or not alone:
            times[tree].append(timed(tree))
    base, change = ([(each[0], each[1])] if each else [] for each in times.values())
    return base, change


def against_commit(timed: Time, methods: Sequence[str], root: Path, base: Path, tell: Tell) -> list[Result]:
    """Every method, the tree `base` against `root`."""
    trees: dict[Tree, Path] = {"base": base, "change": root}

    def one(method: str) -> Result:
        return alternate(method, lambda tree: timed(trees[tree], method).log_ratio)

    return _each(methods, one, tell)


def against_lock(timed: Time, methods: Sequence[str], root: Path, lock: SpeedLock | None, tell: Tell) -> list[Result]:
    """Every method against what is locked of it.

    Raises:
        GateError: there is no lock, or it was measured under another setting or on another kind of device.
    """
    if lock is None:
        raise GateError("there is no speed lock")
    if lock.setting != asdict(Setting()):
        raise GateError(f"the speed lock was measured with {lock.setting}")
    device = timed(root, methods[0]).device
    if device != lock.device:
        raise GateError(f"the speed lock was measured on {lock.device}, and this is {device}")

    def one(method: str) -> Result:
        if not lock.methods.get(method):
            return Result(method, reason=f"{method}: not in the speed lock")
        return alternate(method, lambda tree: timed(root, method).log_ratio, lock.methods[method])

    return _each(methods, one, tell)


def _each(methods: Sequence[str], one: Callable[[str], Result], tell: Tell) -> list[Result]:
    """One method after the other, a line each; slower is only what is so in a second series of rounds as well.

    One series was not enough: of 60 judgements of equal trees one was an alarm, on a busy machine (docs/speed.md).
    """
    results, started = list[Result](), time.monotonic()
    for number, method in enumerate(methods, 1):
        result = one(method)
        if result.status == "regressed":
            tell(f"{described(result)}; measured once more")
            result = one(method)
        results.append(result)
        left = (time.monotonic() - started) / number * (len(methods) - number) / 60
        tell(f"[{number}/{len(methods)}] {described(results[-1])}" + (f", about {left:.0f} min left" if left else ""))
    return results


def described(result: Result) -> str:
    """One line for people."""
    if result.judgement is None:
        return f"could not measure {result.reason}"
    ratio, low, high = result.judgement.ratio
    return f"{result.method}: {result.status}, {ratio:.3f} of the base's speed ({low:.3f} to {high:.3f})"
