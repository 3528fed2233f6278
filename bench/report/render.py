"""From published tables and stored records to report.md and report.html."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.files import locked, remove_leftovers, write_atomically
from bench.report import latex
from bench.report.bottom import bottom_line
from bench.report.content import Content, gather
from bench.report.figures import Picture, leading_picture, pictures, save
from bench.report.sources import Sources
from bench.report.summary import summary
from bench.report.templating import environment
from bench.report.views.judged import outdated
from bench.report.views.printed import first_new
from bench.tables.schema import load
from bench.tables.verdicts import Verdict

ANSWERS: Mapping[Verdict, str] = {
    "holds": "**yes**",
    "does not hold": "**no**",
    "set": "**set**",
    "too few seeds, within": "**open, within**",
    "too few seeds, beyond": "**open, beyond**",
    "inconclusive": "**open**",
}
"""What results.md says for each verdict that rests on an interval, in the order of all pages."""


def _said(line: str) -> None:
    print(f"left out: {line}", file=sys.stderr, flush=True)


def render(
    published: Path,
    stores: Sequence[tuple[str, Path]],
    out: Path,
    only: str | Sequence[str] | None = None,
    *,
    highlight: str = "",
    table: str = "",
    tell: Callable[[str], None] = _said,
) -> list[Path]:
    """Writes report.md and report.html to the folder `out`: all published tables, or `only` some, and the measured.

    Beside them tables.tex, with its tables in tables/, and in figures/ each picture as SVG and PDF. Where all tables
    are rendered, results.md says what came out, and files that the report there before names and this one does not are
    removed.

    stores, highlight, table: as `bench.report.content.gather`. tell: called with a line for each stored file that is
    broken, and left out. The same files and names give the same bytes; two processes may render to one folder.

    Raises:
        TableError: as `gather`.
        OSError: a file cannot be written.
    """
    chosen = [only] if isinstance(only, str) else list(dict.fromkeys(only or []))
    for name in chosen:  # a wrong one leaves no folder behind
        load(name, published)
    with locked(out / ".lock", wait=True):
        content = gather(published, stores, chosen, highlight, table)
        paths = _written(content, out, not chosen, [folder for _, folder in stores])
        for path in paths:
            remove_leftovers(path.parent, path.name)
    for line in content.left_out:
        tell(line)
    return paths[-2:]


def _written(content: Content, out: Path, everything: bool, folders: Sequence[Path]) -> list[Path]:
    """Writes all files, the two pages last. everything: also the pictures. folders: whose paths pages do not show."""
    drawn = pictures(content) if everything else []
    earlier = _named(out) if everything else []
    paths = [path for picture in drawn for path in save(picture, out / "figures")] + latex.write(content, out)
    for path in {*earlier} - {*paths}:
        path.unlink(missing_ok=True)
    values = _values(content, drawn) | {"left_out": [_short(line, folders) for line in content.left_out]}
    results = [("results.md", False)] if everything else []  # of some tables it would be half of the answer
    for name, escape in (*results, ("report.md", False), ("report.html", True)):
        page = environment(escape).get_template(f"{name}.j2").render(values, sources=Sources())
        write_atomically(out / name, page.encode())
        paths.append(out / name)
    return paths


def _short(line: str, folders: Sequence[Path]) -> str:
    """A line about a file, without the folder that it is in."""
    for folder in folders:
        line = line.replace(f"{folder}/", "")
    return line


def _named(out: Path) -> list[Path]:
    """The pictures and tables that the report in a folder names: files that someone else put there are not its own."""
    pages = [out / name for name in ("report.html", "tables.tex")]
    page, tables = (path.read_text("utf-8", "replace") if path.exists() else "" for path in pages)
    found = re.findall(r'href="(figures/[\w-]+\.(?:svg|pdf))"', page)
    found += [f"{name}.tex" for name in re.findall(r"\\input\{(tables/[\w-]+)\}", tables)]
    return [out / name for name in found]


def _values(content: Content, drawn: Sequence[Picture]) -> dict[str, Any]:
    """What the templates are given."""
    script = (files("bench.report") / "templates" / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    questions = summary(content)
    leading = leading_picture(drawn, content.compared)
    return {
        "blocks": content.found,
        "comparisons": content.compared,
        "floors": content.floors,
        "joined": content.joined,
        "speeds": content.speeds,
        "costs": content.costs,
        "bottom": bottom_line(content),
        "verdicts": list(ANSWERS),
        "highlight": content.highlight,
        "first_new": first_new(content),
        "questions": questions,
        "answers": ANSWERS,
        "outdated": outdated(content.joined),
        "total": sum((question.tally for question in questions), Counter()),
        "leading": leading,
        "pictures": [picture for picture in drawn if picture is not leading],
        "undrawn": content.undrawn,
        "pictured": {picture.section for picture in drawn if picture is not leading},
        "script": script,
        "script_hash": f"sha256-{digest}",
    }
