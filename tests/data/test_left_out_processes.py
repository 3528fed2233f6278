"""What one of several processes cannot read is left out of all: one line each in the notes, and one coverage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import together
from test_left_out import SPEC, split_of
from torch import Tensor, nn
from toys import Toy

from bench.data import DataError, Dataset
from bench.data.coverage import LeftOut
from bench.data.sampling import Sampling, chosen_rows
from bench.data.split import UnreadableError
from bench.distributed import agree_on_left_out
from bench.evaluation import score
from bench.method import Prediction, Recipe
from bench.profiles import Views
from bench.training import train


class Small(Toy):
    spec = SPEC

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, sample: Tensor, policy: Any = None) -> Prediction:
        return Prediction(torch.full((len(sample),), 6), logits=self.head(sample.mean((-3, -2, -1))))


def run(folder: Path, broken: tuple[int, ...], minimum: float) -> tuple[str, tuple[str, ...], list[int], list[float]]:
    """How a run of 100 videos ends; its notes, the rows that were scored, and what they cost."""
    split = split_of(100, broken, minimum)
    data = Dataset("x", 1, "f", split, split, split, ("coverage 100 of 100",), split.left_out)
    method = Small()
    try:
        train(method, split, Sampling(), Recipe(epochs=1, batch=10), 0, folder)
        found = score(method, split, Sampling(), Views(clips=2, crops=1), batch=8).samples
    except DataError as error:
        return str(error), data.all_notes(), [], []
    return "well", data.all_notes(), found["index"].tolist(), found["cost"].tolist()


@pytest.mark.parametrize("processes", [1, 2])
def test_one_in_a_hundred_costs_one_line_and_one_percent(processes: int, tmp_path: Path) -> None:
    arguments = (tmp_path, (7,), 0.98)
    answers = [run(*arguments)] if processes == 1 else together(processes, run, *arguments)
    for how, notes, rows, costs in answers:
        assert how == "well"
        assert notes == (
            "coverage 100 of 100",
            "coverage fell to 99 of 100 while running",
            "left out while running: 7.mp4: cannot be decoded",
        )
        assert rows == [row for row in range(100) if row != 7] and len(costs) == 99


@pytest.mark.parametrize("centre", [2, 20])
def test_a_pass_in_which_nothing_can_be_read_ends_with_one_line(centre: int) -> None:
    """That over the centre clips, or the one over several views of fewer videos."""
    asked = chosen_rows(split_of(), 2).tolist()
    views = Views(clips=2, crops=1, clip_videos=centre, video_videos=2)
    with pytest.raises(DataError, match=r"^none of the 2 videos asked for can be read$"):
        score(Small(), split_of(broken=asked), Sampling(), views, batch=2)


def test_all_processes_have_the_same_notes_whoever_found_what(tmp_path: Path) -> None:
    broken = (3, 20, 41, 77, 98)
    first, second = together(2, run, tmp_path, broken, 0.9)
    assert first == second and first[0] == "well"
    assert first[2] == [row for row in range(100) if row not in broken]
    assert first[1][1] == "coverage fell to 95 of 100 while running"
    assert sorted(first[1][2:]) == sorted(f"left out while running: {row}.mp4: cannot be decoded" for row in broken)


def test_one_that_meets_too_many_while_it_trains_ends_all_with_the_same_line(tmp_path: Path) -> None:
    first, second = together(2, run, tmp_path, (3, 20, 41, 77, 98), 0.98)
    assert first[0] == second[0] and first[0].startswith("only 97 of 100 videos can be read"), (first, second)


def found_in_each(minimum: float) -> str:
    """Process k finds videos k and k + 1."""
    from bench.distributed import place

    rank = place()[0]
    split: Any = split_of(100, (), minimum)
    for number in (rank, rank + 1):
        split.left_out.add(UnreadableError(Path(f"{number}.mp4"), f"{number}.mp4: broken"))
    try:
        agree_on_left_out(split)
    except DataError as error:
        return str(error)
    return str(list(split.left_out.faults))


def test_the_run_is_refused_for_what_all_lack_together_in_all() -> None:
    together_found = [Path("0.mp4"), Path("1.mp4"), Path("2.mp4")]
    assert together(2, found_in_each, 0.97) == [str(together_found)] * 2
    refused = (
        "only 97 of 100 videos can be read, under the minimum coverage of 0.98; the last that cannot: 2.mp4: broken"
    )
    assert together(2, found_in_each, 0.98) == [refused] * 2


def test_what_was_agreed_on_is_told_again_only_when_there_is_more() -> None:
    left_out = LeftOut(10, 10, 0.5)
    left_out.add(UnreadableError(Path("a"), "a: broken"))
    assert left_out.agreed == 0
    left_out.agree([left_out.faults, {Path("b"): "b: broken"}])
    assert left_out.agreed == 2 and list(left_out.faults) == [Path("a"), Path("b")]
    left_out.add(UnreadableError(Path("b"), "b: broken"))
    assert left_out.agreed == len(left_out.faults) == 2
    with pytest.raises(DataError, match="only 4 of 10"):
        left_out.agree([{Path(str(number)): "broken" for number in range(6)}])
