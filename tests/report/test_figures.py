"""Pictures: what is drawn, that it takes the page's colours, and that the same records give the same bytes."""

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.stored import NASTY, clock, records, write
from tables.clocked import store, timing

from bench.accuracy.intervals import Interval
from bench.report.content import Content, gather
from bench.report.figures import Picture, inline, pictures, save
from bench.report.figures.labels import Box, around, choose
from bench.report.figures.motion import Curve
from bench.report.figures.motion import _draw as _motion
from bench.report.figures.pareto import pareto
from bench.report.figures.points import Panel, Point, draw, enlarge, front
from bench.report.figures.speed import _grouped, speeds
from bench.report.figures.style import VARIABLES, clean, look, mark, place, sheet, wrapped
from bench.report.figures.training import _thinned, training
from bench.report.logs import Log, LogError, read_log
from bench.tables import published
from bench.tables.schema import Table

ROOT = Path(__file__).parents[2]
NAN = math.nan
LINES = [{"stage": 0, "name": "train", "step": step, "loss": 2 / step, "open": 0.9} for step in (20, 40)]
LINES += [{"stage": 1, "name": "tune", "step": 20, "loss": 0.5, "ratio": 0.7}]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folder = tmp_path_factory.mktemp("drawn") / "runs"
    records(folder)
    clock(folder)
    for path in folder.glob("vared*.json"):
        path.with_suffix(".log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return gather(published(), [("runs", folder)])


@pytest.fixture(scope="module")
def drawn(content: Content) -> list[Picture]:
    return pictures(content)


def test_every_picture_is_whole_and_takes_the_pages_colours(drawn: list[Picture]) -> None:
    assert {picture.section for picture in drawn} >= {"accuracy", "speed", "training"}
    seen: set[str] = set()
    for picture in drawn:
        svg = inline(picture)
        root = ET.fromstring(svg)
        assert root.get("role") == "img" and root[0].tag.endswith("title") and root[0].text == picture.title
        assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
        fixed = re.sub(r"var\(--[a-z0-9-]+, #[0-9a-f]{6}\)", "", svg)
        assert not re.search(r"#[0-9a-f]{6}\b", fixed), picture.id
        own = {element.get("id") for element in root.iter() if element.get("id")}
        wanted = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg))
        assert {a or b for a, b in wanted} <= own and not own & seen
        seen |= own
    assert len({picture.id for picture in drawn}) == len(drawn)
    assert all(re.fullmatch(r"[a-z0-9-]+", picture.id) for picture in drawn)


def test_the_same_records_give_the_same_files(content: Content, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for picture in pareto(content)[:1] + speeds(content)[:1] + training(content)[:1]:
            svg, pdf = save(picture, tmp_path / folder)
            assert svg.name == f"{picture.id}.svg" and pdf.read_bytes().startswith(b"%PDF")
            assert b"CreationDate" not in pdf.read_bytes() and "dc:date" not in svg.read_text()
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_names_with_markup_are_text(drawn: list[Picture]) -> None:
    shown = "".join(ET.tostring(ET.fromstring(inline(picture)), encoding="unicode", method="text") for picture in drawn)
    assert NASTY in shown and "gone/row" not in shown.replace("gone/row|", "gone/row")


def test_captions_say_what_is_drawn(drawn: list[Picture]) -> None:
    told = {picture.section: picture.caption for picture in drawn}
    assert NASTY in told["accuracy"] and "Pareto front" in told["accuracy"] and "published" in told["accuracy"]
    assert "H100 <b>|" in "".join(picture.caption for picture in drawn if picture.section == "speed")
    assert "(0, 1, 2)" in told["training"] and "train, tune" in told["training"]


def test_colours_are_those_of_the_style_sheet() -> None:
    light, dark = (ROOT / "bench/report/templates/style.css").read_text().split("@media", 1)
    for colour, name in VARIABLES.items():
        assert f"{name}: {colour};" in light or name == "--card"
        assert f"{name}: " in dark.partition("\n}")[0]
    assert len({mark(number) for number in range(40)}) == 40


def test_data_in_print_and_measured_never_share_axes(content: Content) -> None:
    for picture in pareto(content):
        panels, entries = picture.draw.args  # type: ignore[attr-defined]
        for panel in panels:
            assert len({point.hollow for point in panel.points}) == 1
            assert panel.points[0].hollow == panel.title.startswith("published")
        shown = {point.number for panel in panels for point in panel.points}
        assert {entry.number for entry in entries} == shown
    cost = next(picture for picture in pareto(content) if "speed" not in picture.id)
    measured, printed = cost.draw.args[0]  # type: ignore[attr-defined]
    assert [point.x.value for point in measured.points] == pytest.approx([1.0, 0.7])
    assert {point.y.value for point in measured.points} == {100.0}
    assert (27.7, 56.4) in [(point.x.value, point.y.value) for point in printed.points]
    assert printed.title == "published: Mini-Kinetics-200"


def test_costs_of_clips_and_of_videos_in_print_never_share_axes(content: Content) -> None:
    (own,) = (one for one in content.joined if one.table.id == "table1")
    told = own.table.model_dump()
    assert told["columns"][0]["kind"] == "gflops_avg"
    told["columns"][0]["label"] = "GFLOPs/video"
    told["rows"] = [row | {"cells": ["7.7", *row["cells"][1:]]} for row in told["rows"]]
    whole = replace(own, table=Table.model_validate(told))
    for joined, unit, costs in (([own, whole], "GFLOPs", 2), ([whole], "GFLOPs/video", 1)):
        cost = next(one for one in pareto(replace(content, joined=joined)) if "speed" not in one.id)
        _, printed = cost.draw.args[0]  # type: ignore[attr-defined]
        assert printed.across == f"{unit}, as published" and len({point.x.value for point in printed.points}) == costs


values = st.integers(0, 9).map(float)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=12), st.sampled_from(["less", "more"]))
def test_the_front_is_what_nothing_betters(places: list[tuple[float, float]], better: str) -> None:
    sign = 1 if better == "less" else -1
    points = [Point(str(n), mark(0), Interval(x, NAN, NAN), Interval(y, NAN, NAN)) for n, (x, y) in enumerate(places)]
    found = [(sign * p.x.value, p.y.value) for p in front(points, better)]  # type: ignore[arg-type]
    ordered = [(sign * x, y) for x, y in places]

    def bettered(place: tuple[float, float]) -> bool:
        return any(x <= place[0] and y >= place[1] and (x, y) != place for x, y in ordered)

    assert set(found) == {place for place in ordered if not bettered(place)} and len(set(found)) == len(found)
    assert [p.x.value for p in front(points, better)] == sorted(p.x.value for p in front(points, better))  # type: ignore[arg-type]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), unique=True, max_size=12))
