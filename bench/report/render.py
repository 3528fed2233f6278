"""From published tables and stored records to report.md and report.html."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.records import write_atomically
from bench.report import latex
from bench.report.content import Content, gather
from bench.report.figures import Picture, pictures, save
from bench.report.sources import Sources
from bench.report.summary import summary
from bench.report.templating import environment
from bench.report.views import first_new
from bench.tables.verdicts import Verdict

VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "inconclusive", "not run")


def render(
    published: Path,
    stores: Sequence[tuple[str, Path]],
    out: Path,
    only: str | Sequence[str] | None = None,
    *,
    highlight: str = "",
    table: str = "",
) -> list[Path]:
    """Writes report.md and report.html to the folder `out`: all published tables, or `only` some, and the measured.

    Beside them tables.tex, with its tables in tables/, and in figures/ each picture as SVG and PDF. Where all tables
    are rendered, files that the report there before names and this one does not are removed.

    stores, highlight, table: as `bench.report.content.gather`. The same files and names give the same bytes.

    Raises:
        TableError, RecordError, SpeedError, InspectionError: as `gather`.
    """
    chosen = [only] if isinstance(only, str) else list(dict.fromkeys(only or []))
    content = gather(published, stores, chosen, highlight, table)
    drawn = [] if chosen else pictures(content)
    earlier = [] if chosen else _named(out)
    paths = [path for picture in drawn for path in save(picture, out / "figures")] + latex.write(content, out)
    for path in {*earlier} - {*paths}:
        path.unlink(missing_ok=True)
    values = _values(content, drawn)
    for name, escape in (("report.md", False), ("report.html", True)):
        page = environment(escape).get_template(f"{name}.j2").render(values, sources=Sources())
        write_atomically(out / name, page.encode())
        paths.append(out / name)
    return paths[-2:]


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
    return {
        "blocks": content.found,
        "comparisons": content.compared,
        "joined": content.joined,
        "speeds": content.speeds,
        "costs": content.costs,
        "verdicts": VERDICTS,
        "highlight": content.highlight,
        "first_new": first_new(content),
        "questions": questions,
        "total": sum((question.tally for question in questions), Counter()),
        "pictures": drawn,
        "undrawn": content.undrawn,
        "pictured": {picture.section for picture in drawn},
        "script": script,
        "script_hash": f"sha256-{digest}",
    }
