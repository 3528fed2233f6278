"""From published tables and stored records to report.md and report.html."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.accuracy.intervals import Interval
from bench.records import Record, write_atomically
from bench.report import text
from bench.tables.comparison import Line, accuracies, compare, described, frames
from bench.tables.join import ClaimResult, Joined, Judged, MeasuredRow, join
from bench.tables.runs import Block, blocks, flat
from bench.tables.schema import Claim, Column, Erratum, Row, Table, ids, load
from bench.tables.speed_truth import SpeedLine, speed_lines
from bench.tables.speeds import Setting, interval, joules, throttled
from bench.tables.static_costs import cost_lines, reference
from bench.tables.timings import Timing, timings
from bench.tables.verdicts import Verdict

VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "inconclusive", "not run")


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


def render(
    published: Path, stores: Sequence[tuple[str, Path]], out: Path, only: str | Sequence[str] | None = None
) -> list[Path]:
    """Writes report.md and report.html to the folder `out`: all published tables, or `only` some, and the measured.

    stores: labelled folders of records, with the timings in "speed" below; those that do not exist hold nothing.
    The same files give the same bytes.

    Raises:
        TableError: a table file is faulty, or there is no table of that name.
        RecordError: a record is faulty, or its per-video file is missing or changed.
        SpeedError: a timing is faulty.
    """
    chosen = ids(published) if not only else [only] if isinstance(only, str) else list(dict.fromkeys(only))
    tables = [load(id, published) for id in chosen]
    found, timed = blocks(stores), timings(stores)
    joined = [join(table, found, timed) for table in tables]
    lines = [line for line in speed_lines(timed, tables) if line.table or not only]
    content = {
        "blocks": found,
        "comparisons": [] if only else _comparisons(found, timed),
        "joined": joined,
        "speeds": lines,
        "costs": cost_lines(tables, reference(published)),
        "verdicts": VERDICTS,
    }
    paths = []
    for name, escape in (("report.md", False), ("report.html", True)):
        page = _environment(escape).get_template(f"{name}.j2").render(content)
        write_atomically(out / name, page.encode())
        paths.append(out / name)
    return paths


def _comparisons(found: Sequence[Block], timed: Sequence[Timing]) -> list[tuple[Block, int, list[Line]]]:
    """Where at least two methods were run on the same data at as many frames: (block, frames, lines)."""
    judged = [block for block in found if not block.smoke]
    lines = [(block, count, compare(block, count, timed)) for block in judged for count in frames(block)]
    return [entry for entry in lines if len(entry[2]) > 1]


def _environment(escape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    functions: tuple[Callable[..., Any], ...] = (
        text.significant,
        text.percent,
        text.points,
        text.span,
        text.figure,
        text.ends,
        text.statistic,
        text.margin,
        text.bounds,
        text.fixed,
        text.between,
        text.policy,
        interval,
        throttled,
        joules,
    )
    environment.filters.update({function.__name__: function for function in functions}, md=markdown)
    helpers: tuple[Callable[..., Any], ...] = (
        groups,
        published_text,
        place,
        counts,
        ran,
        idle,
        heading,
        short,
        label,
        measured,
        why_not,
        earlier,
        picture,
        settings,
    )
    helpers += (notes, records, point_counts, at_points, timing_settings, untold, by_subject, clocked)
    helpers += (point_settings, described, accuracies, judging)
    environment.globals.update({function.__name__: function for function in helpers})
    return environment


def markdown(value: object) -> str:
    """Text that is safe inside a Markdown table: neither markup nor a new cell or line."""
    shown = " ".join(str(value).split())
    for sign in "\\|`*_[":
        shown = shown.replace(sign, f"\\{sign}")
    return shown.replace("&", "&amp;").replace("<", "&lt;")


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


def counts(joined: Sequence[Joined], block: Block) -> Counter[str]:
    """How many different claims have which verdict in a block; tables that share their records may repeat one."""
    verdicts: dict[str, str] = {}
    for table in joined:
        for result in table.claims:
            for item in result.latest:
                if item.block is block:
                    verdicts[_what(table.table, result.claim, item.setting)] = item.judgement.verdict
    return Counter(verdicts.values())


def point_counts(joined: Sequence[Joined]) -> Counter[str]:
    """How many claims at published operating points have which verdict, one a machine."""
    return Counter(judgement.verdict for table in joined for result in table.claims for _, judgement in result.points)


def _what(table: Table, claim: Claim, setting: Setting | None) -> str:
    """What tells a judgement from others of the same block."""
    compared = [table.row(id).experiment if id else None for id in (claim.row, claim.against)]
    return repr((compared, claim.statistic, claim.relation, claim.margin, setting))


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
    """The "protocol" or "environment" of a block's records."""
    return text.settings(getattr(run.record, part) for run in block.runs)


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
    return list(dict.fromkeys(note for run in block.runs for note in run.record.notes))


def records(block: Block) -> list[Record]:
    """The records of a block, in the order of their file names."""
    return [run.record for run in block.runs]
