"""Cost and decisions by class, of any method that decides."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.inspection.spent import by_class, dearest

EXITS = pd.DataFrame(
    {
        "index": [7, 3, 5, 9],
        "target": [2, 0, 2, 0],
        "clip_1": [1.0, 0.0, 1.0, 1.0],
        "cost": [40, 10, 20, 10],
        "decision.go on": [0b01, 0b10, 0b01, 0b10],  # the dearest option is the first bit
        "decision.twice": [0b11, 0, 0b10, 0],  # both may be open; the clips of class 0 do not get there
        "decision.mask": [0.5, 0.0, 0.25, 0.0],
    }
).astype({"decision.mask": "float32"})


def test_what_each_class_spends_and_decides() -> None:
    first, last = by_class(EXITS, ["hug", "kick", "wave"])
    assert (first.label, first.clips, first.cost, first.most, first.least) == ("hug", 2, 10, (3, 10), (3, 10))
    assert (last.label, last.clips, last.cost, last.most, last.least) == ("wave", 2, 30, (7, 40), (5, 20))
    assert first.decisions == {"go on": [0, 1], "twice": [0, 0], "mask": [0]}
    assert last.decisions == {"go on": [1, 0], "twice": [0.5, 1], "mask": [0.375]}
    assert dearest([first, last]) == {"go on": [0, 1], "twice": [0, 0.5], "mask": [0, 0.375]}


@pytest.mark.parametrize("column", ["clip_1", ["decision.go on", "decision.twice", "decision.mask"]])
def test_without_classes_or_decisions_there_is_nothing_to_tell(column: str | list[str]) -> None:
    assert by_class(EXITS.drop(columns=column), ["hug", "kick", "wave"]) == []
