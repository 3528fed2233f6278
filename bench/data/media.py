"""What lies in a folder: videos and folders of frames, found by listing it once, none of them opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bench.data.list_rows import SUFFIXES, RowFault
from bench.data.paths import within
from bench.data.split import DataError

PICTURE = re.compile(r".*[0-9]\.(?:jpe?g|png)", re.IGNORECASE)
YOUTUBE = re.compile(r"(?:v_)?(.{11})_[0-9]{6}_[0-9]{6}")
DEPTH = 16
"""Folders in folders that are looked into."""


@dataclass
class Media:
    """Videos and folders of frames under `root`: paths relative to it, in the order of their names.

    by_name: the last part without suffix -> paths. by_id: the YouTube id of <id>_000001_000011 -> paths. faults: links
    that lead out, folders that cannot be listed.
    """

    root: Path
    paths: list[str] = field(default_factory=list)
    by_name: dict[str, list[str]] = field(default_factory=dict)
    by_id: dict[str, list[str]] = field(default_factory=dict)
    faults: list[DataError] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Takes one path in."""
        self.paths.append(path)
        name = stem(path)
        self.by_name.setdefault(name, []).append(path)
        if match := YOUTUBE.fullmatch(name):
            self.by_id.setdefault(match[1], []).append(path)

    def find(self, name: str, hints: tuple[str, ...] = ()) -> str | None:
        """The path that a list means with `name`: of those with its last part, or its id, the one that ends most like
        it, and then the one with most `hints` among its folders. Nothing that is not there, and so nothing outside.
        """
        last = stem(name)
        found = self.by_name.get(last) or self.by_id.get(last) or []
        if len(found) < 2:
            return found[0] if found else None
        wanted = PurePosixPath(name).parts[:-1][::-1]

        def fit(path: str) -> tuple[int, int]:
            folders = PurePosixPath(path).parts[:-1]
            same = 0
            for ours, theirs in zip(folders[::-1], wanted, strict=False):
                if ours != theirs:
                    break
                same += 1
            return same, sum(hint in folders for hint in hints)

        return max(found, key=fit)


def stem(path: str) -> str:
    """The last part of a path, without the suffix of a video."""
    last = path.rstrip("/").rpartition("/")[2]
    base, dot, suffix = last.rpartition(".")
    return base if dot and f".{suffix.lower()}" in SUFFIXES else last


def listed_media(root: Path) -> Media:
    """What lies under `root`: videos, and folders of frames, which hold pictures, no video and no folder.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    media = Media(root)
    for path in sorted(_walk(root, "", media.faults, 0)):
        media.add(path)
    return media


def pictures_size(folder: str) -> int:
    """Bytes of all pictures in a folder of frames, which tell one version of it from another without opening any.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as entries:
        pictures = (entry for entry in entries if PICTURE.fullmatch(entry.name) and not entry.name.startswith("."))
        return sum(entry.stat().st_size for entry in pictures if entry.is_file())


def _walk(root: Path, folder: str, faults: list[DataError], depth: int) -> Iterator[str]:
    """Paths of videos and folders of frames in a folder and below.

    A picture beside videos or folders, or in the root, is none of a video's frames, and ignored.
    """
    videos, below, pictures = list[str](), list[str](), False
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    continue
                if not path.isprintable():  # what no terminal shows is no name, and no UTF-8 either
                    faults.append(RowFault("outside", f"{root}: {path!r} is no name of a file"))
                    continue
                if entry.is_symlink() and not _followed(root, path, faults):
                    continue
                if entry.is_dir():
                    below.append(path)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    videos.append(path)
                else:
                    pictures = pictures or PICTURE.fullmatch(entry.name) is not None
    except OSError as error:
        faults.append(DataError(f"{root / folder}: {error.strerror}"))
    yield from [folder] if pictures and folder and not videos and not below else videos
    if below and depth == DEPTH:
        faults.append(DataError(f"{root / folder}: has folders deeper than {DEPTH}, which are not looked into"))
        return
    for path in below:
        yield from _walk(root, path, faults, depth + 1)


def _followed(root: Path, path: str, faults: list[DataError]) -> bool:
    """Whether a link is followed: not out of the root, and not to a folder that it lies in, which would have no end."""
    try:
        target = within(root, root / path).resolve()
    except DataError as fault:
        faults.append(RowFault("outside", str(fault)))
        return False
    return not (root / path).parent.resolve().is_relative_to(target)
