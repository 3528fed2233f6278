"""What a step may log: numbers, under names that are its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

OF_LINES = ("stage", "name", "step", "waited", "left_out")
"""Names that a line of the log has for itself."""

OF_GRADIENTS = ("loss", "gradient_norm", "lr")
"""Names that `GradientStage` has for itself."""


class LogError(Exception):
    """A step logs what the log cannot take; the message names it."""


def hold(values: Mapping[str, Any], taken: Iterable[str] = OF_LINES) -> None:
    """Holds what is logged against what the log can take.

    Raises:
        LogError: a name that is taken, or a value that is no number.
    """
    taken = list(taken)
    for name, value in values.items():
        if name in taken:
            raise LogError(f"logs {name!r}, a name that is taken ({', '.join(taken)}): give it another")
        if not isinstance(value, Real):
            raise LogError(f"logs {name!r} as {type(value).__name__}: log numbers, not tensors (value.item())")
