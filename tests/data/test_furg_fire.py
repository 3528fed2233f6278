"""FURG fire, in small and where it is at hand; and what the sets of key frames share."""

import os
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from bench.data import Dataset
from bench.data import furg_fire as module
from bench.data.furg_fire import furg_fire, read_annotations
from bench.data.key_frames import clip_frames, squared
from bench.data.scale import resized

LENGTH, WIDTH, HEIGHT = 28, 32, 24


def grey(number: int) -> int:
    """As the fixture `make_video` paints the frame."""
    return 20 + 8 * number


def boxes(number: int) -> list[tuple[int, int, int, int]]:
    """x y w h of a frame's boxes: none, one or two."""
    return [(number, 2, 4, 6), (1, 12, 8, 12)][: number % 3]


def record(number: object, found: list[tuple[int, ...]]) -> str:
    body = "".join(f"<_>\n  {' '.join(map(str, box))}</_>" for box in found)
    return f"<_><frameNumber>{number}</frameNumber><annotations>{body}</annotations></_>"


def document(records: str, width: object = WIDTH, head: str = '<?xml version="1.0"?>') -> str:
    size = f"<frameWidth>{width}</frameWidth><frameHeight>{HEIGHT}</frameHeight><frameRate>10</frameRate>"
    return f"{head}<opencv_storage>{size}<frames>{records}</frames></opencv_storage>"


@pytest.fixture
def root(make_video, tmp_path: Path) -> Path:
    """A data root with a video of 28 frames that can be told apart, and 29 records."""
    make_video(tmp_path / "furg_fire" / "house6.mp4", [100 * i for i in range(LENGTH)], WIDTH, HEIGHT)
    records = "".join(record(number, boxes(number)) for number in range(LENGTH + 1))
    (tmp_path / "furg_fire" / "house6.xml").write_text(document(records))
    return tmp_path


def get(root: Path | None, frames: int = 3, size: int = 48) -> Dataset:
    return furg_fire(data_root=root, frames=frames, size=size)


def parts(dataset: Dataset) -> list:
    return [dataset.train, dataset.validation, dataset.test]


def shown(clip: torch.Tensor) -> list[int]:
    """The numbers of the frames in a clip."""
    levels = clip.float().mean((1, 2, 3))
    return [int(abs(levels[i] - torch.tensor([grey(n) for n in range(LENGTH)])).argmin()) for i in range(len(clip))]


def test_rows_are_the_frames_with_their_boxes_and_clips_end_with_them(root: Path) -> None:
    for split in parts(get(root)):
        assert split.classes == ("fire",) and split.flip and split.task == "boxes"
        for row, number in enumerate(split.attributes.frame):
            expected = [[1.5 * x, 2 * y, 1.5 * (x + w), 2 * (y + h), 0] for x, y, w, h in boxes(number)]
            assert split.annotation(row).tolist() == expected and split.targets[row] == 0
            assert split.attributes.boxes[row] == len(expected)
            area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2, _ in expected)
            assert split.attributes.object_share[row] == pytest.approx(area / 48**2)
            assert split.groups[row] == f"second-{number // 10:03d}"
            clip = split.video(row)
            assert clip.shape == (3, 48, 48, 3) and clip.dtype == torch.uint8
            assert shown(clip) == [max(0, number - 2), max(0, number - 1), number]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_no_frame_is_in_the_clips_of_two_splits_and_the_rest_is_all_there(root: Path, frames: int) -> None:
    dataset = get(root, frames)
    seen = [{n for key in split.attributes.frame for n in clip_frames(key, frames)} for split in parts(dataset)]
    assert not (seen[0] & seen[1] or seen[1] & seen[2]) and set.union(*seen) == set(range(LENGTH))
    assert max(seen[0]) < min(seen[1]) and max(seen[1]) < min(seen[2]) and len(dataset.train) == 17
    assert dataset.notes == (
        f"coverage {LENGTH} of {LENGTH} frames",
        f"left out 1 of {LENGTH + 1} records in house6.xml, beyond the last frame",
    )


def test_frames_without_a_record_are_no_rows(root: Path) -> None:
    file = root / "furg_fire" / "house6.xml"
    file.write_text(document("".join(record(n, boxes(n)) for n in range(LENGTH) if n not in (4, 20))))
    dataset = get(root)
    assert 4 not in set(dataset.train.attributes.frame) and 20 not in set(dataset.test.attributes.frame)
    assert dataset.notes == (f"coverage {LENGTH - 2} of {LENGTH} frames",)


def test_the_fingerprint_follows_files_frames_and_size(root: Path) -> None:
    file = root / "furg_fire" / "house6.xml"
    prints = [get(root).fingerprint, get(root, 2).fingerprint, get(root, 3, 40).fingerprint]
    file.write_text(file.read_text().replace("1 12 8 12", "1 12 8 11", 1))
    assert len({*prints, get(root).fingerprint}) == 4


