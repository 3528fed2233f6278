"""Profiles: what one network has otherwise than the rest, and batches of another size."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import profiles
from bench.experiment.plan import plan
from bench.profiles import Fitted, ProfileError
from bench.recipe import LARGEST_SEED
from bench.tables.paths import published

PUBLISHED = ("mini_kinetics_200", "kinetics_400", "moments_in_time", "jhmdb", "ade20k", "activitynet")


def test_shipped_records_keep_their_identity() -> None:
    told = {}
    for path in (published().parent / "measured").glob("*.json"):
        identity = json.loads(path.read_text())["identity"]
        told[identity["profile"]] = identity["setting"]
    assert told["digits"] == profiles.load("digits").setting
    assert told["segmentation"] == profiles.load("segmentation").setting


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_row_of_a_published_protocol_has_the_size_that_its_table_prints(name: str) -> None:
    from bench.tables import schema

    profile = profiles.load(name)
    assert plan(profile, None, None)
    for table in profile.tables:
        for row in schema.load(table).rows:
            if row.size and row.experiment:
                assert profile.fitted_to(row.experiment.method).size == row.size, f"{table}/{row.id}"


def test_a_network_has_its_own_setting_under_every_method() -> None:
    profile = profiles.load("mini_kinetics_200")
    for method in ("r2plus1d_18", "vared/r2plus1d_18", "cgnet/r2plus1d_18"):
        own = profile.fitted_to(method)
        assert (own.size, own.recipe.lr, own.recipe.epochs) == (128, 0.01, 160)
        assert own.setting != profile.fitted_to("tpn").setting
        assert own.fitted_to(method) == own
    assert profile.fitted_to("arnet").sampling == "uniform"


@given(st.integers(1, 4096))
def test_learning_rates_follow_the_batch_linearly(batch: int) -> None:
    profile = profiles.load("mini_kinetics_200")
    large = profile.with_batch(batch)
    for method in ("tpn", "vared/r2plus1d_18", "arnet", "uni_adafocus"):
        before, after = profile.fitted_to(method).recipe, large.fitted_to(method).recipe
        assert after.batch == batch
        assert after.lr / after.batch == pytest.approx(before.lr / before.batch)
        assert after.epochs == before.epochs


@pytest.mark.bad_input
def test_a_fitted_recipe_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    text = Path(profiles.__file__).with_name("kinetics_400.toml").read_text()
    file = tmp_path / "mine.toml"
    for wrong, message in (("lrr = 0.01", "lrr"), ("lr = -1.0", "lr must be .* not -1.0"), ("batch = 0", "batch")):
        file.write_text(text.replace("lr = 0.01", wrong))
        with pytest.raises(ProfileError, match=message) as caught:
            profiles.load(str(file))
        assert "\n" not in str(caught.value) and "mine.toml" in str(caught.value)


@pytest.mark.bad_input
@pytest.mark.parametrize("scales", ["[]", "[inf]", "[0.0]", "[1e9]"])
def test_scales_that_no_picture_can_have_are_refused(scales: str, tmp_path: Path) -> None:
    text, field = Path(profiles.__file__).with_name("quick.toml").read_text(), f"scales = {scales}\n"
    file = tmp_path / "mine.toml"
    for wrong, name in ((text.replace("[views]\n", f"[views]\n{field}"), r"views\.scales"), (field + text, "scales")):
        file.write_text(wrong)
        with pytest.raises(ProfileError, match=rf"mine\.toml: {name}"):
            profiles.load(str(file))


@pytest.mark.bad_input
@pytest.mark.parametrize("field", ["seeds", "other_seeds"])
def test_seeds_that_nothing_can_be_drawn_from_are_refused(field: str, tmp_path: Path) -> None:
    text = Path(profiles.__file__).with_name("quick.toml").read_text()
    file = tmp_path / "mine.toml"
    for seed, words in ((-1, "0 or more"), (LARGEST_SEED + 1, f"{LARGEST_SEED} or less")):
        file.write_text(re.sub(rf"\n{field} = .*", f"\n{field} = [0, {seed}]", text))
        with pytest.raises(ProfileError, match=rf"mine.toml: {field}.1: must be {words}, not {seed}"):
            profiles.load(str(file))


def test_the_largest_seed_is_one() -> None:
    assert torch.manual_seed(LARGEST_SEED).initial_seed() == LARGEST_SEED
    assert 0 <= np.random.default_rng([LARGEST_SEED, 0, 1]).random() < 1
    assert pd.Series([LARGEST_SEED]).dtype == np.int64


def test_no_two_settings_share_a_digest() -> None:
    profile = profiles.load("quick")
    recipes = [replace(profile.recipe, accumulate=16), replace(profile.recipe, clip_norm=0.06), profile.recipe]
    assert len({profile.model_copy(update={"recipe": recipe}).setting for recipe in recipes}) == 3


@pytest.mark.parametrize("method", ["i3d", "r2plus1d_18", "arnet"])
def test_the_batch_that_a_profile_has_is_no_other_setting(method: str) -> None:
    profile = profiles.load("mini_kinetics_200")
    own = profile.fitted_to(method)
    assert profile.with_batch(own.recipe.batch).fitted_to(method).setting == own.setting


def test_nothing_fitted_changes_nothing() -> None:
    profile = profiles.load("digits")
    assert profile.fitted_to("vared/r2plus1d_18").setting == profile.setting
    assert profile.model_copy(update={"fitted": {"i3d": Fitted(size=32)}}).fitted_to("x3d_m").size == profile.size


def test_other_rows_have_the_seeds_of_the_main_ones_unless_told(tmp_path: Path) -> None:
    text = Path(profiles.__file__).with_name("quick.toml").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(text.replace("other_seeds = [0]\n", "").replace("seeds = [0, 1, 2]", "seeds = [4, 5]"))
    assert profiles.load(str(file)).other_seeds == [4, 5]
    assert profiles.load("digits").other_seeds == [0, 1, 2]
