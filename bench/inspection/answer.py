"""What `inspect` answers: the figures of one inspection, without its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.answers.table import print_table, short
from bench.inspection.redundancy import ALONG
from bench.inspection.spent import Spent, dearest, spent
from bench.inspection.store import Inspection


def inspection_answer(found: Inspection) -> dict[str, Any]:
    """As JSON can; `mean`: over the inspected clips; `spent`: by class, of what decides."""
    record = found.record
    answer = record.model_dump(mode="json", exclude={"sheet": {"picture"}, "pairs": {"__all__": {"picture"}}})
    return {"file": str(found.path), "mean": means(found), "spent": [asdict(one) for one in spent(found)], **answer}


def means(found: Inspection) -> dict[str, float]:
    """Of everything that is known of each clip, the mean over clips; what is not defined in any clip is left out."""
    if found.record.samples_file is None:
        return {}
    table = found.samples.select_dtypes("number").drop(columns="target").mean().dropna()
    return {str(name): float(value) for name, value in table.items()}


def print_inspection(found: Inspection) -> None:
    """Redundancy by layer, or cost, decisions and clips by class; means over clips; what was left out, a line each."""
    record = found.record
    print(f"{found.path}: {record.status}, {record.identity.run.dataset}")
    heads = [f"{along}.{name}" for along in ALONG for name in ("CC", "RMSE", "RP")]
    mean = means(found)
    if record.layers:
        rows = [[layer.name, *(short(layer.figures.get(head)) for head in heads)] for layer in record.layers]
        rows.append(["mean over layers", *(short(mean.get(head)) for head in heads)])
        print_table(["convolution", *heads], rows)
    _print_spent(spent(found), record.identity.settings.classes)
    if record.sheet:
        strips = [[one.label, one.end, str(one.video), f"{100 * one.share:.1f} %"] for one in record.sheet.strips]
        print_table(["class", "clip that costs", "row", "of the dynamic convolutions' full cost"], strips)
    rest = [[name, short(value)] for name, value in mean.items() if name not in heads]
    print_table(["of a clip, mean", "value"], rest)
    for name, why in {**record.left_out, **record.missing}.items():
        print(f"without {name}: {why}")


def _print_spent(classes: Sequence[Spent], most: int) -> None:
    """Cost and clips of every class, and decisions of the first `most`, which JSON has of all."""
    if not classes:
        return
    rows = [
        [
            one.label,
            str(one.clips),
            short(one.cost),
            *(f"{short(cost)} (row {row})" for row, cost in (one.most, one.least)),
        ]
        for one in classes
    ]
    heads = ["class", "clips", "multiply-adds, mean", "most expensive clip", "least expensive clip"]
    print_table(heads, rows, "cost by class")
    shown = classes[:most]
    points = [[point, *map(short, shares)] for point, shares in dearest(shown).items()]
    if points:
        title = "decisions by class: share of clips with the most expensive option open (of a mask: what is open of it)"
        print_table(["decision point", *(one.label for one in shown)], points, title)