def test_a_worker_gets_the_split_whole(root: Path) -> None:
    split = get(root).test
    assert torch.equal(pickle.loads(pickle.dumps(split)).video(1), split.video(1))


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (document("&b;", head=BOMB), "has a document type"),
        (document(record(0, []).replace("0", "&a;"), head=OUTSIDE), "has a document type"),
        (document("&a;"), "not XML in UTF-8: undefined entity"),
        (document(record(0, boxes(2)))[:-20], "not XML in UTF-8: "),
        ("", "not XML in UTF-8: no element found"),
        (document(""), "has no records of frames"),
        (document(record(0, boxes(2)), width="wide"), "frameWidth: 'wide' is not what it should be, 1 numbers"),
        (document(record(0, boxes(2))).replace("frameRate", "rate"), "frameRate: '' is not"),
        (document(record("x", [])), "record 0: frameNumber: 'x' is not"),
        (document(record(-1, [])), "record 0: frameNumber: '-1' is not"),
        (document(record(0, []) + record(0, [])), "frame 0: has two records"),
        (document(record(3, [(1, 2, 3)])), "frame 3: box: '1 2 3' is not what it should be, 4 numbers"),
        (document(record(3, [(1, 2, 3, "nan")])), "frame 3: box: '1 2 3 nan' is not"),
        (document(record(3, [(1, 2, 0, 4)])), "frame 3: box: '1 2 0 4' is not"),
        (document(record(3, [(30, 2, 4, 4)])), "frame 3: box: 30 2 4 4 reaches out of 32x24 pixels"),
    ],
)
def test_a_malformed_file_of_boxes_is_refused(root: Path, text: str, words: str) -> None:
    file = root / "furg_fire" / "house6.xml"
    file.write_text(text)
    line = refused(lambda: get(root))
    assert line.startswith(f"{file}: ") and words in line


def test_another_encoding_hides_no_document_type(root: Path) -> None:
    file = root / "furg_fire" / "house6.xml"
    file.write_bytes(document("&b;", head='<?xml version="1.0" encoding="UTF-16"?>' + BOMB).encode("utf-16"))
    assert "not XML in UTF-8" in refused(lambda: read_annotations(file))
    file.write_text(document("+ADw-!DOCTYPE x+AD4-", head='<?xml version="1.0" encoding="UTF-7"?>'))
    assert "has no records of frames" in refused(lambda: read_annotations(file))


def test_missing_and_unfit_files_are_named(root: Path, make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "furg_fire"
    assert "clips of 9 frames leave no validation rows in a video of 28 frames" in refused(lambda: get(root, 9))
    assert "needs a data root; set VARED_DATA" in refused(lambda: get(None))
    assert "frames and size must be 1 or more" in refused(lambda: get(root, 0))
    monkeypatch.setattr(module, "LARGEST", 100)
    assert refused(lambda: get(root)) == f"{folder / 'house6.xml'}: larger than 100 bytes"
    monkeypatch.undo()
    make_video(folder / "house6.mp4", [0, 100, 200], 24, 32)
    assert "its boxes are of 32x24 pixels" in refused(lambda: get(root))
    (folder / "house6.mp4").unlink()
    assert refused(lambda: get(root)) == f"{folder / 'house6.mp4'}: no such file"
    (folder / "house6.xml").unlink()
    assert refused(lambda: get(root)) == f"{folder / 'house6.xml'}: No such file or directory"


@pytest.mark.skipif(
    not (Path(os.environ.get("VARED_DATA", "")) / "furg_fire" / "house6.xml").is_file(),
    reason="VARED_DATA names no folder with furg_fire/",
)
def test_the_real_video() -> None:
    dataset = get(Path(os.environ["VARED_DATA"]), 16)
    assert [len(split) for split in parts(dataset)] == [539, 75, 255]
    assert dataset.notes[0] == "coverage 899 of 899 frames" and dataset.notes[1].startswith("left out 1 of 900 records")
    assert sum(dataset.train.attributes.boxes[:6]) == 12 and dataset.train.attributes.boxes[6] == 3
    assert dataset.test.video(0).float().std() > 20


# --- what the sets of key frames share


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5))
def test_a_clip_ends_with_its_key_frame_and_starts_no_sooner_than_the_first(key: int, frames: int, first: int) -> None:
    numbers = clip_frames(key + first, frames, first)
    assert len(numbers) == frames and numbers[-1] == key + first and min(numbers) >= first
    assert all(b - a == 1 or a == b == first for a, b in pairwise(numbers))


@given(st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(1, 3))
def test_boxes_go_with_the_picture_that_is_resized(height: int, width: int, size: int, channels: int) -> None:
    pictures = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    pictures[:, height // 2 :, : width // 2] = 200
    x1, y1, x2, y2 = squared([0, height // 2, width // 2, height + 9], width, height, size)[0]
    shown = resized(pictures, size, size)
    assert shown.shape == (2, size, size, channels) and shown.is_contiguous()
    assert (x1, y2) == (0, size)  # what reached out is cut off
    inside = np.zeros((size, size))
    inside[:, :] = np.clip(np.arange(1, size + 1)[:, None] - y1, 0, 1) * np.clip(x2 - np.arange(size), 0, 1)
    blur = max(1.0, size / min(height, width)) * size * 2 * 60
    assert abs(shown[0, ..., 0].numpy() - 200 * inside).sum() <= blur
