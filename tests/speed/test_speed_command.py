"""What the options of `speed` ask for is what is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_profile import tiny_profile
from typer.testing import CliRunner

from bench import cli
from bench.speed import measure
from bench.speed.pair import Job
from bench.speed.record import SpeedError

FITTED = """
[fitted.r2plus1d_18]
size = 24
recipe = { lr = 0.02 }
"""


@pytest.mark.parametrize("method", ["r2plus1d_18", "vared/r2plus1d_18"])
@pytest.mark.parametrize(
    ("words", "size", "frames"), [([], 24, 4), (["--size", "32"], 32, 4), (["--frames", "8"], 24, 8)]
)
def test_size_and_frames_count_before_what_a_profile_fits(
    method: str, words: list[str], size: int, frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []

    def refused(job: Job, **_: Any) -> Any:
        asked.append(job)
        raise SpeedError("enough")

    monkeypatch.setattr(measure, "measure", refused)
    (tmp_path / "fitted.toml").write_text(tiny_profile("table10", [4], (4, 4, 4)) + FITTED)
    given = ["--profile", str(tmp_path / "fitted.toml"), "--results", str(tmp_path), *words]
    result = CliRunner().invoke(cli.app, ["speed", method, *given])
    assert "enough" in result.stderr
    (job,) = asked
    assert (job.setting.profile.size, job.setting.frames, job.setting.profile.recipe.lr) == (size, frames, 0.02)
