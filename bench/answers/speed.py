"""What `speed` answers: what was timed against what, how fast, and how much of the saving the clock saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.answers.table import print_table, short
from bench.speed.record import Span, SpeedRecord


def speed_answer(record: SpeedRecord) -> dict[str, Any]:
    """A record, with what an answer about speed cannot do without at its top."""
    return {"device": record.identity.device, "policy": record.identity.policy, **record.model_dump(mode="json")}


def print_speeds(records: Sequence[SpeedRecord]) -> None:
    """One line a record, and one for each plain form of the twin; what is missing below."""
    rows = []
    for record in records:
        rows.append(_row(record))
        for arm in record.plain:
            named = [f"{arm.method} ({arm.form})", "", str(record.identity.batch), ""]
            rows.append([*named, short(arm.clips_per_second.value), *[""] * 7])
    first = records[0].identity
    unit = " or ".join(sorted({record.unit for record in records}))
    columns = ["method", "against", "batch", unit, "twin's", "ratio", "noise", "cost ratio"]
    title = f"{first.device}, {first.precision}, {first.threads} threads, policy {first.policy}"
    print_table([*columns, "eta", "eta max", "bound", "verdict"], rows, title)
    for record in records:
        if all_at_once := record.together:
            a, b = (short(speed) for speed in all_at_once)
            count = len(record.processes)
            print(
                f"{record.identity.a}, batch {record.identity.batch}: {count} processes at once, one device each: {a} "
                f"{record.unit} together, its twin {b}"
            )
        for what, why in record.protocol.get("missing", {}).items():
            print(f"{record.identity.a}, batch {record.identity.batch}: without {what}: {why}")


def _row(record: SpeedRecord) -> list[str]:
    who, bound = record.identity, record.bound or {}
    speeds = [short(arm.clips_per_second.value if arm else None) for arm in (record.a, record.b)]
    figures = [_span(record.ratio), _span(record.noise), short(record.cost_ratio), _span(record.eta)]
    ceiling = [short(record.eta_max), short(bound.get("a"))]
    return [who.a, who.against, str(who.batch), *speeds, *figures, *ceiling, _verdict(record)]


def _verdict(record: SpeedRecord) -> str:
    """Whether there is a difference at all, before by how much."""
    if record.ratio is None:
        return record.reason
    faster = "faster" if record.ratio.value > 1 else "slower"
    throttled = ", while throttled" if record.telemetry.get("throttled") else ""
    return (faster if record.different else "no difference beyond the noise") + throttled


def _span(span: Span | None) -> str:
    return f"{span.value:.3g} ({span.low:.3g} to {span.high:.3g})" if span else "-"
