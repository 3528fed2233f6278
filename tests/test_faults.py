"""What a schema refuses is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from bench import profiles
from bench.faults import first_fault
from bench.records import Figure
from bench.tables import TableError, load, published


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"value": 1.0}, {"value": "x", "low": []}], "1.value: must be a number, not 'x'"),
        ([{"value": 1.0, "hihg": 2.0}], "0.hihg: no such field; did you mean 'high'?"),
        ([{"valeu": 1.0}], "0.valeu: no such field; did you mean 'value'?"),
        ([{"value": 1.0, "colour": 2.0}], "0.colour: no such field; there are high, low, value"),
        ([{}], "0.value: is missing"),
        ("no list", "must be a list, not 'no list'"),
    ],
)
def test_the_first_fault_is_one_line_with_its_place_if_it_has_one(given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[Figure]).validate_python(given)
    assert first_fault(caught.value, list[Figure]) == said
    assert first_fault(caught.value) == said.partition(";")[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs = 10", "epoch = 10"), "recipe.epoch: no such field; did you mean 'epochs'?"),
        (("epochs = 10", 'epochs = "ten"'), "recipe.epochs: must be a whole number, not 'ten'"),
        (("epochs = 10", "epochs = 0"), "recipe: epochs must be 1 or more, not 0"),
        (("seeds = [0, 1, 2]", "sedes = [0, 1, 2]"), "sedes: no such field; did you mean 'seeds'?"),
        (("seeds = [0, 1, 2]", 'seeds = "all"'), "seeds: must be a list, not 'all'"),
        (("crops = 1", "crops = 2"), "views.crops: must be 1 or 3, not 2"),
        (("clips = 3", "clips = 0"), "views.clips: must be 1 or more, not 0"),
        (("size = 24", 'size = 24\nmethods = [{ method = "arnet", option = {} }]'), "methods.0.option: no such field"),
        (("size = 24", "size = 24\nfitted = { i3d = { sise = 2 } }"), "fitted.i3d.sise: no such field; did you mean"),
        (("size = 24\n", ""), "size: is missing"),
        (("size = 24", "size = 24\nmethods = [1]"), "methods.0: must be text or a table of fields, not 1"),
        (
            ("size = 24", 'size = 24\nmethods = [{ method = "arnet", frames = 0 }]'),
            "methods.0.frames: must be 1 or more, not 0",
        ),
        (("size = 24", "size = 0"), "size: must be 1 or more, not 0"),
        (("seeds = [0, 1, 2]", "seeds = []"), "seeds: must be at least 1 long, not []"),
        (("size = 24", "size = 24\nscales = [0]"), "scales.0: must be above 0.0, not 0"),
        (
            ("size = 24", "size = 24\nfitted = { i3d = { recipe = { epoch = 2 } } }"),
            "fitted.i3d.recipe.epoch: no such field; did you mean 'epochs'?",
        ),
        (
            ("size = 24", 'size = 24\nfitted = { i3d = { recipe = { lr = "fast" } } }'),
            "fitted.i3d.recipe.lr: must be a number, not 'fast'",
        ),
        (
            ("size = 24", "size = 24\nfitted = { i3d = { recipe = { warmup = 2 } } }"),
            "fitted.i3d.recipe: warmup must be 0 or more and below 1, not 2.0",
        ),
        (("size = 24", "size = 24\nfolds = [0, 1, 0]"), "folds: a fold is named twice"),
    ],
)
def test_a_slip_in_a_profile_is_told_in_our_words(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    text = Path(profiles.__file__).with_name("quick.toml").read_text()
    assert change[0] in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(*change, 1))
    with pytest.raises(profiles.ProfileError) as caught:
        profiles.load(str(file))
    assert str(caught.value).startswith(f"mine.toml: {said}") and "\n" not in str(caught.value)


def test_a_slip_in_a_table_names_the_row_and_what_was_meant(tmp_path: Path) -> None:
    text = (published() / "table1.toml").read_text()
    (tmp_path / "table1.toml").write_text(text.replace("beside = ", "besides = ", 1))
    with pytest.raises(TableError, match=r"row '8f-sp2'\.besides: no such field; did you mean 'beside'\?"):
        load("table1", tmp_path)
