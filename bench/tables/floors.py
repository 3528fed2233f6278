"""What a data set gives to rules without a network, as it was measured, and which results are above it.

A floor belongs to a block only where it was measured at as many frames and all the data are the same, by their
fingerprints.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bench.accuracy.intervals import Interval, interval
from bench.files import kept, locked, read_model, sealed, whole, write_atomically
from bench.records import Figure, Strict
from bench.tables.block import Block
from bench.tables.comparison import Line
from bench.tables.folds import APART
from bench.tables.runs import Run, fold_of, groups, per_video
from bench.tables.verdicts import FEWEST_SEEDS

CLASSES = "clip-1"
"""The figure of blind rules on classified videos, the same for every number of views."""


class FloorError(Exception):
    """A stored floor is not what it should be; the message names file and field."""


class FloorRecord(Strict):
    """What rules without a network have on one data set, in all its folds together: shares of 1 by rule and figure.

    fingerprints: of the data, one a fold. videos: how many were tested. right: of classes, by rule and fingerprint,
    "1" for each test video that is named rightly, else "0", in the order of the split; records made earlier have none.
    """

    dataset: str
    dataset_revision: int
    profile: str
    frames: int
    fingerprints: list[str]
    videos: int = Field(gt=0)
    rules: dict[str, dict[str, Figure]]
    right: dict[str, dict[str, Annotated[str, Field(pattern="^[01]+$")]]] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """Readable and unique."""
        digest = hashlib.sha256("".join(self.fingerprints).encode()).hexdigest()[:10]
        return f"{self.dataset}-{self.frames}f-{digest}"


def store(folder: Path, record: FloorRecord) -> Path:
    """Keeps a floor in "floors" beside the records of `folder`; other rules that are there of the same data stay.

    Raises:
        OSError: it cannot be written, or what is there cannot be read this time.
        FloorError: what is there was written by another version.
    """
    path = folder / "floors" / f"{record.id}.json"
    with locked(path.parent / "lock", wait=True):
        record = _with_rules(kept(path, _read, FloorError), record)
        write_atomically(path, sealed(record.model_dump_json(indent=1)))
    return path


def floor_records(stores: Sequence[tuple[str, Path]], faults: list[str] | None = None) -> list[FloorRecord]:
    """Everything in "floors" beside the records of each store, one of the same data; of a rule the last store's counts.

    faults: gets a line for each that is broken.

    Raises:
        FloorError: without `faults`, a file is no floor; names file and field.
    """
    paths = [path for _, folder in stores for path in sorted((folder / "floors").glob("*.json"))]
    found: dict[str, FloorRecord] = {}
    for _, record in whole(paths, _read, FloorError, faults):
        found[record.id] = _with_rules(found.get(record.id), record)
    return list(found.values())


def _with_rules(earlier: FloorRecord | None, record: FloorRecord) -> FloorRecord:
    """A floor with the rules of an earlier one that it does not have."""
    if earlier is None or earlier.dataset_revision != record.dataset_revision:
        return record
    right = {rule: kept for rule, kept in earlier.right.items() if rule not in record.rules}
    return record.model_copy(update={"rules": {**earlier.rules, **record.rules}, "right": {**right, **record.right}})


def _read(path: Path) -> FloorRecord:
    return read_model(path, FloorRecord, FloorError, "floor")


@dataclass(frozen=True)
class Floor:
    """A figure without a network, in %. measured: by a stored rule; else counted from the classes of the test videos.

    above, below: the methods that are more, or less, often right on the same videos, with the whole interval of the
    paired difference; where the rule's answers are not kept, those whose own interval lies outside that of the floor.
    level: those of which neither is so. few: those with too few seeds to tell, which say how many.
    """

    rule: str
    figure: str
    found: Interval
    measured: bool
    above: list[str] = field(default_factory=list)
    level: list[str] = field(default_factory=list)
    few: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)


def floors(block: Block, frames: int, records: Sequence[FloorRecord], lines: Sequence[Line] = ()) -> list[Floor]:
    """The floors of a block's data at so many frames, with the methods of `lines` above each."""
    own = [record for record in records if _is_of(record, block, frames)]
    measured = [
        (Floor(rule, name, _percent(figure), True), record.right.get(rule, {}) if name == CLASSES else {})
        for record in own
        for rule, figures in record.rules.items()
        for name, figure in figures.items()
    ]
    return [_standing(floor, right, lines) for floor, right in [*_counted(block, frames), *measured]]


def _is_of(record: FloorRecord, block: Block, frames: int) -> bool:
    prints = {digest for (count, _), digest in block.fingerprints.items() if count == frames}
    theirs = (record.dataset, record.dataset_revision, record.frames)
    return theirs == (block.dataset, block.revision, frames) and prints == {*record.fingerprints}


def _percent(figure: Figure) -> Interval:
    ends = (math.nan if end is None else 100 * end for end in (figure.low, figure.high))
    return Interval(100 * figure.value, *ends)


def _counted(block: Block, frames: int) -> list[tuple[Floor, Mapping[str, str]]]:
    """Chance and the most frequent class, from the classes of the test videos."""
    run = next((run for run in block.runs if _tells(run, frames)), None)
    if run is None:
        return []
    counts = np.unique(run.samples["target"], return_counts=True)[1]
    most, classes = 100 * counts.max() / counts.sum(), len(counts)
    told = {f"one of the {classes} classes at random": 100 / classes, "the test videos' most frequent class": most}
    return [(Floor(rule, CLASSES, Interval(value, math.nan, math.nan), False), {}) for rule, value in told.items()]


def _tells(run: Run, frames: int) -> bool:
    record = run.record
    stored = record.identity.frames == frames and record.status == "done" and record.samples_file is not None
    return stored and run.classifies and "target" in run.samples.columns


def _standing(floor: Floor, right: Mapping[str, str], lines: Sequence[Line]) -> Floor:
    """The floor with the methods by where they lie."""
    sides: dict[str, list[str]] = {"above": [], "level": [], "few": [], "below": []}
    for line in lines:
        own = line.accuracies.get(floor.figure)
        if own is not None and line.seeds < FEWEST_SEEDS:
            sides["few"].append(f"{line.name} ({line.seeds} seed{'' if line.seeds == 1 else 's'})")
        elif own is not None:
            sides[_side(own, floor.found, _paired(line, right))].append(line.name)
    return replace(floor, above=sides["above"], level=sides["level"], few=sides["few"], below=sides["below"])


def _side(own: Interval, floor: Interval, difference: Interval | None) -> Literal["above", "level", "below"]:
    """By the paired difference if there is one, else by the two intervals; without an interval level."""
    if difference is not None:
        return "above" if difference.low > 0 else "below" if difference.high < 0 else "level"
    low, high = (floor.value if math.isnan(end) else end for end in floor[1:])
    return "above" if own.low > high else "below" if own.high < low else "level"


def _paired(line: Line, right: Mapping[str, str]) -> Interval | None:
    """A method's clip-1 less that of the rule, points, paired; None where the rule's answers are not kept."""
    parts = {(fold_of(part.record) or 0): part.record.identity.data_fingerprint for part in line.runs[0].parts}
    if not all(digest in right for digest in parts.values()):
        return None
    own = per_video(line.runs, "clip_1")
    rule = [float(right[parts[video // APART]][video % APART]) for video in own.index]
    return interval(100 * (own.to_numpy() - np.array(rule)[:, None]).T, groups(line.runs[0], own.index))
