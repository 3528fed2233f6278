"""The public formats of lists of videos, read row by row: one small function a format.

A row that is malformed comes as the error that says so, since one in a hundred thousand must not cost the set. Nothing
is looked for on the disk here, but the lists.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.images import read_lines
from bench.data.split import DataError

LARGEST = 2**30
"""Bytes that a list may have; that of ActivityNet, the longest, has 13 million."""
SUFFIXES = frozenset(".3gp .avi .flv .gif .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv".split())


@dataclass(frozen=True)
class Listed:
    """A video as a list names it.

    where: file:line, or file:key. name: its path, as far as the list knows it, or its id. label: a name or a number of
    its class, "" where the list has none. frames: as the list counts them, 0 where it does not.
    """

    where: str
    name: str
    label: str
    frames: int = 0


class RowFault(DataError):
    """A row cannot be used, or something about a video is wrong. kind: missing, broken, duplicated, mislabelled, ..."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


Rows = Iterator[Listed | DataError]
RowReader = Callable[[Path], Rows]


def path_rows(path: Path) -> Rows:
    """One video a line: path [frames | first last] label [more labels], as SlowFast, mmaction2, TSM, IBM, AR-Net write.

    Fields are parted by ; or , where the line has them (SlowFast's and AR-Net's options), else by spaces, from the
    right: names may hold them. Where the path has the suffix of a video, all numbers behind it are labels, else the
    first counts the frames of a folder. Of several labels the first is taken. A line may lack its label.
    """
    for where, line in _lines(path):
        fields = _fields(line)
        name, numbers = fields[0], fields[1:]
        if not name or not all(number.isdecimal() for number in numbers):
            yield DataError(f"{where}: {line!r:.200} is not a path, perhaps a number of frames, and a label")
        elif len(numbers) == 3 and numbers[0] in ("0", "1") and not _is_video(name):  # IBM: from the first to the last
            yield Listed(where, name, numbers[2], int(numbers[1][:9]))
        elif len(numbers) < 2 or _is_video(name):
            yield Listed(where, name, numbers[0] if numbers else "")
        else:
            yield Listed(where, name, numbers[1], int(numbers[0][:9]))


def _fields(line: str) -> list[str]:
    """The path and the numbers behind it."""
    for sign in ";,":
        if sign in line:
            return [field.strip() for field in line.split(sign)]
    match = re.fullmatch(r"(.*?)((?:\s+[0-9]+)*)", line)
    assert match is not None  # anything matches
    name, numbers = match[1], match[2].split()
    if not _is_video(name) and len(numbers) > 2:  # a folder's name may end with numbers of its own
        kept = 3 if numbers[-3] in ("0", "1") else 2
        name, numbers = line.rsplit(None, kept)[0], numbers[-kept:]
    return [name, *numbers]


def kinetics_rows(path: Path) -> Rows:
    """CVDF's annotations (label,youtube_id,time_start,time_end,split), or `path_rows`, as the first line says."""
    first = next((line for _, line in _lines(path)), "")
    if "youtube_id" not in first:
        yield from path_rows(path)
        return
    for where, row in _table(path, ("youtube_id", "time_start", "time_end")):
        if isinstance(row, DataError):
            yield row
            continue
        start, end = row["time_start"].partition(".")[0], row["time_end"].partition(".")[0]
        if not (_plain(row["youtube_id"]) and start.isdecimal() and end.isdecimal() and len(start + end) < 14):
            yield DataError(f"{where}: youtube_id, time_start and time_end must be an id and two times in seconds")
            continue
        yield Listed(where, f"{row['youtube_id']}_{int(start):06d}_{int(end):06d}", row.get("label", ""))


def moments_rows(path: Path) -> Rows:
    """class/file.mp4,label,votes for,votes against, without a header, as in Moments in Time's trainingSet.csv."""
    for where, row in _records(path):
        if len(row) < 2 or not row[0] or not row[1]:
            yield DataError(f"{where}: {','.join(row)!r:.200} is not a path and a label")
        else:
            yield Listed(where, row[0], row[1])


def folder_rows(path: Path) -> Rows:
    """class/file.avi and perhaps a number, which counts from 1: the label is the folder, as in UCF101's lists."""
    for where, line in _lines(path):
        name = re.sub(r"\s+[0-9]+$", "", line)
        folder = name.rpartition("/")[0].rpartition("/")[2]
        yield Listed(where, name, folder) if folder else DataError(f"{where}: {line!r:.200} is not class/file")


def flagged_rows(part: str) -> RowReader:
    """The rows of HMDB51's <class>_test_split1.txt, "file.avi 1": 1 trains, 2 tests, 0 does neither."""

    def read(path: Path) -> Rows:
        label = re.sub(r"_test_split[0-9]+$", "", path.stem)
        for where, line in _lines(path):
            name, _, flag = line.rpartition(" ")
            if not name.strip() or flag not in ("0", "1", "2"):
                yield DataError(f"{where}: {line!r:.200} is not a file and 0, 1 or 2")
            elif flag == part:
                yield Listed(where, f"{label}/{name.strip()}", label)

    return read


def id_rows(path: Path) -> Rows:
    """id, or id;label, as in Xie's lists of YouTube ids, Something-Something V1 and Jester."""
    for where, line in _lines(path):
        name, _, label = line.partition(";")
        yield Listed(where, name.strip(), label.strip()) if name.strip() else DataError(f"{where}: has no id")


