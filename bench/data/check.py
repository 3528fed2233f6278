"""What a dataset holds, split by split, and which of its rows cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.data.split import DataError, Dataset, Split, annotated

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Held:
    """One split. sources: independent ones (groups). classes: rows of each class that has any (first boxes)."""

    split: str
    rows: int
    sources: int
    classes: dict[str, int]


def held(dataset: Dataset) -> list[Held]:
    """What each split holds by its lists, nothing read."""
    return [_held(name, getattr(dataset, name)) for name in SPLITS]


def _held(name: str, split: Split) -> Held:
    found, targets = annotated(split), split.targets
    if found and found.task == "boxes":
        targets = targets[[len(found.annotation(row)) > 0 for row in range(len(split))]]
    labels, counts = np.unique(targets, return_counts=True)
    named = {} if found and found.task == "masks" else dict(zip(labels.tolist(), counts.tolist(), strict=True))
    classes = {split.classes[label]: count for label, count in named.items()}
    return Held(name, len(split), len(np.unique(split.groups)), classes)


def faults(dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[str]:
    """Reads every row of every split; a line for each that cannot be read. `progress` is told of each: done, total."""
    total, done = sum(one.rows for one in held(dataset)), 0
    for name in SPLITS:
        split: Split = getattr(dataset, name)
        for row in range(len(split)):
            try:
                split.video(row)
                if found := annotated(split):
                    found.annotation(row)
            except DataError as error:
                yield f"{name}, row {row}: {error}"
            done += 1
            progress(done, total)
