"""One method on a profile's dataset, as `train` and `evaluate` ask for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from bench.experiment.plan import Experiment, ExperimentError
from bench.experiment.run import Run, run
from bench.profiles import Profile
from bench.records import Record


def single(
    name: str,
    *,
    profile: Profile,
    frames: int,
    seed: int,
    options: dict[str, Any],
    results: Path,
    data_root: Path | None,
    until: Literal["train", "evaluate", "again"],
) -> Record | dict[str, float]:
    """One method on the profile's dataset: trained (scores on validation), or trained and evaluated (a record).

    until: where it ends; "again" scores what is trained already once more.

    Raises:
        ExperimentError: another process is at the same experiment; or see `Run.again`.
    """
    experiment = Experiment(name, tuple(sorted(options.items())), frames, seed)
    announce = _printed(experiment.label)
    if until == "evaluate":
        record = run(experiment, profile, results, data_root, announce)
        if record is not None:
            return record
    else:
        one = Run(experiment, profile, results, data_root, announce)
        with one.lock() as held:
            if held:
                return one.train() if until == "train" else one.again()
    raise ExperimentError(f"{experiment.label}: another process is running it in {results}")


def _printed(label: str) -> Callable[[float], None]:
    """Prints the share done and the time left, at every tenth."""
    started, told, first = time.monotonic(), [0.0], list[float]()

    def call(share: float) -> None:
        if not first:
            first.append(share)  # a resumed training does not start at zero
        if share - told[0] >= 0.1 and share > first[0]:
            told[0] = share
            left = (time.monotonic() - started) * (1 - share) / (share - first[0])
            print(f"{label}: {share:.0%} trained, about {left / 60:.1f} min left", file=sys.stderr, flush=True)

    return call
