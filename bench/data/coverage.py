"""How much of what a list names can be used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.data.split import DataError, UnreadableError

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


@dataclass
class LeftOut:
    """The videos of a set that turned out unreadable while it was used: told once each, and never too many.

    listed: videos in the lists. usable: those that seemed so when the set was built. minimum: the share of the listed
    ones that must stay. agreed: so many of the faults are known to all processes.
    """

    listed: int
    usable: int
    minimum: float
    faults: dict[Path, str] = field(default_factory=dict)
    agreed: int = 0

    def add(self, fault: UnreadableError) -> None:
        """Takes note of a video that cannot be read.

        Raises:
            DataError: fewer videos are left than the minimum.
        """
        if fault.path in self.faults:
            return
        self.faults[fault.path] = str(fault)
        logging.getLogger(__name__).warning("left out %s", fault)
        self._check()

    def agree(self, everyone: Iterable[Mapping[Path, str]]) -> None:
        """Takes the faults that each process found, in the order of processes, for those of all.

        Raises:
            DataError: together they leave fewer videos than the minimum.
        """
        self.faults = {path: line for faults in everyone for path, line in faults.items()}
        self.agreed = len(self.faults)
        self._check()

    def _check(self) -> None:
        if self.too_many(()):
            left = self.usable - len(self.faults)
            raise DataError(
                f"only {left} of {self.listed} videos can be read, under the minimum coverage of {self.minimum:g}; the "
                f"last that cannot: {[*self.faults.values()][-1]}"
            )

    def too_many(self, faults: Iterable[UnreadableError]) -> bool:
        """Whether fewer videos than the minimum are left if these go too."""
        left = self.usable - len(self.faults.keys() | {fault.path for fault in faults})
        return left < self.minimum * self.listed

    def notes(self) -> tuple[str, ...]:
        """How many there are, and their names."""
        if not self.faults:
            return ()
        named = [f"left out while running: {fault}" for fault in list(self.faults.values())[:NAMED]]
        more = len(self.faults) - len(named)
        return (
            f"coverage fell to {self.usable - len(self.faults)} of {self.listed} while running",
            *named,
            *([f"left out {more} more while running"] if more else []),
        )
