"""Every command of docs/results.md exists, takes these words, and finds what it asks for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from bench import cli, profiles
from bench.experiment.plan import plan
from bench.speed.pair import Setting, published_jobs
from bench.tables import load

PAGE = Path(cli.__file__).parents[1] / "docs" / "results.md"


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command's name and its parameters, as the command line reads them; nothing is run."""
    program, *words = shlex.split(line)
    assert program == "vared-bench"
    found: Any = typer.main.get_command(cli.app)
    while hasattr(found, "commands"):
        name, *words = words
        assert name in found.commands, name
        found = found.commands[name]
    return str(found.name), found.make_context(found.name, words).params


@pytest.mark.parametrize("line", commands())
def test_a_planned_command_can_be_given(line: str) -> None:
    name, asked = parsed(line)
    assert name in {"speed", "reproduce", "floor", "report", "train", "export"}
    if name == "speed" and asked["table"]:
        quick = profiles.load(asked["profile"])
        jobs = published_jobs(asked["table"], asked["row"], Setting(quick, 8, precision=asked["precision"]))
        assert jobs and all(job.setting.row for job in jobs)
    if name == "reproduce":
        assert plan(profiles.load(asked["profile"]), asked["table"], asked["method"])
    if name in {"floor", "train", "export"}:
        assert profiles.load(asked["profile"]).frames


def test_the_plan_times_every_table_of_the_networks_and_trains_on_all_data_at_hand() -> None:
    asked = [parsed(line) for line in commands()]
    timed = {found["table"] for name, found in asked if name == "speed"}
    assert timed >= {f"table{number}" for number in (1, 2, 3, 4, 5, 6, 8, 10)}
    trained = {found["profile"] for name, found in asked if name == "reproduce"}
    assert trained >= {"digits_full", "ut_interaction_full", "surveillance_fight_full", "camvid", "localisation_ut"}


@pytest.mark.parametrize("name", ["digits_full", "ut_interaction_full", "surveillance_fight_full"])
def test_a_profile_at_full_width_narrows_no_network(name: str) -> None:
    profile = profiles.load(name)
    sizes = {"width", "head_width", "blocks", "stem"}
    narrowed = sizes & {*profile.network, *(name for options in profile.method.values() for name in options)}
    assert not narrowed and 112 <= profile.size <= 128
    rows = [row.experiment for table in profile.tables for row in load(table).rows if row.experiment]
    assert {run.frames for run in rows} >= {*profile.frames}


def test_a_typed_word_that_is_wrong_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed("vared-bench speed --tabel table1")
    with pytest.raises(AssertionError, match="trian"):
        parsed("vared-bench trian r2plus1d_18")
