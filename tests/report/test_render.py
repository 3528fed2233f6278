import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from report.stored import NASTY, clock, records, write
from tables.clocked import at_point, store

from bench.accuracy.intervals import Interval
from bench.files import sealed, write_atomically
from bench.records import Figure, Store
from bench.report import render
from bench.report.content import gather
from bench.report.summary import counts, summary
from bench.report.text import fixed, markdown, percent, reasons, significant
from bench.report.views.floors import best_floors
from bench.report.views.judged import picture
from bench.report.views.recorded import settings
from bench.tables import TableError, load, published
from bench.tables.blocks import blocks
from bench.tables.claims import ClaimResult
from bench.tables.floors import Floor, FloorRecord
from bench.tables.join import Joined

VOID = {"meta"}
PICTURE = r'id="figure-(pareto-quick[^"]*)"'


Stores = list[tuple[str, Path]]


def stored(folder: Path) -> Stores:
    records(folder / "runs")
    return [("runs", folder / "runs"), ("results/measured", folder / "none")]


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return stored(tmp_path)


@pytest.fixture
def clocked(stores: Stores) -> Stores:
    """The records and timings of one folder."""
    clock(stores[0][1])
    return stores


def pages(stores: Stores, out: Path, only: str | None = None) -> tuple[str, str]:
    markdown_page, html = render(published(), stores, out, only)
    return markdown_page.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")


class Rendered(NamedTuple):
    """A folder with its stores, and its two pages in "out"."""

    folder: Path
    stores: Stores
    pages: tuple[str, str]


