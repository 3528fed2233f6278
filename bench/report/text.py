"""How figures are written: numbers, intervals and settings as text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.accuracy.intervals import Interval
from bench.records import flat
from bench.tables.rows import Measured
from bench.tables.schema import Claim, Column

MINUS = "\u2212"
MOST = 6  # distinct values of one setting that are written out


def significant(value: float) -> str:
    """At least three significant digits, without an exponent: 0.01234 -> 0.0123, 110.52 -> 110.5."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(2 - math.floor(math.log10(abs(value))), 1)
    return f"{value:.{decimals}f}".replace("-", MINUS)


MINIATURE = 0.1
"""GFLOPs below which millions of multiply-adds are printed."""


def cost_unit(gflops: Iterable[float]) -> tuple[float, str]:
    """What GFLOPs are multiplied by, and the name of the unit that they then are in: MFLOPs where all are small."""
    return (1.0, "GFLOPs") if max(gflops, default=1.0) >= MINIATURE else (1e3, "MFLOPs")


def costed(gflops: Iterable[float], scale: float) -> list[str]:
    """Costs in a unit whose `scale` is given."""
    return [significant(scale * value) for value in gflops]


def percent(share: float, digits: int = 1) -> str:
    """A share as a signed percentage: -0.281 -> -28.1 %."""
    return f"{100 * share:+.{digits}f} %".replace("-", MINUS)


def figure(measured: Measured, column: Column) -> str:
    """The value of a measured cell."""
    assert measured.found is not None
    return _in_column(measured.found.value, column, measured.found.value)


def ends(measured: Measured, column: Column) -> str:
    """The interval of a measured cell, or nothing where there is none or its width does not show."""
    found = measured.found
    if found is None or math.isnan(found.low):
        return ""
    found = shares(found) if column.unit == "%" else found
    low, high = (_in_column(end, column, found.value) for end in found[1:])
    return "" if low == high else f"{low} to {high}"


def _in_column(value: float, column: Column, mean: float) -> str:
    """In the unit of the column, but millions, which say so, in one of GFLOPs where the mean is of a miniature."""
    if column.unit == "GFLOPs" and mean < MINIATURE:
        return f"{significant(1e3 * value)} M"
    return f"{value:.1f}" if column.unit == "%" else significant(value)


def statistic(value: float, claim: Claim) -> str:
    """A claim's statistic: a ratio, points, a share of the mean or a correlation."""
    if claim.statistic.endswith("ratio"):
        text = f"{value:.3f}"
    elif claim.statistic.endswith("spread"):
        text = f"{100 * value:.1f} %"
    elif claim.kind == "accuracy":
        text = f"{value:+.2f}"
    else:
        text = f"{value:+.3f}"
    return text.replace("-", MINUS)


def with_unit(value: float, claim: Claim) -> str:
    """A claim's statistic where no head says what it is: "×0.737", "−3.24 points", "7.5 %"."""
    shown = statistic(value, claim)
    if claim.statistic.endswith("ratio"):
        return f"×{shown}"
    return f"{shown} points" if margin(claim).endswith("points") else shown


def margin(claim: Claim) -> str:
    """The claim's relation and margin, as stated beforehand."""
    sign = {"<=": "\u2264", ">=": "\u2265"}.get(claim.relation, claim.relation)
    name, unit = {
        "cost_ratio": ("multiply-adds, ratio", ""),
        "reduction": ("multiply-adds of the plain network, ratio", ""),
        "speed_ratio": ("clips/s, ratio", ""),
        "cost_spread": ("standard deviation / mean", " %"),
        "class_spread": ("standard deviation over classes / mean", " %"),
        "layer_spread": ("standard deviation over layers / mean", " %"),
        "class_range": ("range within a class", " points"),
        "motion": ("rank correlation", ""),
        "difficulty": ("rank correlation", ""),
        "redundancy_motion": ("rank correlation", ""),
        "redundancy_object": ("rank correlation", ""),
        "RP": ("redundancy proportion, difference", ""),
    }.get(claim.statistic, (f"{claim.statistic}, difference", " points"))
    value = 100 * claim.margin if claim.statistic.endswith("spread") else claim.margin
    shown = f"{value:.2f}" if claim.statistic.endswith("ratio") else f"{value:g}"
    return f"{name} {sign} {shown.replace('-', MINUS)}{unit}"


