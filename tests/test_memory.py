"""Too little memory: batches are computed in smaller parts, with the results of a run that began with those."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from processes import together
from torch import Tensor, nn
from toys import Toy, ToyMasks, ToySplit

from bench import profiles
from bench.data.sampling import Sampling
from bench.distributed import place
from bench.evaluation import score
from bench.experiment.plan import Experiment
from bench.experiment.run import Run
from bench.experiment.single import single
from bench.gradient_stage import GradientStage
from bench.memory import Halving, MemoryShortError, fitting
from bench.method import Batch, InputSpec, Prediction, Recipe
from bench.profiles import Views
from bench.records import Record
from bench.short_of_memory import short_of_memory
from bench.training import train
from vared.gate import Gate


class Deep(Toy):
    """Normalisation, dropout and two layers; more than `most` samples at once do not fit, `where` that is."""

    def __init__(self, most: int = 99, where: str = "forward", from_step: int = 0) -> None:
        super().__init__()
        self.most, self.where, self.left, self.failed = most, where, from_step, 0
        self.norm, self.drop, self.head = nn.BatchNorm3d(3), nn.Dropout(0.5), nn.Linear(12, 5)

    def forward(self, sample: Tensor, policy: Any = None) -> Prediction:
        normed = self.norm(sample)
        logits = self.head(self.drop(normed.square().mean((-2, -1)).flatten(1)))
        if self.where == "forward":
            self.check(len(sample))
        elif normed.requires_grad:  # there the head has its gradient already
            normed.register_hook(lambda gradient: self.check(len(sample)))
        return Prediction(torch.full((len(sample),), 60), logits=logits)

    def check(self, samples: int) -> None:
        if samples > self.most and self.left <= 0:
            self.failed += 1
            raise torch.OutOfMemoryError("planted")


def trained(method: Toy, folder: Path, accumulate: int = 1, stop_after: int | None = None) -> dict[str, Tensor]:
    recipe = Recipe(epochs=2, batch=8, lr=0.5, accumulate=accumulate)

    def progress(share: float) -> None:
        if isinstance(method, Deep):
            method.left -= 1

    train(method, ToySplit(), Sampling(), recipe, 0, folder, log_every=1, stop_after=stop_after, progress=progress)
    return method.state_dict()


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log, without the share of the time that was waited."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "waited"} for line in lines]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("most", [4, 2, 1])
def test_what_did_not_fit_ends_as_what_began_in_parts(most: int, where: str, tmp_path: Path) -> None:
    small = Deep(most, where)
    found, expected = trained(small, tmp_path / "a"), trained(Deep(), tmp_path / "b", accumulate=8 // most)
    assert same(found, expected) and small.failed == {4: 1, 2: 2, 1: 3}[most]
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    assert not same(expected, trained(Deep(), tmp_path / "whole"))  # normalisation sees other samples together


def test_memory_that_falls_short_later_changes_what_follows_only(tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        found = trained(Deep(4, from_step=3), tmp_path / "a")
    trained(Deep(), tmp_path / "b", stop_after=3)
    assert same(found, trained(Deep(), tmp_path / "b", accumulate=2))
    assert [record.message for record in caplog.records] == [
        "stage train, step 3: out of memory: from here on 8 samples are computed in 2 parts of at most 4, whose "
        "gradients add up; batch normalisation sees one part at a time"
    ]


def test_what_goes_on_does_not_fail_first(tmp_path: Path) -> None:
    first, second = Deep(4), Deep(4)
    trained(first, tmp_path, stop_after=2)
    found = trained(second, tmp_path)
    assert (first.failed, second.failed) == (1, 0)
    assert same(found, trained(Deep(), tmp_path / "whole", accumulate=2))


def test_a_single_sample_that_does_not_fit_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(MemoryShortError, match=r"^stage train, step 0: out of memory with a single sample: planted$"):
        trained(Deep(0), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


class Stack(Toy):
    """Three convolutions with normalisations.

    short: the layer at which a process lacks memory for more than `most` samples, and in which direction; not in its
    first `parts` calls.
    """

    def __init__(self, short: dict[int, tuple[int, str]], most: int = 2, parts: int = 0) -> None:
        super().__init__()
        self.short, self.most, self.parts = short, most, parts
        self.convs = nn.ModuleList(nn.Conv3d(3, 3, 1) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm3d(3) for _ in range(3))
        self.gate = Gate(3, 1, [1.0] * 3, hidden=4, pool="space", leak=0.5)  # whose normalisation sees no pixels

    def forward(self, sample: Tensor, policy: Any = None) -> Prediction:
        x, (layer, where) = sample, self.short.get(place()[0], (None, ""))
        self.parts -= 1
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x)).relu()
            x = x * (1 + self.gate(x.mean(2))[1][:, :, None, None, None])
            if number == layer and self.parts < 0 and len(x) > self.most:
                self.fail(x) if where == "forward" else x.register_hook(self.fail)
        return Prediction(torch.full((len(sample),), 27), logits=self.head(x.mean((-3, -2, -1))))

    def fail(self, value: Tensor) -> None:
        raise torch.OutOfMemoryError("planted")


PLACES = [(0, "forward"), (2, "forward"), (2, "backward"), (1, "backward")]
CASES: list[tuple[dict[int, tuple[int, str]], int, int, int]] = [
    *(({1: place}, 2, 0, 1) for place in PLACES),
    ({0: (2, "backward"), 1: (1, "forward")}, 2, 0, 1),  # both, at different places
    ({1: (1, "forward")}, 1, 1, 2),  # in the second of two parts
    ({1: (1, "backward")}, 1, 1, 2),
]
"""Where memory is short, for how many samples, from which call on, and in how many parts the training begins."""


def several_trainings(folder: Path) -> list[dict[str, Any]]:
    found = [trained(Stack({}), folder / f"whole{parts}", accumulate=parts, stop_after=2) for parts in (2, 4)]
    for number, (*case, parts) in enumerate(CASES):
        found.append(trained(Stack(*case), folder / str(number), accumulate=parts, stop_after=2))
    return [{name: value.numpy() for name, value in state.items()} for state in found]


def test_processes_wait_for_none_that_lacks_memory_and_all_take_the_same_parts(tmp_path: Path) -> None:
    for answer in together(2, several_trainings, tmp_path):
        assert isinstance(answer, list), answer
        halves, quarters, *found = answer
        for case, state in zip(CASES, found, strict=True):
            expected = {1: halves, 2: quarters}[case[-1]]
            assert all((state[name] == expected[name]).all() for name in expected), case
    for number, case in enumerate(CASES):
        log = logged(tmp_path / str(number))
        assert len(log) == 2 and log == logged(tmp_path / f"whole{2 * case[-1]}"), case


def nothing_fits(folder: Path) -> str:
    return str(trained(Deep(0 if place()[0] == 1 else 99), folder))


def test_a_process_without_memory_for_one_sample_ends_and_the_others_with_it(tmp_path: Path) -> None:
    first, second = together(2, nothing_fits, tmp_path)
    said = second.removeprefix("OutOfMemoryError: ")
    assert said != second and f"process 0: process 1 ended: {said[:40]}" in first, (first, second)


def test_the_record_says_what_was_in_force_and_stays_the_same_experiment(tmp_path: Path, monkeypatch: Any) -> None:
    few = {"train_videos": 48, "validation_videos": 24, "test_videos": 24}
    profile = profiles.load("smoke").model_copy(update={"dataset_options": few, "size": 24})
    whole = GradientStage._added

    def added(stage: GradientStage, cut: list[Batch]) -> dict[str, float]:
        if max(len(part.index) for part in cut) > profile.recipe.batch // 2:
            raise torch.OutOfMemoryError("planted")
        return whole(stage, cut)

    monkeypatch.setattr(GradientStage, "_added", added)
    found: dict[str, Any] = {"frames": 4, "seed": 0, "options": {}, "results": tmp_path, "data_root": None}
    record = single("r2plus1d_18", profile=profile, until="evaluate", **found)
    assert isinstance(record, Record) and record.status == "done", record
    assert record.protocol["accumulate"] == 2 and record.protocol["recipe"]["accumulate"] == 1
    assert record.protocol["evaluation_batch"] == 256
    assert record.identity == Run(Experiment("r2plus1d_18", (), 4, 0), profile, tmp_path, None).identity


class Shy(Toy):
    """Answers at most `most` samples at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, list[int]()
        self.head = nn.Linear(3, 3)

    def forward(self, sample: Tensor, policy: Any = None) -> Prediction:
        if len(sample) > self.most:
            raise torch.OutOfMemoryError("planted")
        self.sizes.append(len(sample))
        return Prediction(torch.full((len(sample),), 9), logits=self.head(sample.mean((-3, -2, -1))))


