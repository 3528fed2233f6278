"""When names of classes and of videos mean the same, however they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

HMDB51 = r"(.+?)_[a-z]_(?:cm|nm)_np[0-9]+_(?:fr|ba|le|ri)_(?:bad|med|goo)_[0-9]+"
"""Names of HMDB51's clips, which J-HMDB kept: the film and the action are their source."""


@lru_cache(maxsize=4096)
def same(label: str) -> str:
    """What two ways of writing a class share: air_drumming and "Air drumming"."""
    return " ".join(re.sub(r"[\W_]+", " ", label.lower()).split())


def label_of(label: str, names: Sequence[str]) -> str:
    """The class that a label means: its number, or its name."""
    return names[int(label)] if label.isdecimal() and len(label) < 7 and int(label) < len(names) else label


def source_of(pattern: str, name: str) -> str:
    """The independent source that a video's name tells, by the pattern of its set; else the whole name."""
    match = re.fullmatch(pattern, name)
    return match[1] if match else name
