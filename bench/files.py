"""Files that nothing loses: written whole or not at all, with a checksum, under a lock; set aside where broken.

Read and written without torch.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bench.faults import first_fault

Model = TypeVar("Model", bound=BaseModel)
Found = TypeVar("Found")
Errors = type[Exception] | tuple[type[Exception], ...]
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system that knows no second name for a file says; there it goes by its first for a moment."""
SEAL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n}\n\Z')


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system's refusals name the file that was asked for: those of a full disk name none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, *parts: bytes | memoryview, keep: Path | None = None, lasting: bool = True) -> None:
    """Writes a file that is either whole or not there, whatever happens; once this returns a power failure keeps it.

    keep: where the file that it replaces goes; without it, that one is gone. lasting: else a power failure may take
    back what is written, and nobody waits for the disk.

    Raises:
        OSError: names the file; what was there before still is.
    """
    with _naming(path):
        make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            try:
                _write(handle, *parts)
                os.fchmod(handle, 0o644)  # a temporary file is private, what is kept is not
                if lasting:  # before it is renamed, or a power failure may leave the name without the content
                    os.fsync(handle)
            finally:
                os.close(handle)
            if keep is not None and path.exists():
                _keep(path, keep)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if lasting:
            _sync(path.parent)


def _keep(path: Path, keep: Path) -> None:
    """Gives a file that is about to be replaced a second name, so that its own is never missing."""
    keep.unlink(missing_ok=True)
    try:
        os.link(path, keep)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.replace(path, keep)


def append(path: Path, data: bytes) -> None:
    """Adds to the end of a file; once this returns a power failure keeps it.

    Raises:
        OSError: names the file, to which a part may have been added.
    """
    with _naming(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            _write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(handle: int, *parts: bytes | memoryview) -> None:
    for part in parts:
        left = memoryview(part)
        while left:
            left = left[os.write(handle, left) :]


def make_folder(folder: Path) -> None:
    """Makes a folder with those above it, to stay."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    with _naming(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has nothing to bring
                raise
        finally:
            os.close(handle)


def remove_leftovers(folder: Path, start: str = "") -> None:
    """Removes what killed processes had begun to write: only for who holds the lock of all files that start so."""
    for leftover in folder.glob(f".{escape(start)}*.????????"):
        leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process has the lock that a file stands for; the system frees it however a process ends.

    wait: until it is free.
    """
    make_folder(path.parent)
    handle, held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), False
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            pass
        yield held
    finally:
        if held:  # a child that was forked meanwhile has the lock as long as it lives, but for this
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def sealed(text: str) -> bytes:
    """The text of a JSON object with fields, indented by one, with the checksum of its bytes as a last field."""
    assert text.endswith("\n}"), text
    body = text.encode()
    digest = hashlib.sha256(body).hexdigest()
    return body.removesuffix(b"\n}") + f',\n "sha256": "{digest}"\n}}\n'.encode()


def unsealed(data: bytes) -> tuple[bytes, bool]:
    """The JSON object without its checksum, and whether that is right; where there is none, it is taken to be."""
    found = SEAL.search(data)
    if found is None:
        return data, True
    body = data[: found.start()] + b"\n}"
    return body, hashlib.sha256(body).hexdigest().encode() == found[1]


def read_model(path: Path, kind: type[Model], error: type[Exception], what: str) -> Model:
    """Reads a stored model: whole, of its schema, and as it was sealed if it was.

    Raises:
        error: it is not; names file and field. what: the word for it. Its cause is an OSError that may pass, or where
            the file is as it was sealed, so that another version wrote it, what this schema refuses.
    """
    try:
        data = path.read_bytes()
        body, sound = unsealed(data)
        content = json.loads(body)
        if isinstance(content, dict) and content.pop("sha256", None):  # written anew by someone else
            sound = False
        found = kind.model_validate(content)
    except ValidationError as fault:
        if sound and body != data:
            raise error(f"{path}: written by another version: {first_fault(fault, kind)}") from fault
        raise error(f"{path}: {first_fault(fault, kind)}") from None
    except OSError as fault:
        raise error(f"{path}: not a readable {what}: {fault}") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path}: not a readable {what}: {fault}") from None
    if not sound:
        raise error(f"{path}: its content differs from its checksum")
    return found


def set_aside(path: Path, why: str) -> None:
    """Renames a broken file to `<name>.broken-<n>`, and says so in one line on standard error."""
    aside = next(one for number in count(1) if not (one := path.with_name(f"{path.name}.broken-{number}")).exists())
    os.replace(path, aside)
    _sync(path.parent)
    print(f"{path}: {why.removeprefix(f'{path}: ')}; set aside as {aside.name}", file=sys.stderr, flush=True)


def raise_if_passing(error: Exception) -> None:
    """Of what a file was refused for, by its cause.

    Raises:
        OSError: the file is there and could not be read this time, which says nothing about it.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise cause from None


def kept(path: Path, read: Callable[[Path], Found], broken: Errors, beside: Iterable[Path] = ()) -> Found | None:
    """What is stored at `path`; None where nothing is, or what `read` finds broken: then it is set aside.

    broken: what `read` raises then. beside: what else is set aside. Only for who holds the lock of these files.

    Raises:
        OSError: it could not be read this time, which says nothing about the file.
        broken: it is as it was written, by another version.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except broken as error:
        raise_if_passing(error)
        if isinstance(error.__cause__, ValidationError):
            raise
        set_aside(path, str(error))
    for other in beside:
        if other.exists():
            set_aside(other, f"belongs to {path.name}")
    return None


def sound(path: Path, read: Callable[[Path], Found], broken: Errors) -> Found | None:
    """What is stored at `path`; None where nothing is, or what `read` finds broken."""
    return next((found for _, found in whole([path], read, broken, [])), None)


def whole(
    paths: Iterable[Path], read: Callable[[Path], Found], broken: Errors, faults: list[str] | None
) -> Iterator[tuple[Path, Found]]:
    """What is stored at these paths, each with its path. faults: gets a line for each that `read` finds broken.

    Raises:
        broken: what `read` raises, where `faults` is None.
    """
    for path in paths:
        try:
            found = read(path)
        except broken as error:
            if faults is None:
                raise
            faults.append(str(error))
        else:
            yield path, found
