"""The tables as LaTeX: they compile where there is a TeX engine, and are whole TeX where there is none."""

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from report.stored import NASTY, clock, records
from report.stored import write as write_record

from bench.report.content import gather
from bench.report.latex import Tex, tex
from bench.report.latex import write as write_tables
from bench.report.render import render
from bench.tables import published
from bench.tables.schema import ids, load

ENGINES = {
    "pdflatex": ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"],
    "xelatex": ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"],
    "lualatex": ["-interaction=nonstopmode", "-halt-on-error", "--no-shell-escape"],
    "tectonic": ["--untrusted"],
}
COMMANDS = (
    "textbackslash textasciitilde textasciicircum textless textgreater textbar textquoteleft textquoteright"
    " textquotedblleft textquotedblright textendash textemdash ensuremath times cdot pm leq geq rightarrow checkmark"
    " mathdollar Delta Phi eta lambda mu sigma textsuperscript textsubscript"
).split()
LEAST = r"""\documentclass{article}
\usepackage{amssymb,array,booktabs,longtable}
\usepackage{geometry}
\begin{document}\scriptsize x\textless\textbar\textasciitilde\checkmark\end{document}
"""
TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|.", re.S)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latex")
    records(folder / "runs")
    clock(folder / "runs")
    write_tables(gather(published(), [("runs & $co", folder / "runs")]), folder / "out")
    return folder / "out"


def outside(text: str, wanted: str) -> int:
    """How often a token stands outside of all braces."""
    depth = found = 0
    for token in TOKEN.findall(text):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0, text
        found += token == wanted and not depth
    assert not depth, text
    return found


@given(st.text(max_size=40))
@example("a--b---c''d,,e``f?`g<<h>>")
@example("% \\input{x} $x$ #1 a_b^c~d & {e} [f] *g")
@example("x²₃ é ç Ñ \u0000 \u200b 視 −1 × 2 ≤ η")
def test_any_text_is_text(given: str) -> None:
    shown = tex(given)
    assert outside(shown, "&") == 0 and shown.isascii()
    for token in TOKEN.findall(shown):
        assert token not in tuple("&%$#_^~")
        if token[0] == "\\":
            assert token[1:] in COMMANDS or token[1] in "{}&%#_" or token[1:] in tuple("`'^~\"vc"), token
    plain = re.sub(r"\\[a-zA-Z]+|\\.|[{}]", "", shown)
    assert not re.search(r"--|''|``|,,|[?!]`", shown) and not set("<>|") & set(plain)
    assert not re.match(r"\s*[\[*]", shown)


def test_ascii_letters_stay_and_what_is_unknown_says_its_code() -> None:
    assert tex("r2plus1d_18, 50 %") == r"r2plus1d\_18, 50 \%" and tex("視") == "{[}U+8996{]}"
    assert tex("VA-RED² é") == r"VA-RED\textsuperscript{2} \'{e}" and tex(Tex(r"\x")) == r"\x" and tex(1.5) == "1.5"


def test_there_is_a_file_for_each_table_the_comparison_and_the_static_costs(out: Path) -> None:
    document = (out / "tables.tex").read_text()
    inputs = re.findall(r"\\input\{tables/([^}]*)\}", document)
    assert inputs[: len(ids())] == ids() and inputs[-1] == "static-costs"
    assert sorted(inputs) == sorted(path.stem for path in (out / "tables").iterdir())
    assert any(name.startswith("comparison-quick-8f") for name in inputs)
    assert document.startswith("\\documentclass") and document.rstrip().endswith("\\end{document}")


def test_every_table_is_whole(out: Path) -> None:
    """Braces and environments close, and every row fills the columns."""
    for path in (out / "tables").iterdir():
        text = path.read_text()
        names = re.findall(r"\\(begin|end)\{(\w+)\}", text)
        assert [name for _, name in names] == ["longtable"] * len(names) and text.count("\\begingroup") == 1
        for body in re.findall(r"\\begin\{longtable\}(.*?)\\end\{longtable\}", text, re.S):
            columns = body.partition("\n@{}}\n")[0].count("\\arraybackslash")
            rows = re.split(r"\n\\\\\n", body.partition("\\endfoot\n")[2])
            assert columns > 1 and rows[-1] == "" and len(rows) > 1
            heads = re.findall(r"\\toprule\n(.*?)\n\\\\", body, re.S)
            for row in [*rows[:-1], *heads]:
                spans = sum(int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d+)\}", row))
                assert outside(row, "&") + 1 + spans == columns, (path.name, row)


