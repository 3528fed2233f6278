"""What longer training gains is told where all else is the same, once, and of profiles as they stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import profiles
from bench.report.content import gather
from bench.report.summary import summary
from bench.tables.blocks import blocks
from bench.tables.longer import longer
from bench.tables.paths import published
from bench.tables.starts import by_start

LONG, SHORT = (profiles.load(name) for name in ("digits_long", "digits"))
STATIC, DYNAMIC = "r2plus1d_18", "vared/r2plus1d_18"
SPACE = {"search_space": 2}
HALF = {"clip_1": [0.0, 1.0] * 20}


def setting(profile: profiles.Profile) -> dict[str, Any]:
    return {"profile": profile.name, "setting": profile.setting}


@pytest.mark.parametrize("profile", [one for name in profiles.names() if (one := profiles.load(name)).longer_than])
def test_a_longer_profile_is_the_shorter_one_but_for_its_epochs(profile: profiles.Profile) -> None:
    shorter = profiles.load(profile.longer_than)
    recipe = replace(profile.recipe, epochs=shorter.recipe.epochs)
    assert profile.model_copy(update={"recipe": recipe}).setting == shorter.setting
    assert profile.recipe.epochs > shorter.recipe.epochs
    assert all(profile.method_setting(name) == shorter.method_setting(name) for name in ("vared", "static"))


def test_longer_training_is_held_against_shorter_by_the_seeds_of_both(write, tmp_path: Path) -> None:
    for seed in range(3):
        write(seed=seed, **setting(LONG))
        write({"cost": 8 * 10**8}, method=DYNAMIC, options=SPACE, seed=seed, **setting(LONG))
        write(HALF, seed=seed, **setting(SHORT))
        write({"cost": 10**9, **HALF}, method=DYNAMIC, options=SPACE, seed=seed, **setting(SHORT))
    write(HALF, method=DYNAMIC, options=SPACE, method_setting="other", **setting(SHORT))  # has the static runs too
    write(HALF, seed=7, **setting(SHORT))
    write(HALF, method="i3d", seed=0, **setting(SHORT))
    write(method="i3d", profile="digits_long", setting="of before")
    found = [*longer(by_start(blocks([("runs", tmp_path / "runs")])))]
    assert [(told.own.method, told.judgement.verdict, told.judgement.seeds) for told in found] == [
        (STATIC, "holds", 3),
        (DYNAMIC, "holds", 3),
    ]
    assert [round(told.cost.interval.value, 9) for told in found if told.cost.interval] == [1.0, 0.8]
    asked = {question.id: question for question in summary(gather(published(), [("runs", tmp_path / "runs")]))}
    assert {one.text for one in asked["longer"].findings} == {"8 frames: more accurate after 60 epochs than after 20"}


def test_the_shorter_one_is_that_of_the_same_data(write, tmp_path: Path) -> None:
    """Also where other data have more runs; other data alone are never compared."""
    write(**setting(LONG))
    for seed in range(3):
        write(HALF, seed=seed, data_fingerprint="other", **setting(SHORT))
    stores = [("runs", tmp_path / "runs")]
    assert not [*longer(by_start(blocks(stores)))]
    write(HALF, **setting(SHORT))
    (told,) = longer(by_start(blocks(stores)))
    assert told.judgement.seeds == 1 and {*told.where.fingerprints.values()} == {"f"}
