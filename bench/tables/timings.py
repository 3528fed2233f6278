"""Stored timings, and which rows of which table they are of.

Two kinds are kept apart. Learned: a trained method under its own decisions, at the scale of a profile. Matched: a
method at full size that was not trained, its decisions drawn so that they cost what a published row prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.speed.record import SpeedIdentity, SpeedRecord, SpeedStore
from bench.tables.block import Block
from bench.tables.blocks import origins
from bench.tables.schema import Experiment, Row, Table


class Timing(NamedTuple):
    """A stored timing, under the label of its store; origin: what the folder it lies in is called by itself, and
    origins: what those are called that hold anything of its machine.
    """

    store: str
    record: SpeedRecord
    origin: str = ""
    origins: str = ""


class Clocked(NamedTuple):
    """A row's part in a timing: its method was the one timed, or the twin beside it, also if it was timed alone."""

    timing: Timing
    side: Literal["method", "twin"]

    @property
    def record(self) -> SpeedRecord:
        """What was stored."""
        return self.timing.record

    @property
    def revision(self) -> int:
        """Of the row's own method."""
        return self.record.identity.revisions[self.side == "twin"]


def timings(stores: Sequence[tuple[str, Path]], faults: list[str] | None = None) -> list[Timing]:
    """What lies in the folder "speed" beside the records of each store; without one, nothing.

    Folders of one label are one store: of what several of them hold the last one's counts. faults: gets a line for each
    that is broken; it is left out.

    Raises:
        SpeedError: without `faults`, a file is not a speed record; names file and field.
    """
    names = origins(stores)
    found = {
        (label, record.identity.id): Timing(label, record, names[label, folder])
        for label, folder in stores
        for _, record in SpeedStore(folder / "speed").whole(faults)
        if record.identity.processes == 1  # several at once are no measure of one device
    }
    return _with_origins(list(found.values()))


def _with_origins(found: Sequence[Timing]) -> list[Timing]:
    """The timings, each with the folders of its store in which there are any of its machine."""
    holding: dict[tuple[str, ...], dict[str, None]] = {}
    for one in found:
        holding.setdefault(_machine(one), {})[one.origin] = None
    return [one._replace(origins=" and ".join(holding[_machine(one)])) for one in found]


def _machine(timing: Timing) -> tuple[str, ...]:
    who = timing.record.identity
    return timing.store, who.device, str(who.threads), who.torch


def of_method(found: Iterable[Timing], method: str, options: Mapping[str, Any], frames: int) -> list[Clocked]:
    """The timings in which a method took part."""
    clocked = []
    for timing in found:
        who = timing.record.identity
        if who.frames == frames and (who.a, who.a_options) == (method, options) and not who.alone:
            clocked.append(Clocked(timing, "method"))
        elif who.frames == frames and (who.b, who.b_options) == (method, options):
            clocked.append(Clocked(timing, "twin"))
    return clocked


def with_own_twin(clocked: Iterable[Clocked]) -> list[Clocked]:
    """The timings of a method against the network under it or against itself, or as a twin."""
    named = ((one, one.record.identity) for one in clocked)
    return [one for one, who in named if one.side == "twin" or who.b == who.a.partition("/")[2] or who.own]


def revised(clocked: Iterable[Clocked], revision: int) -> list[Clocked]:
    """The timings of one revision of the method."""
    return [one for one in clocked if one.revision == revision]


def of_experiment(found: Iterable[Timing], experiment: Experiment | None, revision: int) -> list[Clocked]:
    """The timings of one revision of an experiment, none without one."""
    if experiment is None:
        return []
    return revised(of_method(found, experiment.method, experiment.options, experiment.frames), revision)


def learned(found: Iterable[Timing], block: Block) -> list[Timing]:
    """The timings of trained methods under their own decisions that belong to a block.

    Where a store has several blocks of one profile, only a timing whose protocol states its "setting" belongs to one.
    Of networks that were run at different sizes neither was timed at its own against the other.
    """
    return [timing for timing in found if _belongs(timing, block)]


def _belongs(timing: Timing, block: Block) -> bool:
    who, stated = timing.record.identity, timing.record.protocol.get("setting")
    same = (timing.store, who.profile, who.dataset, who.revisions[-1])
    if same != (block.store, block.profile, block.dataset, block.revision) or _sizes(who, block) != {who.size}:
        return False
    settings = {part.record.identity.setting for run in block.runs for part in run.parts}
    return who.trained and who.policy == "learned" and (stated in settings if stated else not block.apart)


def _sizes(who: SpeedIdentity, block: Block) -> set[int]:
    """At which a block has what was timed, or anything where it has neither of the two."""
    runs = [run.record.identity for run in block.runs]
    return {run.size for run in runs if run.method in (who.a, who.b)} or {run.size for run in runs}


def matched(found: Iterable[Timing], table: Table, row: Row) -> list[Clocked]:
    """The timings at a row's published operating point, of the method's latest revision.

    Rows that name one experiment and print one cost for as many classes are one operating point: where a row itself was
    not timed, the others' timings are its own. A static row is timed as the twin of any, at the row's own size. Timings
    that include decoding are of another kind.
    """
    own = row.experiment
    if own is None:
        return []
    published = [timing for timing in found if timing.record.row]
    fitting = [one for one in of_method(published, own.method, own.options, own.frames) if _fits(one, table, row)]
    fitting = [one for one in fitting if one.record.row == f"{table.id}/{row.id}"] or fitting
    return revised(fitting, max((one.revision for one in fitting), default=0))


def _fits(one: Clocked, table: Table, row: Row) -> bool:
    who = one.record.identity
    if who.trained or one.record.protocol.get("decode"):
        return False
    if one.side == "twin":
        return (who.size, who.classes) == (row.size, table.classes)
    cost = target(one.record)
    alike = cost is not None and (who.classes, cost) == (table.classes, table.value(row.id, "gflops_avg"))
    return alike or one.record.row == f"{table.id}/{row.id}"


def target(record: SpeedRecord) -> float | None:
    """The average cost in GFLOPs that a matched policy was drawn for; None under any other policy."""
    found = re.fullmatch(r"matched:(\d+(?:\.\d+)?)(?::.*)?", record.identity.policy)
    return float(found[1]) if found else None


def beside(clocked: Sequence[Clocked], other: Experiment) -> list[Clocked]:
    """The timings of a method against the latest revision of one other."""
    found: dict[int, list[Clocked]] = {}
    for one in clocked:
        who = one.record.identity
        if one.side == "method" and (who.b, who.b_options) == (other.method, other.options):
            found.setdefault(who.revisions[1], []).append(one)
    return found[max(found)] if found else []
