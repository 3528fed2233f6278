"""Every timing as a line: dense, executed and bound, with what is in print beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.speed.record import Arm, SpeedRecord
from bench.tables.rows import static_twin
from bench.tables.schema import Row, Table
from bench.tables.timings import Timing


@dataclass(frozen=True)
class SpeedLine:
    """One timing. table, row: the published row it is of, None where no loaded table has it.

    ratio, eta: in print, the row's speed over that of its static row, and the share of the saving that this is.
    """

    timing: Timing
    table: Table | None = None
    row: Row | None = None
    ratio: float | None = None
    eta: float | None = None

    @property
    def record(self) -> SpeedRecord:
        """What was stored."""
        return self.timing.record

    @property
    def executed(self) -> float | None:
        """Multiply-adds that ran over those accounted, of the method."""
        arm = self.record.a
        return arm.executed / arm.accounted if arm and arm.executed is not None and arm.accounted else None

    @property
    def reached(self) -> float | None:
        """Measured share of the saving over the share that the bound allows; None where either is a loss."""
        record = self.record
        if not record.eta or not record.eta_max or record.eta_max < 0 or record.eta.value < 0:
            return None
        return record.eta.value / record.eta_max

    @property
    def plain(self) -> Arm | None:
        """The fastest plain form of the static twin."""
        return max(self.record.plain, key=lambda arm: arm.clips_per_second.value, default=None)

    @property
    def slow(self) -> bool:
        """Whether that form is faster than the twin, beyond both intervals: the ratio then flatters the method."""
        twin, plain = self.record.b, self.plain
        return bool(twin and plain and plain.clips_per_second.low > twin.clips_per_second.high)

    @property
    def subject(self) -> tuple[str, ...]:
        """What lines have in common that differ in batch, precision, machine and seed."""
        who = self.record.identity
        options = [repr(sorted(options.items())) for options in (who.a_options, who.b_options)]
        numbers = [f"{number:06}" for number in (who.frames, who.size, who.classes)]
        where = who.profile if who.trained else ""
        return (who.a, who.b, *options, *numbers, who.policy, who.dataset, str(who.trained), where, self.timing.store)


def speed_lines(timings: Sequence[Timing], tables: Sequence[Table]) -> list[SpeedLine]:
    """A line for each timing: published operating points first; then by row in the order of print, and by batch."""
    places = {f"{table.id}/{row.id}": (table, row) for table in tables for row in table.rows}
    order = {place: number for number, place in enumerate(places)}
    lines = [_line(timing, places) for timing in timings]
    return sorted(lines, key=lambda line: _key(line, order))


def _line(timing: Timing, places: Mapping[str, tuple[Table, Row]]) -> SpeedLine:
    found = places.get(timing.record.row or "") or _alike(timing.record, places)
    if found is None:
        return SpeedLine(timing)
    return SpeedLine(timing, *found, *in_print(*found))


def _alike(record: SpeedRecord, places: Mapping[str, tuple[Table, Row]]) -> tuple[Table, Row] | None:
    """The first row that names the experiment."""
    who = record.identity
    for table, row in places.values():
        own = row.experiment
        if not record.row and own and (own.method, own.options, own.frames) == (who.a, who.a_options, who.frames):
            return table, row
    return None


def in_print(table: Table, row: Row) -> tuple[float | None, float | None]:
    """The row's speed over that of the row beside it, and η: (that - 1) / (saving in multiply-adds - 1)."""
    other = row.beside or static_twin(table, row.id)
    if other is None:
        return None, None
    speed, plain = table.value(row.id, "speed"), table.value(other, "speed")
    cost, full = table.value(row.id, "gflops_avg"), table.value(other, "gflops_avg")
    ratio = speed / plain if speed and plain else None
    if ratio is None or not cost or not full or cost == full:
        return ratio, None
    return ratio, (ratio - 1) / (full / cost - 1)


def _key(line: SpeedLine, order: Mapping[str, int]) -> tuple[bool, int, tuple[str, ...], int, tuple[str, ...]]:
    who = line.record.identity
    place = f"{line.table.id}/{line.row.id}" if line.table and line.row else ""
    rest = (who.device, who.precision, f"{who.seed:06}", who.id)
    return not line.record.row, order.get(place, len(order)), line.subject, who.batch, rest
