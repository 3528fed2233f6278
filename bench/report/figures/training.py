"""Training seen: what a method logged, a small panel for each quantity, a thin line for each seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.report import text
from bench.report.figures.picture import Picture
from bench.report.figures.style import SERIES, SMALL, SOFT, WIDTH, clean, grid, place, sheet
from bench.report.figures.subject import Subject
from bench.report.logs import Log
from bench.tables.comparison import described
from bench.tables.runs import by_form, fold_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.report.content import Content
    from bench.tables.block import Block
    from bench.tables.runs import Run

_LEFT, _HEIGHT, _STEP, _TOP = 40.0, 84.0, 128.0, 18.0
_ACROSS = 2
_MOST = 80
"""Points of a curve: this narrow, more are not seen."""


def training(content: Content) -> list[Picture]:
    """A picture for each method with its options and frames in a block, of whose latest revision logs are stored; runs
    that blocks share have one, with the first of them. Of a run in folds it is the first fold whose log is stored.
    """
    found = []
    for block in content.found:
        for runs in by_form(block.own):
            firsts = [next((part for part in run.parts if _logged(content, part)), None) for run in runs]
            if seen := [first for first in firsts if first]:
                found.append(_picture(block, seen, [content.logs[run.path] for run in seen]))
    return found


def _logged(content: Content, part: Run) -> bool:
    return part.path in content.logs and bool(content.logs[part.path].columns)


def _picture(block: Block, runs: Sequence[Run], logs: Sequence[Log]) -> Picture:
    who = runs[0].record.identity
    name = described(who.method, who.options)
    frames = text.frames(who.frames)
    caption = (
        f"What {name} logged in training at {frames}, profile {block.name}, data set {block.dataset}: of one batch each"
        f" time, by logged step; a thin line is a seed {_seeds(runs)}. Dotted: the last step that a stage logged. Up to"
        " one interval of logging may follow it, so that later stages stand that much too early. Stages:"
        f" {', '.join(stage for stage, _ in logs[0].stages)}. What each quantity is: docs/figures.md."
    )
    stem = Subject(block.store, who, block.name).stem("training")
    return Picture(stem, "training", f"Training of {name}, {block.name}, {frames}", caption, partial(_draw, logs))


def _seeds(runs: Sequence[Run]) -> str:
    """The seeds of the lines, and of which fold each is."""
    told = [(run.record.identity.seed, fold_of(run.record)) for run in runs]
    folds = {fold for _, fold in told}
    if len(folds) > 1:
        return f"({', '.join(f'{seed} in fold {fold}' for seed, fold in told)})"
    only = "" if folds == {None} else f", of fold {folds.pop()} only"
    return f"({', '.join(str(seed) for seed, _ in told)}){only}"


def _draw(logs: Sequence[Log]) -> Figure:
    names = list(dict.fromkeys(name for log in logs for name in log.columns))
    rows = math.ceil(len(names) / _ACROSS)
    figure = sheet(rows * _STEP)
    width = WIDTH / _ACROSS - _LEFT - 8
    for number, name in enumerate(names):
        row, column = divmod(number, _ACROSS)
        axes = place(figure, _LEFT + column * WIDTH / _ACROSS, row * _STEP + _TOP, width, _HEIGHT)
        _panel(axes, name, logs)
        if number >= len(names) - _ACROSS:
            axes.set_xlabel("logged step")
    return figure


def _panel(axes: Axes, name: str, logs: Sequence[Log]) -> None:
    """One quantity: a line a seed."""
    axes.set_title(clean(name), fontsize=SMALL)
    for number, log in enumerate(logs):
        if name in log.columns:
            axes.plot(*_thinned(log, name), color=SERIES[number % len(SERIES)], linewidth=0.8)
    for _, first in logs[0].stages[1:]:
        axes.axvline(logs[0].steps[first - 1], color=SOFT, linewidth=0.6, linestyle=":")
    axes.set_xlim(0, max(log.steps[-1] for log in logs))
    for along in ("x", "y"):
        axes.locator_params(axis=along, nbins=4)
    grid(axes)


def _thinned(log: Log, name: str) -> tuple[list[float], list[float]]:
    """Steps and values; of long logs the means of equal parts. What a stage did not log is a gap."""
    steps, values = (np.array(given, dtype=float) for given in (log.steps, log.columns[name]))
    parts = [part for part in np.array_split(np.arange(len(steps)), min(len(steps), _MOST)) if len(part)]
    return [float(steps[part].mean()) for part in parts], [float(values[part].mean()) for part in parts]
