"""Records and timings as tests of the report need them, with names that do harm where they are not escaped."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tables.clocked import at_point, failed, store, timing

from bench.records import Cost, Figure, Identity, Record, Store

NASTY = "digits <script>alert(1)</script> | & co"


def write(
    folder: Path, method: str, options: dict[str, Any], seed: int, cost: int, revision: int = 1, frames: int = 8
) -> None:
    identity = Identity(
        method=method,
        options=options,
        frames=frames,
        size=32,
        profile="quick",
        setting="s",
        dataset=NASTY,
        data_fingerprint="f",
        seed=seed,
        method_revision=revision,
        dataset_revision=1,
    )
    samples = pd.DataFrame(
        {"index": np.arange(20), "group": [str(i) for i in range(20)], "cost": cost, "clip_1": 1.0, "video_1": 1.0}
    )
    record = Record(
        identity=identity,
        status="done",
        cost=Cost(average=cost, maximum=cost, minimum=cost),
        parameters=1,
        figures={"clip-1": Figure(value=1.0), "video-1": Figure(value=1.0)},
        missing={"video-5": "too few classes"},
        notes=["coverage <100 %"],
        protocol={"epochs": 8, "views": {"clips": 3}},
        environment={"torch": "2.13.0"},
    )
    Store(folder).write(record, samples)


def clock(folder: Path) -> None:
    """Timings of three seeds, at published operating points on two machines, of a row that is gone, and a failure."""
    named = {"profile": "quick", "dataset": NASTY, "revisions": [2, 1, 1]}
    store(folder, *(timing(1.2, seed=seed, **named) for seed in range(3)))
    store(folder, at_point(1.3, batch=32, device="H100 <b>|", telemetry={"throttled": True}), at_point(1.25))
    store(folder, at_point(1.1, row="gone/row|", a="mine", frames=4, different=False))
    point = {"row": "table2/i3d-vared", "a": "vared/i3d", "b": "i3d", "frames": 16, "trained": False}
    store(folder, failed("out of | memory <i>", policy="matched:26.5", **point))


def records(folder: Path) -> None:
    """Three seeds of a static network and of two revisions of its VA-RED² form."""
    for seed in range(3):
        write(folder, "r2plus1d_18", {}, seed, 10**9)
        write(folder, "vared/r2plus1d_18", {"search_space": 2}, seed, 9 * 10**8)
        write(folder, "vared/r2plus1d_18", {"search_space": 2}, seed, 7 * 10**8, revision=2)
