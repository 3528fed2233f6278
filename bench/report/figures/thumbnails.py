"""Pictures inside pictures: the clips that cost most and least, and the most similar feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.inspection import png
from bench.inspection.store import Inspection, InspectionRecord, Pair, Sheet, Strip
from bench.report.figures.picture import Picture
from bench.report.figures.style import GROUND, SMALL, WIDTH, clean, place, sheet
from bench.report.figures.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP, TEXT, MAPS = 10.0, 13.0, 90.0


def strips(subject: Subject, group: Sequence[Inspection]) -> Picture | None:
    """Figure 4: the dearest and the cheapest clip of each class, from the first seed; None where there are none."""
    record = group[0].record
    if record.sheet is None:
        return None
    caption = (
        "Centre clips of the test set that computed the largest (left) and the smallest (right) share of the full cost"
        f" of the dynamic convolutions in their class, as the network sees them; the clips are {_origin(record)}. Seed"
        f" {record.identity.run.seed}; {subject.told(1)}"
    )
    title = f"Clips that cost most and least: {subject.name}"
    return Picture(subject.stem("clips"), "clips", title, caption, partial(_draw_strips, record.sheet))


def _origin(record: InspectionRecord) -> str:
    """Of the clips behind a picture; feature maps show them too."""
    return "made on the spot" if record.generated else "real, and the pictures are not to be passed on"


def _draw_strips(drawn: Sheet) -> Figure:
    """A class a row: most on the left, least on the right."""
    width = (WIDTH - GAP) / 2
    height = width / drawn.frames * drawn.height / drawn.width
    rows: dict[str, list[tuple[int, Strip]]] = {}
    for number, strip in enumerate(drawn.strips):
        rows.setdefault(strip.label, []).append((number, strip))
    pixels = png.decode(drawn.picture)
    figure = sheet(len(rows) * (height + TEXT + 6))
    for row, found in enumerate(rows.values()):
        for number, strip in found:
            column = 0 if strip.end == "most" else 1
            axes = place(figure, column * (width + GAP), row * (height + TEXT + 6) + TEXT, width, height)
            part = pixels[number * drawn.height : (number + 1) * drawn.height]
            axes.imshow(part, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="none")
            axes.vlines(
                [drawn.width * frame - 0.5 for frame in range(1, drawn.frames)], -0.5, drawn.height - 0.5, GROUND
            )
            axes.set_axis_off()
            axes.set_title(f"{clean(strip.label)}, {strip.end}: {100 * strip.share:.1f} %", fontsize=SMALL, pad=2)
    return figure


def feature_maps(subject: Subject, group: Sequence[Inspection]) -> Picture | None:
    """The most similar maps in time and among channels of one layer, from the first seed; None where there are none."""
    record = group[0].record
    if not record.pairs:
        return None
    caption = (
        f"The two feature maps of {record.pairs[0].layer} that correlate most in test clip {record.pairs[0].video}: two"
        " frames of one channel, and two channels of one frame; grey from the least to the greatest value of a pair;"
        f" the clip is {_origin(record)}. Seed {record.identity.run.seed}; {subject.told(1)}"
    )
    title = f"Similar feature maps: {subject.name}"
    return Picture(subject.stem("maps"), "redundancy", title, caption, partial(_draw_pairs, record.pairs))


def _draw_pairs(pairs: Sequence[Pair]) -> Figure:
    """Side by side, each pair with a line that says what it is."""
    figure = sheet(MAPS + 2 * TEXT)
    width = (WIDTH - GAP) / 2
    side = min(MAPS, (width - 4) / 2)
    for column, pair in enumerate(pairs):
        pixels = png.decode(pair.picture)
        half = pixels.shape[1] // 2
        same, other = ("channel", "frames") if pair.along == "temporal" else ("frame", "channels")
        told = f"{same} {pair.of}, {other} {pair.places[0]} and {pair.places[1]}"
        told = f"{told}\nCC {pair.cc:.3f}, RMSE {pair.rmse:.3f}"
        for number, part in enumerate((pixels[:, :half], pixels[:, half:])):
            axes = place(figure, column * (width + GAP) + number * (side + 4), 2 * TEXT, side, side)
            axes.imshow(part, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="none")
            axes.set_axis_off()
            if number == 0:
                axes.text(0, 1.03, told, transform=axes.transAxes, va="bottom", fontsize=SMALL)
    return figure
