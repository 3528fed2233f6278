"""Pickles read without calling anything that they name: arrays of numbers, text, numbers and plain containers.

Some public annotations come as pickles, which can hold any code; nothing here runs any.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.data.split import DataError

LARGEST = 2**26
"""Bytes that a file may have; real annotations stay far below."""


class _Type:
    """What stands for numpy.dtype in a pickle: the code of a number and its byte order."""

    def __init__(self, code: str, *ignored: Any) -> None:
        if not re.fullmatch(r"[fiu][1248]", code):
            raise pickle.UnpicklingError(f"has an array of type {code!r:.40}, not of numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """What stands for an array in a pickle: it is put together here, out of checked numbers only.

    NumPy's own way would trust the pickle with its internals, where a false type can name any place in memory.
    """

    def __init__(self, *ignored: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("has an array of something else than numbers")
        self.values = np.frombuffer(data, kind.order + kind.code).reshape(shape, order="F" if by_columns else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype)


class _Unpickler(pickle._Unpickler):
    """Knows nothing but arrays of numbers; text, numbers and plain containers need no name.

    It is the one in Python: that in C lets a few bytes claim all memory. Tuples are no deeper than those of arrays:
    hashed, deep ones overflow the stack.
    """

    known: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what the pickle names."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, and only arrays and plain containers are taken")
        return self.known[module, name]


def _shallow(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """The loader of a tuple, which refuses a third tuple around two."""

    def checked(self: Any) -> None:
        load(self)
        inner = [part for part in self.stack[-1] if isinstance(part, tuple)]
        if any(isinstance(part, tuple) for parts in inner for part in parts):
            raise pickle.UnpicklingError("has tuples in tuples in tuples")

    return checked


_TUPLES = [code[0] for code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)]
_Unpickler.dispatch = {
    code: _shallow(load) if code in _TUPLES else load
    for code, load in pickle._Unpickler.dispatch.items()
    if code not in (pickle.FROZENSET[0], pickle.BYTEARRAY8[0])  # the latter claims memory before it reads
}


def read_pickle(path: Path) -> Any:
    """What a pickle holds, of Python 2 or 3, if that is arrays of numbers, text, numbers and plain containers.

    Whatever else it names is refused before it is imported or called; arrays are rebuilt from their bytes.

    Raises:
        DataError: the file is not there, is too large, is broken, or asks for anything else.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: larger than {LARGEST} bytes")
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except DataError:
        raise
    except Exception as error:  # a broken pickle stumbles in many ways
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """What went wrong, in plain letters: parts of it may come from the file."""
    text = "it breaks off" if isinstance(error, EOFError) else f"{type(error).__name__}: {error}"
    return "".join(sign if sign.isprintable() else " " for sign in text)[:200].strip()
