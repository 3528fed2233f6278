"""What `evaluate` prints: the figures of one record."""

from __future__ import annotations

from bench.answers.table import print_table
from bench.records import Record


def print_record(record: Record) -> None:
    """Accuracy with its interval, what is missing and why, and the cost with its range."""
    print(f"{record.identity.id}: {record.status} on {record.identity.dataset}")
    rows = [[name, f"{100 * f.value:.2f} %", _interval(f.low, f.high)] for name, f in record.figures.items()]
    rows += [[name, "-", why] for name, why in record.missing.items()]
    if record.cost is not None:
        spread = f"{record.cost.minimum:,} to {record.cost.maximum:,}"
        rows.append(["multiply-adds", f"{record.cost.average:,.0f}", spread])
    print_table(["figure", "value", "95 % interval, range, or why not measured"], rows)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f} %"
