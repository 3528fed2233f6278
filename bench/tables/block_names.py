"""What blocks of one profile and store are called, so that each is told from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.records import flat
from bench.tables.block import Block


def apart(block: Block, alike: Sequence[Block]) -> str:
    """What tells a block from others of its name in short: "final" is the one whose profile stands as it was run.

    Others by revisions that were superseded and by their protocol, "revision 1-2, epochs 10"; by their number where
    only methods were set otherwise, the one whose profile said least being the first; else by a digest.
    """
    if _stands(block):
        return "final"
    strangers = [_stated(other) for other in alike if other.setting != block.setting]
    kin = [other for other in alike if other.setting == block.setting and not _stands(other)]
    told = _old_revisions(block)
    if strangers:
        told += _differing(_stated(block), strangers) or [f"setting {block.setting[:6]}"]
    if len(alike) > len(strangers) + 1:
        told.append(f"{_ORDINALS[_place(block, kin)]} setting" if len(kin) <= len(_ORDINALS) else _digest(block))
    return ", ".join(told)


def latest_first(found: Sequence[Block]) -> list[Block]:
    """Blocks of one profile and store together, in the order of their first; the final one first, the first setting
    last.
    """
    stores = list(dict.fromkeys((block.profile, block.store) for block in found))
    settings = list(dict.fromkeys(block.setting for block in sorted(found, key=lambda block: not _stands(block))))

    def rank(block: Block) -> tuple[int, bool, int, int]:
        kin = [other for other in found if _alike(other, block) and not _stands(other)]
        where = stores.index((block.profile, block.store)), not _stands(block), settings.index(block.setting)
        return *where, 0 if _stands(block) else -_place(block, kin)

    return sorted(found, key=rank)


def _alike(one: Block, other: Block) -> bool:
    return (one.profile, one.store, one.setting) == (other.profile, other.store, other.setting)


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def _stands(block: Block) -> bool:
    """Whether its profile is a built-in one that still says what it was run under."""
    profile = block.told
    if profile is None or not block.under(profile):
        return False
    return all(profile.method_setting(name) == own for name, own in block.settings.items())


def _old_revisions(block: Block) -> list[str]:
    """Of what was superseded in it, "revision 1-2"; nothing where nothing was."""
    whose = [run.record.identity for run in block.runs]
    old = sorted({who.method_revision for who in whose if block.superseded(who.method, who.method_revision)})
    return [f"revision {old[0]}" + (f"-{old[-1]}" if len(old) > 1 else "")] if old else []


def _place(block: Block, kin: Sequence[Block]) -> int:
    """Its number among blocks that differ in what was said of methods, from 0."""
    return sorted((len(_of_methods(one)), _digest(one)) for one in kin).index((len(_of_methods(block)), _digest(block)))


def _digest(block: Block) -> str:
    return "methods " + "-".join(own[:6] or "as they are" for _, own in sorted(block.settings.items()))


def _differing(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings, by the last of their dotted names, that one of the others has otherwise; none if one has all."""
    if any(all(other.get(key) == value for key, value in own.items()) for other in others):
        return []
    differing = [key for key in own if any(str(other.get(key, own[key])) != str(own[key]) for other in others)]
    return [f"{key.rpartition('.')[2]} {own[key]}" for key in differing]


def _stated(block: Block) -> dict[str, Any]:
    """Its protocol by dotted names, but for what was said of single methods, or was fitted to single networks."""
    own = ("method", "across_networks")
    told = [flat({name: said for name, said in run.record.protocol.items() if name not in own}) for run in block.runs]
    return {name: said for name, said in told[0].items() if all(other.get(name) == said for other in told)}


def _of_methods(block: Block) -> dict[str, Any]:
    """What the profile said of each method that the block has runs of, by dotted names."""
    said = ((run.record.identity.prefix, run.record.protocol.get("method", {})) for run in block.runs)
    return flat({name: methods.get(name, {}) for name, methods in said})
