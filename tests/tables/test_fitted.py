"""Networks that a profile fits each to its own setting: what may be compared, and at which size they were timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tables.clocked import DYNAMIC, STATIC, store, timing

from bench.profiles import Fitted, Profile, load
from bench.records import Record
from bench.tables import load as table
from bench.tables.block import Block
from bench.tables.blocks import blocks
from bench.tables.join import Joined, join
from bench.tables.timings import learned, timings

Write = Callable[..., Record]
OTHER = "i3d"


@pytest.fixture
def profile() -> Profile:
    fitted = {STATIC: Fitted(size=16, recipe={"lr": 0.2}), OTHER: Fitted(recipe={"lr": 0.3})}
    return load("quick").model_copy(update={"name": "p", "fitted": fitted})


def put(write: Write, profile: Profile, method: str, **given: Any) -> None:
    """A record as a run under the profile states it."""
    own = profile.fitted_to(method)
    protocol = {"recipe": own.model_dump(mode="json")["recipe"], "across_networks": profile.setting}
    write(method=method, size=own.size, profile=profile.name, setting=own.setting, protocol=protocol, **given)


def found(folder: Path) -> list[Block]:
    return blocks([("runs", folder / "runs")])


def joined(folder: Path) -> Joined:
    return join(table("table1"), found(folder), timings([("runs", folder / "runs")]))


def test_networks_that_one_profile_fits_are_in_one_block(profile: Profile, write: Write, tmp_path: Path) -> None:
    for method in (STATIC, OTHER, "x3d_m"):
        put(write, profile, method)
    (block,) = found(tmp_path)
    assert len({run.record.identity.setting for run in block.runs}) == 3
    assert block.under(profile) and not block.under(load("quick"))


def test_without_what_they_have_in_common_records_stand_by_their_own_setting(
    profile: Profile, write: Write, tmp_path: Path
) -> None:
    put(write, profile, STATIC)
    own = profile.fitted_to(STATIC)
    write(method=STATIC, size=own.size, seed=1, setting=own.setting)
    assert sorted(block.setting for block in found(tmp_path)) == sorted([profile.setting, own.setting])


def test_blocks_are_told_apart_by_what_is_not_of_single_networks(
    profile: Profile, write: Write, tmp_path: Path
) -> None:
    recipe = profile.recipe.__class__(**{**vars(profile.recipe), "epochs": 77})
    for one in (profile, profile.model_copy(update={"recipe": recipe})):
        for method in (OTHER, "x3d_m"):
            put(write, one, method)
    names = sorted(block.apart for block in found(tmp_path))
    assert names == [f"epochs {profile.recipe.epochs}", "epochs 77"]


def test_claims_between_networks_of_one_block_are_judged(profile: Profile, write: Write, tmp_path: Path) -> None:
    for seed in range(3):
        put(write, profile, STATIC, seed=seed)
        own = profile.model_copy(update={"fitted": {**profile.fitted, STATIC: Fitted(size=24)}}).fitted_to(DYNAMIC)
        protocol = {"across_networks": profile.setting}  # as if the two were not of one network
        given = {"size": own.size, "setting": own.setting, "protocol": protocol, "options": {"search_space": 2}}
        write({"cost": 7 * 10**8}, method=DYNAMIC, seed=seed, **given)
    verdicts = {one.claim.id: one.latest[0].judgement for one in joined(tmp_path).claims if one.latest}
    assert verdicts["8f-sp2-cost"].verdict == "holds"


def test_a_timing_is_of_networks_at_the_size_of_both(profile: Profile, write: Write, tmp_path: Path) -> None:
    put(write, profile, "x3d_m")  # the first of the block is of another size
    put(write, profile, OTHER)
    put(write, profile, STATIC)
    put(write, profile, DYNAMIC, options={"search_space": 2})
    sizes = {method: profile.fitted_to(method).size for method in (STATIC, OTHER)}
    assert sizes[STATIC] != sizes[OTHER]
    own = timing(size=sizes[STATIC], protocol={"setting": profile.fitted_to(STATIC).setting})
    mixed = timing(a=OTHER, size=sizes[OTHER], protocol={"setting": profile.fitted_to(OTHER).setting})
    store(tmp_path / "runs", own, mixed)
    (block,) = found(tmp_path)
    assert [one.record for one in learned(timings([("runs", tmp_path / "runs")]), block)] == [own]
