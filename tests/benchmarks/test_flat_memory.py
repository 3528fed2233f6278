"""What a process holds over 10,000 clips of evaluation, decoded from real files; printed, and held to its bounds."""

from __future__ import annotations

from pathlib import Path

from test_flat import BYTES_A_CLIP, evaluated, growth

CLIPS = 10_000


def test_memory_and_open_files_over_ten_thousand_clips(tmp_path: Path) -> None:
    use = evaluated(tmp_path, CLIPS, 100)
    for clips in (100, 1_000, 2_000, 5_000, CLIPS - 100):
        place = use.at(clips)
        print(
            f"{use.clips[place]:>7,} clips: {use.resident[place] / 2**20:8.1f} MiB resident, {use.files[place]} files"
        )
    print(f"{growth(use, 1_000, CLIPS - 100):.0f} bytes a clip from 1,000 clips on")
    assert len(set(use.files)) == 1 and growth(use, 1_000, CLIPS - 100) < BYTES_A_CLIP / 10