def test_published_and_measured_cells_stand_there(out: Path) -> None:
    table = (out / "tables" / "table1.tex").read_text()
    assert "20.0(\\ensuremath{-}28\\%)" in table and "205.5" in table and "0.700 (\\ensuremath{-}30.0 \\%)" in table
    assert "nothing was run with 32 frames" in table and "3 seeds" in table and "On what is published, " in table
    compared = next((out / "tables").glob("comparison-*")).read_text()
    assert tex(NASTY) in compared and "vared/r2plus1d\\_18, search space 2" in compared
    assert "runs \\& \\ensuremath{\\mathdollar}co" in table
    assert "27,524,567,040" in (out / "tables" / "static-costs.tex").read_text()


def test_a_speed_stands_with_its_machine(out: Path) -> None:
    """Once: a row at an operating point is of one machine, and names it."""
    where = "one processor, 2 threads, torch 2.13.0"
    table = (out / "tables" / "table1.tex").read_text()
    assert f"batch 8, fp32, {where}" in table
    points = [line for line in re.split(r"\n\\\\\n", table) if "at the published operating point, not trained" in line]
    assert sorted(line.count(where) for line in points) == [0, 0, 1, 1]
    assert f"batch 8, fp32, {where}, clips/s" in next((out / "tables").glob("comparison-*")).read_text()


def test_rows_say_their_revision_and_with_which_block_they_share_their_records(write, tmp_path: Path) -> None:
    dynamic = {"method": "vared/r2plus1d_18", "options": {"search_space": 2}}
    write()
    write(**dynamic)
    write(**dynamic, method_setting="other", revision=2)
    write(setting="old")
    write(**dynamic, setting="old")
    write_latex(tmp_path)
    table = (tmp_path / "tables" / "table1.tex").read_text()
    assert table.count("1 seed, revision 1") == 2 and table.count("1 seed, the same records as under p") == 1
    compared = "".join(path.read_text() for path in (tmp_path / "tables").glob("comparison-*"))
    assert compared.count("r2plus1d\\_18, the same records as under p") == 1


def test_a_comparison_says_in_how_many_folds(write, tmp_path: Path) -> None:
    for fold, method in product((0, 1), ("r2plus1d_18", "other")):
        stated = {"folds": [0, 1], "across_folds": "a", "dataset_options": {"fold": fold}}
        write(method=method, setting=f"s{fold}", data_fingerprint=f"f{fold}", protocol=stated)
    write_latex(tmp_path)
    (compared,) = (tmp_path / "tables").glob("comparison-*")
    assert ": digits, 2 folds, 8 frames" in compared.read_text()
    page = render(published(), [("runs", tmp_path / "runs")], tmp_path)[1].read_text()
    assert re.search(r"<h3>[^<]*: digits, 2 folds, 8 frames<", page)


def write_latex(folder: Path) -> None:
    write_tables(gather(published(), [("runs", folder / "runs")]), folder)


def test_a_new_methods_row_is_not_in_print(tmp_path: Path) -> None:
    for seed in range(3):
        write_record(tmp_path / "runs", "mine:Net", {}, seed, 10**9)
    stores = [("runs", tmp_path / "runs")]
    write_tables(gather(published(), stores, ["table1"], highlight="mine:Net", table="table1"), tmp_path)
    table = (tmp_path / "tables" / "table1.tex").read_text()
    printed = len(load("table1").rows)
    assert (table.count("\nnot published &"), table.count("\npublished &")) == (1, printed)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_tables_compile(out: Path, tmp_path: Path, engine: str) -> None:
    if not shutil.which(engine):
        pytest.skip(f"no {engine} on this machine")
    (tmp_path / "least.tex").write_text(LEAST)
    if not made(tmp_path, engine, "least")[0]:
        pytest.skip(f"{engine} does not work on this machine, or lacks a package")
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    done, told = made(tmp_path, engine, "tables")
    assert done, told


def made(folder: Path, engine: str, name: str) -> tuple[bool, str]:
    """Whether an engine makes a PDF, and the end of what it says."""
    command = [engine, *ENGINES[engine], f"{name}.tex"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    return run.returncode == 0 and (folder / f"{name}.pdf").exists(), run.stdout[-2000:]
