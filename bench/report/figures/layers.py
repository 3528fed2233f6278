"""Redundancy by layer: RP, CC and RMSE along time and along channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.inspection.store import Inspection
from bench.report.figures.picture import Picture
from bench.report.figures.style import EM, SERIES, SMALL, WIDTH, clean, grid, place, sheet
from bench.report.figures.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("RP", "CC", "RMSE")
ALONG = {"temporal": (SERIES[0], "o", "along time"), "channel": (SERIES[1], "s", "along channels")}
LEFT, TOP, HEIGHT, GAP, FOOT, LETTER = 34.0, 18.0, 84.0, 22.0, 34.0, 6.5
NAMED = 40
"""Layers up to which each is named."""


def by_layer(subject: Subject, group: Sequence[Inspection]) -> Picture | None:
    """Mean over clips of each layer, mean and range over seeds; None where no layer was measured."""
    layers = group[0].record.layers
    if not layers:
        return None
    rule = group[0].record.identity.settings.rule
    left_out = len(group[0].record.left_out)
    least = (
        f"{left_out} convolutions with maps of fewer than {rule.least_pixels} pixels, or of another form, are left out."
    )
    error = "" if rule.rmse is None else f" and its error at most {rule.rmse}"
    caption = (
        "Outputs of convolutions in order of execution, in pairs: the frames of a channel, the channels of a frame."
        f" RP: share of the maps whose correlation (CC) with another is at least {rule.correlation}{error}. RMSE is in"
        f" {'shares of the range of the layer' if rule.scale == 'range' else 'the unit of the maps'}. Bands: least to"
        f" greatest seed. {least if left_out else ''} {subject.told(len(group))}"
    )
    title = f"Redundancy of feature maps by layer: {subject.name}"
    figures = {
        f"{along}.{kind}": np.array(
            [[layer.figures.get(f"{along}.{kind}", np.nan) for layer in one.record.layers] for one in group]
        )
        for along in ALONG
        for kind in KINDS
    }
    names = [layer.name for layer in layers]
    return Picture(subject.stem("layers"), "redundancy", title, caption, partial(_draw, names, figures))


def _draw(names: Sequence[str], figures: dict[str, np.ndarray]) -> Figure:
    """figures: (seeds, layers) by name."""
    foot = FOOT if len(names) > NAMED else 10 + EM * LETTER * max(map(len, names))
    figure = sheet(TOP + len(KINDS) * (HEIGHT + GAP) - GAP + foot)
    x = np.arange(len(names))
    for row, kind in enumerate(KINDS):
        axes = place(figure, LEFT, TOP + row * (HEIGHT + GAP), WIDTH - LEFT - 6, HEIGHT)
        for along, (colour, form, name) in ALONG.items():
            found = figures[f"{along}.{kind}"]
            axes.plot(x, found.mean(0), form + "-", color=colour, markersize=3.5, label=name)
            axes.fill_between(x, found.min(0), found.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.set(xlim=(-0.5, len(names) - 0.5), xticks=x if len(names) <= NAMED else [])
        axes.set_xticklabels([])
        axes.set_title(kind)
        grid(axes)
        if row == 0:
            axes.legend(
                loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=SMALL, borderaxespad=0.1
            )
    if len(names) <= NAMED:
        axes.set_xticklabels([clean(name) for name in names], rotation=90, fontsize=LETTER)
    else:
        axes.set_xlabel(f"{len(names)} layers in order of execution")
    return figure
