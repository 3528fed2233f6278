"""Timings by what was timed and where, and what they say of their settings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.records import flat
from bench.report import text
from bench.tables.comparison import Line, described
from bench.tables.join import Joined
from bench.tables.speed_truth import SpeedLine
from bench.tables.speeds import setting


def at_points(lines: Sequence[SpeedLine], wanted: bool) -> list[SpeedLine]:
    """The timings at published operating points, or all others."""
    return [line for line in lines if bool(line.record.row) == wanted]


def by_subject(lines: Sequence[SpeedLine]) -> list[list[SpeedLine]]:
    """Lines of one row and subject together, in their order."""
    return [list(found) for _, found in groupby(lines, key=lambda line: (line.record.row, line.subject))]


def timing_settings(lines: Sequence[SpeedLine], part: str) -> list[tuple[str, str]]:
    """The "protocol" or "environment" of timings."""
    return text.settings(getattr(line.record, part) for line in lines)


def untold(lines: Sequence[SpeedLine]) -> list[str]:
    """Why the devices told nothing, or not all, of themselves, each reason once."""
    told = [(key, value) for line in lines for key, value in flat(line.record.telemetry).items()]
    return list(dict.fromkeys(value for key, value in told if key.endswith("reason") and value))


def unsettled(lines: Sequence[SpeedLine]) -> list[str]:
    """The timings whose warm-up ended before the clock was steady, by name."""
    found = [line.record.identity for line in lines if not line.record.protocol.get("warm_up", {}).get("stable", True)]
    return [f"{described(who.a, who.a_options)}, batch {who.batch}, {who.device}" for who in found]


def place_of(line: SpeedLine) -> str:
    """The machine of a timing."""
    return setting(line.timing).where


def places(lines: Sequence[SpeedLine]) -> list[str]:
    """The machines of timings."""
    return list(dict.fromkeys(map(place_of, lines)))


def machines_in(lines: Sequence[Line]) -> list[str]:
    """The machines on which methods of a comparison were timed."""
    return list(dict.fromkeys(one.setting.where for line in lines for one in line.speeds))


def machines_of(joined: Joined) -> list[str]:
    """The machines that cells of a table were timed on."""
    cells = [cell for runs in joined.rows.values() for run in runs for cell in run.cells.values()]
    found = [one.setting.where for cell in cells for one in cell.timed]
    return list(
        dict.fromkeys([*found, *(point.setting.where for points in joined.points.values() for point in points)])
    )
