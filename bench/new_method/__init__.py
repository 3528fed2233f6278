"""The file that `vared-bench new-method` writes: `template.py` with another name for its class.

The template is a module of the package, so that it is linted, typed and tested as everything else.
"""

from __future__ import annotations

import keyword
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

CLASS = "NewMethod"


class NewMethodError(Exception):
    """The file cannot be written; the message says why."""


def write(name: str, out: Path | None = None) -> Path:
    """Writes the template as a class of that name to `out`, by default the name in lower case in the working folder.

    Raises:
        NewMethodError: the name is none of a class, the file is there already, or could not be imported.
        OSError: the folder is not there, or cannot be written to.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise NewMethodError(f"{name!r} is no name of a class: give letters, digits and _, such as FewFrames")
    file = out or Path(f"{name.lower()}.py")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise NewMethodError(f"{file}: a module's file is letters, digits and _, and ends in .py")
    if _installed(file):
        raise NewMethodError(f"{file}: would be hidden by the installed module {file.stem!r}; give another with --out")
    text = (resources.files(__package__) / "template.py").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as opened:
            _fill(file, opened, text.replace(CLASS, name))
    except FileExistsError:
        raise NewMethodError(f"{file} is there already, and is not overwritten; give another with --out") from None
    return file


def _fill(file: Path, opened: TextIO, text: str) -> None:
    """Writes all of it, or leaves no file."""
    try:
        opened.write(text)
        opened.flush()
    except OSError as error:
        file.unlink()
        raise NewMethodError(f"{file}: {error.strerror}") from error


def _installed(file: Path) -> bool:
    """Whether another module of that name would be imported."""
    try:
        found = find_spec(file.stem)
    except ValueError:  # a module of this process without a file, such as __main__
        return True
    return found is not None and found.origin != str(file.resolve())
