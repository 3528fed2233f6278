"""What a dataset holds, for the terminal and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bench.answers.table import print_table
from bench.data.check import Report
from bench.floors import Found

SHOWN = 20
"""Classes of the lowest coverage, and faults of a kind, that the terminal shows; JSON has all."""


def data_answer(report: Report) -> dict[str, Any]:
    """As JSON can; notes are the reader's own: coverage, what was left out."""
    return {
        "dataset": report.dataset,
        "splits": {
            one.split: {"rows": one.rows, "sources": one.sources, "classes": one.classes} for one in report.held
        },
        "classes": {label: {"listed": rows, "usable": kept} for label, (rows, kept) in report.classes.items()},
        "notes": list(report.notes),
        "counts": dict(Counter(fault.kind for fault in report.faults)),
        "faults": [{"kind": fault.kind, "message": fault.message} for fault in report.faults],
    }


def print_data(report: Report) -> None:
    """One row a split, classes that are not whole, then notes and faults, a line each."""
    rows = [[one.split, f"{one.rows:,}", f"{one.sources:,}", _spread(one.classes)] for one in report.held]
    print_table(["split", "rows", "independent sources", "rows of a class"], rows, title=report.dataset)
    lacking = sorted((kept / rows if rows else 0.0, label) for label, (rows, kept) in report.classes.items())
    lacking = [(share, label) for share, label in lacking if share < 1]
    if lacking:
        shown = [
            [label, f"{share:.1%}", "{1:,} of {0:,}".format(*report.classes[label])] for share, label in lacking[:SHOWN]
        ]
        of = f"{len(lacking)} of {len(report.classes)} classes are not whole"
        print_table(["class", "coverage", "rows"], shown, title=of)
    for line in report.notes:
        print(line)
    shown_of = Counter[str]()
    for fault in report.faults:
        shown_of[fault.kind] += 1
        if shown_of[fault.kind] <= SHOWN:
            print(f"{fault.kind}: {fault.message}")
    for kind, count in shown_of.items():
        if count > SHOWN:
            print(f"{kind}: {count - SHOWN:,} more, all of them in --json")


def _spread(classes: dict[str, int]) -> str:
    """How many classes there are, and of how many rows the smallest and the largest has."""
    if not classes:
        return "-"
    fewest, most = min(classes, key=classes.__getitem__), max(classes, key=classes.__getitem__)
    return f"{len(classes)} classes, {classes[fewest]:,} ({fewest}) to {classes[most]:,} ({most})"


def _share(end: float) -> str:
    """An interval by the formula may go beyond 0 to 100 %, a share cannot."""
    return f"{100 * end if math.isnan(end) else min(max(100 * end, 0.0), 100.0):.2f}"


def print_floors(found: Mapping[str, Found]) -> None:
    """A line for each rule and figure, in percent."""
    rows = [
        [rule, name, f"{100 * one.value:.2f} %", f"{_share(one.low)} to {_share(one.high)} %"]
        for rule, had in found.items()
        for name, one in had.figures.items()
    ]
    print_table(["without a network", "figure", "value", "95 % interval"], rows)