def something_rows(path: Path) -> Rows:
    """[{"id", "template" or "label"}, ...] of Something-Something V2: what is acted on stands in brackets."""
    for where, row in _objects(path):
        label = row.get("template", row.get("label"))
        if isinstance(row.get("id"), str) and isinstance(label, str):
            yield Listed(where, row["id"], re.sub(r"[\[\]]", "", label))
        else:
            yield DataError(f"{where}: needs an id and a template")


def diving_rows(path: Path) -> Rows:
    """[{"vid_name", "label", "start_frame", "end_frame"}, ...] of Diving48; its files hold just these frames."""
    for where, row in _objects(path):
        name, label, end = row.get("vid_name"), row.get("label"), row.get("end_frame")
        if isinstance(name, str) and isinstance(label, int) and label >= 0:
            yield Listed(where, name, str(label), end if isinstance(end, int) and end > 0 else 0)
        else:
            yield DataError(f"{where}: needs a vid_name and a label")


def activitynet_rows(subset: str) -> RowReader:
    """{"database": {id: {"subset", "annotations": [{"label"}, ...]}}} of ActivityNet: the whole video v_<id>."""

    def read(path: Path) -> Rows:
        content = _json(path)
        database = content.get("database") if isinstance(content, dict) else None
        if not isinstance(database, dict):
            raise DataError(f"{path}: database: there must be such an object")
        for name, row in database.items():
            if not isinstance(row, dict) or row.get("subset") != subset:
                continue
            found = row.get("annotations")
            labels = [one.get("label") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
            if labels and isinstance(labels[0], str):
                yield Listed(f"{path}:{name:.40}", f"v_{name}", labels[0])
            else:
                yield DataError(f"{path}:{name:.40}: has no annotation with a label")

    return read


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of classes in the order of their numbers: one a line, perhaps with its number before or behind it
    ("1 ApplyEyeMakeup", "clapping,0"), or JSON: {name: number}, or Diving48's list of lists of parts of a dive.

    Raises:
        DataError: the file cannot be read, names a class twice, or has other numbers than 0 or 1 and on.
    """
    if path.suffix == ".json":
        content = _json(path)
        if isinstance(content, list):
            pairs = [("-".join(map(str, one)) if isinstance(one, list) else str(one), "") for one in content]
        elif isinstance(content, dict):
            pairs = [(name, str(number)) for name, number in content.items()]
        else:
            raise DataError(f"{path}: must be a list, or an object with the number of each class")
    else:
        pairs = [_named(line) for _, line in _lines(path) if line != "id,name"]
    if pairs and all(number.isdecimal() and len(number) < 7 for _, number in pairs):
        numbers = sorted(int(number) for _, number in pairs)
        if numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(pairs))):
            raise DataError(f"{path}: the numbers of its classes must be 0 or 1 and on, without gaps")
        pairs = sorted(pairs, key=lambda pair: int(pair[1]))
    names = [name for name, _ in pairs]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None or not names:
        raise DataError(f"{path}: {f'names the class {twice!r:.80} twice' if names else 'names no class'}")
    return tuple(names)


def _named(line: str) -> tuple[str, str]:
    """A class and its number, "" if the line has none."""
    if match := re.fullmatch(r"([0-9]+)[\s,:]+(\S.*)", line):
        return match[2], match[1]
    if match := re.fullmatch(r"(.*\S)\s*[,;]\s*([0-9]+)", line):
        return match[1].strip('"'), match[2]
    return line.strip('"'), ""


def _is_video(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in SUFFIXES


def _plain(name: str) -> bool:
    return bool(re.fullmatch(r"[\w-]{1,64}", name))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """file:line and line, without those that are empty."""
    _not_too_large(path)
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def _records(path: Path) -> Iterator[tuple[str, list[str]]]:
    """file:line and fields of a CSV, without empty lines."""
    _not_too_large(path)
    lines = csv.reader(read_lines(path))
    try:
        for row in lines:
            if row:
                yield f"{path}:{lines.line_num}", [field.strip() for field in row]
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: not a CSV list: {error}") from None


def _table(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str] | DataError]]:
    """The rows of a CSV with a header."""
    header: list[str] = []
    for where, row in _records(path):
        if not header:
            header = row
            if not set(needed) <= set(header):
                raise DataError(f"{where}: needs the columns {', '.join(needed)}; it has {','.join(header)!r:.200}")
        elif len(row) == len(header):
            yield where, dict(zip(header, row, strict=True))
        else:
            yield where, DataError(f"{where}: has {len(row)} fields, the header {len(header)}")


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list; in the place of anything else an empty one."""
    content = _json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: must be a list of objects")
    for number, row in enumerate(content):
        yield f"{path}:{number}", row if isinstance(row, dict) else {}


def _json(path: Path) -> Any:
    _not_too_large(path)
    try:
        return json.loads("\n".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def _not_too_large(path: Path) -> None:
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if size > LARGEST:
        raise DataError(f"{path}: larger than {LARGEST} bytes, which no list is")


def tagged(rows: Iterable[Listed | DataError]) -> tuple[list[Listed], list[DataError]]:
    """The rows, and what is malformed."""
    good, bad = list[Listed](), list[DataError]()
    for row in rows:
        if isinstance(row, DataError):
            bad.append(row)
        else:
            good.append(row)
    return good, bad
