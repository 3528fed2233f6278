"""A video that cannot be read costs one line and its share of the coverage, in training and evaluation; not the run."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.data import DataError
from bench.data.coverage import LeftOut
from bench.data.lists import VideoFiles
from bench.data.sampling import Sampling, test_batches, train_batches
from bench.data.split import Dataset, UnreadableError, frames_of
from bench.data.subset import Subset
from bench.method import InputSpec

SPEC = InputSpec("clip", 6, 4, mean=0.0, std=1 / 255)


class Reader:
    """Videos (20, 6, 8, 3) whose pixels are the number in the name; those in `broken` cannot be read."""

    short_side, rate = 6, None

    def __init__(self, broken=()):
        self.broken, self.read = {f"{one}.mp4" for one in broken}, []

    def __call__(self, path):
        return self.clip(path, range)

    def clip(self, path, choose):
        self.read.append(path.name)
        if path.name in self.broken:
            raise DataError(f"{path}: cannot be decoded")
        video = torch.full((20, 6, 8, 3), int(path.stem), dtype=torch.uint8)
        return video[list(choose(20))]


def split_of(count=100, broken=(7,), minimum=0.98):
    files = [Path(f"{number}.mp4") for number in range(count)]
    attributes = pd.DataFrame({"path": [file.name for file in files]})
    groups, left_out = np.array([file.name for file in files]), LeftOut(count, count, minimum)
    return VideoFiles(files, Reader(broken), ("a", "b"), np.arange(count) % 2, groups, attributes, False, left_out)


@pytest.mark.parametrize("workers", [0, 2])
def test_in_training_another_video_stands_in_its_place(workers, caplog):
    split = split_of()
    with caplog.at_level(logging.WARNING):
        batches = [
            b for epoch in range(2) for b in train_batches(split, SPEC, Sampling(), 10, 0, epoch, workers=workers)
        ]
    assert [len(batch.index) for batch in batches] == [10] * 20
    for batch in batches:
        assert torch.equal(batch.sample[:, 0, 0, 0, 0].round().long(), batch.index)  # sample, row and target agree
        assert torch.equal(batch.target, batch.index % 2)
        assert 7 not in batch.index
    assert [record.message for record in caplog.records] == ["left out 7.mp4: cannot be decoded"]
    assert split.left_out.notes() == (
        "coverage fell to 99 of 100 while running",
        "left out while running: 7.mp4: cannot be decoded",
    )


def test_the_batches_of_a_resumed_epoch_stay_the_same():
    whole = list(train_batches(split_of(), SPEC, Sampling(), 10, 3, 1))
    rest = list(train_batches(split_of(), SPEC, Sampling(), 10, 3, 1, skip=4))
    assert all(
        torch.equal(a.index, b.index) and torch.equal(a.sample, b.sample) for a, b in zip(whole[4:], rest, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_in_evaluation_its_views_are_left_out_and_the_rows_say_so(workers):
    split = split_of(6, broken=(0, 3), minimum=0.5)
    batches = list(test_batches(split, SPEC, Sampling(), 2, 3, 4, workers=workers, leave_out=True))
    assert torch.cat([batch.index for batch in batches]).tolist() == [row for row in (1, 2, 4, 5) for _ in range(6)]
    with pytest.raises(UnreadableError, match=r"0\.mp4"):
        list(test_batches(split_of(6, broken=(0,)), SPEC, Sampling(), 2, 3, 4, workers=workers))


def test_a_video_is_read_once_for_all_its_views_broken_or_not():
    split = split_of(4, broken=(2,), minimum=0.5)
    list(test_batches(split, SPEC, Sampling(), 5, 3, 4, leave_out=True))
    assert split.reader.read == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_too_many_end_the_run_with_one_line():
    with pytest.raises(
        DataError, match=r"only 97 of 100 videos can be read, under the minimum coverage of 0\.98"
    ) as caught:
        list(train_batches(split_of(broken=(1, 2, 3)), SPEC, Sampling(), 10, 0, 0))
    assert "\n" not in str(caught.value)


def test_a_disk_that_goes_away_ends_the_run_after_few_reads():
    split = split_of(broken=range(100))
    with pytest.raises(DataError, match="only 97 of 100 videos can be read"):
        list(train_batches(split, SPEC, Sampling(), 10, 0, 0))
    assert len(split.reader.read) == 3


def test_what_was_left_out_is_not_asked_for_again():
    split = split_of()
    list(train_batches(split, SPEC, Sampling(), 10, 0, 0))
    split.reader.broken.clear()  # as a file with a good part seems whole
    for call in (lambda: split.video(7), lambda: frames_of(split, 7, range)):
        with pytest.raises(UnreadableError, match=r"^7\.mp4: cannot be decoded$"):
            call()


def test_files_left_out_when_the_set_was_built_count():
    left_out = LeftOut(100, 98, 0.97)
    left_out.add(UnreadableError(Path("a"), "a: broken"))
    left_out.add(UnreadableError(Path("a"), "a: broken"))
    with pytest.raises(DataError, match="only 96 of 100"):
        left_out.add(UnreadableError(Path("b"), "b: broken"))


def test_a_part_of_a_split_tells_the_whole():
    split = split_of()
    part = Subset(split, np.arange(5, 25))
    assert torch.equal(frames_of(part, 3, lambda length: [length - 1]), torch.full((1, 6, 8, 3), 8, dtype=torch.uint8))
    list(train_batches(part, SPEC, Sampling(), 5, 0, 0))
    assert set(split.left_out.faults) == {Path("7.mp4")}


def test_the_notes_of_a_dataset_follow():
    split = split_of()
    dataset = Dataset("x", 1, "f", split, split, split, ("coverage 100 of 100",), split.left_out)
    assert dataset.all_notes() == ("coverage 100 of 100",)
    list(train_batches(split, SPEC, Sampling(), 10, 0, 0))
    assert dataset.all_notes()[1] == "coverage fell to 99 of 100 while running"
