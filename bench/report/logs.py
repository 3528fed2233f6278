"""Training logs kept beside the records: `<stem of the record>.log.jsonl`, as `bench.training` writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIX = ".log.jsonl"
_PLACE = ("stage", "name", "step")
LARGEST = 2**53


class LogError(Exception):
    """A training log is not what it should be; the message names file and line."""


@dataclass(frozen=True)
class Log:
    """What one training logged, line by line.

    stages: (name, its first line), in order. steps: of the whole training at each line: those of a stage count on from
    the last line of the stage before. columns: the values logged, NaN where a line has none of that name.
    """

    stages: tuple[tuple[str, int], ...]
    steps: tuple[int, ...]
    columns: Mapping[str, tuple[float, ...]]


def logs(stores: Iterable[tuple[str, Path]]) -> tuple[dict[Path, Log], list[str]]:
    """The logs in labelled folders of records, by the path of the record's file; and of those that are no JSON lines of
    numbers what is wrong, a line each: a log is only drawn, so that a broken one costs its curve and nothing else.
    """
    found, faults = dict[Path, Log](), list[str]()
    for path in (path for _, folder in stores for path in sorted(folder.glob(f"*{SUFFIX}"))):
        try:
            found[path.with_name(path.name.removesuffix(SUFFIX) + ".json")] = read_log(path)
        except LogError as error:
            faults.append(str(error).replace(str(path), path.name))
    return found, faults


def read_log(path: Path) -> Log:
    """Reads one log.

    Raises:
        LogError: a line is no JSON object, or a field is no number; names file, line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LogError(f"{path}: not a readable log: {error}") from None
    entries = [_entry(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    names = dict.fromkeys(name for entry in entries for name in entry if name not in _PLACE)
    columns = {name: tuple(float(entry.get(name, math.nan)) for entry in entries) for name in names}
    return Log(*_steps(entries), columns)


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    """One line, checked."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise LogError(f"{path}: line {number}: not JSON") from None
    if not isinstance(entry, dict):
        raise LogError(f"{path}: line {number}: not an object")
    for name, kind in (("stage", int), ("name", str), ("step", int)):
        if type(entry.get(name)) is not kind:  # True is no step
            raise LogError(f"{path}: line {number}: {name}: not {'text' if kind is str else 'a whole number'}")
        if kind is int and not 0 <= entry[name] <= LARGEST:
            raise LogError(f"{path}: line {number}: {name}: must be in 0..{LARGEST}")
    for name, value in entry.items():
        if name not in _PLACE and (isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e308):
            raise LogError(f"{path}: line {number}: {name}: not a number")
    return entry


def _steps(entries: list[dict[str, Any]]) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """The stages with their first lines, and the step of the whole training at every line."""
    stages: list[tuple[str, int]] = []
    steps: list[int] = []
    before = 0
    for number, entry in enumerate(entries):
        if number == 0 or entry["stage"] != entries[number - 1]["stage"]:
            before = steps[-1] if steps else 0
            stages.append((entry["name"], number))
        steps.append(before + entry["step"])
    return tuple(stages), tuple(steps)
