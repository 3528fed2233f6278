"""What a report is made of, read once: tables joined with records, timings, inspections and training logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.inspection.store import Inspection, inspections
from bench.report.logs import Log, logs
from bench.tables.ablations import ablated
from bench.tables.beside import Beside
from bench.tables.block import Block
from bench.tables.blocks import blocks, origins
from bench.tables.comparison import Line, compare, frames
from bench.tables.floors import Floor, floor_records, floors
from bench.tables.join import Joined, join
from bench.tables.longer import longer
from bench.tables.newcomer import with_method
from bench.tables.schema import ids, load
from bench.tables.speed_truth import SpeedLine, speed_lines
from bench.tables.starts import by_start, gains
from bench.tables.static_costs import CostLine, cost_lines, reference
from bench.tables.timings import Timing, timings
from bench.tables.undecided import undecided


@dataclass(frozen=True)
class Content:
    """Everything that pages and pictures are drawn from.

    found: the records, in blocks that may be compared. timed: the timings. joined: the chosen tables, with what
    measures them. compared: where several methods were run on the same data at as many frames. undecided: main rows
    beside what decides nothing. ablated: main rows beside what lacks a part of them. gains: what started from stored
    weights beside itself from weights as drawn. longer: what was trained longer beside itself. floors: what these data
    give without a network. speeds: the timings as lines. costs: of static networks. inspections: of trained networks,
    one a run. logs: of training, by the path of the record's file; undrawn: what is wrong with those that cannot be
    drawn. left_out: what is wrong with each broken file. names: of the stores' folders, as
    `bench.tables.blocks.origins` has them. highlight: the name of a method that is marked, "" for none.
    """

    found: Sequence[Block]
    timed: Sequence[Timing]
    joined: Sequence[Joined]
    compared: Sequence[tuple[Block, int, Sequence[Line]]] = ()
    undecided: Sequence[Beside] = ()
    ablated: Sequence[Beside] = ()
    gains: Sequence[Beside] = ()
    longer: Sequence[Beside] = ()
    floors: Sequence[tuple[Block, int, Sequence[Floor]]] = ()
    speeds: Sequence[SpeedLine] = ()
    costs: Sequence[CostLine] = ()
    inspections: Sequence[Inspection] = ()
    logs: Mapping[Path, Log] = field(default_factory=dict)
    undrawn: Sequence[str] = ()
    left_out: Sequence[str] = ()
    names: Mapping[tuple[str, Path], str] = field(default_factory=dict)
    highlight: str = ""


def gather(
    published: Path, stores: Sequence[tuple[str, Path]], only: Sequence[str] = (), highlight: str = "", table: str = ""
) -> Content:
    """Reads tables, records, timings and logs, and joins them.

    stores: labelled folders of records, with the timings in "speed" below; those that do not exist hold nothing.
    only: the tables to read, and nothing that does not belong to them; all, if there are none. highlight: the method to
    mark. table: the one in which that method gets rows of its own.

    Raises:
        TableError: a table file is faulty, or there is no table of that name.
    """
    left_out: list[str] = []
    rules = floor_records(stores, left_out)
    found, timed = by_start(blocks(stores, left_out)), timings(stores, left_out)
    curves, undrawn = logs(stores)
    looked = inspections(stores, left_out)
    tables = [load(id, published) for id in only or ids(published)]
    lines = [] if only else _lines(found, timed)
    tables = [with_method(one, highlight, found) if one.id == table else one for one in tables]
    return Content(
        found,
        timed,
        [join(table, found, timed) for table in tables],
        compared=[entry for entry in lines if len(entry[2]) > 1],
        undecided=[] if only else [one for block in found if not block.smoke for one in undecided(block, tables)],
        ablated=[] if only else [one for block in found if not block.smoke for one in ablated(block, tables)],
        gains=[] if only else [*gains(found)],
        longer=[] if only else [*longer(found)],
        floors=[(block, count, floors(block, count, rules, own)) for block, count, own in _own(lines)],
        speeds=[line for line in speed_lines(timed, tables) if line.table or not only],
        costs=cost_lines(tables, reference(published)),
        inspections=looked,
        logs=curves,
        undrawn=undrawn,
        left_out=left_out,
        names=origins(stores),
        highlight=highlight,
    )


def _own(lines: Sequence[tuple[Block, int, list[Line]]]) -> list[tuple[Block, int, list[Line]]]:
    """Without what a block before has too: it stands beside the floors of its data once."""
    own = [(block, count, [line for line in told if not block.sharing(line.runs)]) for block, count, told in lines]
    return [entry for entry in own if entry[2]]


def _lines(found: Sequence[Block], timed: Sequence[Timing]) -> list[tuple[Block, int, list[Line]]]:
    """What was finished on the same data at as many frames: (block, frames, its methods).

    Not where a block before has all of that: there it is said already.
    """
    judged = [block for block in found if not block.smoke]
    told = [(block, count, compare(block, count, timed)) for block in judged for count in frames(block)]
    return [entry for entry in told if not all(entry[0].sharing(line.runs) for line in entry[2])]
