"""A panel of methods as marks: accuracy against what it costs, with intervals and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from bench.accuracy.intervals import Interval
from bench.report.figures.labels import Box, Label, around, write
from bench.report.figures.style import GROUND, SOFT, Mark, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Better = Literal["less", "more"]
XY = tuple[float, float]
Stroke = tuple[XY, XY]

_LOGARITHMIC = 3.0
"""The ratio of the largest to the smallest value from which an axis is logarithmic."""

_FEW = 4
"""Points that are named where they stand."""

_CLOSE = 12.0
"""Points of accuracy within which the best are looked at closely."""


@dataclass(frozen=True)
class Point:
    """A method in a panel: what it costs (x), how right it is (y, %), and its controls as (x, y). name: for people."""

    number: str
    mark: Mark
    x: Interval
    y: Interval
    hollow: bool = False
    controls: Sequence[XY] = ()
    name: str = ""

    def label(self, among: int) -> str:
        """What is written at it: its name where there are few, else its number in the key."""
        return self.name if self.name and among <= _FEW else self.number


@dataclass(frozen=True)
class Panel:
    """Points on axes of their own. better: whether less or more of x is."""

    title: str
    across: str
    up: str
    points: Sequence[Point]
    better: Better
    window: Box | None = None
    """A part of the data that another panel enlarges: framed, and its points not numbered here."""

    limits: Box | None = None
    """Of the axes; None: as the points need."""


def front(points: Sequence[Point], better: Better) -> list[Point]:
    """The points that no other betters in one value without being worse in the other, by rising x."""
    sign = 1 if better == "less" else -1
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (sign * point.x.value, -point.y.value)):
        if not found or point.y.value > found[-1].y.value:
            found.append(point)
    return found[::sign]


def _steps(best: Sequence[Point], better: Better) -> list[XY]:
    """The line of a front by its corners: what its points reach for x and less, or more where more is better."""
    places = [(point.x.value, point.y.value) for point in best]
    found = places[:1]
    for (left, low), (right, up) in pairwise(places):
        found += [(right, low) if better == "less" else (left, up), (right, up)]
    return found


def draw(axes: Axes, panel: Panel) -> None:
    """Draws a panel."""
    _limit(axes, panel)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    grid(axes)
    steps = _steps(front(panel.points, panel.better), panel.better)
    axes.plot(*zip(*steps, strict=True), color=SOFT, linewidth=0.9, zorder=1)
    _points(axes, panel.points)
    if panel.window:
        _frame(axes, panel.window)
    shown = [p for p in panel.points if not (panel.window and _inside(p, panel.window))]
    labels = [Label(p.label(len(panel.points)), p.x.value, p.y.value, p.mark.colour) for p in shown]
    write(axes, labels, _taken(axes, panel.points, [*pairwise(steps)]))


def enlarge(panel: Panel) -> list[Panel]:
    """The panel, and one of the best points alone where they are many and too close together to be told apart."""
    top, lowest = (pick(point.y.value for point in panel.points) for pick in (max, min))
    close = [point for point in panel.points if point.y.value >= top - _CLOSE]
    if len(close) < 5 or len(close) == len(panel.points) or top - lowest < 3 * _CLOSE:
        return [panel]
    xs, ys = [p.x.value for p in close], [p.y.value for p in close]
    room = (max(xs) / min(xs)) ** 0.05 if min(xs) > 0 else 1.0
    window = Box(min(xs) / room, min(ys) - 1.5, max(xs) * room, max(ys) + 1.5)
    across = any(not window.left <= end <= window.right for point in close for end in ends(point.x))
    cut = across or any(not window.bottom <= end <= window.top for point in close for end in ends(point.y))
    title = "the frame above, enlarged" + ("; intervals go on beyond its edges" if cut else "")
    enlarged = replace(panel, title=title, points=close, limits=window)
    return [replace(panel, window=window), enlarged]


def _inside(point: Point, window: Box) -> bool:
    return window.left <= point.x.value <= window.right and window.bottom <= point.y.value <= window.top


def _frame(axes: Axes, window: Box) -> None:
    from matplotlib.patches import Rectangle

    size = window.right - window.left, window.top - window.bottom
    axes.add_patch(Rectangle((window.left, window.bottom), *size, fill=False, edgecolor=SOFT, linewidth=0.7, zorder=3))


def _limit(axes: Axes, panel: Panel) -> None:
    """Scales and limits."""
    limits = panel.limits or _limits(panel)
    axes.set(ylim=(limits.bottom, limits.top))
    axes.locator_params(axis="y", nbins=6)
    costs = [point.x.value for point in panel.points]
    if limits.left > 0 and max(costs) > _LOGARITHMIC * min(costs):
        axes.set_xscale("log")
        _ticks(axes)
    else:
        axes.locator_params(axis="x", nbins=6)
    axes.set(xlim=(limits.left, limits.right))


def _limits(panel: Panel) -> Box:
    """Room for all means and controls, and for intervals as far as 0 to 100 % go."""
    xs = [x for p in panel.points for x in (*ends(p.x), *(x for x, _ in p.controls))]
    ys = [y for p in panel.points for y in (*ends(p.y), *(y for _, y in p.controls))]
    if panel.window:
        xs += [panel.window.left, panel.window.right]
        ys += [panel.window.bottom, panel.window.top]
    left, right, bottom, top = min(xs), max(xs), max(min(ys), 0.0), min(max(ys), 100.0)
    up = 0.08 * (top - bottom) or 1.0
    if left > 0 and right > _LOGARITHMIC * left:
        room = (right / left) ** 0.06
        return Box(left / room, bottom - up, right * room, top + up)
    across = 0.08 * (right - left) or 0.1 * abs(right) or 1.0
    return Box(left - across, bottom - up, right + across, top + up)


def _ticks(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def ends(found: Interval | None) -> tuple[float, ...]:
    """The value and, where there are any, its ends."""
    return () if found is None else (found.value,) if math.isnan(found.low) else tuple(found)


def _points(axes: Axes, points: Sequence[Point]) -> None:
    """Marks, their intervals, and their controls joined to them; one artist for what looks alike, for speed."""
    alike: dict[tuple[Mark, bool], list[Point]] = {}
    for point in points:
        alike.setdefault((point.mark, point.hollow), []).append(point)
    for ((form, colour), hollow), group in alike.items():
        face, edge = (GROUND, colour) if hollow else (colour, GROUND)
        xs, ys = [p.x.value for p in group], [p.y.value for p in group]
        axes.plot(xs, ys, form, color=colour, markerfacecolor=face, markeredgecolor=edge, markersize=7, zorder=3)
        _strokes(axes, [stroke for p in group for stroke in _intervals(p)], colour, 1.0)
        joined = [((p.x.value, p.y.value), place) for p in group for place in p.controls]
        _strokes(axes, joined, colour, 0.4)
        xs, ys = [end[0] for _, end in joined], [end[1] for _, end in joined]
        axes.plot(xs, ys, "x", color=colour, markersize=3.5, markeredgewidth=0.9, zorder=2)


def _intervals(point: Point) -> list[Stroke]:
    """The strokes of the intervals that there are."""
    x, y = point.x, point.y
    across = [((x.low, y.value), (x.high, y.value))] if not math.isnan(x.low) else []
    return across + ([((x.value, y.low), (x.value, y.high))] if not math.isnan(y.low) else [])


def _strokes(axes: Axes, strokes: Sequence[Stroke], colour: str, width: float) -> None:
    from matplotlib.collections import LineCollection

    if strokes:
        axes.add_collection(LineCollection(strokes, colors=colour, linewidths=width, zorder=1.5), autolim=False)


def _taken(axes: Axes, points: Sequence[Point], lines: Sequence[Stroke]) -> list[Box]:
    """What labels may not cover: marks, intervals, controls, and these straight lines, in points."""
    strokes = [*lines, *(stroke for point in points for stroke in _intervals(point))]
    drawn = [axes.transData.transform(stroke) for stroke in strokes]
    found = [Box(*(each.min(0) - 1), *(each.max(0) + 1)) for each in drawn]
    return found + [around(*axes.transData.transform(place)) for point in points for place in point.controls]
