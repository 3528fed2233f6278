"""Accuracy against multiply-adds and against speed: a picture for each block and number of frames of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, get_args

from bench.accuracy.intervals import Interval
from bench.report import text
from bench.report.figures.picture import Picture, slug
from bench.report.figures.points import XY, Better, Panel, Point, draw, enlarge
from bench.report.figures.style import WIDTH, Entry, Mark, key, key_height, mark, place, sheet
from bench.tables.block import Block
from bench.tables.comparison import Control, Line, accuracies
from bench.tables.join import Joined
from bench.tables.schema import AccuracyKind, CostKind, Kind, Row, SpeedKind, Table
from bench.tables.speeds import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.report.content import Content

_NAN = float("nan")
_LEFT, _HEIGHT, _TITLE, _FOOT = 40.0, 180.0, 18.0, 38.0
_PRINTED = 2
"""Panels of what is in print, at the most."""


@dataclass(frozen=True)
class _Compared:
    """What one picture shows: the lines of a comparison, numbered in their order, and what they are judged by."""

    block: Block
    frames: int
    lines: Sequence[Line]
    marks: Mapping[str, Mark]

    @property
    def kind(self) -> str:
        """The main figure of the data's task."""
        return accuracies(self.block)[0]

    @property
    def where(self) -> str:
        """On what the lines were measured."""
        return f"{self.block.name}, {text.frames(self.frames)}"

    def point(self, number: int, x: Interval, y: Interval, hollow: bool = False, controls: Sequence[XY] = ()) -> Point:
        """The mark of a line, wherever it stands."""
        line = self.lines[number - 1]
        return Point(str(number), self.marks[_family(line.method)], x, y, hollow, controls, line.name)

    def _seeds(self, line: Line, speeds: bool) -> str:
        """Of how many seeds: of fewer where not all were timed."""
        timed = max((one.seeds for one in line.speeds), default=0) if speeds else 0
        return text.seeds(line.seeds) + (f", {timed} timed" if 0 < timed < line.seeds else "")

    def key(self, panels: Sequence[Panel], speeds: bool = False) -> list[Entry]:
        """The lines that are in one of the panels; speeds: whether against these."""
        shown = {point.number: point.mark for panel in panels for point in panel.points}
        names = {str(n): f"{line.name} ({self._seeds(line, speeds)})" for n, line in enumerate(self.lines, 1)}
        return [Entry(shown[number], number, name) for number, name in names.items() if number in shown]


def pareto(content: Content) -> list[Picture]:
    """Where at least two methods were run on the same data: against multiply-adds, and against speed where timed."""
    marks = _marks(content)
    found = []
    for block, frames, lines in content.compared:
        compared = _Compared(block, frames, lines, marks)
        stem = _stem(block, frames)
        cost, speeds = _cost(compared), _speeds(compared)
        if len(cost.points) > 1:
            panels = [cost, *_in_print(content.joined, compared, "gflops_avg")]
            found.append(_picture(f"pareto-{stem}", "GFLOPs", compared, panels))
        if speeds:
            panels = [*speeds, *_in_print(content.joined, compared, "speed")]
            found.append(_picture(f"pareto-speed-{stem}", "speed", compared, panels))
    return found


def leading_picture(drawn: Sequence[Picture], compared: Sequence[tuple[Block, int, Sequence[Line]]]) -> Picture | None:
    """Of the drawn pictures that against multiply-adds of the comparison with most methods, if there is one."""
    block, frames, _ = max(compared, key=lambda one: len(one[2]), default=(None, 0, ()))
    wanted = f"pareto-{_stem(block, frames)}" if block else ""
    return next((picture for picture in drawn if picture.id == wanted), None)


def _stem(block: Block, frames: int) -> str:
    return slug(block.profile, block.apart, block.whence, f"{frames}f", block.store)


def _family(method: str) -> str:
    """A method without the network under it."""
    return method.partition("/")[0]


def _marks(content: Content) -> dict[str, Mark]:
    """The mark of each family of methods, the same in all pictures."""
    families = {_family(line.method) for _, _, lines in content.compared for line in lines}
    return {family: mark(number) for number, family in enumerate(sorted(families))}


def _cost(compared: _Compared) -> Panel:
    points = []
    scale, unit = text.cost_unit(line.cost.value for line in compared.lines)
    for number, line in enumerate(compared.lines, 1):
        if right := line.accuracies[compared.kind]:
            cost = Interval(*(scale * end for end in line.cost))
            controls = _controls(line.controls, compared.kind, cost.value)
            points.append(compared.point(number, cost, right, controls=controls))
    across = f"{unit} of a sample, average"
    return Panel(f"measured: {compared.block.dataset}", across, f"{compared.kind}, %", points, "less")


def _controls(controls: Sequence[Control], kind: str, cost: float) -> list[XY]:
    """The controls that were scored by the same figure, as (cost, share right)."""
    return [(cost * one.cost, one.right.value) for one in controls if one.right and one.of == kind]