def test_evaluation_in_halves_says_the_same(caplog: Any) -> None:
    views = Views(clips=2, crops=3)
    whole = score(Shy(99), ToySplit(), Sampling(), views, batch=16)
    found = score(small := Shy(3), ToySplit(), Sampling(), views, batch=16)
    pd.testing.assert_frame_equal(found.samples, whole.samples)
    assert found.figures == whole.figures and found.executed == whole.executed
    assert (whole.together, found.together) == (16, 2) and max(small.sizes) <= 3
    said = [record.message for record in caplog.records]
    assert said[0] == "evaluation: out of memory with 16 samples at once: at most 8 from here on"
    with pytest.raises(MemoryShortError, match=r"^evaluation: out of memory with a single sample: planted$"):
        score(Shy(0), ToySplit(), Sampling(), views)


class Windows(Toy):
    """Masks from a 1×1 convolution over at most `most` images at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.spec = most, InputSpec("image", 8, unit="image")

    def forward(self, sample: Tensor, policy: Any = None) -> Prediction:
        if len(sample) > self.most:
            raise torch.OutOfMemoryError("planted")
        masks = nn.functional.conv2d(sample, self.head.weight[:, :, None, None], self.head.bias)
        return Prediction(torch.full((len(sample),), 15 * 64), masks=masks)


def test_whole_pictures_are_seen_through_as_many_windows_as_fit() -> None:
    split, views = ToyMasks(shape=(1, 20, 24)), Views(clips=1, crops=1)
    whole, found = (score(Windows(most), split, Sampling(), views) for most in (99, 2))
    pd.testing.assert_frame_equal(found.samples, whole.samples)
    assert found.figures == whole.figures


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("The size of tensor a (2) must match"), False),
        (ValueError("CUDNN_STATUS_ALLOC_FAILED"), False),
    ],
)
def test_whatever_says_that_memory_is_short_is_heard(error: Exception, short: bool) -> None:
    def work() -> int:
        raise error

    assert short_of_memory(error) == short
    if short:
        found = fitting(work)
        assert isinstance(found, MemoryShortError) and str(found) == str(error)
    else:
        with pytest.raises(type(error)):
            fitting(work)


def test_the_processor_itself_says_so_in_these_words() -> None:
    assert isinstance(fitting(lambda: torch.empty(2**60, dtype=torch.uint8)), MemoryShortError)


def test_halves_are_parts_in_order_and_stay_small() -> None:
    seen = list[int]()

    def work(batch: Batch) -> list[int]:
        if len(batch.index) > 3:
            raise torch.OutOfMemoryError("planted")
        seen.append(len(batch.index))
        return batch.index.tolist()

    answers, rows = Halving("x", work), torch.arange(11)
    for _ in range(2):
        assert [row for part in answers(Batch(rows, None, rows)) for row in part] == rows.tolist()
    assert max(seen) <= 3 and answers.most(64) == 3
