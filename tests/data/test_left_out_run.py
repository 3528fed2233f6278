"""A file that breaks after the set was built: the run ends well, and the record says what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_videos import write_video

from bench import profiles
from bench.experiment.single import single
from bench.records import Record


def test_a_run_goes_on_without_the_files_that_break(tmp_path: Path) -> None:
    rows, noise = ["path,label,split"], np.random.default_rng(0)
    for number in range(60):
        part = "train" if number < 36 else "validation" if number < 48 else "test"
        pictures = noise.integers(0, 256, (10, 48, 64, 3), np.uint8)
        file = write_video(tmp_path / f"v{number}.mp4", range(0, 400, 40), 64, 48, codec="libx264", pictures=pictures)
        if number in (3, 50):
            data = bytearray(file.read_bytes())
            data[len(data) // 4 : 3 * len(data) // 4] = bytes(len(data) // 2)
            file.write_bytes(data)
        rows.append(f"v{number}.mp4,{'ab'[number % 2]},{part}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    options = {"path": str(tmp_path / "list.csv"), "minimum_coverage": 0.9}
    profile = profiles.load("smoke").model_copy(update={"dataset": "list", "dataset_options": options, "size": 24})
    found: dict[str, Any] = {"frames": 4, "seed": 0, "options": {}, "results": tmp_path / "runs", "data_root": None}
    record = single("vared/r2plus1d_18", profile=profile, until="evaluate", **found)
    assert isinstance(record, Record)
    assert record.status == "done", record.reason
    assert record.notes[1] == "coverage fell to 58 of 60 while running"
    assert sum("v50.mp4" in note for note in record.notes) == 1
