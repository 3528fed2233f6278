"""The tables for papers: tables.tex, a document of its own, and tables/<id>.tex, one for each \\input.

They need booktabs, longtable, array and amssymb, and compile with any TeX engine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.accuracy.intervals import Interval
from bench.files import write_atomically
from bench.report import text
from bench.report.content import Content
from bench.report.views import judged, printed
from bench.tables.block import Block
from bench.tables.comparison import Control, Line, accuracies
from bench.tables.join import Joined
from bench.tables.newcomer import is_new
from bench.tables.rows import Measured
from bench.tables.schema import Column, Row
from bench.tables.speeds import Timed
from bench.tables.static_costs import CostLine

_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "$": r"\ensuremath{\mathdollar}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textquoteleft{}",
    '"': r"\textquotedblright{}",
    "\u2212": r"\ensuremath{-}",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}",
    "\u201d": r"\textquotedblright{}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "±": r"\ensuremath{\pm}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "→": r"\ensuremath{\rightarrow}",
    "✓": r"\checkmark{}",
    "✗": r"\ensuremath{\times}",
    "Δ": r"\ensuremath{\Delta}",
    "Φ": r"\ensuremath{\Phi}",
    "η": r"\ensuremath{\eta}",
    "λ": r"\ensuremath{\lambda}",
    "μ": r"\ensuremath{\mu}",
    "σ": r"\ensuremath{\sigma}",
}
_SIGNS |= {sign: f"\\{sign}" for sign in "{}&%#_"}
_SIGNS |= {sign: f"{{{sign}}}" for sign in "[]*"}  # else read as the argument of a line's end
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030c": "v", "\u0327": "c"}
_JOINING = re.compile(r"([-',])(?=\1)")
"""What TeX makes one sign of."""

_WHAT = 0.2
"""Share of the width of the column that says what a line is."""


class Tex(str):
    """Text that is TeX as it stands."""


@dataclass(frozen=True)
class Head:
    """A column: its head and its share of the width."""

    text: str
    share: float
    figures: bool = True


@dataclass(frozen=True)
class Part:
    """One table with its caption.

    lines: whether a row begins with it, and a cell a column; where there are fewer, the last one spans the rest.
    """

    caption: str
    heads: Sequence[Head]
    lines: Sequence[tuple[bool, Sequence[str]]]


@dataclass(frozen=True)
class Sheet:
    """What one file holds: tables that belong together, and notes under them. id: the stem of the file."""

    id: Tex
    parts: Sequence[Part]
    notes: Sequence[str] = ()


def write(content: Content, out: Path) -> list[Path]:
    """Writes the chosen tables, the comparisons and the static costs; gives the paths, the document first."""
    sheets = [_published(joined) for joined in content.joined]
    sheets += [_compared(*one) for one in content.compared]
    sheets += [_static(content.costs)] if content.costs else []
    templates = _environment()
    paths = [out / "tables.tex", *(out / "tables" / f"{sheet.id}.tex" for sheet in sheets)]
    pages = [templates.get_template("tables.tex.j2").render(sheets=sheets)]
    pages += [templates.get_template("table.tex.j2").render(sheet=sheet) for sheet in sheets]
    for path, page in zip(paths, pages, strict=True):
        write_atomically(path, page.encode())
    return paths


def tex(value: object) -> str:
    """Any text as TeX that prints it: in one line, nothing in it a command; a letter without a form says its code."""
    if isinstance(value, Tex):
        return value
    line = _JOINING.sub("\\1\x00", " ".join(str(value).split()))
    return "".join("{}" if letter == "\x00" else _letter(letter) for letter in line)


def _letter(letter: str) -> str:
    if letter in _SIGNS:
        return _SIGNS[letter]
    if " " <= letter <= "~":
        return letter
    kind = unicodedata.decomposition(letter).partition(" ")[0]
    parts = unicodedata.normalize("NFKD", letter)
    if kind in ("<super>", "<sub>"):
        return rf"\text{kind[1:-1]}script{{{tex(parts)}}}"
    if len(parts) == 2 and parts[0].isalpha() and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"{{[}}U+{ord(letter):04X}{{]}}"


def _environment() -> Environment:
    """Signs that TeX does not use; every value is escaped on its way out."""
    return Environment(
        loader=PackageLoader("bench.report"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=StrictUndefined,
        finalize=tex,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _published(joined: Joined) -> Sheet:
    """A published table: under each row as printed what was measured of it, or why nothing was."""
    table = joined.table
    parts = []
    for group in printed.groups(table):
        labels = [_label(name, [row.labels.get(name, "") for row in group.rows]) for name in group.labels]
        share = (1 - sum(head.share for head in labels) - _WHAT) / max(1, len(group.columns))
        heads = [*labels, Head("", _WHAT, False), *(Head(_column(column), share) for column in group.columns)]
        lines = [line for row in group.rows for line in _row(joined, row, group)]
        parts.append(Part(f"{printed.heading(table)}{', ' if group.name else ''}{group.name}", heads, lines))
    errata = [f"On what is published, {printed.place(table, erratum)}: {erratum.text}" for erratum in table.errata]
    return Sheet(_stem(table.id), parts, [f"Source: {table.source}. Published on {table.dataset}.", *errata])


def _label(name: str, texts: Sequence[str]) -> Head:
    """A column of labels, as wide as the longest needs, up to a limit."""
    longest = max(len(found) for found in (name, *texts))
    return Head(name, min(0.01 + 0.005 * longest, 0.15), False)


def _column(column: Column) -> str:
    unit = "" if column.unit in ("", "1") or column.unit in column.label else f", {column.unit}"
    return column.label + unit


def _row(joined: Joined, row: Row, group: printed.Group) -> Iterator[tuple[bool, Sequence[str]]]:
    """The lines of one row."""
    labels, empty = [row.labels.get(label, "") for label in group.labels], [""] * len(group.labels)
    source = "not published" if is_new(row.id) else "published"
    yield True, [*labels, source, *(printed.published_text(joined.table, row, one) for one in group.columns)]
    for run in judged.measured(joined.rows[row.id]):
        on = f"{run.block.name}: {run.block.dataset}, {text.seeds(run.seeds)}"
        on += f", revision {run.revision}" if run.revision is not None else ""
        what = on + _shared(run.sharing) + (f"; {run.reason}" if run.reason else "")
        yield False, [*empty, what, *(_cell(run.cells[one.id], one) for one in group.columns)]
    for point in joined.points[row.id]:
        what = f"at the published operating point, not trained ({point.setting.origins}): {point.setting.where}"
        cells = [_cell(point.cells[one.id], one, False) if one.id in point.cells else "" for one in group.columns]
        yield False, [*empty, what, *cells]
    if why := judged.missing(joined, row.id):
        yield False, [*empty, why]


def _shared(name: str) -> str:
    """That another block has the same records, by its name; "" where none has."""
    return f", the same records as under {name}" if name else ""


def _cell(measured: Measured, column: Column, where: bool = True) -> str:
    """A measured cell, with its interval, or the reason why there is none. where: whether speeds name their machine."""
    if measured.found is None:
        return measured.reason
    if measured.timed:
        return "; ".join(_timed(one, where) for one in measured.timed)
    change = "" if measured.change is None else f" ({text.percent(measured.change)})"
    ends = text.ends(measured, column)
    return text.figure(measured, column) + change + (f", {ends}" if ends else "")


def _timed(one: Timed, where: bool = True) -> str:
    beside = "" if one.twin is None else f"; baseline {text.significant(one.twin.value)} in the same rounds"
    ratio = "" if one.ratio is None else f" ({text.percent(one.ratio.value - 1)}{beside})"
    ends = text.between(one.found)
    under = one.setting.text if where else one.setting.workload
    return f"{text.significant(one.found.value)}{ratio}{', ' if ends else ''}{ends}, {under}"


def _compared(block: Block, frames: int, lines: Sequence[Line]) -> Sheet:
    """All methods of a block at as many frames, each adaptive one with its controls."""
    kinds = accuracies(block)
    scale, unit = text.cost_unit(line.cost.value for line in lines)
    rest = [
        *(f"{kind}, %" for kind in kinds),
        f"{unit} avg / max / min",
        "executed / accounted, in evaluation",
        "speed",
        "parameters",
    ]
    heads = [Head("method", 0.25, False), Head("seeds", 0.05), *(Head(head, 0.7 / len(rest)) for head in rest)]
    rows = [row for line in lines for row in _line(line, kinds, scale, block.sharing(line.runs))]
    caption = f"Comparison, {block.name}: {block.dataset}{block.part}, {text.frames(frames)}"
    stem = _stem(f"comparison-{block.profile}-{block.apart}-{block.whence}-{frames}f-{block.store}")
    return Sheet(stem, [Part(caption, heads, rows)])


def _line(line: Line, kinds: Sequence[str], scale: float, sharing: str) -> Iterator[tuple[bool, Sequence[str]]]:
    name = line.name + _shared(sharing)
    figures = [_figure(line.accuracies[kind]) for kind in kinds]
    costs = " / ".join(text.costed(line.gflops, scale))
    speeds = "; ".join(f"{_timed(one)}, {line.unit}" for one in line.speeds) or line.why_not
    yield True, [name, str(line.seeds), *figures, costs, text.fixed(line.executed), speeds, f"{line.parameters:,}"]
    for control in line.controls:
        yield False, _control(control)


def _figure(found: Interval | None) -> str:
    """A percentage with its interval."""
    if found is None:
        return "\u2013"
    ends = text.span(found)
    return text.points(found) + (f", {ends}" if ends else "")


def _control(control: Control) -> list[str]:
    name = f"\u2013 control: {control.name}"
    if control.right is None or control.gain is None:
        return [name, "", f"not run: {control.reason}"]
    gain = f"learned minus this: {text.points(control.gain, '+')} ({text.span(control.gain, '+')}), {control.verdict}"
    cost = f"costs {text.fixed(control.cost)} of the learned policy"
    told = [f"{control.of} {_figure(control.right)}", gain, *([control.reason] if control.reason else []), cost]
    return [name, "", "; ".join(told)]


def _static(costs: Sequence[CostLine]) -> Sheet:
    """The published costs of static networks beside two counts of ours."""
    names = ("published GFLOPs", "multiply-adds", "difference", "fvcore total", "difference", "parameters")
    heads = [Head("table", 0.07, False), Head("row", 0.1, False), Head("network", 0.2, False)]
    heads += [*(Head(name, 0.075) for name in names), Head("remark", 0.18, False)]
    lines = [(True, [printed.short(c.table), c.row, c.name, c.text, *_counts(c), c.remark]) for c in costs]
    return Sheet(Tex("static-costs"), [Part("Cost of the static networks at their published size", heads, lines)])


def _counts(line: CostLine) -> list[str]:
    if line.cost is None:
        return ["\u2013"] * 5
    ours, theirs = (text.percent(count / 1e9 / line.published - 1, 2) for count in (line.cost.macs, line.cost.fvcore))
    return [f"{line.cost.macs:,}", ours, f"{line.cost.fvcore:,}", theirs, f"{line.cost.params:,}"]


def _stem(name: str) -> Tex:
    """A name that is a file's and a label's."""
    return Tex(re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-"))
