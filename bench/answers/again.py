"""What `speed --check` answers: stored timings beside the same ones done now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.answers.table import print_table, short
from bench.speed.again import Checked, Quantity
from bench.speed.record import Span


def again_answer(found: Checked) -> dict[str, Any]:
    """One check as JSON has it, with what was timed now as a whole."""
    return {
        "record": str(found.path),
        "verdict": found.verdict,
        "reason": found.reason,
        "figures": [
            {
                "name": one.name,
                "before": one.before.model_dump(),
                "now": one.now.model_dump(),
                "change": one.change.model_dump(),
                "agrees": one.agrees,
            }
            for one in found.quantities
        ],
        "now": found.now and found.now.model_dump(mode="json"),
    }


def print_again(found: Sequence[Checked]) -> None:
    """A line for each figure, the deciding one with the verdict; reasons below."""
    rows = [row for one in found for row in _rows(one)]
    print_table(["record", "figure", "stored", "now", "now over stored", "intervals", "verdict"], rows)
    for one in found:
        if one.reason:
            print(f"{one.path.name}: {one.verdict}: {one.reason}")


def _rows(one: Checked) -> list[list[str]]:
    if not one.quantities:
        return [[one.path.stem, *[""] * 5, one.verdict]]
    heads = [(one.path.stem, one.verdict), *[("", "")] * (len(one.quantities) - 1)]
    return [[name, *_figures(found), verdict] for (name, verdict), found in zip(heads, one.quantities, strict=True)]


def _figures(one: Quantity) -> list[str]:
    return [one.name, _span(one.before), _span(one.now), _span(one.change), "overlap" if one.agrees else "apart"]


def _span(span: Span) -> str:
    return f"{short(span.value)} ({short(span.low)} to {short(span.high)})"
