"""One measurement: a method's speed over that of a reference network, by the speed command in a process of its own.

Both are timed in the same process, in turns: the ratio takes the machine out, as far as that goes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import profiles
from bench.experiment.build import build_method
from bench.experiment.plan import Experiment
from bench.regression.costs import UNDER, extremes

REFERENCE = UNDER
"""The network that every method's speed is relative to."""
PROFILE = Path(profiles.__file__).parent / "regress.toml"
"""The gated methods and their sizes; both trees read this one file."""
TIMEOUT = 300.0
"""Seconds that one measurement may take."""


class GateError(Exception):
    """A speed could not be measured; one line says why."""


class DisturbedError(GateError):
    """The machine did something else meanwhile: another measurement may do."""


@dataclass(frozen=True)
class Setting:
    """What the speed command is told. rounds: of one measurement."""

    frames: int = 8
    batch: int = 4
    rounds: int = 24


@dataclass(frozen=True)
class Timed:
    """One measurement: where, and the logarithm of the method's speed over the reference network's."""

    device: str
    log_ratio: float


Time = Callable[[Path, str], Timed]
"""(a tree's folder, a method) -> one measurement there.

Raises:
    DisturbedError: the machine was busy with something else.
    GateError: there is none for another reason.
"""


def run_speed(setting: Setting, policies: Mapping[str, str], scratch: Path) -> Time:
    """Measurements by `vared-bench speed` in a process of its own, with the code of the tree, on one CPU thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONSAFEPATH", None)  # the working folder must come first

    def timed(tree: Path, method: str) -> Timed:
        options = {"profile": PROFILE, "policy": policies[method], **asdict(setting)}
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "bench", "speed", method, REFERENCE, "--untrained", "--again", "--json"]
        with TemporaryDirectory(dir=scratch) as results:  # which the other tree's version might not be able to read
            words = [*command, *flags, "--results", results]
            try:
                done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                raise GateError(f"{method}: took more than {TIMEOUT:.0f} s") from None
        return _answer(method, done)

    return timed


def _answer(method: str, done: subprocess.CompletedProcess[str]) -> Timed:
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        kind = DisturbedError if _doubtful(done.stdout) else GateError
        raise kind(f"{method}: speed ended with {done.returncode}: {last}")
    try:
        answer = json.loads(done.stdout)
        return Timed(str(answer["device"]), _log_ratio(answer["a"]["samples"], answer["b"]["samples"]))
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise GateError(f"{method}: speed gave no ratio: {type(error).__name__}: {error}") from None


def _log_ratio(seconds: list[float], others: list[float]) -> float:
    """The median of the rounds': they show the same clips to every tree, and here quiet counts more than throughput."""
    return median(math.log(other / own) for own, other in zip(seconds, others, strict=True))


def _doubtful(answer: str) -> bool:
    """Whether an answer is of a timing that failed because the machine was busy."""
    try:
        return bool(json.loads(answer)["doubtful"])
    except (ValueError, TypeError, KeyError):
        return False


def gated_policies(setting: Setting) -> dict[str, str]:
    """The gated methods, each with the policy to time it under: drawn at random, half way from least to most cost.

    As untrained methods decide, most skip nothing, and what skips would not be timed.
    """
    profile, found = profiles.load(str(PROFILE)), {}
    for chosen in profile.methods:
        name = chosen if isinstance(chosen, str) else chosen.method
        method = build_method(Experiment(name, (), setting.frames, 0), profile, classes=10)
        halfway = sum(extremes(method)) / 2e9 if method.decisions() else 0
        found[name] = f"random:{halfway:.6f}" if halfway else "learned"
    return found
