"""What is stored is what is read; what is broken is one line that names the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from inspection.inspected import UNIT, pictures, store_inspection

from bench.inspection import png
from bench.inspection.settings import Rule, Settings
from bench.inspection.store import InspectionError, InspectionIdentity, inspections, read_inspection, standard
from bench.records import Identity, RecordError
from bench.tables.paths import published

RUN = Identity(
    method="r2plus1d_18",
    options={},
    frames=8,
    size=32,
    profile="p",
    setting="s",
    dataset="digits",
    data_fingerprint="f",
    seed=0,
    method_revision=1,
    dataset_revision=1,
)


def only(folder: Path) -> Path:
    (path,) = (folder / "inspected").glob("*.json")
    return path


def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    stored = store_inspection(tmp_path, RUN, {"temporal.RP": np.linspace(0, 1, 40)}, units=[UNIT], **pictures())
    (found,) = inspections([("yours", tmp_path)])
    assert found.record == stored and found.store == "yours"
    assert found.samples["temporal.RP"].iloc[-1] == 1


def test_only_the_stated_settings_are_those_of_tables(tmp_path: Path) -> None:
    assert standard(tmp_path, RUN) is None
    store_inspection(tmp_path, RUN, settings=Settings(rule=Rule(correlation=0.9)))
    assert standard(tmp_path, RUN) is None
    store_inspection(tmp_path, RUN)
    found = standard(tmp_path, RUN)
    assert found and found.record.identity.settings == Settings()
    assert standard(tmp_path, RUN.model_copy(update={"seed": 1})) is None


def test_the_id_tells_everything_apart() -> None:
    own = [InspectionIdentity(run=RUN, settings=settings).id for settings in (Settings(), Settings(clips=7))]
    own.append(InspectionIdentity(run=RUN.model_copy(update={"seed": 1})).id)
    own.append(InspectionIdentity(run=RUN, revision=2).id)
    assert len(set(own)) == 4 and all(name.startswith("r2plus1d_18-8f-s") for name in own)


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"status": "done"}'])
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, broken: str) -> None:
    store_inspection(tmp_path, RUN)
    path = only(tmp_path)
    path.write_text(broken)
    with pytest.raises(InspectionError) as caught:
        read_inspection(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    store_inspection(tmp_path, RUN, **pictures())
    path = only(tmp_path)
    data = json.loads(path.read_text())
    data["sheet"]["strips"][0]["end"] = "middle"
    path.write_text(json.dumps(data))
    with pytest.raises(InspectionError, match=r"sheet\.strips\.0\.end"):
        read_inspection(path)


@pytest.mark.parametrize("field", ["sheet", "pairs.0"])
def test_a_damaged_picture_is_named(tmp_path: Path, field: str) -> None:
    store_inspection(tmp_path, RUN, **pictures())
    path = only(tmp_path)
    data = json.loads(path.read_text())
    part = data["sheet"] if field == "sheet" else data["pairs"][0]
    part["picture"] = part["picture"][:60] + "AAAA" + part["picture"][64:]
    path.write_text(json.dumps(data))
    with pytest.raises(InspectionError, match=rf"{path.name}: {re.escape(field)}\.picture: .*PNG"):
        read_inspection(path)


def test_a_sheet_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    store_inspection(tmp_path, RUN, **pictures())
    path = only(tmp_path)
    data = json.loads(path.read_text())
    data["sheet"]["strips"].pop()
    path.write_text(json.dumps(data))
    with pytest.raises(InspectionError, match=r"sheet: .*size"):
        read_inspection(path)


def test_what_two_folders_of_one_label_hold_counts_once(tmp_path: Path) -> None:
    for folder, clips in (("shipped", ["a"]), ("mine", ["b"])):
        store_inspection(tmp_path / folder, RUN, classes=clips)
    one, two = tmp_path / "shipped", tmp_path / "mine"
    assert [found.record.classes for found in inspections([("both", one), ("both", two)])] == [["b"]]
    assert len(inspections([("one", one), ("two", two)])) == 2


def test_changed_figures_are_refused(tmp_path: Path) -> None:
    store_inspection(tmp_path, RUN)
    only(tmp_path).with_suffix(".parquet").write_bytes(b"other")
    (found,) = inspections([("yours", tmp_path)])
    with pytest.raises(RecordError, match="checksum"):
        _ = found.samples


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_pictures_lose_nothing(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(png.decode(png.encode(pixels)), pixels)


@pytest.mark.parametrize("text", ["", "no base64!", "gASVCgAAAAAAAACMBXBvc2l4lC4="])
def test_what_is_no_picture_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a PNG|base64|Only"):
        png.decode(text)


def test_shipped_pictures_are_of_generated_clips() -> None:
    shipped = inspections([("shipped", published().parent / "measured")])
    filmed = [one.path.name for one in shipped if not one.record.generated]
    assert [
        name for name in filmed if json.loads((published().parent / "measured/inspected" / name).read_text())["sheet"]
    ] == []
