"""The one look of all pictures: colours, marks, sizes, and where things stand on the sheet.

Colours are those of the style sheet in the light; `inline` replaces each by its variable: no two roles may share one.
The series are after Okabe and Ito, whom colour-blind readers tell apart (https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUND, INK, SOFT, LINE, TINT = "#fefefe", "#1c1f23", "#5d656e", "#dcdfe3", "#f1f3f5"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3a9bd9", "#7a5195", "#6b4c2a")
VARIABLES = {GROUND: "--card", INK: "--ink", SOFT: "--soft", LINE: "--line", TINT: "--tint"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}
"""The variable of the style sheet that stands for a colour in the page."""

FORMS = "osD^vPX<>p8hd"
WIDTH = 400.0
"""Of every picture, in points: on a telephone the letters keep about their own size."""

TEXT, SMALL = 9.5, 8.0
"""Sizes of letters in points."""

EM = 0.6
"""Width of a letter over its size, at the most on average: where text ends is known without drawing it."""

LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": SMALL,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titley": 1.0,  # as it would be found, without the search in each drawing
    "axes.labelsize": SMALL,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.2,
}


class Mark(NamedTuple):
    """How a method is told from others: by form and by colour."""

    form: str
    colour: str


def mark(number: int) -> Mark:
    """The mark of method number 0, 1, ...; forms and colours repeat with different periods."""
    return Mark(FORMS[number % len(FORMS)], SERIES[number % len(SERIES)])


@contextmanager
def look(salt: str) -> Iterator[None]:
    """Draws and saves in the look of the report; the same salt gives the same ids in SVG."""
    from matplotlib import rc_context

    with rc_context(rc={**LOOK, "svg.hashsalt": salt}):
        yield


def sheet(height: float) -> Figure:
    """An empty figure of that height in points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in points, measured from the left and the top of the sheet."""
    whole = 72 * figure.get_figheight()
    return figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))


def grid(axes: Axes, along: Literal["both", "x", "y"] = "both") -> None:
    """Fine lines at the ticks, which have no strokes of their own."""
    bare(axes)
    axes.grid(visible=True, axis=along)


def bare(axes: Axes) -> None:
    """No strokes at the ticks: those of no length would be drawn all the same, each by itself."""
    axes.tick_params(length=0, left=False, bottom=False)


def clean(text: str) -> str:
    """In one line, without what XML cannot hold."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def wrapped(text: str, width: float) -> list[str]:
    """In lines of at most `width` points, in small letters."""
    return textwrap.wrap(clean(text), max(8, int(width / (EM * SMALL)))) or [""]


class Entry(NamedTuple):
    """A line of a key: the mark, its number and what it stands for."""

    mark: Mark
    number: str
    text: str


LEADING = 11.5
_KEY_LEFT = 34.0


def key_height(entries: Sequence[Entry]) -> float:
    """Points that a key takes."""
    return 4 + LEADING * sum(len(wrapped(entry.text, WIDTH - _KEY_LEFT)) for entry in entries)


def key(figure: Figure, entries: Sequence[Entry], top: float) -> None:
    """Writes a key from `top` on, in points from the top of the sheet."""
    axes = place(figure, 0, top, WIDTH, key_height(entries))
    axes.set(xlim=(0, WIDTH), ylim=(key_height(entries), 0))
    axes.set_axis_off()
    y = LEADING / 2
    for entry in entries:
        axes.plot(8, y, entry.mark.form, color=entry.mark.colour, markersize=6)
        axes.text(29, y, entry.number, ha="right", va="center_baseline", fontsize=SMALL)
        for line in wrapped(entry.text, WIDTH - _KEY_LEFT):
            axes.text(_KEY_LEFT, y, line, va="center_baseline", fontsize=SMALL)
            y += LEADING
