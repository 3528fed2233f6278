"""What a method says of itself, as a record can store it."""

from __future__ import annotations

import json
from typing import Any

from bench.method import Method


class DetailsError(Exception):
    """`details()` fails, or gives what JSON cannot hold; the message says which."""


def details_of(method: Method) -> dict[str, Any]:
    """What `details()` gives, as it is read again from a record.

    Raises:
        DetailsError: it fails, or gives something else than a dictionary that JSON can hold.
    """
    try:
        told = method.details()
    except Exception as error:  # a method of others may fail in any way
        raise DetailsError(f"details() fails: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(told, dict):
        raise DetailsError(f"details() gives {type(told).__name__}, not a dictionary")
    found: dict[str, Any] = {}
    for key, value in told.items():
        try:
            found[str(key)] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DetailsError(
                f"details() gives {key!r} as what JSON cannot hold ({error}): give finite numbers, texts, lists and "
                "dictionaries of them"
            ) from error
    return found
