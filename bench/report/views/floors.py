"""What needs no network, beside what was trained."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report import text
from bench.tables.block import Block
from bench.tables.floors import Floor

FEW = 4
"""Methods that a line names."""


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


def without(
    floors: Sequence[tuple[Block, int, Sequence[Floor]]], block: Block, frames: int
) -> dict[str, dict[str, Floor]]:
    """What a block's data give without a network at so many frames: by rule, then by figure."""
    found: dict[str, dict[str, Floor]] = {}
    for floor in (one for of, count, own in floors if of is block and count == frames for one in own):
        found.setdefault(floor.rule, {})[floor.figure] = floor
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


def named(methods: Sequence[str]) -> str:
    """Methods in a line; many by their number and the first few."""
    return text.some(methods, FEW)
