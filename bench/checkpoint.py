"""The file from which training goes on, and the log of its metrics as JSON lines."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import distributed
from bench.events import Events
from bench.files import append, set_aside, write_atomically
from bench.method import Method


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message names the file."""


MAGIC = b"vared-bench checkpoint\n"
HEADER = len(MAGIC) + 65
"""Bytes before the content: the line above, and one with the SHA-256 of the content in hexadecimal."""
ARCHIVE = b"PK"
"""What content begins with: torch writes a zip archive."""


class Checkpoint:
    """The file from which training goes on: weights, the stage's state, random state, position; with a checksum.

    The one before it is kept beside it, should the last one be broken. Files of torch without our header, as earlier
    versions wrote them, are read as they are.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.previous = path, path.with_name(f"{path.stem}.previous{path.suffix}")

    def save(self, method: Method, stage: int, step: int, state: dict[str, Any]) -> None:
        """Writes it whole or not at all; of several processes the first does."""
        if not distributed.first():
            return
        content = {
            "of": self.path.parent.name,
            "stage": stage,
            "step": step,
            "state": state,
            "weights": method.state_dict(),
            "random": random_state(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getbuffer()
        write_atomically(self.path, _header(data), data, keep=self.previous)

    def load(self, method: Method, *, mend: bool = True) -> dict[str, Any]:
        """Restores the weights; gives stage, step, the stage's state and the random state ({} if there is no file).

        mend: sets a broken file aside and takes the one before it; only for who holds the experiment's lock.

        Raises:
            CheckpointError: the file is no checkpoint, holds code, or belongs to another network or, by the name of the
                folder it was written in, another experiment; or is broken, without `mend`.
        """
        if mend:
            if distributed.first():
                self._mend()
            distributed.wait()
        path = self.path if self.path.exists() or not mend else self.previous
        if not path.exists():
            return {}
        return _restored(path, method)

    def _mend(self) -> None:
        """Sets aside what is broken, so that what is left can be read."""
        for path in (self.path, self.previous):
            if path.exists() and (fault := _fault(path.read_bytes())):
                set_aside(path, fault)


def _header(content: bytes | memoryview) -> bytes:
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"


def _fault(data: bytes) -> str:
    """What has become of a checkpoint that was once whole; "" if nothing has, or it never was one."""
    if MAGIC.startswith(data) or (data.startswith(ARCHIVE) and not zipfile.is_zipfile(io.BytesIO(data))):
        return "cut off"
    content = memoryview(data)[HEADER:]
    if data.startswith(MAGIC):
        return "" if data[:HEADER] == _header(content) else "its content differs from its checksum"
    return "its header is damaged" if content[: len(ARCHIVE)] == ARCHIVE else ""


def _restored(path: Path, method: Method) -> dict[str, Any]:
    """Puts the weights of a file into a method, and gives the rest.

    Raises:
        CheckpointError: the file is broken, no checkpoint, holds code, or belongs to another network.
    """
    data = path.read_bytes()
    if fault := _fault(data):
        raise CheckpointError(f"{path}: {fault}; `train` goes on from the one before it, or anew")
    try:
        content: dict[str, Any] = torch.load(
            io.BytesIO(data[HEADER:] if data.startswith(MAGIC) else data), map_location="cpu", weights_only=True
        )
        other = content.get("of", path.parent.name)  # earlier versions did not say
        if other != path.parent.name:
            raise ValueError(f"it is of {other}")
        method.load_state_dict(content["weights"])
        return {key: content[key] for key in ("stage", "step", "state", "random")}
    except Exception as error:  # whatever a foreign file provokes
        reason = " ".join(str(error).split())[:200]
        message = f"{path}: not a checkpoint of this method: {reason}; delete it to start anew"
        raise CheckpointError(message) from None


def random_state() -> dict[str, Tensor]:
    """Torch's random state: of the CPU, and of the GPU where there is one."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(state: dict[str, Tensor]) -> None:
    """Sets torch's random state to what a checkpoint holds."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class Log:
    """Metrics as JSON lines, with TensorBoard events beside them where that is installed.

    What was written after the checkpoint that training goes on from is dropped.
    """

    def __init__(self, path: Path, stage: int, step: int) -> None:
        self.path = path
        if not distributed.first():
            return
        lines = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
        kept = [line for line in lines if _before(line, stage, step)]
        write_atomically(path, "".join(line + "\n" for line in kept).encode())
        self.events = Events(path.parent / "tensorboard", map(json.loads, kept))

    def write(self, **values: Any) -> None:
        """Appends one line."""
        if not distributed.first():
            return
        append(self.path, json.dumps(values).encode() + b"\n")
        self.events.write(values)


def _before(line: str, stage: int, step: int) -> bool:
    """Whether it was written before that step; what a kill or a disk made of a line was not."""
    try:
        entry = json.loads(line)
        return (entry["stage"], entry["step"]) <= (stage, step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
