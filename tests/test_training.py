"""A kill at any step and a resume end where no kill would have; broken checkpoints are named, never executed."""

from __future__ import annotations

import json
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import ToySplit

from bench.checkpoint import Checkpoint, CheckpointError
from bench.data.sampling import Sampling
from bench.gradient_stage import schedule
from bench.method import Batch, Method, Recipe
from bench.registry import build
from bench.task import task_loss
from bench.training import TrainingError, train

RECIPE = Recipe(epochs=4, batch=8, lr=0.05)
SMALL = {"width": 4, "blocks": (1, 1), "stem": (1, 3, 3)}


def method(name: str, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return build(name, frames=4, size=8, classes=3, network_options=SMALL)


class Kill(BaseException):
    """What ends a run where it stands."""


def run(name: str, folder: Path, stop_after: int | None = None, kill_at: int | None = None) -> dict[str, Any]:
    """Trains to the end, or to a checkpoint after some steps, or dies some steps after that, losing them."""
    one, left = method(name), [kill_at]

    def progress(share: float) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Kill

    train(one, ToySplit(), Sampling(), RECIPE, 0, folder, log_every=1, stop_after=stop_after, progress=progress)
    return one.state_dict()


@pytest.mark.parametrize("name", ["r2plus1d_18", "vared/r2plus1d_18"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.integers(1, 11), min_size=1, max_size=2))
def test_killed_and_resumed_training_ends_the_same(name: str, kills: list[int], tmp_path_factory: Any) -> None:
    whole, cut = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cut")
    expected = run(name, whole)
    for steps in kills:
        run(name, cut, stop_after=steps)
        with suppress(Kill):
            run(name, cut, kill_at=steps)  # trains on, writes its log, and is gone before the next checkpoint
    with (cut / "log.jsonl").open("a") as file:
        file.write('{"stage": 9, "step')  # the kill came while a line was written
    found = run(name, cut)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert logged(cut) == logged(whole)


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log but for what is measured by the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert all(0 <= line.pop("waited") <= 1 for line in lines)
    return lines


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = run("r2plus1d_18", tmp_path)
    stamp = (tmp_path / "log.jsonl").read_text()
    again = run("r2plus1d_18", tmp_path)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert (tmp_path / "log.jsonl").read_text() == stamp


class Code:
    """A pickle that runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.bad_input
def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path).save(method("r2plus1d_18"), 0, 1, {})
    whole = path.read_bytes()
    path.write_bytes(pickle.dumps(Code(tmp_path / "executed")))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: not a checkpoint of this method"):
        Checkpoint(path).load(method("r2plus1d_18"))
    assert not (tmp_path / "executed").exists()
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of this method: .* Missing key"):
        Checkpoint(path).load(method("vared/r2plus1d_18"))
    (tmp_path / "other").mkdir()
    other = path.rename(tmp_path / "other" / path.name)
    with pytest.raises(CheckpointError, match=f"it is of {tmp_path.name}; delete it to start anew"):
        Checkpoint(other).load(method("r2plus1d_18"))


@pytest.mark.bad_input
@pytest.mark.parametrize(("stage", "step"), [(0, 10**6), (0, -1), (-1, 0), (7, 0), (1, 1)])
def test_a_checkpoint_at_no_place_of_the_course_is_refused_and_the_log_kept(
    stage: int, step: int, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, batch=8)
    train(method("r2plus1d_18"), ToySplit(), Sampling(), recipe, 0, tmp_path, log_every=1)
    log = (tmp_path / "log.jsonl").read_bytes()
    Checkpoint(tmp_path / "checkpoint.pt").save(method("r2plus1d_18"), stage, step, {})
    with pytest.raises(CheckpointError, match=rf"checkpoint\.pt: stands at step {step} of stage {stage}, .*start anew"):
        train(method("r2plus1d_18"), ToySplit(), Sampling(), recipe, 0, tmp_path, log_every=1)
    assert log and (tmp_path / "log.jsonl").read_bytes() == log


def test_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    one = method("r2plus1d_18")
    with pytest.raises(TrainingError, match=r"stage train, step .*not finite"):
        train(one, ToySplit(), Sampling(), Recipe(epochs=4, batch=8, lr=1e30), 0, tmp_path)


class TwoHeads(torch.nn.Module):
    """A classifier that always says class 0, and one that acts in training and always says class 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[30.0, 0.0]]).repeat(len(x), 1)

    def training_logits(self, x: torch.Tensor) -> list[tuple[float, torch.Tensor]]:
        return [(1.0, self(x)), (0.5, self(x).flip(1))]


def test_classifiers_that_act_in_training_add_their_share_of_the_loss() -> None:
    batch = Batch(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    loss, right = task_loss(TwoHeads(), batch)
    assert float(loss) == pytest.approx(0.5 * 30) and (right == 1).all()


def test_schedule_warms_up_and_ends_near_zero() -> None:
    rates = [schedule(step / 100, 0.1) for step in range(101)]
    assert rates[0] == 0.01 and rates[5] == pytest.approx(0.5) and max(rates) == 1.0 == rates[10]
    assert rates[-1] == pytest.approx(0) and rates[10:] == sorted(rates[10:], reverse=True)


def test_half_precision_trains_both_stages(tmp_path: Path) -> None:
    one = method("vared/r2plus1d_18")
    train(one, ToySplit(), Sampling(), Recipe(epochs=3, batch=8, precision="bf16"), 0, tmp_path)
    assert all(bool(p.isfinite().all()) for p in one.parameters())


def test_a_recipe_without_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="epochs must be 1 or more, not 0"):
        Recipe(epochs=0)
