"""A value that is no number ends the training where it came up, and the batch is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from processes import together
from safetensors.torch import load_file
from torch import Tensor
from toys import Toy, ToySplit

from bench.data.sampling import Sampling, train_batches
from bench.distributed import place
from bench.method import Batch, Recipe
from bench.training import TrainingError, train

BAD = 4
"""The step that fails: of 3 steps an epoch the second of the second epoch."""


class Failing(Toy):
    """At one step of process `rank` the loss, or only its gradient, is not finite."""

    def __init__(self, what: str, rank: int = 0) -> None:
        super().__init__()
        self.what, self.rank, self.done = what, rank, 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, logged = super().loss(batch)
        self.done += 1
        if self.done != BAD + 1 or place()[0] != self.rank:
            return loss, logged
        if self.what == "loss":
            return loss * torch.nan, logged
        loss.register_hook(lambda gradient: gradient * torch.inf)
        return loss, logged


def trained(method: Toy, folder: Path, **recipe: Any) -> None:
    train(method, ToySplit(), Sampling(), Recipe(epochs=3, batch=8, lr=0.5, **recipe), 7, folder, log_every=1)


@pytest.mark.parametrize(
    ("what", "named"), [("loss", "loss nan, gradient_norm nan"), ("gradient", "gradient_norm (nan|inf)")]
)
@pytest.mark.parametrize("recipe", [{}, {"clip_norm": 1.0}, {"precision": "bf16"}])
def test_the_step_is_named_and_its_batch_kept(what: str, named: str, recipe: dict[str, Any], tmp_path: Path) -> None:
    method, folder = Failing(what), tmp_path / "run"
    with pytest.raises(TrainingError) as caught:
        trained(method, folder, **recipe)
    said = f"stage train, step 4, epoch 1: not finite: {named}; the batch is kept in run/not-finite.safetensors"
    assert re.fullmatch(said, str(caught.value)), caught.value
    assert all(bool(weight.isfinite().all()) for weight in method.parameters())  # no update was made
    kept, expected = load_file(folder / "not-finite.safetensors"), step(BAD)
    assert torch.equal(kept["sample"], expected.sample) and torch.equal(kept["index"], expected.index)
    assert torch.equal(kept["target"], expected.target)
    about = json.loads((folder / "not-finite.json").read_text())
    assert (about["stage"], about["step"], about["epoch"]) == ("train", 4, 1)
    assert about["parts"][0]["rows"] == expected.index.tolist()
    assert about["parts"][0]["videos"] == ToySplit().groups[expected.index.numpy()].tolist()
    assert len((folder / "log.jsonl").read_text().splitlines()) == BAD


def step(number: int) -> Batch:
    batches = train_batches(ToySplit(), Toy.spec, Sampling(), 8, 7, number // 3)
    return list(batches)[number % 3]


def test_the_next_time_the_file_is_overwritten_and_boxes_are_kept_too(tmp_path: Path) -> None:
    from bench.not_finite import Moment, keep

    boxes = [torch.rand(2, 5), torch.rand(0, 5)]
    for rows in ([0, 1], [2, 3]):
        batch = Batch(torch.rand(2, 3, 4, 8, 8).to(memory_format=torch.channels_last_3d), boxes, torch.tensor(rows))
        said = keep(tmp_path, Moment("train", 1, 0), batch, ToySplit(), {"loss": float("nan"), "lr": 0.1})
    kept = load_file(tmp_path / "not-finite.safetensors")
    assert torch.equal(kept["sample"], batch.sample) and torch.equal(kept["target.0"], boxes[0])
    assert kept["target.1"].shape == (0, 5) and kept["index"].tolist() == [2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["not-finite.json", "not-finite.safetensors"]
    assert said.endswith("not-finite.safetensors")
    assert json.loads((tmp_path / "not-finite.json").read_text())["parts"][0]["logged"] == {"loss": "nan", "lr": 0.1}
    (tmp_path / "file").touch()
    said = keep(tmp_path / "file", Moment("train", 1, 0), batch, ToySplit(), {})
    assert said == "the batch could not be kept: File exists"


class Named(ToySplit):
    """Whose videos have paths."""

    paths: ClassVar[list[str]] = [f"videos/{number}.mp4" for number in range(24)]

    def __init__(self) -> None:
        super().__init__()
        self.attributes = self.attributes.assign(path=self.paths)


def fails_in_the_second(folder: Path) -> str:
    try:
        train(Failing("loss", rank=1), Named(), Sampling(), Recipe(epochs=3, batch=8, lr=0.5), 7, folder)
    except TrainingError as error:
        return str(error)
    return "nothing"


def test_of_several_processes_all_stop_and_each_keeps_its_part(tmp_path: Path) -> None:
    first, second = together(2, fails_in_the_second, tmp_path)
    assert first == second and first.startswith("stage train, step 4, epoch 1: not finite: gradient_norm nan, loss nan")
    about, expected = json.loads((tmp_path / "not-finite.json").read_text()), step(BAD)
    assert [part["file"] for part in about["parts"]] == ["not-finite.safetensors", "not-finite.1.safetensors"]
    assert [part["logged"]["loss"] == "nan" for part in about["parts"]] == [False, True]
    samples = [load_file(tmp_path / part["file"])["sample"] for part in about["parts"]]
    assert torch.equal(torch.cat(samples), expected.sample)
    rows = np.concatenate([part["rows"] for part in about["parts"]])
    assert rows.tolist() == expected.index.tolist()
    assert [name for part in about["parts"] for name in part["videos"]] == [Named.paths[row] for row in rows]
