"""How much of what a list names can be used."""

from __future__ import annotations

from collections.abc import Sequence

from bench.data.split import DataError

NAMED = 20
"""Unusable files that the notes name; the rest is counted."""


def coverage(origin: object, usable: int, faults: Sequence[DataError], minimum: float, what: str) -> tuple[str, ...]:
    """The notes on coverage and on every file that is left out; `what`: "videos can be opened".

    Raises:
        DataError: nothing is usable, or less than the share `minimum`.
    """
    total = usable + len(faults)
    if not usable or usable < minimum * total:
        first = f"; the first that cannot: {faults[0]}" if faults else ""
        raise DataError(f"{origin}: only {usable} of {total} {what}, under the minimum coverage of {minimum:g}{first}")
    notes = [f"coverage {usable} of {total}", *(f"left out {fault}" for fault in faults[:NAMED])]
    if len(faults) > NAMED:
        notes.append(f"left out {len(faults) - NAMED} more")
    return tuple(notes)
