"""What the templates ask of joined tables, claims, blocks and timings: pure functions of data already read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bench.accuracy.intervals import Interval
from bench.records import Identity, Record, flat
from bench.report import text
from bench.report.content import Content
from bench.tables.block import Block
from bench.tables.claims import ClaimResult, Judged
from bench.tables.comparison import Line, described
from bench.tables.floors import Floor
from bench.tables.join import Joined
from bench.tables.newcomer import is_new
from bench.tables.rows import MeasuredRow
from bench.tables.runs import Run
from bench.tables.schema import Claim, Column, Erratum, Row, Table
from bench.tables.speed_truth import SpeedLine
from bench.tables.speeds import Setting, setting
from bench.tables.static_costs import REPRODUCED, CostLine, StaticCost

FEW = 4
"""Methods that a line names."""


@dataclass(frozen=True)
class Agreement:
    """What the counters say of one method: summed over its seeds, and for one sample of a static network.

    samples: of the test set. accounted, executed: multiply-adds of those. ours, fvcore: of one sample, None where the
    network is not static.
    """

    block: Block
    method: str
    name: str
    samples: int
    accounted: int
    executed: int
    ours: int | None
    fvcore: int | None


@dataclass(frozen=True)
class Group:
    """Rows that are printed together, with the columns that they fill."""

    name: str
    rows: Sequence[Row]
    columns: Sequence[Column]

    @property
    def labels(self) -> list[str]:
        """The heads of the label columns."""
        return list(dict.fromkeys(label for row in self.rows for label in row.labels))


def groups(table: Table) -> list[Group]:
    """The table's groups in the order of print, each with the columns that it fills."""
    found = []
    for name in dict.fromkeys(row.group for row in table.rows):
        rows = [row for row in table.rows if row.group == name]
        filled = [any(cells) for cells in zip(*(row.cells for row in rows), strict=True)]
        found.append(Group(name, rows, [c for c, full in zip(table.columns, filled, strict=True) if full]))
    return found


def published_text(table: Table, row: Row, column: Column) -> str:
    """The cell as printed."""
    return row.cells[table.columns.index(column)]


def place(table: Table, erratum: Erratum) -> str:
    """The cell that an erratum is about, by its labels in print."""
    row = table.row(erratum.row)
    heads = {column.id: column.label for column in table.columns}
    labels = [f"{name} {text}" for name, text in row.labels.items() if text]
    return ", ".join([*([row.group] if row.group else []), *labels, heads.get(erratum.column, erratum.column)])


def claim_key(table: Table, claim: Claim) -> tuple[str, ...]:
    """What tells a claim from others that the same records decide; tables that share rows may repeat one."""
    compared = [table.row(id).experiment if id else None for id in (claim.row, claim.against)]
    return repr(compared), claim.statistic, claim.relation, repr(claim.margin)


def heading(table: Table) -> str:
    """The title, with its number where it has one."""
    number = short(table.id)
    return f"{number}: {table.title}" if number != table.id else table.title


def short(id: str) -> str:
    """ "Table 1" and "Figure 3" for people; other ids as they are."""
    kind = re.fullmatch(r"(table|figure)(\d+)", id)
    return f"{kind[1].capitalize()} {kind[2]}" if kind else id


def label(table: Table) -> str:
    """A table in a word or two."""
    number = short(table.id)
    return number if number != table.id else table.title.partition(":")[0]


def ran(claims: Sequence[ClaimResult], wanted: bool) -> list[ClaimResult]:
    """The claims that were judged from some block, or from none."""
    return [claim for claim in claims if any(j.judgement.interval is not None for j in claim.latest) == wanted]


def judging(claims: Sequence[ClaimResult]) -> list[Block]:
    """The blocks from which any of these claims was judged, or could have been."""
    found = {id(item.block): item.block for claim in claims for item in claim.latest}
    return list(found.values())


def idle(claims: Sequence[ClaimResult]) -> dict[str, list[ClaimResult]]:
    """The claims that were not judged, by the reason."""
    found: dict[str, list[ClaimResult]] = {}
    for claim in (claim for claim in ran(claims, False) if not claim.points):
        blocks = [(item.block.name, item.judgement.reason) for item in claim.latest]
        found.setdefault(claim.never or text.reasons(blocks, 0) or "no record", []).append(claim)
    return found


