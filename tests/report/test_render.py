import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables.clocked import at_point, failed, store, timing

from bench.accuracy.intervals import Interval
from bench.records import Cost, Figure, Identity, Record, Store
from bench.report import render
from bench.report.render import counts, markdown, picture, point_counts
from bench.report.text import percent, reasons, significant
from bench.tables import TableError, load, published
from bench.tables.join import ClaimResult, join
from bench.tables.runs import blocks

NASTY = "digits <script>alert(1)</script> | & co"
VOID = {"meta", "line", "rect"}


def write(
    folder: Path, method: str, options: dict[str, int], seed: int, cost: int, revision: int = 1, frames: int = 8
) -> None:
    identity = Identity(
        method=method,
        options=options,
        frames=frames,
        size=32,
        profile="quick",
        setting="s",
        dataset=NASTY,
        data_fingerprint="f",
        seed=seed,
        method_revision=revision,
        dataset_revision=1,
    )
    samples = pd.DataFrame(
        {"index": np.arange(20), "group": [str(i) for i in range(20)], "cost": cost, "clip_1": 1.0, "video_1": 1.0}
    )
    record = Record(
        identity=identity,
        status="done",
        cost=Cost(average=cost, maximum=cost, minimum=cost),
        parameters=1,
        figures={"clip-1": Figure(value=1.0), "video-1": Figure(value=1.0)},
        missing={"video-5": "too few classes"},
        notes=["coverage <100 %"],
        protocol={"epochs": 8, "views": {"clips": 3}},
        environment={"torch": "2.13.0"},
    )
    Store(folder).write(record, samples)


def clock(folder: Path) -> None:
    """Timings of three seeds, at published operating points on two machines, of a row that is gone, and a failure."""
    named = {"profile": "quick", "dataset": NASTY, "revisions": [2, 1, 1]}
    store(folder, *(timing(1.2, seed=seed, **named) for seed in range(3)))
    store(folder, at_point(1.3, batch=32, device="H100 <b>|", telemetry={"throttled": True}), at_point(1.25))
    store(folder, at_point(1.1, row="gone/row|", a="mine", frames=4, different=False))
    point = {"row": "table2/i3d-vared", "a": "vared/i3d", "b": "i3d", "frames": 16, "trained": False}
    store(folder, failed("out of | memory <i>", policy="matched:26.5", **point))


@pytest.fixture
def clocked(stores) -> list[tuple[str, Path]]:
    """The records and timings of one folder."""
    clock(stores[0][1])
    return stores


@pytest.fixture
def stores(tmp_path: Path) -> list[tuple[str, Path]]:
    for seed in range(3):
        write(tmp_path / "runs", "r2plus1d_18", {}, seed, 10**9)
        write(tmp_path / "runs", "vared/r2plus1d_18", {"search_space": 2}, seed, 9 * 10**8)
        write(tmp_path / "runs", "vared/r2plus1d_18", {"search_space": 2}, seed, 7 * 10**8, revision=2)
    return [("runs", tmp_path / "runs"), ("results/measured", tmp_path / "none")]


def pages(stores: list[tuple[str, Path]], out: Path, only: str | None = None) -> tuple[str, str]:
    markdown_page, html = render(published(), stores, out, only)
    return markdown_page.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")


