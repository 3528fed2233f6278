"""One picture: what it is called, how it is drawn, and its forms for the page and for files."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.files import write_atomically
from bench.report.figures.style import VARIABLES, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Section = Literal["accuracy", "speed", "training", "policy", "redundancy", "clips"]


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    id: stem of its files, stable, "pareto-digits-8f". section: the part of the page it belongs to. caption: what is
    drawn, from which records, how many seeds; plain text. draw: makes the figure anew, under `style.look`.
    """

    id: str
    section: Section
    title: str
    caption: str
    draw: Callable[[], Figure]

    @cached_property
    def _forms(self) -> tuple[str, bytes]:
        """SVG and PDF of one drawing; the same picture gives the same bytes."""
        with look(self.id):
            figure = self.draw()
            svg, pdf = io.StringIO(), io.BytesIO()
            figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Title": self.title})
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Title": self.title})
        return svg.getvalue(), pdf.getvalue()


def slug(*parts: str) -> str:
    """Names as the stem of a file and part of an id: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(part for part in parts if part).lower()).strip("-")


def inline(picture: Picture) -> str:
    """The picture as an SVG element for the page.

    Text, axes and series take the colours and the font of the page (the variables of its style sheet), so that it is
    readable in light and dark; ids and classes begin with letters of its own, so that several share a page.
    """
    svg, own = picture._forms[0], "p" + hashlib.sha256(picture.id.encode()).hexdigest()[:6]
    body = svg[svg.index("<g ") : svg.rindex("</svg>")]
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"; font-family: [^;\"]*|<!--.*?-->\s*", "", body, flags=re.S)
    body = re.sub(r' (?:d|x|y|transform)="[^"]*"', _shortened, body)
    body = _lines(_classed(_named(body, own), own))
    width, height = _size(svg)
    name = html.escape(picture.title)
    return (
        f'<svg class="picture" role="img" aria-labelledby="{picture.id}-title" viewBox="0 0 {width} {height}" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{picture.id}-title">{name}</title>{body}</svg>'
    )


def _size(svg: str) -> tuple[str, str]:
    """Width and height in points, as in the viewBox."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    return found[1], found[2]


def _named(body: str, own: str) -> str:
    """With the ids that something refers to, beginning with `own`; without others, and groups that had only those."""
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]*)', body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{own}{found[1]}"' if found[1] in wanted else "", body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{own}", body)
    left = ""
    while left != body:  # from the inside out
        left, body = body, re.sub(r"<g>((?:[^<]|<(?!/?g\b))*)</g>", r"\1", body)
    return body


def _classed(body: str, own: str) -> str:
    """With a class, beginning with `own`, for each style that elements have."""
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', body))
    names = {style: f"{own}-{number}" for number, style in enumerate(styles)}
    rules = "".join(f".{name}{{{style}}}\n" for style, name in names.items())
    return f"<style>{rules}</style>" + re.sub(r' style="([^"]*)"', lambda found: f' class="{names[found[1]]}"', body)


def _shortened(attribute: re.Match[str]) -> str:
    """With places to a hundredth of a point; nothing where it turns by nothing."""
    if attribute[0].startswith(' transform="rotate(-0 '):
        return ""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def _lines(body: str) -> str:
    """Without indentation and empty lines."""
    return re.sub(r"\s*\n\s*", "\n", body)


def save(picture: Picture, folder: Path) -> list[Path]:
    """Writes `folder`/<id>.svg and .pdf, on white; gives their paths."""
    svg, pdf = picture._forms
    paths = [folder / f"{picture.id}.svg", folder / f"{picture.id}.pdf"]
    for path, data in zip(paths, (svg.encode(), pdf), strict=True):
        write_atomically(path, data)
    return paths
