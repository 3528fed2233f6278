"""TensorBoard events of a training beside its log, where tensorboard is installed; nothing that fails there ends it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Events:
    """The lines of a training log as TensorBoard scalars; whenever it is opened, the folder is written anew.

    Steps are those of the whole training: those of a stage count on from the last line of the stage before.
    """

    def __init__(self, folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
        self.before, self.last = 0, (0, 0)
        self.writer = _writer(folder)
        for line in lines:
            self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds what a line of the log says: its stage, its step there, and values by their names."""
        stage, last = self.last
        self.before += last if line["stage"] != stage else 0
        self.last = line["stage"], line["step"]
        if self.writer is None:
            return
        try:
            for name in line.keys() - {"stage", "name", "step"}:
                self.writer.add_scalar(name, line[name], self.before + line["step"])
            self.writer.flush()
        except Exception as error:  # a full disk, an incompatible version: the log itself goes on
            self.writer = None
            print(f"no more TensorBoard events: {error}", file=sys.stderr)


def _writer(folder: Path) -> Any:
    """A writer to an emptied folder; None without tensorboard, or where it does not work."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # not only ImportError: a broken installation, or a broken TensorFlow beside it
        return None
    try:
        shutil.rmtree(folder, ignore_errors=True)
        return SummaryWriter(str(folder))
    except Exception as error:
        print(f"no TensorBoard events: {error}", file=sys.stderr)
        return None
