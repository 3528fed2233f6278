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
        return place, _said([first], ())
    if first["type"] not in UNKNOWN:
        return _of_branches(errors, schema)
    walked, known = _walked(place[:-1], schema)
    return [*walked, place[-1]], _said([first], known)


def _of_branches(errors: Sequence[Mapping[str, Any]], schema: Any) -> tuple[Sequence[str | int], str]:
    """The first fault, where a value may be of several kinds: that inside the kind which it is, else of all kinds."""
    placed = [(_walked(one["loc"], schema)[0], one) for one in errors]
    start = placed[0][0]
    inside = [pair for pair in placed if pair[0][: len(start)] == start]
    deepest = max(inside, key=lambda pair: len(pair[0]))[0]
    return deepest, _said([one for walked, one in inside if walked == deepest], ())


def hint(name: str, known: Collection[str]) -> str:
    """What was meant by a name that there is not, if only the method of a method/network, or what there is."""
    near = get_close_matches(name, sorted(known), 1) or [
        whole for whole in sorted(known) if get_close_matches(name, whole.split("/")[:1])
    ]
    return (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(sorted(known)) or 'none'}"
    )


def _said(alike: Sequence[Mapping[str, Any]], known: Collection[str]) -> str:
    """The words of a fault; of several, of which any could be mended, what each wants."""
    one = alike[0]
    kind = str(one["type"])
    if kind in UNKNOWN:
        return f"no such field; {hint(str(one['loc'][-1]), known)}" if known else "no such field"
    if kind.startswith("missing"):
        return "is missing"
    wanted = list(dict.fromkeys(filter(None, map(_wanted, alike))))
    if not wanted:  # a check of our own, in its own words
        return str(one["msg"]).removeprefix("Value error, ")
    return f"must be {' or '.join(wanted)}, not {_short(one['input'])}"


def _wanted(one: Mapping[str, Any]) -> str:
    kind = str(one["type"])
    return (_WORDS.get(kind) or _WORDS.get(kind.partition("_")[0], "")).format(**one.get("ctx", {}))


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
