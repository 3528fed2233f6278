"""What a schema refuses, for people: where, and what it must be, in our own words and in one line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError

UNKNOWN = frozenset(("extra_forbidden", "unexpected_keyword_argument"))

_WORDS: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table of fields",
    "model": "a table of fields",
    "dataclass": "a table of fields",
    "literal_error": "{expected}",
    "greater_than": "above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "below {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
}
"""What a value must be, by pydantic's kind of error, whole or up to its first "_": int_type, int_parsing, ..."""


def first_fault(error: ValidationError, schema: Any = None) -> str:
    """The first fault in one line, with its place if it has one: "identity.seed: must be a whole number, not 'x'".

    schema: the type that was asked for; with it an unknown field gets its near miss.
    """
    place, text = fault(error, schema)
    return ": ".join(part for part in (".".join(map(str, place)), text) if part)


def fault(error: ValidationError, schema: Any = None) -> tuple[Sequence[str | int], str]:
    """The place and the words of the first fault; an unknown field comes before what is missing because of it."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] in UNKNOWN), errors[0])
    place: Sequence[str | int] = first["loc"]
    if schema is None:
        return place, _said(first, ())
    if first["type"] not in UNKNOWN:
        return _walked(place, schema)[0], _said(first, ())
    walked, known = _walked(place[:-1], schema)
    return [*walked, place[-1]], _said(first, known)


def _said(one: Mapping[str, Any], known: Collection[str]) -> str:
    kind = str(one["type"])
    if kind in UNKNOWN:
        near = get_close_matches(str(one["loc"][-1]), sorted(known), 1)
        listed = f"; there are {', '.join(sorted(known))}" if known else ""
        return f"no such field; did you mean {near[0]!r}?" if near else f"no such field{listed}"
    if kind.startswith("missing"):
        return "is missing"
    wanted = _WORDS.get(kind) or _WORDS.get(kind.partition("_")[0])
    if wanted is None:  # a check of our own, in its own words
        return str(one["msg"]).removeprefix("Value error, ")
    return f"must be {wanted.format(**one.get('ctx', {}))}, not {_short(one['input'])}"


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _walked(path: Sequence[str | int], schema: Any) -> tuple[list[str | int], set[str]]:
    """The parts of a path that are fields or places in lists (others name the branch of a union); fields at its end."""
    whole = TypeAdapter(schema).json_schema()
    nodes, walked = list[Mapping[str, Any]]((whole,)), list[str | int]()
    for part in path:
        if inner := [child for node in nodes for child in _into(node, part, whole)]:
            nodes = inner
            walked.append(part)
    return walked, {
        name for node in nodes for branch in _branches(node, whole) for name in branch.get("properties", ())
    }


def _into(node: Mapping[str, Any], part: str | int, whole: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What lies under a field, or at a place of a list, in a JSON schema."""
    for branch in _branches(node, whole):
        child = branch.get("items") if isinstance(part, int) else branch.get("properties", {}).get(part)
        child = child or (branch.get("additionalProperties") if isinstance(part, str) else None)
        if isinstance(child, Mapping):
            yield child


def _branches(node: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A node, what it refers to, and each of its alternatives."""
    if "$ref" in node:
        node = whole["$defs"][str(node["$ref"]).rpartition("/")[2]]
    yield node
    for other in node.get("anyOf", ()):
        yield from _branches(other, whole)
