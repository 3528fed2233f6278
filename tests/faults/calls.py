"""Calls that processes of their own are given; nothing heavy is imported with them."""

from __future__ import annotations

import os


def answer(number: int) -> int:
    """The number itself; but number 2 kills its process, and number 3 is wrong."""
    if number == 2:
        os._exit(9)
    if number == 3:
        raise ValueError("3")
    return number