class Balanced(HTMLParser):
    """Fails on a tag that is closed where it is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        named = dict(attrs)
        self.ids.add(named.get("id", ""))
        self.links += [named[name] for name in ("href", "src") if name in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None: ...

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


@pytest.mark.parametrize("with_timings", [False, True])
def test_the_page_is_whole_and_needs_nothing_else(stores, tmp_path: Path, with_timings: bool) -> None:
    if with_timings:
        clock(stores[0][1])
    _, html = pages(stores, tmp_path / "out")
    page = Balanced()
    page.feed(html)
    assert not page.open
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r"url\(|@import|<link|<script", html)


def test_names_with_markup_are_shown_not_run(clocked, tmp_path: Path) -> None:
    text, html = pages(clocked, tmp_path / "out")
    page = Balanced()
    page.feed(html)
    assert NASTY in "".join(page.text) and "<script" not in html
    assert "H100 <b>|" in "".join(page.text) and "out of | memory <i>" in "".join(page.text)
    assert "<script" not in text and "<i>" not in text and "<b>" not in text


def test_every_markdown_table_row_has_as_many_cells_as_its_head(clocked, tmp_path: Path) -> None:
    text, _ = pages(clocked, tmp_path / "out")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) >= 7
    for table in tables:
        lines = table.splitlines()
        assert set(lines[1]) <= set("|-"), lines[:3]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines


def test_published_and_measured_cells_and_verdicts_stand_there(stores, tmp_path: Path) -> None:
    for page in pages(stores, tmp_path / "out"):
        assert "20.0(−28%)" in page and "Mini-Kinetics-200" in page
        assert "0.700" in page and "−30.0 %" in page
        assert re.search(r"holds.{0,30}0\.700", page, re.S)
        assert re.search(r"[Ff]irst verdict.*?does not hold.{0,60}0\.900", page, re.S)
        assert "nothing was run with 32 frames" in page and "AdaFrame is not part of this suite" in page
        assert "too few classes" in page and "epochs" in page and "2.13.0" in page
        assert "Accuracies of different data sets are never compared" in page


def test_speeds_stand_in_cells_claims_and_lines(clocked, tmp_path: Path) -> None:
    for page in pages(clocked, tmp_path / "out"):
        shown = re.sub(r"<[^>]*>|\*\*", " ", page)
        assert re.search(r"120\.0\s+\(?\+20\.0 %", shown) and "at the published operating point" in shown
        assert re.search(r"holds\s*:?\s+1\.200 +\(?1\.1\d\d to 1\.2\d\d\)?[, ·]+3 seeds", shown)
        assert re.search(r"holds\s*:?\s+1\.300 .{0,30}\s.{0,300}the device was throttled", shown, re.S)
        assert "Speed truth" in shown and "gone/row" in shown and "within the noise" in shown
        assert "failed: out of" in shown and "best plain form: compiled, 9.00" in shown
        assert "20.0 GFLOPs (18.0 to 22.1)" in shown
        assert re.search(r"1\.070.{0,3}, η 0\.18", shown)  # in print: 205.5 / 192.1 at 20.0 / 27.7
        assert "claims on speed, one a machine" in shown


def test_without_timings_there_is_no_section_on_them(stores, tmp_path: Path) -> None:
    for page in pages(stores, tmp_path / "out"):
        assert "Speed truth" not in page and "speed was not measured" in page and "not timed" in page


def test_one_table_has_the_timings_of_its_rows_only(clocked, tmp_path: Path) -> None:
    for page in pages(clocked, tmp_path / "out", "table2"):
        assert "out of" in page and "gone/row" not in page and "8f-sp2" not in page


def test_a_speed_claim_counts_in_its_block(clocked) -> None:
    from bench.tables.timings import timings

    found = blocks(clocked)
    with_speed, without = (join(load("table1"), found, clock) for clock in (timings(clocked), ()))
    assert counts([with_speed], found[0])["holds"] == counts([without], found[0])["holds"] + 1
    assert point_counts([with_speed]) == {"holds": 2} and point_counts([without]) == {}


def test_same_input_same_bytes(clocked, tmp_path: Path) -> None:
    assert pages(clocked, tmp_path / "one") == pages(clocked, tmp_path / "two")


def test_no_path_of_the_machine_is_shown(clocked, tmp_path: Path) -> None:
    assert all(str(tmp_path) not in page for page in pages(clocked, tmp_path / "out"))


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
        part = shown[shown.rindex("Comparison") :]
        assert "12.3" in part and "not run: no" in part and "1 frame" in part and "clip-1, %" not in part
        assert all(name in part for name in (*names, "first box" if right == "first_box" else "centre crop"))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = table.splitlines()
        assert set(lines[1]) <= set("|-"), lines[:3]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines


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
    found = blocks([("runs", folder)])
    tables = [join(load(id), found) for id in ("table1", "table5", "table6")]
    cost = [r for table in tables for r in table.claims if r.claim.statistic == "cost_ratio" and judged(r)]
    assert len(cost) == 3
    alone, together = counts(tables[:1], found[0]), counts(tables, found[0])
    assert alone["holds"] == together["holds"] > 0


def judged(result: ClaimResult) -> bool:
    return any(item.judgement.interval is not None for item in result.latest)


def test_a_reason_names_its_blocks_unless_all_share_it() -> None:
    assert reasons([("a", "no record"), ("b", "no record")], 0) == "no record"
    assert reasons([("a", "no record")], 1) == "no record (a)"
    assert reasons([("a", "no record"), ("b", "failed"), ("c", "no record")], 0) == "no record (a, c); failed (b)"
