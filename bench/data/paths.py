"""Nothing that a list or a folder names is opened outside the folder of the set."""

from __future__ import annotations

from pathlib import Path

from bench.data.split import DataError


def within(root: Path, file: Path) -> Path:
    """The file, if it lies in the root once all links are followed; one that is not there does.

    Raises:
        DataError: it leads out of the root, in a circle, or cannot be followed.
    """
    try:
        inside = file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{file}: cannot be followed: {error}") from None
    if not inside:
        raise DataError(f"{file}: is a link that leads out of {root}")
    return file
