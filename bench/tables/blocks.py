"""Stored records, put into blocks of those that may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.records import Record, Store
from bench.tables.block import Block
from bench.tables.block_names import apart, latest_first
from bench.tables.folds import folded, siblings
from bench.tables.runs import Run, fold_of


def origins(stores: Sequence[tuple[str, Path]]) -> dict[tuple[str, Path], str]:
    """What a folder is called by itself: its label, or of folders that share one its part of "shipped and yours"."""
    found = {}
    for label, folder in stores:
        sharing, names = [other for name, other in stores if name == label], label.split(" and ")
        found[label, folder] = names[sharing.index(folder)] if len(names) == len(sharing) else label
    return found


def blocks(stores: Sequence[tuple[str, Path]], faults: list[str] | None = None) -> list[Block]:
    """The records of labelled folders, in blocks; folders that do not exist hold nothing.

    Folders of one label are one store: of an experiment that several of them hold the last one's record counts. Its
    label may name them in their order: "shipped and yours". Runs in folds are put together.
    faults: gets a line for each record that is broken, or has lost its per-sample table; it is left out.

    Raises:
        RecordError: without `faults`, a file is not a record; names file and field.
    """
    found, names = list[Block](), origins(stores)
    stored = [(label, *one) for label, folder in stores for one in Store(folder).whole(faults)]
    for label, path, record in siblings(stored):
        run = Run(path, record)
        fitting = [block for block in found if _belongs(record, label, block)]
        if not fitting:
            fitting = [_beside(found, label, record)]
            found += fitting
        for block in fitting:
            block.fingerprints[record.identity.frames, fold_of(record)] = record.identity.data_fingerprint
            block.settings[record.identity.prefix] = record.identity.method_setting
            block.runs = [other for other in block.runs if other.record.identity != record.identity] + [run]
    for block in found:
        holding = {run.path.parent for run in block.runs}
        own = [name for (label, folder), name in names.items() if label == block.store and folder in holding]
        block.origin = " and ".join(dict.fromkeys(own))
        block.runs = folded(block.runs)
    for block in found:
        block.mixed = len({other.origin for other in found}) > 1
        block.newest = _newest([other for other in found if other.profile == block.profile])
        alike = [other for other in found if (other.profile, other.store) == (block.profile, block.store)]
        block.apart = apart(block, alike) if len(alike) > 1 else ""
    found = latest_first(found)
    share(found)
    return found


def share(found: Sequence[Block]) -> None:
    """Tells every block which of its records a block before it has."""
    for number, block in enumerate(found):
        held = [(other.name, run) for other in found[:number] for run in other.runs]
        paths = {part.path: name for name, run in reversed(held) for part in run.parts}
        block.shared = {part.path: paths[part.path] for run in block.runs for part in run.parts if part.path in paths}


def _beside(found: Sequence[Block], label: str, record: Record) -> Block:
    """A block for a record that belongs to none: where only its method's own settings tell it from one, with all other
    methods' runs of that one, which it may be compared with as well.
    """
    who, prefix = record.identity, record.identity.prefix
    new = Block(label, who.profile, who.dataset, who.dataset_revision, _setting(record))
    for block in found:
        if _belongs(record, label, replace(block, settings={})):
            new.fingerprints = dict(block.fingerprints)
            new.settings = {name: own for name, own in block.settings.items() if name != prefix}
            new.runs = [run for run in block.runs if run.record.identity.prefix != prefix]
            break
    return new


def _belongs(record: Record, store: str, block: Block) -> bool:
    who = record.identity
    same = (store, who.profile, who.dataset, who.dataset_revision, _setting(record))
    if same != (block.store, block.profile, block.dataset, block.revision, block.setting):
        return False
    if block.settings.get(who.prefix, who.method_setting) != who.method_setting:
        return False
    return block.fingerprints.get((who.frames, fold_of(record)), who.data_fingerprint) == who.data_fingerprint


def _setting(record: Record) -> str:
    """What it has in common with all that it may be compared with; records that state nothing have only their own."""
    stated = record.protocol
    return str(stated.get("across_folds") or stated.get("across_networks") or record.identity.setting)


def _newest(found: Sequence[Block]) -> dict[str, int]:
    newest: dict[str, int] = {}
    done = [run.record for block in found for run in block.runs if run.record.status == "done"]
    for who in (record.identity for record in done):
        newest[who.method] = max(who.method_revision, newest.get(who.method, 0))
    return newest