def measured(rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
    """The blocks in which a row was run."""
    return [row for row in rows if row.seeds]


def why_not(rows: Sequence[MeasuredRow]) -> str:
    """Why a row was not run in the blocks that do not have it; smoke runs are not there to fill rows."""
    missing = [(row.block.name, row.reason) for row in rows if not row.seeds and not row.block.smoke]
    return text.reasons(missing, len(measured(rows))) if missing else ""


def missing(joined: Joined, row: str) -> str:
    """Why a row was not run where it was not, and why it was not timed at its published operating point."""
    run, timed = why_not(joined.rows[row]), joined.untimed.get(row, "")
    parts = [f"not run: {run}"] if run else []
    return ". ".join([*parts, f"Speed at the published operating point: {timed}"] if timed else parts)


def by_reason(untimed: Mapping[str, str]) -> dict[str, list[str]]:
    """Rows by why they were not timed; those that only wait, together."""
    found: dict[str, list[str]] = {}
    for row, reason in untimed.items():
        found.setdefault(reason.partition(": speed --table")[0], []).append(row)
    return found


def earlier(claims: Sequence[ClaimResult]) -> list[tuple[ClaimResult, Judged]]:
    """What earlier revisions were judged to be, where they were run."""
    return [(claim, item) for claim in claims for item in claim.earlier]


def picture(found: Interval, claim: Claim) -> dict[str, float] | None:
    """Where margin, interval and the claim's side lie, in percent of a bar's width; None without an interval."""
    places = [found.low, found.high, claim.margin]
    span = max(places) - min(places)
    if not span > 0:
        return None
    start = min(places) - 0.15 * span
    low, high, margin = (round(100 * (place - start) / (1.3 * span), 1) for place in places)
    below = claim.relation.startswith("<")
    side = (0.0, margin) if below else (margin, round(100 - margin, 1))
    width = max(round(high - low, 1), 1.0)
    return {"low": low, "width": width, "margin": margin, "side": side[0], "side_width": side[1]}


def settings(block: Block, part: str) -> list[tuple[str, str]]:
    """The "protocol" or "environment" of a block's records; of the methods' settings each record's own."""
    return text.settings(_own(record, getattr(record, part)) for record in records(block))


def _own(record: Record, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the settings that the profile, by which static records may be shared, has for other methods."""
    if "method" not in said:
        return said
    own = record.identity.prefix
    return {**said, "method": {name: value for name, value in said["method"].items() if name == own}}


def timing_settings(lines: Sequence[SpeedLine], part: str) -> list[tuple[str, str]]:
    """The "protocol" or "environment" of timings."""
    return text.settings(getattr(line.record, part) for line in lines)


def untold(lines: Sequence[SpeedLine]) -> list[str]:
    """Why the devices told nothing, or not all, of themselves, each reason once."""
    told = [(key, value) for line in lines for key, value in flat(line.record.telemetry).items()]
    return list(dict.fromkeys(value for key, value in told if key.endswith("reason") and value))


def by_subject(lines: Sequence[SpeedLine]) -> list[list[SpeedLine]]:
    """Lines of one row and subject together, in their order."""
    return [list(found) for _, found in groupby(lines, key=lambda line: (line.record.row, line.subject))]


def point_settings(claims: Sequence[ClaimResult]) -> list[Setting]:
    """The machines on which claims were judged at published operating points, by one setting each."""
    settings = {key.machine: key for claim in claims for key, _ in claim.points if key}
    return [settings[machine] for machine in sorted(settings)]


def clocked(claims: Sequence[ClaimResult]) -> list[ClaimResult]:
    """The claims that were judged at published operating points."""
    return [claim for claim in claims if claim.points]


def at_points(lines: Sequence[SpeedLine], wanted: bool) -> list[SpeedLine]:
    """The timings at published operating points, or all others."""
    return [line for line in lines if bool(line.record.row) == wanted]


def notes(block: Block) -> list[str]:
    """What the records note of their data and their run, each note once."""
    return list(dict.fromkeys(note for record in records(block) for note in record.notes))


def records(block: Block) -> list[Record]:
    """The records of a block, in the order of their file names."""
    return [part.record for run in block.runs for part in run.parts]


def most_seeds(block: Block) -> int:
    """The most seeds that any method of the block was finished with."""
    seeds = Counter((who.method, repr(who.options), who.frames, who.method_revision) for who in _finished(block))
    return max(seeds.values(), default=0)


def _finished(block: Block) -> list[Identity]:
    return [run.record.identity for run in block.runs if run.record.status == "done"]


def method_of(table: Table, row: str) -> str:
    """The method that measures a row, "" where none does."""
    run = table.row(row).experiment
    return run.method if run else ""


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


def costs_of(block: Block) -> list[float]:
    """What the runs of a block cost on average, GFLOPs."""
    return [record.cost.average / 1e9 for record in records(block) if record.cost]


def agreements(blocks: Sequence[Block]) -> list[Agreement]:
    """What the counters say of every method in the records, with the seeds of its latest revision together."""
    return [line for block in blocks for line in _agreements(block)]


def _agreements(block: Block) -> list[Agreement]:
    found: dict[tuple[str, int], list[Run]] = {}
    for run in (run for run in block.runs if run.record.executed.get("accounted")):
        who = run.record.identity
        found.setdefault((described(who.method, who.options), who.frames), []).append(run)
    return [_agreement(block, name, runs) for (name, _), runs in found.items()]


def _agreement(block: Block, name: str, runs: Sequence[Run]) -> Agreement:
    latest = max(run.record.identity.method_revision for run in runs)
    records = [run.record for run in runs if run.record.identity.method_revision == latest]
    samples, accounted, executed = (
        sum(record.executed.get(key, 0) for record in records) for key in ("samples", "accounted", "executed")
    )
    who = records[0].identity
    name = f"{name}, {who.frames} frame{'' if who.frames == 1 else 's'}"
    return Agreement(
        block, who.method, name, samples, accounted, executed, records[0].static_macs, records[0].fvcore_macs
    )


def named(methods: Sequence[str]) -> str:
    """Methods in a line; many by their number and the first few."""
    rest = len(methods) - FEW
    return "; ".join(methods[:FEW]) + (f"; and {rest} more" if rest > 0 else "")


def without(
    floors: Sequence[tuple[Block, int, Sequence[Floor]]], block: Block, frames: int
) -> dict[str, dict[str, Floor]]:
    """What a block's data give without a network at so many frames: by rule, then by figure."""
    found: dict[str, dict[str, Floor]] = {}
    for floor in (one for of, count, own in floors if of is block and count == frames for one in own):
        found.setdefault(floor.rule, {})[floor.figure] = floor
    return found


def best_floors(
    floors: Sequence[tuple[Block, int, Sequence[Floor]]],
) -> list[tuple[Block, int, list[Floor]]]:
    """Of each data set and figure the best that needs no network."""
    found = []
    for block, frames, own in floors:
        ranked = sorted(own, key=lambda floor: -floor.found.value)
        best = {floor.figure: floor for floor in reversed(ranked)}
        found.append((block, frames, [best[name] for name in dict.fromkeys(floor.figure for floor in own)]))
    return found


def unmeasured(block: Block, frames: int, found: Sequence[Floor]) -> str:
    """What is said where no floor was measured of a block's data, with the command that does; "" where one was."""
    if any(floor.measured for floor in found):
        return ""
    fold = block.runs[0].record.protocol.get("dataset_options", {}).get("fold")
    words = [f"--profile {block.profile} --frames {frames}"]
    words += [f"--data-option fold={fold}"] if fold is not None and not block.folds else []
    words += ["--coarse"] if block.answers == "classes" else []
    return f"no trivial baseline of exactly these data: vared-bench data floor {' '.join(words)} --results runs"


def networks(blocks: Sequence[Block]) -> list[str]:
    """What was trained, a line for each block that has a finished run: size of input, and of networks."""
    return [
        f"{block.dataset}{block.part}, profile {block.name}: {scale(block)}"
        for block in blocks
        if _finished(block) and not block.smoke
    ]


def scale(block: Block) -> str:
    """Size of input, and of networks: those that the profile shrank are miniatures; "" where nothing was finished."""
    record = next((run.record for run in block.runs if run.record.status == "done"), None)
    if record is None:
        return ""
    counts = sorted({who.frames for who in _finished(block)})
    sizes = sorted({who.size for who in _finished(block)})
    input = f"{' and '.join(map(str, counts))} frame{'' if counts == [1] else 's'} of "
    input += " or ".join(f"{size} × {size}" for size in sizes)
    if "network" not in record.protocol:
        return input
    told = [f"{key.replace('_', ' ')} {value}" for key, value in record.protocol["network"].items()]
    return f"{input}, {'miniature networks: ' + ', '.join(told) if told else 'networks at full width'}"


def miniature(block: Block) -> bool:
    """Whether the profile shrank its networks."""
    return any(run.record.protocol.get("network") for run in block.runs if run.record.status == "done")


def reproduced(lines: Sequence[CostLine]) -> str:
    """How many of the counted static rows come out as printed, in a sentence."""
    counted = [line for line in lines if line.cost]
    near = [line for line in counted if line.cost and _near(line.cost, line.published)]
    share = f"{100 * REPRODUCED:g} %"
    what = f"{len(near)} of the {len(counted)} rows that are counted"
    return f"{what} come within {share} of what is published under a convention."


def _near(cost: StaticCost, published: float) -> bool:
    return any(abs(macs / 1e9 / published - 1) <= REPRODUCED for macs in (cost.macs, cost.fvcore))


def first_new(content: Content) -> str:
    """Where in the page the highlighted method is first seen, "" if nowhere."""
    for joined in content.joined:
        for row in joined.table.rows:
            if is_new(row.id):
                return anchor(joined.table.id, row.id)
    for number, (_, _, lines) in enumerate(content.compared):
        if any(line.method == content.highlight for line in lines):
            return compared(number)
    return ""


def anchor(table: str, part: str) -> str:
    """The id in the page of a claim or row of a table."""
    return re.sub(r"[^\w.-]+", "-", f"{table}-{part}")


def compared(number: int) -> str:
    """The id in the page of a comparison, counted from 0."""
    return f"comparison-{number + 1}"
