"""Pictures of the inside of networks: which there are, what they say, and the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inspection.inspected import OTHER, UNIT, pictures, store_inspection
from tables.conftest import write  # noqa: F401  # the fixture

from bench.inspection.settings import Rule, Settings
from bench.inspection.store import inspections
from bench.records import Record
from bench.report.content import Content
from bench.report.figures import Picture, inline
from bench.report.figures.insight import insight_pictures
from bench.report.figures.motion import binned
from bench.tables.blocks import blocks, origins

Write = Callable[..., Record]
NUMBERS = np.arange(40)


def drawn(records: Path) -> dict[str, Picture]:
    """By what they are: the first part of their id."""
    stores = [("yours", records)]
    content = Content(blocks(stores), [], [], inspections=inspections(stores))
    found = insight_pictures(content)
    assert len({picture.id for picture in found}) == len(found)
    return {re.split("-vared|-r2plus1d|-p-8f", picture.id)[0]: picture for picture in found}


@pytest.fixture
def stored(write: Write, tmp_path: Path) -> Path:  # noqa: F811
    """A reduced network and its static twin, two seeds each, all inspected."""
    decided = {"decision.conv.channel": 1 + NUMBERS % 2, "decision.last.temporal": 2}
    decided = {name: np.broadcast_to(values, 40).astype(np.uint8) for name, values in decided.items()}
    about = {"target": NUMBERS % 4, "attribute.motion": NUMBERS / 40, "cost": 10**9 + 10**7 * NUMBERS}
    own = {"temporal.RP": NUMBERS / 40, "channel.RP": 0.5, "estimated.motion": 0.1, "attribute.object_share": NUMBERS}
    parts = pictures()
    for seed in range(2):
        static = write(about, seed=seed)
        inside = {name: parts[name] for name in ("layers", "pairs", "classes")}
        store_inspection(tmp_path / "runs", static.identity, own, **inside)
        reduced = write(about | decided, method="vared/r2plus1d_18", options={"search_space": 2}, seed=seed)
        inside = {"units": [UNIT, OTHER], "sheet": parts["sheet"], "classes": parts["classes"]}
        store_inspection(tmp_path / "runs", reduced.identity, {"estimated.motion": 0.1}, **inside)
    return tmp_path / "runs"


def test_everything_that_is_stored_is_drawn(stored: Path) -> None:
    found = drawn(stored)
    sections = {name: picture.section for name, picture in found.items()}
    assert sections == {
        "computed": "policy",
        "motion": "policy",
        "layers": "redundancy",
        "redundancy-by-clip": "redundancy",
        "maps": "redundancy",
        "clips": "clips",
    }
    for name, picture in found.items():
        seeds = {"maps": "1 seed.", "clips": "1 seed.", "motion": "over seeds"}.get(name, "2 seeds.")
        assert re.search(r"\bp\b", picture.caption) and seeds in picture.caption


def test_pictures_say_what_is_stored(stored: Path) -> None:
    shown = {name: inline(picture) for name, picture in drawn(stored).items()}
    assert ">left<" in shown["computed"] and ">conv<" in shown["computed"] and ">50<" in shown["computed"]
    assert "left, most: 90.0 %" in shown["clips"] and "right, least: 50.0 %" in shown["clips"]
    assert "CC 0.990, RMSE 0.010" in shown["maps"] and "channel 1, frames 2 and 3" in shown["maps"]
    assert all(kind in shown["layers"] for kind in (">RP<", ">CC<", ">RMSE<", ">stem<"))
    assert "true motion" in shown["motion"] and "(2 seeds)" in shown["motion"]
    assert "share of the frame" in shown["redundancy-by-clip"]


def test_the_same_records_give_the_same_bytes(stored: Path) -> None:
    first, second = ({name: inline(drawn(stored)[name]) for name in ("maps", "computed")} for _ in range(2))
    assert first == second


def test_other_settings_are_another_picture_that_says_so(stored: Path) -> None:
    (first, *_) = (run.record.identity for block in blocks([("yours", stored)]) for run in block.runs)
    own = pictures()
    other = Settings(rule=Rule(correlation=0.9))
    store_inspection(stored, first, {"temporal.RP": 0.5}, settings=other, layers=own["layers"])
    content = Content([], [], [], inspections=inspections([("yours", stored)]))
    captions = [picture.caption for picture in insight_pictures(content) if picture.id.startswith("layers")]
    assert len(captions) == 2 and sum('{"rule": {"correlation": 0.9}}' in caption for caption in captions) == 1
    assert sum("at least 0.9." in caption for caption in captions) == 1


def test_of_folders_of_one_label_a_picture_names_the_one_it_is_drawn_from(stored: Path, tmp_path: Path) -> None:
    one = "shipped and yours"
    stores = [(one, tmp_path / "none"), (one, stored)]
    content = Content([], [], [], inspections=inspections(stores), names=origins(stores))
    captions = [picture.caption for picture in insight_pictures(content)]
    assert captions and all("(yours)" in caption and one not in caption for caption in captions)


def test_without_records_there_is_nothing(tmp_path: Path) -> None:
    assert drawn(tmp_path / "none") == {}


def test_bins_hold_as_many_clips_each_in_order() -> None:
    x = pd.Series(np.random.default_rng(0).permutation(80).astype(float))
    means, found = binned(x, pd.DataFrame({"seed": x}), np.arange(80).astype(object))
    assert means == [4.5 + 10 * part for part in range(8)]
    assert [one.value for one in found] == pytest.approx(means)


def test_names_cannot_break_out_of_a_picture(write: Write, tmp_path: Path) -> None:  # noqa: F811
    parts: dict[str, Any] = pictures()
    parts["classes"] = ["<script>alert(1)</script>", "a\nb", "$x$ & \\frac", "%s"]
    decided = {"decision.conv.channel": np.full(40, 1, np.uint8), "decision.last.temporal": np.full(40, 1, np.uint8)}
    record = write({"target": NUMBERS % 4} | decided, method="vared/r2plus1d_18")
    store_inspection(tmp_path / "runs", record.identity, {}, units=[UNIT, OTHER], **parts)
    shown = inline(drawn(tmp_path / "runs")["computed"])
    assert "<script" not in shown and "&lt;script&gt;" in shown
