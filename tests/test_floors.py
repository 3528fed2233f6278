"""What is had without looking at a picture."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ToyBoxes, ToySplit
from typer.testing import CliRunner

from bench.cli import app
from bench.data.split import DataError, Dataset
from bench.floors import COARSE, Found, floors, stored
from bench.profiles import Profile, load
from bench.tables.floors import FloorError, floor_records


class Halves(ToySplit):
    """Pictures whose left half is of class 0 and whose right half is of class 1, but for one void row."""

    task = "masks"
    classes = ("left", "right", "never")

    def annotation(self, index: int) -> Tensor:
        mask = torch.zeros(4, 6, dtype=torch.int64)
        mask[:, 3:] = 1
        mask[0] = -1
        return mask


def dataset(train: ToySplit, test: ToySplit) -> Dataset:
    return Dataset("toy", 1, "0", train, test, test)


def test_the_most_frequent_training_class_is_said_of_every_video() -> None:
    train, test = ToySplit(9), ToySplit(12)
    train.targets = np.array([1, 1, 1, 1, 0, 0, 2, 2, 0])
    found = floors(dataset(train, test))
    assert found["most frequent class"].figures["clip-1"].value == pytest.approx(1 / 3)


def test_places_tell_masks_that_are_everywhere_alike() -> None:
    found = floors(dataset(Halves(6), Halves(4)))
    assert found["most frequent class at each place"].figures["mIoU"].value == 1
    assert found["most frequent class"].figures["pixel-accuracy"].value == pytest.approx(0.5)
    assert found["most frequent class"].figures["mIoU"].value == pytest.approx(
        (0.5 + 0) / 2
    )  # what never occurs counts nowhere


def test_boxes_at_one_place_are_found_blind() -> None:
    class Still(ToyBoxes):
        def annotation(self, index: int) -> Tensor:
            return torch.tensor([[1.0, 1.0, 6.0, 6.0, float(self.targets[index])]])

    with pytest.raises(DataError, match="toy: floors of boxes are of one fold"):
        floors(*[dataset(Still(30), Still(30))] * 2)
    found = floors(dataset(Still(30), Still(30)))
    for rule in ("mean", "best", "places"):
        assert found[f"boxes: {rule}"].figures["recall"].value == 1
        assert found[f"boxes: {rule}"].figures["mAP"].value == pytest.approx(
            1 / 3, abs=0.02
        )  # each class said of every frame


def test_coarse_pictures_tell_what_brightness_tells() -> None:
    found = floors(dataset(ToySplit(30), ToySplit(24)), coarse=True)
    assert found[COARSE].figures["clip-1"].value == 1 and found["most frequent class"].figures[
        "clip-1"
    ].value == pytest.approx(1 / 3)


def test_of_folds_a_floor_is_over_all_test_videos_and_sources() -> None:
    train, tests = ToySplit(9), [ToySplit(6), ToySplit(12)]
    for number, test in enumerate(tests):
        test.targets = np.full(len(test), number)  # of the first fold all are what is said, of the second none
        test.groups = np.array([f"{number}-{row}" for row in range(len(test))])
    found = floors(*(dataset(train, test) for test in tests))["most frequent class"].figures["clip-1"]
    assert found.value == pytest.approx(6 / 18) and found.low < found.value < found.high


def test_a_floor_is_kept_and_found_by_its_data(tmp_path: Path) -> None:
    profile, folds = load("quick"), [dataset(ToySplit(9), ToySplit(12))]
    found = floors(*folds)
    path = stored(profile, 8, folds, found, tmp_path)
    (record,) = floor_records([("runs", tmp_path)])
    assert (record.dataset, record.fingerprints, record.videos) == ("toy", ["0"], 12)
    assert record.rules["most frequent class"]["clip-1"].value == found["most frequent class"].figures["clip-1"].value
    (kept,) = record.right["most frequent class"].values()
    assert [int(one) for one in kept] == found["most frequent class"].right[0].tolist() and len(kept) == 12
    path.write_bytes(path.read_bytes().replace(b'"videos": 12', b'"videos": 13'))
    with pytest.raises(FloorError, match="differs from its checksum"):
        floor_records([("runs", tmp_path)])
    left_out: list[str] = []
    assert floor_records([("runs", tmp_path)], left_out) == [] and len(left_out) == 1


def test_a_floor_measured_anew_keeps_the_rules_that_it_leaves_out(tmp_path: Path) -> None:
    profile, folds = load("quick"), [dataset(ToySplit(30), ToySplit(24))]
    both, one = floors(*folds, coarse=True), floors(*folds)
    stored(profile, 8, folds, both, tmp_path)
    stored(profile, 8, folds, one, tmp_path)
    (record,) = floor_records([("runs", tmp_path)])
    assert set(record.rules) == set(record.right) == {COARSE, "most frequent class"}


def test_a_floor_that_cannot_be_read_this_time_keeps_its_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, folds = load("quick"), [dataset(ToySplit(30), ToySplit(24))]
    path = stored(profile, 8, folds, floors(*folds, coarse=True), tmp_path)

    def refused(file: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(OSError, match="Input/output error"):
        stored(profile, 8, folds, floors(*folds), tmp_path)
    monkeypatch.undo()
    (record,) = floor_records([("runs", tmp_path)])
    assert path.exists() and set(record.rules) == {COARSE, "most frequent class"}


def test_the_same_data_in_two_stores_have_one_floor(tmp_path: Path) -> None:
    profile, folds = load("quick"), [dataset(ToySplit(9), ToySplit(12))]
    found = floors(*folds)
    for name, value in (("shipped", 0.25), ("yours", 0.75)):
        rules = {
            "most frequent class": Found(
                {"clip-1": found["most frequent class"].figures["clip-1"]._replace(value=value)}
            )
        }
        stored(profile, 8, folds, rules, tmp_path / name)
    (record,) = floor_records([(name, tmp_path / name) for name in ("shipped", "yours")])
    assert record.rules["most frequent class"]["clip-1"].value == 0.75


@pytest.mark.parametrize(("option", "wanted"), [("fold=3", 1), ("source=x", 2)])
def test_only_an_option_that_names_a_fold_leaves_the_others_out(
    option: str, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def measured(profile: Profile, *_: object) -> tuple[list[Dataset], dict[str, object]]:
        asked.append(len(profile.in_folds()))
        return [], {}

    monkeypatch.setattr("bench.floors.measured", measured)
    monkeypatch.setattr("bench.profiles.load", lambda name: load("quick").model_copy(update={"folds": [0, 1]}))
    assert CliRunner().invoke(app, ["data", "floor", "--data-option", option]).exit_code == 0
    assert asked == [wanted]
