"""Several processes time the same at once, each its own device: one record has what each found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import together
from speed.fake_clock import FakeClock
from toys import Toy, ToySplit

from bench.data import Dataset
from bench.distributed import place
from bench.method import InputSpec, Prediction
from bench.policy import Policy
from bench.profiles import Profile
from bench.speed import measure, pair, truth
from bench.speed.ceilings import Ceilings
from bench.speed.pair import Job, Setting
from bench.speed.record import SpeedRecord, SpeedStore
from bench.tables.timings import timings

CLOCK = FakeClock()
PROFILE = Profile.model_validate(
    {
        "name": "tiny", "description": "", "dataset": "digits", "size": 8, "tables": [], "frames": [4], "seeds": [0],
        "other_seeds": [0], "recipe": {"epochs": 2}, "views": {},
    }
)  # fmt: skip


class Steady(Toy):
    """Takes 10 ms a clip in the first process, 20 ms in the second; process `short` lacks the memory."""

    short = -1

    def __init__(self, *, frames: int, size: int, classes: int) -> None:
        super().__init__()
        self.spec = InputSpec("clip", size, frames)

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        if place()[0] == self.short:
            raise torch.OutOfMemoryError("planted\nand explained")
        CLOCK.tick(0.01 * len(sample) * (place()[0] + 1))
        return super().forward(sample, policy)


steady = Steady


def timed(results: Path, short: int = -1, again: bool = False) -> dict[str, Any]:
    """With a clock, data and ceilings that need no measuring."""
    split = ToySplit(24)
    dataset: Any = Dataset("toys", 4, "f", split, split, split)
    Steady.short = short
    patched: list[tuple[Any, str, Any]] = [
        (pair, "dataset_of", lambda *_: dataset),
        (measure, "clock_of", lambda device: CLOCK),
        (truth, "_ceilings", lambda *_: Ceilings(1e3, 1e9)),
    ]
    for module, name, value in patched:
        setattr(module, name, value)
    name = f"{__name__}:steady"
    job = Job(name, name, {}, {}, Setting(PROFILE, 4, rounds=8, batch=4, untrained=True))
    return measure.measure(job, results=results, again=again).model_dump(mode="json")


def test_each_process_times_its_own_and_the_sum_is_told(tmp_path: Path) -> None:
    first, second = together(2, timed, tmp_path)
    assert isinstance(first, dict), first
    assert first == second  # the stored record, in both
    record = SpeedRecord.model_validate(first)
    assert record.status == "done" and record.a is not None and record.ratio is not None
    assert record.a.clips_per_second.value == pytest.approx(100)
    assert [one.a.value for one in record.processes if one.a] == pytest.approx([100, 50])
    assert record.together == pytest.approx((150, 150)) and record.ratio.value == pytest.approx(1)
    assert record.identity.processes == 2
    assert len(list(SpeedStore(tmp_path / "records/speed"))) == 1
    assert timings([("yours", tmp_path / "records")]) == []  # fills no cell: it is no measure of one device
    assert together(2, timed, tmp_path) == [first, first]  # is not timed again


@pytest.mark.parametrize("short", [0, 1])
def test_one_without_memory_fails_the_record_and_none_waits_for_it(short: int, tmp_path: Path) -> None:
    first, second = together(2, timed, tmp_path, short)
    assert first == second and first["status"] == "failed", first
    assert first["reason"] == f"process {short}: planted" and first["a"] is None
    other = first["processes"][1 - short]["reason"]
    assert other == "another process failed before the rounds began"
