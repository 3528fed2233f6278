"""Pictures of the inside of networks: what decisions compute, for which clips, and how redundant feature maps are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.inspection.settings import Settings
from bench.inspection.store import Inspection
from bench.report.figures.heat import heat_map
from bench.report.figures.layers import by_layer
from bench.report.figures.motion import policies_by_motion, redundancy_by_clip
from bench.report.figures.picture import Picture
from bench.report.figures.subject import Subject
from bench.report.figures.thumbnails import feature_maps, strips
from bench.tables.block import Block
from bench.tables.runs import Run, by_form, fold_of

if TYPE_CHECKING:
    from bench.report.content import Content


def insight_pictures(content: Content) -> list[Picture]:
    """What the stored decisions and inspections allow, policies first."""
    deciding = [(block, list(_deciding(block))) for block in content.found if not block.smoke]
    decided = [subject for _, found in deciding for subject in found]
    parts = [part.record for block in content.found for run in block.runs for part in run.parts]
    looked = list(_inspected(content, {one.identity.id: fold_of(one) for one in parts}))
    drawn = [
        *(heat_map(subject, runs) for subject, runs in decided),
        *(picture for block, found in deciding for picture in policies_by_motion(block, found)),
        *(by_layer(subject, group) for subject, group in looked),
        *(redundancy_by_clip(subject, group) for subject, group in looked),
        *(feature_maps(subject, group) for subject, group in looked),
        *(strips(subject, group) for subject, group in looked),
    ]
    return [picture for picture in drawn if picture]


def _deciding(block: Block) -> Iterator[tuple[Subject, Sequence[Run]]]:
    """The finished runs with stored decisions, those of one method in its latest revision together, by seed."""
    for runs in by_form(run for run in block.runs if _decides(run)):
        yield Subject(block.store, runs[0].record.identity, block.name), runs


def _decides(run: Run) -> bool:
    stored = run.record.status == "done" and run.record.samples_file is not None
    return stored and any(name.startswith("decision.") for name in run.samples.columns)


def _inspected(content: Content, folds: Mapping[str, int | None]) -> Iterator[tuple[Subject, Sequence[Inspection]]]:
    """The finished inspections of one method at the same settings together, by seed. folds: of runs, by their ids."""
    groups: dict[str, list[Inspection]] = {}
    for one in content.inspections:
        who = one.record.identity
        alike = who.model_copy(update={"run": who.run.model_copy(update={"seed": 0})})
        if one.record.status == "done":
            groups.setdefault(f"{one.store} {alike.id}", []).append(one)
    for group in groups.values():
        group.sort(key=lambda one: one.record.identity.run.seed)
        first = group[0].record.identity
        own = first.settings.model_dump(exclude_defaults=True)
        apart = "" if first.settings == Settings() else f"with {json.dumps(own, sort_keys=True)}"
        fold = folds.get(first.run.id)
        names = dict.fromkeys(content.names.get((one.store, one.path.parents[1]), one.store) for one in group)
        where = f"{first.run.profile} ({' and '.join(names)}{'' if fold is None else f', looked into in fold {fold}'})"
        yield Subject(group[0].store, first.run, where, apart), group
