"""Figure 3 for any reduced network: the share of features computed, by dynamic convolution and class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.report.figures.picture import Picture
from bench.report.figures.style import EM, SMALL, WIDTH, bare, clean, place, sheet
from bench.report.figures.subject import Subject
from bench.tables.analysis import unit_shares
from bench.tables.runs import NotMeasuredError, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES = 25
"""As many as Figure 3 shows: the first."""

LEFT, TOP, FOOT = 108.0, 4.0, 40.0
FIGURES = 16
"""Columns up to which the percentages are written into the cells."""


def heat_map(subject: Subject, runs: Sequence[Run]) -> Picture | None:
    """Mean over clips and seeds; None of data without classes, and where nothing says what the decisions compute."""
    runs = [run for run in runs if run.units and run.classifies]
    try:
        tables = [unit_shares(run).groupby(run.samples["target"]).mean() for run in runs]
    except NotMeasuredError:
        return None
    if not tables:
        return None
    mean = sum(tables[1:], tables[0]).div(len(tables)).T
    names = next((run.inspection.record.classes for run in runs if run.inspection), [])
    labels = [int(str(label)) for label in mean.columns]
    mean.columns = pd.Index([names[label] if label < len(names) else str(label) for label in labels])
    shown = mean.iloc[:, :CLASSES]
    part = "" if shown.shape == mean.shape else f" The first {CLASSES} of {mean.shape[1]} classes."
    caption = (
        "Share of the features (channels times frames) that each dynamic convolution computes, mean over the clips of a"
        f" class, lighter where fewer are computed, as in Figure 3.{part} {subject.told(len(runs))}"
    )
    title = f"Computed features by convolution and class: {subject.name}"
    return Picture(subject.stem("computed"), "policy", title, caption, partial(_draw, shown))


def _draw(shares: pd.DataFrame) -> Figure:
    """shares: of convolutions (rows) and classes (columns), 0..1."""
    rows, columns = shares.shape
    cell = 15.0 if rows <= 24 else 7.0
    under = 8 + EM * SMALL * max(len(label) for label in shares.columns)
    figure = sheet(TOP + rows * cell + under + FOOT)
    axes = place(figure, LEFT, TOP, WIDTH - LEFT - 8, rows * cell)
    values = 100 * shares.to_numpy()
    low, high = float(values.min()), float(values.max())
    drawn = axes.pcolormesh(values, cmap="Blues", vmin=low, vmax=high, edgecolors="face", linewidth=0.2)
    axes.set(ylim=(rows, 0), xticks=np.arange(columns) + 0.5, yticks=np.arange(rows) + 0.5)
    axes.set_xticklabels([clean(label) for label in shares.columns], rotation=90)
    axes.set_yticklabels([clean(str(name)) for name in shares.index], fontsize=min(SMALL, 0.8 * cell))
    bare(axes)
    axes.grid(visible=False)
    if columns <= FIGURES and cell > 10:
        _write(axes, values, low + 0.6 * (high - low))
    bar = place(figure, LEFT, TOP + rows * cell + under, WIDTH - LEFT - 8, 8)
    figure.colorbar(drawn, cax=bar, orientation="horizontal", label="computed, %")
    bare(bar)
    return figure


def _write(axes: Axes, values: NDArray[np.float64], dark: float) -> None:
    """The percentages, dark on light cells and light on dark ones, whatever the page's own colours are."""
    for (row, column), value in np.ndenumerate(values):
        colour = "#101010" if value < dark else "#f8f8f8"
        axes.text(column + 0.5, row + 0.5, f"{value:.0f}", color=colour, ha="center", va="center", fontsize=6)
