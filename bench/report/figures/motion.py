"""Curves over clips in bins of equal count: cost by motion, and redundancy by motion and by object share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.accuracy.intervals import FEWER, Interval, interval
from bench.inspection.store import Inspection
from bench.report import text
from bench.report.figures.picture import Picture, slug
from bench.report.figures.style import LEADING, SERIES, SMALL, WIDTH, grid, place, sheet, wrapped
from bench.report.figures.subject import Subject
from bench.tables.analysis import motion
from bench.tables.block import Block
from bench.tables.runs import NotMeasuredError, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 8
LEFT, TOP, HEIGHT, FOOT = 50.0, 18.0, 96.0, 36.0
TRUE, ESTIMATED = "true motion, pixels a frame", "estimated motion, change of a pixel"


class Curve(NamedTuple):
    """A panel: where the bins lie, the mean in each with its interval, what lies across and upwards, and its title."""

    x: Sequence[float]
    y: Sequence[Interval]
    across: str
    up: str
    title: str


def binned(
    x: pd.Series[float], values: pd.DataFrame, groups: NDArray[np.object_]
) -> tuple[list[float], list[Interval]]:
    """Means of `values` (clips × seeds) in bins of equally many clips along `x`, and the mean of `x` in each.

    groups: the independent source of each clip, over which the intervals are, as over seeds.
    """
    order = np.argsort(x.to_numpy(), kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    means = [float(x.to_numpy()[part].mean()) for part in parts]
    return means, [interval(values.to_numpy()[part].T, groups[part], FEWER) for part in parts]


def policies_by_motion(block: Block, decided: Sequence[tuple[Subject, Sequence[Run]]]) -> list[Picture]:
    """Cost of a clip against its motion: a picture for each number of frames, a panel for each method that decides."""
    frames: dict[int, list[Curve]] = {}
    for subject, runs in decided:
        if curve := _cost(subject, runs):
            frames.setdefault(subject.run.frames, []).append(curve)
    found = []
    for count, curves in sorted(frames.items()):
        caption = (
            "Multiply-adds of a clip over the mean of all, in groups of equally many clips by motion, for every method"
            f" that decides, where the motion is known or estimated, all on one range: {block.name}, {count} frames."
            " Bars are 95 % intervals over seeds and sources."
        )
        stem = slug("motion", block.name, f"{count}f")
        found.append(
            Picture(stem, "policy", f"Cost by motion: {block.name}, {count} frames", caption, partial(_draw, curves))
        )
    return found


def _cost(subject: Subject, runs: Sequence[Run]) -> Curve | None:
    """Of one method; None where the motion is not known."""
    try:
        along = motion(runs[0])
    except NotMeasuredError:
        return None
    own = [(run, run.samples["cost"]) for run in runs]
    cost = pd.concat([run.levelled(one) / one.mean() for run, one in own], axis=1).reindex(along.index)
    kept = cost.dropna().index
    groups = runs[0].samples["group"].astype(str).reindex(kept).to_numpy(dtype=object)
    true = "attribute.motion" in runs[0].samples.columns
    x, y = binned(along.loc[kept], cost.loc[kept], groups)
    return Curve(x, y, TRUE if true else ESTIMATED, "cost over its mean", f"{subject.name} ({text.seeds(len(runs))})")


def redundancy_by_clip(subject: Subject, group: Sequence[Inspection]) -> Picture | None:
    """What the abstract says: redundancy in time against motion, among channels against the object's share."""
    curves = [curve for curve in (_temporal(group), _channel(group)) if curve]
    if not curves:
        return None
    caption = (
        "Proportion of redundant feature maps (RP) of a clip, mean over layers, in groups of equally many clips; bars"
        f" are 95 % intervals. {subject.told(len(group))}"
    )
    title = f"Redundancy by what is in the clip: {subject.name}"
    return Picture(subject.stem("redundancy-by-clip"), "redundancy", title, caption, partial(_draw, curves))


def _temporal(group: Sequence[Inspection]) -> Curve | None:
    true = "attribute.motion" in group[0].samples.columns
    name = "attribute.motion" if true else "estimated.motion"
    return _curve(group, "temporal.RP", name, TRUE if true else ESTIMATED, "RP along time")


def _channel(group: Sequence[Inspection]) -> Curve | None:
    return _curve(group, "channel.RP", "attribute.object_share", "share of the frame that is object", "RP of channels")


def _curve(group: Sequence[Inspection], name: str, by: str, across: str, title: str) -> Curve | None:
    first = group[0].samples
    if by not in first.columns or any(name not in one.samples.columns for one in group):
        return None
    values = pd.concat([one.samples[name].astype(float) for one in group], axis=1).assign(by=first[by]).dropna()
    if values["by"].nunique() < 2:
        return None
    groups = first["group"].astype(str).reindex(values.index).to_numpy(dtype=object)
    x, y = binned(values["by"], values.drop(columns="by"), groups)
    return Curve(x, y, across, title, title)


def _range(alike: Sequence[Curve]) -> tuple[float, float]:
    """Of what the panels show of one figure, with some room: what is as steep looks as steep."""
    ends = [end for curve in alike for found in curve.y for end in found if math.isfinite(end)]
    room = 0.05 * (max(ends) - min(ends)) or 0.05
    return min(ends) - room, max(ends) + room


def _draw(curves: Sequence[Curve]) -> Figure:
    """Two panels side by side in each row."""
    width = (WIDTH - 2 * LEFT - 6) / 2
    titles = [wrapped(curve.title, width) for curve in curves]
    top = TOP + LEADING * (max(map(len, titles)) - 1)
    whole = top + HEIGHT + FOOT
    figure = sheet(whole * -(-len(curves) // 2))
    for number, (curve, title) in enumerate(zip(curves, titles, strict=True)):
        axes = place(figure, LEFT + number % 2 * (width + LEFT), number // 2 * whole + top, width, HEIGHT)
        y = np.array([found.value for found in curve.y])
        ends = np.abs(np.array([[found.low, found.high] for found in curve.y]).T - y)
        axes.errorbar(curve.x, y, ends, fmt="o-", color=SERIES[0], markersize=3.5, capsize=2, linewidth=1)
        axes.set_xlabel(curve.across)
        axes.set_ylabel(curve.up)
        axes.set_ylim(_range([other for other in curves if other.up == curve.up]))
        axes.set_title("\n".join(title), fontsize=SMALL)
        axes.locator_params(nbins=5)
        axes.ticklabel_format(useOffset=False)
        grid(axes)
    return figure
