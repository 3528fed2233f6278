"""Where a measured figure comes from: protocol, records and machine, each set of records described once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.inspection.store import Inspection
from bench.records import flat
from bench.report import text
from bench.speed.record import SpeedRecord
from bench.tables.block import Block
from bench.tables.comparison import described
from bench.tables.rows import MeasuredRow
from bench.tables.runs import Run, fold_of
from bench.tables.schema import Row

FROM_PROTOCOL = (
    "views.clips",
    "views.crops",
    "unit",
    "recipe.epochs",
    "recipe.precision",
    "device",
    "decode",
    "rounds",
)
"""What a reader asks of the protocol first; the whole of it stands under the settings."""

FROM_ENVIRONMENT = ("processor", "gpu", "threads", "torch", "cuda", "commit")


@dataclass(frozen=True)
class Source:
    """What stands behind a figure: an id in the page, a title, and (what, how) in words."""

    id: str
    title: str
    facts: Sequence[tuple[str, str]]


class Sources:
    """The sources that a page names, in the order in which it first does."""

    def __init__(self) -> None:
        self._found: dict[str, Source] = {}

    def __iter__(self) -> Iterator[Source]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def row(self, row: Row, measured: MeasuredRow) -> Source:
        """Of a table's row in one block: its finished runs of the latest revision."""
        assert row.experiment is not None
        revision = measured.block.latest(row.experiment)
        assert revision is not None
        return self.runs(measured.block, list(measured.block.done(row.experiment, revision).values()))

    def runs(self, block: Block, runs: Sequence[Run]) -> Source:
        """Of runs of one method."""
        who = runs[0].record.identity
        size = f"{text.frames(who.frames)} of {who.size} × {who.size}"
        facts = [
            ("method", f"{described(who.method, who.options)}, revision {who.method_revision}"),
            ("profile", block.name),
            ("data set", f"{who.dataset}, revision {who.dataset_revision}, fingerprint {who.data_fingerprint}"),
            ("sample", size),
            ("seeds", ", ".join(str(run.record.identity.seed) for run in runs)),
            *_chosen([run.record.protocol for run in runs], FROM_PROTOCOL),
            *_chosen([run.record.environment for run in runs], FROM_ENVIRONMENT),
        ]
        looked = [_looked(run, run.inspection) for run in runs if run.inspection]
        facts += [("inspections", ", ".join(looked))] if looked else []
        return self._add("Measured", facts, [part.record.identity.id for run in runs for part in run.parts])

    def timings(self, store: str, records: Sequence[SpeedRecord]) -> Source:
        """Of timings of one method on one machine, from one store."""
        who = records[0].identity
        seeds = ", ".join(sorted({str(record.identity.seed) for record in records})) if who.trained else "not trained"
        facts = [
            ("method", described(who.a, who.a_options)),
            ("against", who.against),
            ("store", store),
            ("decisions", text.policy(who.policy)),
            ("sample", f"{who.frames} × {who.size} × {who.size}, clips of {who.dataset}"),
            ("batch, precision", f"{who.batch}, {who.precision}"),
            ("seeds", seeds),
            ("device", f"{who.device}, {who.threads} thread{'' if who.threads == 1 else 's'}, torch {who.torch}"),
            *_chosen([record.protocol for record in records], ("views", "decode", "rounds", "dataset_options.fold")),
            *_chosen([record.environment for record in records], ("cuda", "commit")),
        ]
        return self._add("Timed", facts, [record.identity.id for record in records])

    def _add(self, title: str, facts: Iterable[tuple[str, str]], records: Sequence[str]) -> Source:
        """A source is known by all that is said of it: records of two stores may have the same ids."""
        facts = [*facts, ("records", ", ".join(records))]
        id = "source-" + hashlib.sha256(repr((title, facts)).encode()).hexdigest()[:10]
        return self._found.setdefault(id, Source(id, title, facts))


def _looked(run: Run, found: Inspection) -> str:
    """The id of its inspection, and of a run in folds which of them was looked into."""
    who = found.record.identity
    folds = [fold_of(part.record) for part in run.parts if part.record.identity == who.run]
    return who.id + "".join(f", looked into in fold {fold}" for fold in folds if fold is not None)


def _chosen(parts: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[tuple[str, str]]:
    """Some of the settings, by the last part of their names; those that are not known are left out."""
    known = [{key: value for key, value in flat(part).items() if key in keys and value is not None} for part in parts]
    order = {key: number for number, key in enumerate(keys)}
    return [(key.rpartition(".")[2], value) for key, value in sorted(text.settings(known), key=lambda f: order[f[0]])]
