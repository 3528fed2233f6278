"""Calls that processes of their own are given; nothing heavy is imported with them."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace


class OfTwoError(Exception):
    """One that cannot be read in another process: it is made of its message alone there."""

    def __init__(self, file: str, fault: str) -> None:
        super().__init__(f"{file}: {fault}")


def fails(number: int) -> int:
    """Fails at number 1 as a decoder may."""
    if number == 1:
        raise OfTwoError("1.mp4", "no frame")
    return number


def process(faulty: bool = False) -> int:
    """That it ran in; a faulty one loses its GPU."""

    def synchronize() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    if faulty:
        cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
        sys.modules["torch"] = SimpleNamespace(cuda=cuda)  # type: ignore[assignment]
    return os.getpid()


def answer(number: int) -> int:
    """The number itself; but number 2 kills its process, and number 3 is wrong."""
    if number == 2:
        os._exit(9)
    if number == 3:
        raise ValueError("3")
    return number
