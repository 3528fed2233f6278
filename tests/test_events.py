"""TensorBoard events: the log's lines as scalars where it works, and no harm where it does not."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.checkpoint import Log

NAME = "torch.utils.tensorboard"


class Writer:
    """Keeps what it is told in a file of its folder, and fails from the third value on if it is to."""

    fails = False

    def __init__(self, folder: str) -> None:
        self.file = Path(folder, "scalars")
        self.file.parent.mkdir(parents=True)
        self.file.touch()

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if self.fails and self.file.read_text().count("\n") > 1:
            raise OSError("disk full")
        with self.file.open("a") as file:
            file.write(json.dumps([name, value, step]) + "\n")

    def flush(self) -> None: ...


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    module: Any = ModuleType(NAME)
    module.SummaryWriter = type("SummaryWriter", (Writer,), {})
    monkeypatch.setitem(sys.modules, NAME, module)
    return module.SummaryWriter


def write(folder: Path) -> None:
    log = Log(folder / "log.jsonl", 0, 0)
    for stage, step, loss in ((0, 20, 1.0), (0, 40, 0.5), (1, 20, 0.25)):
        log.write(stage=stage, name="train", step=step, loss=loss)


def scalars(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "tensorboard" / "scalars").read_text().splitlines()]


def test_steps_go_on_from_stage_to_stage_and_a_resumed_run_drops_what_it_does_anew(tmp_path: Path, writer) -> None:
    write(tmp_path)
    assert scalars(tmp_path) == [["loss", 1.0, 20], ["loss", 0.5, 40], ["loss", 0.25, 60]]
    Log(tmp_path / "log.jsonl", 0, 40).write(stage=1, name="train", step=20, loss=0.2)
    assert scalars(tmp_path) == [["loss", 1.0, 20], ["loss", 0.5, 40], ["loss", 0.2, 60]]


def test_a_writer_that_fails_ends_the_events_and_not_the_log(tmp_path: Path, writer, capsys) -> None:
    writer.fails = True
    write(tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3 and len(scalars(tmp_path)) == 2
    assert capsys.readouterr().err == "no more TensorBoard events: disk full\n"


@pytest.mark.parametrize("broken", [None, ModuleType(NAME)])
def test_without_tensorboard_there_are_no_events(tmp_path: Path, monkeypatch, capsys, broken) -> None:
    monkeypatch.setitem(sys.modules, NAME, broken)  # None: not installed; an empty module: something else of that name
    write(tmp_path)
    assert not (tmp_path / "tensorboard").exists() and capsys.readouterr().err == ""
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
