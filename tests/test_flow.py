"""Batches come numbered, from any step on, and the time that is waited for them is told as it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySplit
from typer.testing import CliRunner

from bench.cli import app
from bench.data.loading import Loading, loading
from bench.data.sampling import Sampling, train_steps
from bench.flow import LONG, Waiting, stage_batches, to_device
from bench.method import Batch, Recipe
from bench.registry import build
from bench.workers import Workers, _begin

RECIPE = Recipe(epochs=3, batch=5, lr=0.1)


@pytest.mark.parametrize("first", [0, 1, 2, 5, 7, 10**6])
def test_a_stage_goes_on_from_any_step(first: int) -> None:
    options = {"width": 4, "blocks": (1, 1), "stem": (1, 3, 3)}
    method, split = build("r2plus1d_18", frames=4, size=8, classes=3, network_options=options), ToySplit(12)
    (stage,) = method.stages(RECIPE)
    size = train_steps(split, RECIPE.batch)
    whole = list(stage_batches(stage, split, method, Sampling(), RECIPE, 3, 0, size))
    rest = list(stage_batches(stage, split, method, Sampling(), RECIPE, 3, first, size))
    assert [step for step, _ in whole] == list(range(3 * size))
    assert [step for step, _ in rest] == list(range(first, 3 * size))
    for (_, one), (_, other) in zip(whole[first:], rest, strict=True):
        assert torch.equal(one.sample, other.sample) and torch.equal(one.index, other.index)


def test_clips_come_channels_last_and_boxes_as_a_list() -> None:
    sample, boxes = torch.rand(2, 3, 4, 8, 8), [torch.rand(1, 5), torch.rand(0, 5)]
    found = to_device(Batch(sample, boxes, torch.arange(2)), torch.device("cpu"))
    assert torch.equal(found.sample, sample) and found.sample.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(one, other) for one, other in zip(found.target, boxes, strict=True))


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def loop(clock: Clock, waiting: Waiting, times: list[tuple[float, float]]) -> None:
    """Waits and works for these seconds."""

    def items() -> Iterator[float]:
        for wait, work in times:
            clock.now += wait
            yield work

    for work in waiting.over(items()):
        clock.now += work


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1), min_size=1, max_size=4))
def test_a_lap_is_the_share_since_the_last(laps: list[list[tuple[float, float]]]) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.flow.time.monotonic", clock)
        waiting = Waiting()
        for times in laps:
            loop(clock, waiting, times)
            waited, worked = (sum(column) for column in zip(*times, strict=True))
            assert waiting.lap() == pytest.approx(waited / (waited + worked))


@pytest.mark.parametrize(
    ("waited", "worked", "line"),
    [
        (LONG + 1, 2 * LONG, "the model waited 34% of the time for data: --workers, --cache"),
        (LONG + 1, 10 * LONG, ""),  # little of the time
        (LONG - 1, 1.0, ""),  # not long
    ],
)
def test_much_waiting_is_one_line(
    waited: float, worked: float, line: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr("bench.flow.time.monotonic", clock)
    waiting = Waiting()
    loop(clock, waiting, [(waited / 2, worked / 2)] * 2)
    with caplog.at_level(logging.WARNING):
        waiting.tell()
    assert caplog.messages == ([line] if line else [])


def test_a_process_does_without_a_cache_that_went_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bench.workers.end_with_parent", lambda: None)
    (tmp_path / "cache").touch()
    _begin(Loading(3, tmp_path / "cache"))
    assert loading() == Loading(3)
    assert caplog.messages == [f"cache {tmp_path / 'cache'}: File exists: it is done without"]


@pytest.mark.parametrize("size", ["inf", "nan", "1e300", "0"])
def test_a_cache_has_a_size(size: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["train", "r2plus1d_18", "--cache", str(tmp_path), "--cache-size", size])
    assert refused.exit_code == 2 and "--cache-size" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "inspect", "reproduce"])
def test_what_a_command_is_told_is_in_force_in_it_and_its_processes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list[Loading]()

    def stop(*given: object, **more: object) -> None:
        found.extend([loading(), Workers[None](4)._loading])
        raise KeyboardInterrupt

    for work in ("experiment.single.single", "inspection.run.inspect", "reproduce.reproduce"):
        monkeypatch.setattr(f"bench.{work}", stop)
    name = [] if command == "reproduce" else ["r2plus1d_18"]
    more = ["--workers", "3", "--cache", str(tmp_path / "cache"), "--cache-size", "0.5"]
    assert CliRunner().invoke(app, [command, *name, *more]).exit_code == 130
    assert CliRunner().invoke(app, [command, *name]).exit_code == 130
    told = Loading(3, tmp_path / "cache", 500_000_000)
    assert found == [told, told.shared(4), Loading(None, None, 32 * 10**9), Loading(None, None, 32 * 10**9, sharing=4)]
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(app, [command, *name, "--cache", str(tmp_path / "file")])
    assert refused.exit_code == 2 and refused.stderr == f"error: cache {tmp_path / 'file'}: File exists\n"
