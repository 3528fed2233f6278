"""The truth about speed: what the dense twin gives, what the method gives, and the bound; η beside its own bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.accuracy.intervals import Interval
from bench.report.figures.picture import Picture, slug
from bench.report.figures.points import ends
from bench.report.figures.style import GROUND, INK, SERIES, SMALL, SOFT, WIDTH, grid, place, sheet, wrapped
from bench.report.text import fixed, significant
from bench.report.views.printed import label
from bench.tables.comparison import described
from bench.tables.speed_truth import SpeedLine
from bench.tables.speeds import Machine, Setting, interval, pooled, setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.report.content import Content

_LEFT, _BARS, _GAP, _ETA = 52.0, 200.0, 22.0, 118.0
_TOP, _FOOT, _LEADING, _BAR = 20.0, 38.0, 11.0, 12.0
_FAR = 2.5
"""How far the panel goes beyond the highest speed that was measured, over that."""

_FACES = {"dense": (GROUND, 1.0), "executed": (SERIES[0], 1.0), "bound": (SOFT, 0.35)}


@dataclass(frozen=True)
class Bars:
    """One subject under one setting, the geometric mean over its timings, as tables have it.

    speeds: samples a second of the twin ("dense"), of the method ("executed"), and the most that the ceilings allow the
    method ("bound", if known). ratio: of the method over the twin, paired. eta: the share of the saving that became
    time, most: the share that can. printed: ratio and η in print, None where there are none.
    """

    name: str
    speeds: dict[str, float]
    ratio: Interval
    eta: Interval | None
    most: float | None
    printed: tuple[float | None, float | None]

    @property
    def title(self) -> list[str]:
        """The name, in lines."""
        return wrapped(self.name, WIDTH - 8)

    @property
    def height(self) -> float:
        """Points that it takes."""
        return _LEADING * len(self.title) + 3 * _BAR + 12


def speeds(content: Content) -> list[Picture]:
    """A picture for each machine: of the timings at published operating points, and of those of trained methods."""
    found = []
    for at_points in (True, False):
        machines: dict[Machine, list[SpeedLine]] = {}
        for line in content.speeds:
            compared = line.record.ratio and not line.record.identity.alone  # two copies of one method tell nothing
            if compared and bool(line.record.row) == at_points:
                machines.setdefault(setting(line.timing).machine, []).append(line)
        found += [_picture(at_points, lines) for _, lines in sorted(machines.items())]
    return found


def _picture(at_points: bool, lines: Sequence[SpeedLine]) -> Picture:
    where = setting(lines[0].timing)
    what = "at the published operating points" if at_points else "under other decisions"
    caption = (
        f"Each group is one method against its static baseline, in the same rounds, on {where.where} ({where.origins})."
        " Bars are speeds over that of the baseline, the figures beside them samples a second, the bound what the"
        " machine's ceilings of compute and bandwidth allow the method. η: the share of the saving in multiply-adds"
        " that became time; the upright stroke is the most that can. A bound that ends with > goes beyond the panel."
        " Lying strokes: 95 % intervals. Hollow diamonds: published, on another machine."
    )
    caption += " Full size, not trained." if at_points else " Means over the timings of all seeds, on the log scale."
    stem = slug(
        "speed", "points" if at_points else "others", where.device, f"{where.threads}t", where.torch, where.store
    )
    return Picture(stem, "speed", f"Dense, executed, bound: {what}", caption, partial(_draw, _grouped(lines)))


def _grouped(lines: Iterable[SpeedLine]) -> list[Bars]:
    """The lines of a machine, those that differ in their seeds as one."""
    groups: dict[tuple[str | None, tuple[str, ...], Setting], list[SpeedLine]] = {}
    for line in lines:
        groups.setdefault((line.record.row, line.subject, setting(line.timing)), []).append(line)
    return [_bars(group) for group in groups.values()]


def _bars(lines: Sequence[SpeedLine]) -> Bars:
    first, records = lines[0], [line.record for line in lines]
    arms = {"dense": [record.b for record in records], "executed": [record.a for record in records]}
    found = {name: [arm.clips_per_second.value for arm in given if arm] for name, given in arms.items()}
    found["bound"] = [record.bound["a"] for record in records if record.bound]
    ratio = pooled([interval(record.ratio) for record in records if record.ratio])
    saved = 1 / _mean([record.cost_ratio for record in records if record.cost_ratio is not None]) - 1
    told = all(record.eta for record in records)  # of some seeds it would be another mean than the ratio
    most = [record.eta_max for record in records if record.eta_max is not None]
    return Bars(
        _name(first),
        {name: _mean(values) for name, values in found.items() if values},
        ratio,
        Interval(*((end - 1) / saved for end in ratio)) if told else None,
        float(np.mean(most)) if most else None,
        (first.ratio, first.eta) if first.record.row else (None, None),
    )


def _mean(values: Sequence[float]) -> float:
    """On the log scale, as speeds and ratios are put together everywhere."""
    return float(np.exp(np.log(values).mean()))


def _name(line: SpeedLine) -> str:
    who = line.record.identity
    row = f"{label(line.table)}, {line.row.id}: " if line.record.row and line.table and line.row else ""
    unit = "" if line.record.unit == "clips/s" else f", {line.record.unit}"
    against = f" against {who.against}" if who.own else ""
    return f"{row}{described(who.a, who.a_options)}{against}, {setting(line.timing).workload}{unit}"


def _draw(rows: Sequence[Bars]) -> Figure:
    height = sum(row.height for row in rows)
    figure = sheet(_TOP + height + _FOOT)
    bars = place(figure, _LEFT, _TOP, _BARS, height)
    etas = place(figure, _LEFT + _BARS + _GAP, _TOP, _ETA, height)
    tops = list(accumulate((row.height for row in rows[:-1]), initial=0.0))
    for axes, title in ((bars, "speed over that of the static baseline"), (etas, "η")):
        axes.set(ylim=(height, 0), yticks=[])
        axes.set_xlabel(title)
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
    _limit(bars, etas, rows)
    for row, top in zip(rows, tops, strict=True):
        _row(bars, row, top)
        _eta(etas, row, top + _LEADING * len(row.title) + 1.5 * _BAR)
    return figure


def _limit(bars: Axes, etas: Axes, rows: Sequence[Bars]) -> None:
    """Room for the figures beside the bars, and for η from 0 to 1 at the least; a far bound runs out of the panel."""
    ratios = [max(1.0, *ends(row.ratio), row.printed[0] or 0.0) for row in rows]
    bounds = [row.speeds.get("bound", 0.0) / row.speeds["dense"] for row in rows]
    bars.set_xlim(0, min(1.25 * max(*ratios, *bounds), _FAR * max(ratios)))
    bars.locator_params(axis="x", nbins=5)
    values = [0.0, 1.0, *(v for row in rows for v in (*ends(row.eta), row.most, row.printed[1]) if v is not None)]
    room = 0.06 * (max(values) - min(values))
    etas.set_xlim(min(values) - room, max(values) + room)
    etas.locator_params(axis="x", nbins=4)
    bars.axvline(1, color=SOFT, linewidth=0.8)
    for value in (0, 1):
        etas.axvline(value, color=SOFT, linewidth=0.8, linestyle=":" if value else "-")


def _row(axes: Axes, row: Bars, top: float) -> None:
    """The name, and under it a bar each with its figure."""
    for line in row.title:
        _write(axes, line, 0, top + _LEADING / 2, 4 - _LEFT)
        top += _LEADING
    for name, speed in row.speeds.items():
        top += _BAR
        y, shown = top - _BAR / 2, row.ratio if name == "executed" else _exact(speed / row.speeds["dense"])
        printed = row.printed[0] if name == "executed" else None
        face, alpha = _FACES[name]
        edge = 0.8 if name == "dense" else 0.0
        axes.barh(y, shown.value, 0.72 * _BAR, facecolor=face, alpha=alpha, edgecolor=SOFT, linewidth=edge)
        _write(axes, name, 0, y, -4, "right")
        end, limit = max(*ends(shown), printed or 0.0), axes.get_xlim()[1]
        if end < 0.8 * limit:
            _write(axes, significant(speed), end, y, 5)
        else:  # inside the bar: beside it there is no room
            _write(axes, significant(speed) + (" >" if end > limit else ""), min(end, limit), y, -2, "right")
        _stroke(axes, shown, y, INK)
        if printed is not None:
            _diamond(axes, printed, y)


def _eta(axes: Axes, row: Bars, y: float) -> None:
    """η with its interval, and the most that it can be."""
    if row.eta is None:
        return
    if row.most is not None:
        axes.plot([row.most, row.most], [y - 7, y + 7], color=INK, linewidth=1.6)
    _stroke(axes, row.eta, y, SERIES[0])
    axes.plot(row.eta.value, y, "o", color=SERIES[0], markersize=5)
    if row.printed[1] is not None:
        _diamond(axes, row.printed[1], y)
    most = "" if row.most is None else f", at most {fixed(row.most, 2)}"
    _write(axes, fixed(row.eta.value, 2) + most, sum(axes.get_xlim()) / 2, y + 1.4 * _BAR, 0, "center")


def _exact(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)


def _write(
    axes: Axes, text: str, x: float, y: float, across: float, to: Literal["left", "center", "right"] = "left"
) -> None:
    """Text that begins, or ends, so many points right of a place."""
    place: dict[str, Any] = {"textcoords": "offset points", "ha": to, "va": "center_baseline"}
    ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 0.5}  # hides the lines behind
    axes.annotate(text, (x, y), (across, 0), fontsize=SMALL, bbox=ground, **place)


def _stroke(axes: Axes, found: Interval, y: float, colour: str) -> None:
    """An interval with its ends."""
    if not math.isnan(found.low):
        axes.plot(found[1:], [y, y], "|-", color=colour, linewidth=1, markersize=5)


def _diamond(axes: Axes, x: float, y: float) -> None:
    """What is in print."""
    axes.plot(x, y, "D", color=INK, markerfacecolor=GROUND, markersize=4.5)
