"""What a method that decides spends and decides, class by class: from its record, whatever its decisions mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.inspection.store import Inspection
from bench.records import read_record, read_samples

DECISION = "decision."
MAIN = "clip_1"  # scored where the answers are classes


@dataclass(frozen=True)
class Spent:
    """On the test clips of one class.

    cost: mean multiply-adds. most, least: (row of the test split, its cost), the first of equals. decisions: of each
    point the share of clips at which each option is open, dearest first, or [mean share that is open] of a mask; of
    clips that do not get to the point no option is.
    """

    label: str
    clips: int
    cost: float
    most: tuple[int, int]
    least: tuple[int, int]
    decisions: dict[str, list[float]]


def spent(found: Inspection) -> list[Spent]:
    """By class as `by_class`, of all test clips of the run that was inspected.

    Raises:
        RecordError: the record of the run, or its table, is not there or broken.
    """
    path = found.path.parent.parent / f"{found.record.identity.run.id}.json"
    record = read_record(path)
    if record.samples_file is None:
        return []
    return by_class(read_samples(path, record), found.record.classes)


def by_class(samples: pd.DataFrame, classes: Sequence[str]) -> list[Spent]:
    """Of each class with clips, in the order of labels; [] if nothing is decided or the answers are no classes.

    samples: as `bench.evaluation.score` stores them.
    """
    table = samples.set_index("index")
    points = [str(column) for column in table if str(column).startswith(DECISION)]
    if not points or MAIN not in table:
        return []
    counts = {point: _options(table[point]) for point in points}
    labels = sorted({int(label) for label in table["target"]})
    return [_of(classes[label], table[table["target"] == label], counts) for label in labels]


def _of(label: str, own: pd.DataFrame, counts: dict[str, int]) -> Spent:
    rows, cost = own.index.to_numpy(np.int64), own["cost"].to_numpy(np.int64)
    most, least = ((int(rows[place]), int(cost[place])) for place in (cost.argmax(), cost.argmin()))
    decisions = {point.removeprefix(DECISION): _open(own[point], count) for point, count in counts.items()}
    return Spent(label, len(own), float(cost.mean()), most, least, decisions)


def _options(column: pd.Series[int]) -> int:
    """Options of a point as far as any clip opened them; 0 of a mask, of which a share is stored."""
    return 0 if column.dtype.kind == "f" else int(column.max()).bit_length()


def _open(column: pd.Series[int], options: int) -> list[float]:
    if not options:
        return [float(column.mean())] if column.dtype.kind == "f" else []
    bits = column.to_numpy(np.int64)
    return [float(((bits >> place) & 1).mean()) for place in range(options)]


def dearest(classes: Sequence[Spent]) -> dict[str, list[float | None]]:
    """Point -> of each class the share of its clips at which the dearest option is open, or what is open of a mask."""
    points = list(classes[0].decisions) if classes else []
    return {point: [next(iter(one.decisions[point]), None) for one in classes] for point in points}