def test_labels_with_room_cover_nothing(cells: list[tuple[int, int]]) -> None:
    anchors = [(30.0 + 40 * x, 30.0 + 40 * y, 12.0) for x, y in cells]
    marks, bounds = [around(x, y) for x, y, _ in anchors], Box(0, 0, 400, 400)
    boxes = choose(anchors, marks, bounds)
    for number, box in enumerate(boxes):
        assert not any(box.overlap(other) for other in [*marks, *boxes[:number]])
        assert box.overlap(bounds) == pytest.approx((box.right - box.left) * (box.top - box.bottom))


def test_a_label_moves_aside_where_its_place_is_taken() -> None:
    (free,) = choose([(50, 50, 10)], [], Box(0, 0, 100, 100))
    (moved,) = choose([(50, 50, 10)], [free], Box(0, 0, 100, 100))
    (least,) = choose([(50, 50, 10)], [Box(0, 0, 100, 100)], Box(0, 0, 100, 100))
    assert free.left > 50 > moved.right and least == free


@pytest.mark.parametrize("better", ["less", "more"])
def test_no_line_runs_through_a_label(better: Literal["less", "more"]) -> None:
    spots = [(0.31, 33.6), (0.356, 35.9)] if better == "less" else [(0.31, 35.9), (0.356, 33.6)]
    points = [
        Point(
            str(n),
            mark(n),
            Interval(x, x - 0.01, x + 0.01),
            Interval(y, y - 1, y + 1),
            name="a_network, search space 2",
        )
        for n, (x, y) in enumerate(spots)
    ]
    with look("test"):
        figure = sheet(200)
        axes = place(figure, 40, 20, 400, 160)
        draw(axes, Panel("", "", "", points, better))
        figure.canvas.draw()
    labels = [text.get_window_extent().padded(-1) for text in axes.texts]
    assert len(labels) == 2
    for line in axes.lines:
        path = line.get_path().transformed(line.get_transform())
        assert not any(path.intersects_bbox(label, filled=False) for label in labels)


def test_only_points_too_close_to_tell_apart_are_enlarged() -> None:
    def panel(heights: list[float]) -> Panel:
        points = [
            Point(str(n), mark(0), Interval(n + 1, NAN, NAN), Interval(y, NAN, NAN)) for n, y in enumerate(heights)
        ]
        return Panel("measured", "GFLOPs", "clip-1, %", points, "less")

    whole, close = enlarge(panel([20, 90, 91, 92, 93, 94]))
    assert whole.window == close.limits and [point.y.value for point in close.points] == [90, 91, 92, 93, 94]
    assert "beyond" not in close.title
    wide = panel([20, 90, 91, 92, 93, 94])
    low = replace(wide.points[1], y=Interval(90, 85, 95))
    assert "intervals go on beyond" in enlarge(replace(wide, points=[*wide.points[2:], wide.points[0], low]))[1].title
    assert len(enlarge(panel([80, 90, 91, 92, 93, 94]))) == len(enlarge(panel([20, 94]))) == 1


