"""Labels beside points that cover neither points, nor intervals, nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import TYPE_CHECKING, NamedTuple

from bench.report.figures.style import EM, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARK = 4.0
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES = (6.0, 11.0, 17.0, 24.0, 32.0, 42.0)
_FAR = 11.0
"""From here on a text is joined to its point."""


class Box(NamedTuple):
    """A rectangle in points: left, bottom, right, top."""

    left: float
    bottom: float
    right: float
    top: float

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The place in it that is nearest to a point."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def overlap(self, other: Box) -> float:
        """The area in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)


class Label(NamedTuple):
    """What to write at a point (x, y) of the data."""

    text: str
    x: float
    y: float
    colour: str


def around(x: float, y: float) -> Box:
    """The room of a mark."""
    return Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK)


def choose(anchors: Sequence[tuple[float, float, float]], taken: Sequence[Box], bounds: Box) -> list[Box]:
    """A place for each text of a width at a point (x, y, width), all in points: free where it can be, and inside."""
    found: list[Box] = []
    for x, y, width in anchors:
        others = [*taken, *found]
        candidates = [_box(x, y, width, *side, gap) for gap in _DISTANCES for side in _SIDES]
        found.append(_best(candidates, others, bounds))
    return found


def _best(candidates: Sequence[Box], others: Sequence[Box], bounds: Box) -> Box:
    """The first that is free, which is the nearest; else the one that covers least."""
    costs: list[float] = []
    for box in candidates:
        costs.append(_cost(box, others, bounds))
        if not costs[-1]:
            break
    return candidates[costs.index(min(costs))]


def _box(x: float, y: float, width: float, across: int, up: int, gap: float) -> Box:
    half, height = width / 2, SMALL
    gap = gap / 2**0.5 if across and up else gap
    middle = x + across * (gap + half)
    base = y + up * (gap + height / 2)
    return Box(middle - half, base - height / 2, middle + half, base + height / 2)


def _cost(box: Box, others: Sequence[Box], bounds: Box) -> float:
    """The area that is covered twice or lies outside."""
    outside = (box.right - box.left) * (box.top - box.bottom) - box.overlap(bounds)
    return round(10 * outside + sum(box.overlap(other) for other in others), 3)


def write(axes: Axes, labels: Sequence[Label], taken: Sequence[Box] = ()) -> None:
    """Writes labels beside their points; limits and scales of the axes are to be set before.

    taken: what else may not be covered, in points.
    """
    at = [axes.transData.transform((label.x, label.y)) for label in labels]
    anchors = [(x, y, EM * SMALL * len(label.text)) for (x, y), label in zip(at, labels, strict=True)]
    boxes = choose(anchors, [*taken, *(around(x, y) for x, y in at)], Box(*axes.bbox.extents))
    back = axes.transData.inverted()
    for label, box, (x, y) in zip(labels, boxes, at, strict=True):
        middle = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        edge = box.nearest(x, y)
        if hypot(edge[0] - x, edge[1] - y) > _FAR:
            ends = back.transform([(x, y), edge])
            axes.plot(*ends.T, color=label.colour, linewidth=0.5, zorder=1.5)
        place = back.transform(middle)
        axes.text(place[0], place[1], label.text, ha="center", va="center", fontsize=SMALL, zorder=4)
