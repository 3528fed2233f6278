"""Values of options held against what a builder says it takes: its annotations, or else its defaults.

A value is judged as the JSON that it is stored as: a list for a tuple, a whole number for a float, no NaN. What cannot
be JSON, or an annotation that says nothing of JSON, is left to the builder.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from bench.faults import first_fault

OF_DEFAULTS: Mapping[type, Any] = {
    bool: bool,
    int: float,
    float: float,
    str: str,
    tuple: Sequence[Any],
    list: Sequence[Any],
}
"""What an option without an annotation takes, by its default; 1 may stand for 1.0."""


def fault_of(builder: Callable[..., Any], option: str, value: Any) -> str:
    """What is wrong with a value, in words that follow "option=value"; "" where nothing is.

    option: any; one that the builder does not name takes every finite value.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return "must be finite"
    except TypeError:  # of Python code: nothing that a command line or a profile can give
        return ""
    try:
        TypeAdapter(_wanted(builder, option)).validate_json(text, strict=True)
    except ValidationError as error:
        return first_fault(error)
    except PydanticUserError:  # a type of the author's own
        return ""
    return ""


def _wanted(builder: Callable[..., Any], option: str) -> Any:
    """The type that an option must have, Any where nothing tells."""
    parameter = _signature(builder).parameters.get(option)
    if parameter is None:
        return Any
    default, annotation = parameter.default, parameter.annotation
    if annotation is parameter.empty or isinstance(annotation, str):
        return OF_DEFAULTS.get(type(default), Any)
    return annotation | None if default is None else annotation


def _signature(builder: Callable[..., Any]) -> inspect.Signature:
    """With annotations as types, or as text where one names what only a type checker imports."""
    try:
        return inspect.signature(builder, eval_str=True)
    except Exception:  # whatever an annotation of others does when it is evaluated
        return inspect.signature(builder)