def test_bars_are_means_over_seeds_and_failures_have_none(content: Content) -> None:
    done = [line for line in content.speeds if line.record.ratio and not line.record.row]
    (bars,) = _grouped(done)
    assert len(done) == 3 and bars.ratio.value == pytest.approx(1.2) and bars.ratio.low < 1.2 < bars.ratio.high
    assert bars.speeds == pytest.approx({"dense": 100.0, "executed": 120.0, "bound": 500.0}) and bars.most == 0.9
    assert bars.printed == (None, None)
    points = [line for line in content.speeds if line.record.ratio and line.record.row == "table1/8f-sp2"]
    assert _grouped(points)[0].printed == pytest.approx((205.5 / 192.1, 0.1811), abs=1e-3)
    assert not any("i3d" in bars.name for bars in _grouped(line for line in content.speeds if line.record.ratio))


def test_bars_and_tables_put_speeds_together_alike(tmp_path: Path) -> None:
    store(tmp_path, timing(1.0, seed=0, twin=50.0), timing(1.0, seed=1, twin=200.0))
    (bars,) = _grouped(gather(published(), [("runs", tmp_path)]).speeds)
    assert bars.speeds["dense"] == pytest.approx(100.0) == bars.speeds["executed"]


def test_the_key_of_speeds_says_how_many_seeds_were_timed(tmp_path: Path) -> None:
    records(tmp_path)
    store(tmp_path, timing(1.2, profile="quick", dataset=NASTY, revisions=[2, 1, 1]))
    drawn = {picture.id: picture for picture in pareto(gather(published(), [("runs", tmp_path)]))}
    told = ["3 seeds, 1 timed" in inline(drawn[f"{kind}-quick-8f-runs"]) for kind in ("pareto", "pareto-speed")]
    assert told == [False, True]


def test_panels_of_one_figure_have_one_range() -> None:
    def curve(height: float, up: str) -> Curve:
        return Curve([0, 1], [Interval(1, 1 - height, 1 + height), Interval(1, NAN, NAN)], "motion", up, "a method")

    with look("x"):
        axes = _motion([curve(0.1, "cost"), curve(0.5, "cost"), curve(9.0, "RP")]).axes
    low, high = axes[0].get_ylim()
    assert (low, high) == axes[1].get_ylim() != axes[2].get_ylim() and low < 0.5 < 1.5 < high
    assert [one.get_ylabel() for one in axes] == ["cost", "cost", "RP"]


def test_nothing_stored_is_no_picture(tmp_path: Path) -> None:
    assert pictures(gather(published(), [("runs", tmp_path)])) == []


def test_eta_is_shown_only_where_every_seed_has_one(tmp_path: Path) -> None:
    named = {"profile": "quick", "dataset": NASTY, "revisions": [2, 1, 1]}
    store(tmp_path / "runs", timing(1.2, seed=0, **named), timing(1.2, seed=1, **named, eta=None))
    content = gather(published(), [("runs", tmp_path / "runs")])
    (bars,) = _grouped(content.speeds)
    assert bars.eta is None
    (one,) = _grouped(content.speeds[:1])
    assert (one.eta is None) == (content.speeds[0].record.eta is None)


def test_what_was_timed_against_a_copy_of_itself_has_no_bars(tmp_path: Path) -> None:
    store(tmp_path, timing(1.0, a="alone", a_options={}, b="alone", b_options={}))
    assert speeds(gather(published(), [("runs", tmp_path)])) == []


def test_a_bound_far_away_leaves_room_for_what_was_measured(tmp_path: Path) -> None:
    store(tmp_path, timing(1.2, bound={"a": 1e6, "b": 1e6}))
    (picture,) = speeds(gather(published(), [("runs", tmp_path)]))
    with look("x"):
        bars = picture.draw().axes[0]
    assert bars.get_xlim()[1] < 3.1 and "1000000.0 >" in [text.get_text() for text in bars.texts]


def test_bars_without_eta_bound_or_intervals_are_drawn(tmp_path: Path) -> None:
    bare = dict.fromkeys(("eta", "eta_max", "bound"))
    store(tmp_path, timing(0.8, share=0.0, a="x" * 200, **bare))
    (picture,) = speeds(gather(published(), [("runs", tmp_path)]))
    assert "80.0" in inline(picture) and "bound" not in inline(picture).split("</title>")[1]