def _speeds(compared: _Compared) -> list[Panel]:
    """A panel for each setting under which at least two methods were timed."""
    found: dict[tuple[Setting, str], list[Point]] = {}
    for number, line in enumerate(compared.lines, 1):
        for one in line.speeds:
            if right := line.accuracies[compared.kind]:
                point = compared.point(number, one.found, right)
                found.setdefault((one.setting, line.unit), []).append(point)
    return [
        Panel(f"measured: {setting.workload}, {setting.device}", unit, f"{compared.kind}, %", points, "more")
        for (setting, unit), points in found.items()
        if len(points) > 1
    ]


def _in_print(joined: Sequence[Joined], compared: _Compared, cost: CostKind | SpeedKind) -> list[Panel]:
    """What is printed of the same methods with as many frames: a panel for each data set, figure and unit."""
    found: dict[tuple[str, Kind, str], dict[tuple[int, float, float], Point]] = {}
    kinds = [column for column in get_args(AccuracyKind) if column in accuracies(compared.block)]
    for kind, table in product(kinds, (one.table for one in joined)):
        for row in table.rows:
            number = _number(row, compared)
            x, y = table.value(row.id, cost), table.value(row.id, kind)
            if number and x is not None and y is not None:
                point = compared.point(number, Interval(x, _NAN, _NAN), Interval(y, _NAN, _NAN), hollow=True)
                found.setdefault((_data(table, row), kind, _unit(table, row, cost)), {})[number, x, y] = point
    better: Better = "less" if cost == "gflops_avg" else "more"
    panels = [
        Panel(f"published: {data}", f"{unit}, as published", f"{kind}, %", list(points.values()), better)
        for (data, kind, unit), points in found.items()
    ]
    return _telling(panels)


def _number(row: Row, compared: _Compared) -> int:
    """The number of the line that measures a published row, 0 where none does."""
    own = row.experiment
    for number, line in enumerate(compared.lines, 1):
        if own and (own.method, own.options, own.frames) == (line.method, line.options, compared.frames):
            return number
    return 0


def _data(table: Table, row: Row) -> str:
    """The data set of a row: where a table has several, its groups tell them apart."""
    return row.group if "," in table.dataset and row.group else table.dataset


def _unit(table: Table, row: Row, kind: Kind) -> str:
    """The unit of a row's cell, with the sample that it is of where the column says so: "GFLOPs/video"."""
    cells = zip(table.columns, row.cells, strict=True)
    column = next(column for column, text in cells if column.kind == kind and text)
    return column.label if column.label.startswith(f"{column.unit}/") else column.unit


def _telling(panels: Sequence[Panel]) -> list[Panel]:
    """The fullest panels, as long as each shows two methods and one that those before it do not."""
    chosen: list[Panel] = []
    seen: set[str] = set()
    for panel in sorted(panels, key=lambda panel: -len({point.number for point in panel.points})):
        shown = {point.number for point in panel.points}
        if len(shown) > 1 and not shown <= seen and len(chosen) < _PRINTED:
            chosen.append(panel)
            seen |= shown
    return chosen


def _picture(id: str, what: str, compared: _Compared, panels: Sequence[Panel]) -> Picture:
    parts = [
        f"Profile {compared.where}, data set {compared.block.dataset}: each mark is the mean of a method over its seeds"
        f" (their number is in the key), with its 95 % intervals. The line is the Pareto front of the means."
    ]
    units = {line.unit for line in compared.lines}
    if len(units) > 1:
        whole = [str(number) for number, line in enumerate(compared.lines, 1) if line.unit != "clips/s"]
        parts.append(
            f"Number {', '.join(whole)} decides over a whole video of several clips, and is counted by videos; the"
            " others by single clips."
        )
    if what == "speed":
        parts.append("The speed of a static network is its mean over the timings with every partner.")
    if any(point.controls for panel in panels for point in panel.points):
        parts.append(
            "Crosses joined to a mark: its controls, the same trained network under decisions that do not look at the"
            " clip, scored on a part of the test set."
        )
    if any(point.hollow for panel in panels for point in panel.points):
        parts.append("Hollow marks: what is published of the same methods, on its own data and so on axes of its own.")
    return Picture(
        id=id,
        section="accuracy",
        title=f"Accuracy against {what}: {compared.where}",
        caption=" ".join(parts),
        draw=partial(_draw, panels, compared.key(panels, what == "speed")),
    )


def _draw(panels: Sequence[Panel], entries: Sequence[Entry]) -> Figure:
    """The first panel with what it enlarges and the key below it, then the others likewise."""
    first, *rest = ([*enlarge(panel)] for panel in panels)
    whole = [*first, *(part for parts in rest for part in parts)]
    step, room = _TITLE + _HEIGHT + _FOOT, key_height(entries)
    figure = sheet(len(whole) * step + room)
    for number, panel in enumerate(whole):
        top = number * step + _TITLE + (room if number >= len(first) else 0)
        draw(place(figure, _LEFT, top, WIDTH - _LEFT - 8, _HEIGHT), panel)
    key(figure, entries, len(first) * step)
    return figure
