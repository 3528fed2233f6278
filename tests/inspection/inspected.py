"""Inspections as tests store them: of a record, with figures by clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.inspection import png
from bench.inspection.settings import Settings
from bench.inspection.store import (
    InspectionIdentity,
    InspectionRecord,
    InspectionStore,
    Layer,
    Pair,
    Sheet,
    Strip,
    Unit,
)
from bench.records import Identity

UNIT = Unit(name="conv", channel="conv.channel", temporal="", counts=[4, 2], frames=[8], macs=100)
OTHER = Unit(name="last", channel="", temporal="last.temporal", counts=[4], frames=[8, 4], macs=300)


def store_inspection(
    records: Path, run: Identity, columns: dict[str, Any] | None = None, settings: Settings | None = None, **fields: Any
) -> InspectionRecord:
    """Of 40 clips from 20 sources, unless `columns` say otherwise."""
    base = {"index": np.arange(40), "group": [f"g{i // 2}" for i in range(40)], "target": np.arange(40) % 4}
    table = pd.DataFrame(base | (columns or {}))
    identity = InspectionIdentity(run=run, settings=settings or Settings())
    given = {"status": "done", "generated": True} | fields
    return InspectionStore(records / "inspected").write(InspectionRecord(identity=identity, **given), table)


def pictures() -> dict[str, Any]:
    """Fields with everything that pictures are drawn from."""
    pixels = np.arange(4 * 6 * 12, dtype=np.uint8).reshape(4 * 6, 12)
    ends = [("left", "most", 0.9), ("left", "least", 0.4), ("right", "most", 0.8), ("right", "least", 0.5)]
    strips = [Strip(label=label, end=end, video=3, share=share) for label, end, share in ends]
    maps = png.encode(np.arange(50, dtype=np.uint8).reshape(5, 10))
    pair = {"layer": "stem", "video": 0, "of": 1, "places": (2, 3), "cc": 0.99, "rmse": 0.01, "picture": maps}
    figures = {f"{along}.{kind}": 0.5 for along in ("temporal", "channel") for kind in ("CC", "RMSE", "RP")}
    layers = [
        Layer(name="stem", channels=4, frames=8, height=6, width=6, figures=figures),
        Layer(name="last", channels=4, frames=1, height=6, width=6, figures={"channel.RP": 0.1}),
    ]
    return {
        "sheet": Sheet(frames=2, height=6, width=6, strips=strips, picture=png.encode(pixels)),
        "pairs": [Pair(along="temporal", **pair), Pair(along="channel", **pair)],
        "layers": layers,
        "classes": ["left", "right", "up", "down"],
    }