def test_curves_go_on_from_stage_to_stage(content: Content) -> None:
    log = next(iter(content.logs.values()))
    assert log.steps == (20, 40, 60) and log.stages == (("train", 0), ("tune", 2))
    assert log.columns["loss"] == (0.1, 0.05, 0.5) and math.isnan(log.columns["ratio"][0])
    (picture,) = training(content)  # of the latest revision only
    assert picture.id.startswith("training-vared-r2plus1d-18-8f-quick-")
    with look("x"):
        axes = picture.draw().axes
    assert [one.get_title(loc="left") for one in axes] == ["loss", "open", "ratio"]
    assert all(len(one.lines) == 3 + 1 for one in axes)  # a seed each, and the second stage


def test_logs_are_those_of_the_record_beside_them(content: Content, tmp_path: Path) -> None:
    """A shipped row rerun locally has a record of the same name."""
    shipped = next(iter(content.logs)).parent
    stores = [("shipped", shipped), ("yours", tmp_path / "yours")]
    records(tmp_path / "yours")
    found = training(gather(published(), stores))
    assert ["(shipped)" in picture.caption for picture in found] == [True]
    for path in shipped.glob("*.log.jsonl"):
        (tmp_path / "yours" / path.name).write_text(path.read_text().replace("loss", "other"))
    first, second = training(gather(published(), stores))
    with look("x"):
        titles = [{axes.get_title(loc="left") for axes in picture.draw().axes} for picture in (first, second)]
    assert ["loss" in found for found in titles] == [True, False] and first.id != second.id


def test_options_that_differ_in_a_sign_have_pictures_of_their_own(tmp_path: Path) -> None:
    for beta in (1, -1):
        write(tmp_path, "x" * 200, {"beta": beta}, 0, 10**9)
    for path in tmp_path.glob("*.json"):
        path.with_suffix(".log.jsonl").write_text(json.dumps(LINES[0]))
    first, second = (picture.id for picture in training(gather(published(), [("runs", tmp_path)])))
    assert first != second and max(len(first), len(second)) < 120


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        ({(0, 0), (0, 1), (1, 0), (1, 1)}, "a seed (0, 1), of fold 0 only."),
        ({(0, 1), (1, 2)}, "a seed (0 in fold 1, 1 in fold 2)."),
    ],
)
def test_curves_of_folds_say_of_which_they_are(write, tmp_path: Path, logged: set[tuple[int, int]], told: str) -> None:
    """Of each seed the first fold whose log is there."""
    for seed, fold in product((0, 1), (0, 1, 2)):
        stated = {"folds": [0, 1, 2], "across_folds": "a", "dataset_options": {"fold": fold}}
        named = {"seed": seed, "setting": f"s{fold}", "data_fingerprint": f"f{fold}"}
        record = write(**named, protocol=stated)
        if (seed, fold) in logged:
            (tmp_path / "runs" / f"{record.identity.id}.log.jsonl").write_text(json.dumps(LINES[0]))
    (picture,) = training(gather(published(), [("runs", tmp_path / "runs")]))
    assert told in picture.caption.replace(". Dotted", ".")
    with look("x"):
        assert all(len(axes.lines) == 2 for axes in picture.draw().axes)


def test_long_logs_are_thinned_to_means() -> None:
    log = Log((("a", 0),), tuple(range(800)), {"loss": tuple(float(value) for value in range(800))})
    steps, means = _thinned(log, "loss")
    assert len(steps) == 80 and steps[0] == means[0] == 4.5 and steps[-1] == 794.5


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not an object"),
        ('{"name": "a", "step": 1}', "line 2: stage: not a whole number"),
        ('{"stage": 0, "name": 3, "step": 1}', "line 2: name: not text"),
        ('{"stage": 0, "name": "a", "step": 1, "loss": "low"}', "line 2: loss: not a number"),
        ('{"stage": 0, "name": "a", "step": true}', "line 2: step: not a whole number"),
        ('{"stage": 0, "name": "a", "step": -1}', "line 2: step: must be in 0..9007199254740992"),
        ('{"stage": 0, "name": "a", "step": 1, "loss": 1' + "0" * 400 + "}", "line 2: loss: not a number"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_a_faulty_log_is_named_in_one_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "x.log.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n")
    with pytest.raises(LogError, match=re.escape(fault)) as raised:
        read_log(path)
    assert path.name in str(raised.value) and "\n" not in str(raised.value)


@given(st.text(max_size=60))
def test_any_name_can_be_written_in_svg(name: str) -> None:
    shown = clean(name)
    ET.fromstring(f"<text>{shown.replace('&', '&amp;').replace('<', '&lt;')}</text>")
    assert "\n" not in shown and "".join("".join(wrapped(name, 1e6)).split()) == "".join(shown.split())


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, bench.report; sys.exit(any(name in sys.modules for name in ('matplotlib', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
