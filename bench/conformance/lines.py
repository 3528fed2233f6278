"""Broken promises as lines."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class Broken(Exception):
    """A broken promise after which the rest of a check has no meaning."""


def lines(name: str, part: Iterable[str]) -> Iterator[str]:
    """The lines of one part; an error ends it, as a line of its own."""
    try:
        yield from part
    except Broken as broken:
        yield str(broken)
    except (Exception, SystemExit) as error:  # a method of others may fail in any way
        yield f"{name}: {said(error)}"


def in_double(error: BaseException) -> str:
    """What to add to an error of a check in double precision: why, where numbers of two precisions meet."""
    words = str(error).lower()
    if isinstance(error, RuntimeError) and (("double" in words and "float" in words) or "mixed dtype" in words):
        return "; check runs in double precision, so that no rounding shows: make tensors with dtype=sample.dtype"
    return ""


def said(error: BaseException) -> str:
    """An error in one line, with the last place in it that is in none of Python's or torch's own files."""
    places = [place for place in traceback.extract_tb(error.__traceback__) if "site-packages" not in place.filename]
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"