@pytest.fixture(scope="module")
def untimed(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Pages of records alone."""
    folder = tmp_path_factory.mktemp("untimed")
    stores = stored(folder)
    return Rendered(folder, stores, pages(stores, folder / "out"))


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Pages of records and timings."""
    folder = tmp_path_factory.mktemp("timed")
    stores = stored(folder)
    clock(stores[0][1])
    return Rendered(folder, stores, pages(stores, folder / "out"))


class Balanced(HTMLParser):
    """Fails on a tag that is closed where it is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named[name] for name in ("href", "src") if name in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None: ...

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


@pytest.mark.parametrize("kind", ["untimed", "timed"])
def test_the_page_is_whole_and_needs_nothing_else(request: pytest.FixtureRequest, kind: str) -> None:
    folder, _, (_, html) = request.getfixturevalue(kind)
    page = Balanced()
    page.feed(html)
    assert not page.open
    inside = [link for link in page.links if link.startswith("#")]
    assert len(page.ids) == len(set(page.ids))
    assert len(inside) > 30 and all(link[1:] in page.ids for link in inside)
    assert all((folder / "out" / link).is_file() for link in page.links if link not in inside)
    assert not re.search(r"url\((?!#)|@import|<link", html) and html.count("<script") == 1


def test_a_record_is_said_to_have_had_the_settings_of_its_own_method(tmp_path: Path) -> None:
    write(tmp_path, "r2plus1d_18", {}, 0, 10**9)
    write(tmp_path, "vared/r2plus1d_18", {}, 0, 10**9)
    had = {"r2plus1d_18": {"vared": {"gate_scales": [0.1, 4.3]}, "r2plus1d_18": {"share": 1}}, "vared/r2plus1d_18": {}}
    store = Store(tmp_path)
    for _, record in list(store):
        store.write(record.model_copy(update={"protocol": {"method": had[record.identity.method]}}))
    (block,) = blocks([("runs", tmp_path)])
    assert settings(block, "protocol") == [("method.r2plus1d_18.share", "1")]


def test_names_with_markup_are_shown_not_run(timed: Rendered) -> None:
    text, html = timed.pages
    page = Balanced()
    page.feed(html)
    assert NASTY in "".join(page.text) and html.count("<script") == 1 and "<script>alert" not in html
    assert "H100 <b>|" in "".join(page.text) and "out of | memory <i>" in "".join(page.text)
    assert "<script" not in text and "<i>" not in text and "<b>" not in text


def test_every_markdown_table_row_has_as_many_cells_as_its_head(timed: Rendered) -> None:
    text, _ = timed.pages
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) >= 7
    for table in tables:
        lines = table.splitlines()
        assert set(lines[1]) <= set("|-"), lines[:3]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines


def test_published_and_measured_cells_and_verdicts_stand_there(untimed: Rendered) -> None:
    for page in untimed.pages:
        assert "20.0(−28%)" in page and "Mini-Kinetics-200" in page
        assert "0.700" in page and "−30.0 %" in page
        assert re.search(r"holds.{0,30}0\.700", page, re.S)
        assert re.search(r"[Ff]irst verdict.*?does not hold.{0,60}0\.900", page, re.S)
        assert "nothing was run with 32 frames" in page and "AdaFrame is not part of this suite" in page
        assert "too few classes" in page and "epochs" in page and "2.13.0" in page
        assert "Accuracies of different data sets are never compared" in page


def test_speeds_stand_in_cells_claims_and_lines(timed: Rendered) -> None:
    for page in timed.pages:
        shown = re.sub(r"<[^>]*>|\*\*", " ", page)
        assert re.search(r"120\.0\s+\(?\+20\.0 %", shown) and "at the published operating point" in shown
        assert re.search(r"holds\s*:?\s+1\.200 +\(?1\.1\d\d to 1\.2\d\d\)?[, ·]+3 seeds", shown)
        assert re.search(r"holds\s*:?\s+1\.300 .{0,30}\s.{0,300}the device was throttled", shown, re.S)
        assert "Measured speed" in shown and "gone/row" in shown and "within the noise" in shown
        assert "failed: out of" in shown and "best plain form: compiled, 9.00" in shown
        assert "20.0 GFLOPs (18.0 to 22.1)" in shown
        assert re.search(r"1\.070.{0,3}, η 0\.18", shown)  # in print: 205.5 / 192.1 at 20.0 / 27.7


def test_what_is_had_without_a_network_stands_in_the_table_of_accuracies(stores: Stores, tmp_path: Path) -> None:
    """Figure by figure, of exactly these data, and is not sorted among the methods."""
    kept = {"dataset": NASTY, "dataset_revision": 1, "profile": "quick", "frames": 8, "videos": 20}
    rules = {"guess <i> |": {"clip-1": Figure(value=0.125, low=0.1, high=0.15), "mAP": Figure(value=0.5)}}
    for number, print_ in enumerate(("f", "other data")):
        own = {name + str(number): figures for name, figures in rules.items()}
        floor = FloorRecord.model_validate({**kept, "fingerprints": [print_], "rules": own})
        write_atomically(stores[0][1] / "floors" / f"{number}.json", sealed(floor.model_dump_json(indent=1)))
    text, html = pages(stores, tmp_path / "out")
    (line,) = [line for line in text.splitlines() if line.startswith("| – without a network")]
    assert line == "| – without a network: guess &lt;i> \\|0 | | 12.5<br>10.0 to 15.0 | – | | | | |"
    foot = html[html.index("<tfoot>") : html.index("</tfoot>")]
    assert "without a network: guess &lt;i&gt; |0</td><td>12.5<small>10.0 to 15.0</small></td><td>–</td>" in foot
    assert html.count("<tfoot>") == 1 and "|1" not in foot


def test_the_page_begins_with_what_came_out_and_one_picture(timed: Rendered) -> None:
    """The picture of the comparison with most methods, which stands nowhere else; what was timed where is said once."""
    text, html = timed.pages
    marks = ("Bottom line</h2>", 'id="figure-pareto-', "In short</h2>", 'id="comparison"', 'id="speed"', 'id="data"')
    places = [html.index(mark) for mark in marks]
    assert places == sorted(places) and html.count('id="figure-pareto-quick') == len(set(re.findall(PICTURE, html)))
    assert text.index("## Bottom line") < text.index("figures/pareto-") < text.index("## In short")
    comparison = html[html.index('id="comparison"') : html.index('id="speed"')]
    assert comparison.count("one processor") == 1 + comparison.count('data-machine="one processor')


def test_of_each_figure_the_best_floor_is_shown(untimed: Rendered) -> None:
    block = gather(published(), untimed.stores, ["table1"]).found[0]
    values = (("low", "clip-1", 8.0), ("high", "clip-1", 42.0), ("only", "mAP", 3.0))
    given = [Floor(rule, figure, Interval(value, value, value), True) for rule, figure, value in values]
    ((_, frames, best),) = best_floors([(block, 8, given)])
    assert frames == 8 and [floor.rule for floor in best] == ["high", "only"]


def test_timings_that_were_not_warm_are_counted_and_named(timed: Rendered, tmp_path: Path) -> None:
    assert not any("warm-up of" in page for page in timed.pages)
    warm = {"warm_up": {"stable": True}}
    store(
        tmp_path / "runs", at_point(1.3, protocol=warm), at_point(1.3, batch=1, protocol={"warm_up": {"stable": False}})
    )
    for page in pages([("runs", tmp_path / "runs")], tmp_path / "out"):
        assert "1 of the 2 timings" in page and "batch 1, one processor." in page


def test_without_timings_there_is_no_section_on_them(untimed: Rendered) -> None:
    for page in untimed.pages:
        assert "Measured speed" not in page and "speed was not measured" in page and "not timed" in page


def test_one_table_has_the_timings_of_its_rows_only(clocked, tmp_path: Path) -> None:
    for page in pages(clocked, tmp_path / "out", "table2"):
        assert "out of" in page and "gone/row" not in page and "8f-sp2" not in page


def test_a_speed_claim_counts_in_its_block(clocked) -> None:
    content = gather(published(), clocked, ["table1"])
    timed, untimed = (summary(one) for one in (content, replace(content, joined=[_without_speed(content.joined[0])])))
    block = content.found[0].name
    assert counts(timed, block)["holds"] == counts(untimed, block)["holds"] + 1
    assert counts(timed, "") == {"holds": 2} and counts(untimed, "") == {}


def _without_speed(joined: Joined) -> Joined:
    return replace(joined, claims=[one for one in joined.claims if one.claim.statistic != "speed_ratio"])


def test_same_input_same_bytes(timed: Rendered, tmp_path: Path) -> None:
    """Of pages and pictures."""
    pages(timed.stores, tmp_path)
    out = timed.folder / "out"
    files = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    assert len(files) > 2 and all((tmp_path / file).read_bytes() == (out / file).read_bytes() for file in files)


def test_one_table_is_always_the_same_and_has_nothing_beside_it(timed: Rendered, tmp_path: Path) -> None:
    """Also where other tables change: no pictures, no comparison, no row of another table."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "table7.toml").write_bytes((published() / "table7.toml").read_bytes())
    found = [
        [path.read_bytes() for path in render(where, timed.stores, tmp_path / "out", "table7")]
        for where in (published(), folder)
    ]
    assert found[0] == found[1] and not (tmp_path / "out" / "figures").exists()


def test_no_path_of_the_machine_is_shown(timed: Rendered) -> None:
    assert all(str(timed.folder) not in page for page in timed.pages)


def test_nothing_recorded_is_a_report_too(tmp_path: Path) -> None:
    for page in pages([("runs", tmp_path / "none")], tmp_path / "out"):
        assert "Nothing is recorded yet" in page and "110.5" in page


@pytest.mark.parametrize("right", ["first_box", "crop_pixels"])
def test_a_comparison_by_other_figures_is_whole(tmp_path: Path, right: str) -> None:
    """Three or two figures, above controls that were scored and one that was not."""
    names = ("mAP", "recall", "classification") if right == "first_box" else ("mIoU", "pixel-accuracy")
    for method in ("x", "vared/x"):
        write(tmp_path / "runs", method, {}, 0, 10**9, frames=1)
    for path, record in Store(tmp_path / "runs"):
        samples = pd.DataFrame({"index": np.arange(20), "group": [str(i) for i in range(20)], "cost": 1, right: 1.0})
        samples = samples.assign(**{f"control.random.{right}": 0.5, "control.random.cost": 1})
        figures = {name: Figure(value=0.123) for name in names}
        changed = {"figures": figures, "missing": {"control.fixed": "no | fixed <choice>"}}
        path.unlink()
        Store(tmp_path / "runs").write(record.model_copy(update=changed), samples)
    text, html = pages([("runs", tmp_path / "runs")], tmp_path / "out")
    page = Balanced()
    page.feed(html)
    assert not page.open
    for shown in (text, html):
        part = re.split("(?:<h2>|## )Comparison", shown)[1]
        assert "12.3" in part and "not run: no" in part and "1 frame" in part and "clip-1, %" not in part
        assert all(name in part for name in (*names, "first box" if right == "first_box" else "centre crop"))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = table.splitlines()
        assert set(lines[1]) <= set("|-"), lines[:3]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines


def test_a_method_just_compared_is_marked_in_its_rows(stores: Stores, untimed: Rendered, tmp_path: Path) -> None:
    name = "mine<i>:Net"
    for seed in range(3):
        write(stores[0][1], name, {}, seed, 5 * 10**8)
    paths = render(published(), stores, tmp_path / "out", highlight=name, table="table1")
    text, html = (path.read_text(encoding="utf-8") for path in paths)
    page = Balanced()
    page.feed(html)
    assert not page.open and "mine<i>:Net" in "".join(page.text) and "mine<i>" not in text
    assert "New here:" in text and "New here:" in html and "New here:" not in "".join(untimed.pages)
    assert html.count('<tbody class="row new"') == 1 and html.count('class="new"') > 1
    assert f"**{markdown(name)}**" in text and "**new, not published**" in text
    linked = re.search(r'New here: <a href="#([^"]+)"', html)
    assert linked and linked[1] in page.ids
    assert 'class="row new"' not in untimed.pages[1] and 'class="new"' not in untimed.pages[1]


def test_the_summary_has_each_question_with_its_verdicts(timed: Rendered) -> None:
    for page in timed.pages:
        short = re.sub(r"<[^>]*>|\*\*", " ", page.partition("In short")[2].partition("What was measured")[0])
        shown = " ".join(short.partition("On what data")[0].split())
        assert re.search(r"compute less than the static network\? .{0,20}holds.{0,30}×0\.700", shown)
        assert re.search(r"faster on the clock\? .{0,20}holds.{0,30}×1\.300 \(1\.287 to 1\.313\)", shown)
        assert "3 seeds" in shown and "full size, not trained" in shown and "Against other methods" not in shown


def test_what_an_earlier_report_named_is_removed_and_nothing_else(stores: Stores, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for part, name in (
        ("figures", "gone.svg"),
        ("figures", "gone.pdf"),
        ("figures", "mine.pdf"),
        ("tables", "gone.tex"),
    ):
        (out / part).mkdir(parents=True, exist_ok=True)
        (out / part / name).write_text("")
    (out / "report.html").write_text('<a href="figures/gone.svg">SVG</a> <a href="figures/gone.pdf">PDF</a>')
    (out / "tables.tex").write_text("\\input{tables/gone}\n\\input{tables/table1}")
    pages(stores, out, "table10")
    assert (out / "figures/gone.svg").exists() and (out / "tables/gone.tex").exists()
    (out / "report.html").write_text('<a href="figures/gone.svg">SVG</a> <a href="figures/gone.pdf">PDF</a>')
    (out / "tables.tex").write_text("\\input{tables/gone}\n\\input{tables/table1}")
    pages(stores, out)
    assert [path.name for path in out.rglob("gone.*")] == [] and (out / "figures/mine.pdf").exists()
    assert (out / "tables/table1.tex").exists()


def test_only_one_table(stores, tmp_path: Path) -> None:
    text, _ = pages(stores, tmp_path / "out", "table10")
    assert load("table10").title.split("(")[0] in text and "CorrNet" not in text
    with pytest.raises(TableError, match="table12"):
        pages(stores, tmp_path / "out", "table12")


def test_rendering_never_imports_torch(tmp_path: Path) -> None:
    clock(tmp_path / "none")
    code = (
        "import sys; from pathlib import Path; from bench.report import render; from bench.tables import published;"
        f"render(published(), [('runs', Path({str(tmp_path / 'none')!r}))], Path({str(tmp_path / 'out')!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "shown"), [(0.013456, "0.0135"), (27.7, "27.7"), (110.52, "110.5"), (1.2, "1.20"), (0.0, "0")]
)
def test_three_significant_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


def test_what_is_not_known_is_a_dash() -> None:
    assert fixed(float("nan")) == "\u2013" and fixed(-0.5, 1) == "\u22120.5"


def test_percent_has_a_sign() -> None:
    assert (percent(-0.281), percent(0.0036, 2)) == ("−28.1 %", "+0.36 %")


def test_markdown_escapes_cells_and_markup() -> None:
    assert markdown("a|b\n<i>*c*_d_") == r"a\|b &lt;i>\*c\*\_d\_"


@pytest.mark.parametrize("relation", ["<=", ">="])
def test_the_bar_keeps_order_and_shades_the_claims_side(relation: str) -> None:
    claim = load("table1").claims[0].model_copy(update={"relation": relation, "margin": 0.8})
    bar = picture(Interval(0.7, 0.6, 0.75), claim)
    assert bar is not None and 0 < bar["low"] < bar["low"] + bar["width"] < bar["margin"] < 100
    inside = bar["side"] <= bar["low"] <= bar["side"] + bar["side_width"]
    assert inside == (relation == "<=")


def test_bars_of_one_row_are_on_one_scale() -> None:
    claim = load("table1").claims[0].model_copy(update={"relation": "<=", "margin": 0.8})
    row = [Interval(0.7, 0.6, 0.75), Interval(0.65, 0.64, 0.66), Interval(1.0, float("nan"), float("nan"))]
    wide, narrow = (picture(found, claim, row) for found in row[:2])
    assert wide is not None and narrow is not None and wide["margin"] == narrow["margin"]
    assert wide["low"] < narrow["low"] and wide["width"] == pytest.approx(7.5 * narrow["width"], rel=0.05)


def test_an_interval_of_no_width_at_the_margin_has_no_bar() -> None:
    claim = load("table1").claims[0]
    assert picture(Interval(0.8, 0.8, 0.8), claim) is None
    assert picture(Interval(0.8, float("nan"), float("nan")), claim) is None


def test_a_judgement_that_tables_share_is_counted_once(tmp_path: Path) -> None:
    """Tables 1, 5 and 6 have the same claim on the cost of 16 frames."""
    folder = tmp_path / "runs"
    for seed in range(3):
        for method, options, cost in (("r2plus1d_18", {}, 10), ("vared/r2plus1d_18", {"search_space": 2}, 7)):
            write(folder, method, options, seed, cost * 10**8, frames=16)
    content = gather(published(), [("runs", folder)], ["table1", "table5", "table6"])
    cost = [r for one in content.joined for r in one.claims if r.claim.statistic == "cost_ratio" and judged(r)]
    assert len(cost) == 3
    every = (summary(replace(content, joined=tables)) for tables in (content.joined[:1], content.joined))
    alone, together = (counts(questions, content.found[0].name) for questions in every)
    assert alone["holds"] == together["holds"] > 0


def judged(result: ClaimResult) -> bool:
    return any(item.judgement.interval is not None for item in result.latest)


def test_a_reason_names_its_blocks_unless_all_share_it() -> None:
    assert reasons([("a", "no record"), ("b", "no record")], 0) == "no record"
    assert reasons([("a", "no record")], 1) == "no record (a)"
    assert reasons([("a", "no record"), ("b", "failed"), ("c", "no record")], 0) == "no record (a, c); failed (b)"
