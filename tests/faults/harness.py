"""Starts commands that are harmed, and tells how what they left differs from what an undisturbed run leaves."""

from __future__ import annotations

import hashlib
import io
import json
import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from faults import plant
from faults.tiny import PROFILE

from bench.checkpoint import HEADER

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["faults.warm"])
TESTS = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(map(str, [TESTS, TESTS.parent, os.environ.get("PYTHONPATH", "")]))
"""The server that forks them looks for what it loads nowhere else."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (negative: the signal), and what it said."""

    code: int
    said: str

    @property
    def errors(self) -> list[str]:
        """The lines that begin with "error: "."""
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def touches(self) -> int:
        """Of the disk, where a fault was planted that never struck."""
        return int(self.said.rpartition("touches: ")[2])


class Bench:
    """A folder in which commands are run, with a tiny profile; published: the folder of published tables."""

    def __init__(self, folder: Path, published: Path) -> None:
        self.folder, self.published = folder, published
        folder.mkdir(parents=True)
        (folder / "tiny.toml").write_text(PROFILE)

    @property
    def runs(self) -> Path:
        """The results folder."""
        return self.folder / "runs"

    def file(self, pattern: str) -> Path:
        """The one stored file of that pattern."""
        (found,) = self.runs.glob(pattern)
        return found

    @property
    def trained(self) -> list[str]:
        """The experiment of each training that was begun."""
        noted = self.folder / "trained"
        return noted.read_text().splitlines() if noted.exists() else []

    def start(self, words: Sequence[str], said: str = "said", **wrong: Any) -> BaseProcess:
        """Starts a command; the process is the head of a group of its own. wrong: fields of `plant.Surroundings`."""
        where = plant.Surroundings(self.folder, self.published, **wrong)
        process = CONTEXT.Process(target=plant.run, args=(where, words, self.folder / said))
        process.start()
        return process

    def ended(self, process: BaseProcess, said: str = "said") -> Ended:
        """Waits for a command's end."""
        process.join()
        file = self.folder / said
        assert process.exitcode is not None
        return Ended(process.exitcode, file.read_text(errors="replace") if file.exists() else "")

    def run(self, words: Sequence[str], **wrong: Any) -> Ended:
        """Runs a command to its end."""
        return self.ended(self.start(words, **wrong))

    def killed(self, words: Sequence[str], after: float) -> Ended:
        """Runs a command until it has had `after` seconds of the processor, and kills it then with its group.

        Not seconds of the clock, so that the moments do not hang on what else runs on the machine.
        """
        process = self.start(words)
        while process.is_alive() and spent(process.pid) < after:
            process.join(0.002)
        if process.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
        return self.ended(process)

    def harmed(self, words: Sequence[str], action: plant.Action, at: int, below: str = "") -> Ended:
        """Runs a command with a fault at a touch of the disk. below: counts files only whose paths begin so."""
        return self.run(words, fault=plant.Fault(self.runs / below, action, at))

    def end(self) -> dict[str, Any]:
        """What counts of what is stored, by the path of its file: content, or its digest, without times."""
        return {str(path.relative_to(self.runs)): _content(path) for path in sorted(_lasting(self.runs))}

    def leftovers(self) -> list[str]:
        """Temporary files."""
        return [str(path.relative_to(self.runs)) for path in self.runs.rglob(".*.????????")]


def spent(pid: int | None) -> float:
    """Seconds of the processor that a process has had; without end if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return math.inf


def _lasting(runs: Path) -> list[Path]:
    """All files but locks, what was set aside, the checkpoint before the last, and the events beside the log."""
    apart = ("lock", ".lock", "checkpoint.previous.pt")
    files = [path for path in runs.rglob("*") if path.is_file() and path.name not in apart]
    return [path for path in files if ".broken-" not in path.name and "tensorboard" not in path.parts]


def _content(path: Path) -> Any:
    data = path.read_bytes()
    if path.name == "checkpoint.pt":
        return _tensors(torch.load(io.BytesIO(data[HEADER:]), weights_only=True))
    if path.suffix == ".json":
        return _timeless(json.loads(data))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in data.splitlines()]
    return hashlib.sha256(data).hexdigest()


def _timeless(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in ("seconds", "waited", "sha256")}


def _tensors(content: Any) -> Any:
    """Nested values, tensors as digests of their bytes."""
    if isinstance(content, torch.Tensor):
        return hashlib.sha256(content.contiguous().numpy().tobytes()).hexdigest()
    if isinstance(content, dict):
        return {key: _tensors(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_tensors(value) for value in content]
    return content
