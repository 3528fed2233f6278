"""What a profile is said to take, before it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import profiles
from bench.answers import estimate as answer
from bench.cli import app
from bench.estimate import Estimate, estimate
from bench.experiment.plan import Experiment, plan


def test_hours_are_steps_and_test_clips() -> None:
    one = Estimate(Experiment("i3d", (), 8, 0), 0.5, 1.5, 1800, 0.2, 0.3, 7200, batch=8, gradients=0, memory=0)
    assert (one.step, one.clip) == (2.0, 0.5) and one.hours == 2.0


def test_an_estimate_counts_every_step_and_view_and_stores_nothing(tmp_path: Path) -> None:
    few = {"train_videos": 48, "validation_videos": 24, "test_videos": 24}
    profile = profiles.load("smoke").model_copy(
        update={"dataset_options": few, "tables": ["table10"], "frames": [8], "other_seeds": [0, 1], "methods": []}
    )
    experiments = plan(profile, ["table10"], ["r2plus1d_18", "vared/r2plus1d_18"])
    found = estimate(experiments, profile, None, tmp_path)
    assert sum(seeds for _, seeds in found) == len(experiments)
    assert len(found) == len({(one.method, one.options) for one in experiments})
    views, recipe = profile.views, profile.recipe
    for one, _ in found:
        assert one.steps == recipe.epochs * (48 // recipe.batch)
        scored = views.clip_videos or 24, views.video_videos or 24
        assert one.clips == scored[0] + scored[1] * views.clips * views.crops
        assert one.step > 0 and one.clip > 0 and one.memory > 1 << 20
        assert one.hours == pytest.approx((one.step * one.steps + one.clip * one.clips) / 3600)
    assert not list(tmp_path.iterdir())


def test_an_estimate_as_json_is_in_seconds_of_each_run_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a profile of five folds; the run is of half an hour, of which several devices take their part."""
    run = Experiment("i3d", (("width", 8),), 8, 0)
    one = Estimate(run, 0.0, 1.0, 1800, 0.0, 0.0, 1, batch=8, gradients=0, memory=7)
    monkeypatch.setattr(answer, "estimate", lambda *given: [(one, 3)])
    asked = ["reproduce", "--profile", "surveillance_fight", "--estimate", "--json", "--devices", "4,5"]
    found: list[dict[str, Any]] = json.loads(CliRunner().invoke(app, asked).stdout)
    ((experiment,),) = [each.pop("experiments") for each in found]
    assert found == [{"profile": "surveillance_fight", "folds": 5, "seconds": 5 * 3 * 1800}]
    assert experiment["seconds"] == 1800 and experiment["seeds"] == 3 and experiment["options"] == {"width": 8}
    assert experiment["reckoned"] == [{"devices": 4, "seconds": 450}, {"devices": 5, "seconds": None}]


def test_json_is_of_an_estimate_only() -> None:
    assert CliRunner().invoke(app, ["reproduce", "--json"]).exit_code == 2