def bounds(found: Interval, claim: Claim) -> str:
    """The interval behind a judgement."""
    if math.isnan(found.low):
        return "no interval"
    found = differences(found) if margin(claim).endswith("points") else found
    return f"{statistic(found.low, claim)} to {statistic(found.high, claim)}"


def points(found: Interval, sign: str = "") -> str:
    """A percentage or a difference of two, to a tenth."""
    return f"{found.value:{sign}.1f}".replace("-", MINUS)


def span(found: Interval, sign: str = "") -> str:
    """Its interval, or nothing where there is none; with `sign` of a difference, else of a share."""
    found = differences(found) if sign else shares(found)
    return "" if math.isnan(found.low) else f"{found.low:{sign}.1f} to {found.high:{sign}.1f}".replace("-", MINUS)


def shares(found: Interval) -> Interval:
    """As shown: an interval by the formula may go beyond 0 to 100 %, a share cannot."""
    return _within(found, 0.0)


def differences(found: Interval) -> Interval:
    """As shown: a difference of two shares is at most 100 points either way."""
    return _within(found, -100.0)


def _within(found: Interval, least: float) -> Interval:
    return Interval(found.value, *(min(max(end, least), 100.0) if math.isfinite(end) else end for end in found[1:]))


def fixed(value: float, digits: int = 3) -> str:
    """With as many decimals: a ratio, or a share of a saving; a dash where there is none."""
    return "\u2013" if math.isnan(value) else f"{value:.{digits}f}".replace("-", MINUS)


def between(found: Interval, digits: int | None = None) -> str:
    """An interval, in significant digits or with as many decimals; nothing where there is none."""
    if math.isnan(found.low):
        return ""
    low, high = (significant(end) if digits is None else fixed(end, digits) for end in found[1:])
    return f"{low} to {high}"


def policy(given: str) -> str:
    """A policy with its figures in words."""
    kind, *figures = given.split(":")
    if not figures:
        return kind
    average, *ends = figures
    return f"{kind}, {average} GFLOPs" + (f" ({' to '.join(ends)})" if ends else "")


def reasons(given: Sequence[tuple[str, str]], others: int) -> str:
    """(block, why it was not run) as one text; the blocks are named unless all share the reason and no `others` ran."""
    blocks: dict[str, list[str]] = {}
    for block, reason in given:
        blocks.setdefault(reason, []).append(block)
    if len(blocks) == 1 and not others:
        return next(iter(blocks))
    return "; ".join(f"{reason} ({', '.join(names)})" for reason, names in blocks.items())


def frames(count: int) -> str:
    """How many frames, in words."""
    return f"{count} frame{'' if count == 1 else 's'}"


def seeds(count: int) -> str:
    """How many seeds, in words."""
    return f"{count} seed{'' if count == 1 else 's'}"


def markdown(value: object) -> str:
    """Text that is safe inside a Markdown table: neither markup nor a new cell or line."""
    shown = " ".join(str(value).split())
    for sign in "\\|`*_[":
        shown = shown.replace(sign, f"\\{sign}")
    return shown.replace("&", "&amp;").replace("<", "&lt;")


def settings(parts: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What this part of several records says, each key once; values that differ stand side by side."""
    values: dict[str, list[str]] = {}
    for part in parts:
        for key, value in flat(part).items():
            seen = values.setdefault(key, [])
            shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            if shown not in seen:
                seen.append(shown)
    return [(key, some(sorted(found), MOST)) for key, found in sorted(values.items())]


def some(values: Sequence[str], most: int) -> str:
    """The first few in a line, and how many there are beyond them."""
    rest = len(values) - most
    return "; ".join(values[:most]) + (f"; and {rest} more" if rest > 0 else "")
