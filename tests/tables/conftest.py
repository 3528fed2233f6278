from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.records import Cost, Figure, Identity, Record, Store

Write = Callable[..., Record]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Stores a record whose per-video columns are given; all of them have 40 videos from 20 sources."""

    def write_record(
        columns: dict[str, Any] | None = None,
        *,
        method: str = "r2plus1d_18",
        options: dict[str, Any] | None = None,
        frames: int = 8,
        size: int = 32,
        seed: int = 0,
        revision: int = 1,
        folder: str = "runs",
        reason: str = "",
        protocol: dict[str, Any] | None = None,
        **identity: Any,
    ) -> Record:
        named = {"profile": "p", "setting": "s", "dataset": "digits", "data_fingerprint": "f"} | identity
        who = Identity(
            method=method,
            options=options or {},
            frames=frames,
            size=size,
            seed=seed,
            method_revision=revision,
            dataset_revision=1,
            **named,
        )
        if reason:
            return Store(tmp_path / folder).write(
                Record(identity=who, status="failed", reason=reason, protocol=protocol or {})
            )
        base = {"index": np.arange(40), "group": [f"g{i // 2}" for i in range(40)], "cost": 10**9, "clip_1": 1.0}
        table = pd.DataFrame(base | (columns or {}))
        cost = Cost(average=table["cost"].mean(), maximum=int(table["cost"].max()), minimum=int(table["cost"].min()))
        figures = {"clip-1": Figure(value=float(table["clip_1"].mean()))}
        record = Record(
            identity=who,
            status="done",
            cost=cost,
            figures=figures,
            parameters=2_000_000,
            protocol=protocol or {},
            missing={"video-5": "fewer than 20 classes"},
        )
        return Store(tmp_path / folder).write(record, table)

    return write_record
