"""The batch at which a training ended because a value was not finite, kept in the run's folder to be looked at.

    from safetensors.torch import load_file
    batch = load_file("runs/runs/RUN/not-finite.safetensors")  # sample, target (boxes: target.0, ...), index

`not-finite.json` beside it has stage, step and epoch, what was logged, and the rows and names of the videos. Of several
processes each keeps its part, that of number k in `not-finite.k.safetensors`; the next time they are overwritten.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from bench import distributed
from bench.data.split import Split
from bench.files import write_atomically
from bench.method import Batch

FILE = "not-finite.safetensors"


@dataclass(frozen=True)
class Moment:
    """A step of a training: both numbers begin at 0, and steps count from the stage's beginning."""

    stage: str
    step: int
    epoch: int

    def __str__(self) -> str:
        return f"stage {self.stage}, step {self.step}, epoch {self.epoch}"


def keep(folder: Path, moment: Moment, batch: Batch, view: Split, logged: Mapping[str, float]) -> str:
    """Keeps a batch whose rows are those of `view`, in all processes together; gives in words where."""
    rank = distributed.place()[0]
    file = folder / (FILE if rank == 0 else f"not-finite.{rank}.safetensors")
    rows = batch.index.tolist()
    about = {"file": file.name, "logged": _plain(logged), "rows": rows, "videos": _names(view, rows)}
    everyone = distributed.gathered(about)
    try:
        write_atomically(file, save(_tensors(batch)))
        if distributed.first():
            text = json.dumps({**asdict(moment), "parts": everyone}, indent=1)
            write_atomically(folder / "not-finite.json", text.encode() + b"\n")
    except OSError as error:  # why the training ended is to be told all the same
        return f"the batch could not be kept: {error.strerror}"
    return f"the batch is kept in {folder.name}/{FILE}"


def _tensors(batch: Batch) -> dict[str, Tensor]:
    target = batch.target if isinstance(batch.target, list) else [batch.target]
    names = [f"target.{number}" for number in range(len(target))] if isinstance(batch.target, list) else ["target"]
    tensors = {"sample": batch.sample, "index": batch.index, **dict(zip(names, target, strict=True))}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _plain(logged: Mapping[str, float]) -> dict[str, float | str]:
    """As JSON can say it, which knows no NaN."""
    return {name: value if math.isfinite(value) else str(value) for name, value in logged.items()}


def _names(view: Split, rows: list[int]) -> list[Any]:
    """The files of rows, where the data set names them, else their sources."""
    known = view.attributes["path"].to_numpy() if "path" in view.attributes.columns else view.groups
    return [str(known[row]) for row in rows]
