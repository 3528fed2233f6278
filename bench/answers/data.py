"""What a dataset holds, for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.answers.table import print_table
from bench.data.check import Held
from bench.data.split import Dataset


def data_answer(dataset: Dataset, held: Sequence[Held], faults: Sequence[str]) -> dict[str, Any]:
    """As JSON can; notes are the reader's own: coverage, what was left out."""
    splits = {one.split: {"rows": one.rows, "sources": one.sources, "classes": one.classes} for one in held}
    return {"dataset": dataset.name, "splits": splits, "notes": list(dataset.notes), "faults": list(faults)}


def print_data(dataset: Dataset, held: Sequence[Held], faults: Sequence[str]) -> None:
    """One row a split, then notes and faults, a line each."""
    rows = [[one.split, f"{one.rows:,}", f"{one.sources:,}", _spread(one.classes)] for one in held]
    print_table(["split", "rows", "independent sources", "rows of a class"], rows, title=dataset.name)
    for line in (*dataset.notes, *faults):
        print(line)


def _spread(classes: dict[str, int]) -> str:
    """How many classes there are, and of how many rows the smallest and the largest has."""
    if not classes:
        return "-"
    fewest, most = min(classes, key=classes.__getitem__), max(classes, key=classes.__getitem__)
    return f"{len(classes)} classes, {classes[fewest]:,} ({fewest}) to {classes[most]:,} ({most})"
