"""CamVid's folder, written small: what is read is what was written, and each fault has its one line."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import COLOUR, PALETTE, jpeg, png
from refusals import refused

from bench.data import DataError, images
from bench.data.camvid import camvid
from bench.data.images import picture_size, read_mask, read_picture

NAMES = ("sky", "road", "bright car", "unlabelled")
IDS = np.arange(12 * 16).reshape(12, 16) % 4  # 3 is void
TABLE = torch.tensor([0, 1, 2, -1] + [images.OUTSIDE] * 252)


def flat(level):
    return np.full((12, 16, 3), level, np.uint8)


@pytest.fixture
def root(tmp_path):
    """Two sequences of 25 and 14 pictures for training, one of 3 for validation, one of 4 for test."""
    folder = tmp_path / "camvid"
    rows = [("train", "a", 25), ("train", "b", 14), ("val", "c", 3), ("test", "a", 4)]
    lines, level = ["split,image,mask,sequence"], 0
    for split, sequence, count in rows:
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name, level = f"{split}/{sequence}{number:02d}", level + 5
            (folder / f"{name}.jpg").write_bytes(jpeg(flat(level)))
            (folder / f"{name}.png").write_bytes(png(np.roll(IDS, number)))
            lines.append(f"{name.split('/')[0]},{name}.jpg,{name}.png,{sequence}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(NAMES)))
    return tmp_path


def built(root, **options):
    return camvid(data_root=root, **options)


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def test_pictures_masks_and_the_official_split_as_written(root):
    dataset = built(root)
    assert dataset.name == "camvid" and dataset.notes[0] == "coverage 46 of 46"
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [39, 3, 4]
    level = 0
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.task == "masks" and split.flip and split.classes == NAMES[:-1]
        assert split.targets.tolist() == [0] * len(split)
        for index in range(len(split)):
            picture, mask, level = split.video(index), split.annotation(index), level + 5
            assert picture.dtype == torch.uint8 and picture.shape == (1, 12, 16, 3)
            assert (picture.long() - level).abs().max() <= 1
            ids = np.roll(IDS, int(split.attributes.path[index][-6:-4]))
            assert mask.dtype == torch.int64 and (mask.numpy() == np.where(ids == 3, -1, ids)).all()


def test_groups_are_runs_of_about_ten_of_a_sequence(root):
    dataset = built(root)
    names, counts = np.unique(dataset.train.groups, return_counts=True)
    assert names.tolist() == ["train/a00", "train/a13", "train/b00"] and counts.tolist() == [13, 12, 14]
    assert set(dataset.test.groups) == {"test/a00"} and "runs" in dataset.notes[1]


def test_a_short_side_resizes_both_alike(root):
    split = built(root, short_side=6).train
    assert split.video(0).shape == (1, 6, 8, 3) and split.annotation(0).shape == (6, 8)
    assert torch.equal(split.annotation(0), built(root).train.annotation(0)[1::2, 1::2])
    assert "short_side must be 1 or more, got 0" in refused(lambda: built(root, short_side=0))


def test_the_fingerprint_follows_content_split_and_size_but_not_the_place(root, tmp_path):
    first = built(root).fingerprint
    assert built(root).fingerprint == first != built(root, short_side=6).fingerprint
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    os.rename(root / "camvid", moved / "camvid")
    assert built(moved).fingerprint == first
    edit(moved / "camvid/list.csv", "val,val/c00", "test,val/c00")
    second = built(moved).fingerprint
    (moved / "camvid/test/a00.png").write_bytes(png(IDS * 0))
    assert len({first, second, built(moved).fingerprint}) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("split,image", "part,image", "list.csv:1: needs the columns split, image, mask, sequence; it has 'part,"),
        ("train,train/a01.jpg", "learn,train/a01.jpg", "list.csv:3:split: 'learn' is none of train, val, test"),
        ("train/a01.jpg", "../a01.jpg", "list.csv:3:image: ../a01.jpg leads out of the folder"),
        ("train/a01.jpg", "train/../../a01.jpg", "list.csv:3:image: train/../../a01.jpg leads out of the folder"),
        ("train/a01.png", "/etc/passwd", "list.csv:3:mask: /etc/passwd must be relative to the folder"),
        ("train/a01.png", "", "list.csv:3:mask: '' is no path"),
        ("train/a01.png", "a\0.png", "list.csv:3:mask: 'a\\x00.png' is no path"),
        ("train/a01.jpg", "train/a00.jpg", "list.csv:3: train/a00.jpg is listed before, in "),
        ("train/a01.jpg", "train/x.jpg", "list.csv:3: {root}/camvid/train/x.jpg: no such file"),
        ("train/a01.png,a", "train/x.png,a", "list.csv:3: {root}/camvid/train/x.png: no such file"),
        ("train/a01.png,a", "train,a", "list.csv:3: {root}/camvid/train: no such file"),
        ("train/a01.png,a", "train/a01.png", "list.csv:3: has not as many fields as the header, 4"),
        ("train/a01.png,a", "train/a01.png,a,b", "list.csv:3: has not as many fields as the header, 4"),
        ("train/a01.png,a", "train/a01.png," + "a" * 200_000, "list.csv: not a CSV list: field larger than"),
    ],
)
def test_a_faulty_row_is_named(root, old, new, message):
    edit(root / "camvid/list.csv", old, new)
    assert message.format(root=root) in refused(lambda: built(root))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(IDS[:, :-1]), "the mask is 15x12 pixels, the picture 16x12"),
        (b"", "is no JPEG or PNG"),
        (b"GIF89a" + bytes(40), "is no JPEG or PNG"),
        (png(IDS)[:20], "breaks off in its header"),
        (
            png(np.zeros((2, 2), int)).replace(struct.pack(">II", 2, 2), struct.pack(">II", 70000, 70000)),
            "a picture may",
        ),
        (png(np.zeros((2, 2), int)).replace(struct.pack(">II", 2, 2), struct.pack(">II", 0, 2)), "a picture may"),
    ],
)
def test_a_faulty_mask_is_found_when_the_set_is_built(root, content, message):
    (root / "camvid/train/a01.png").write_bytes(content)
    line = refused(lambda: built(root))
    assert message in line and f"{root}/camvid/list.csv:3: {root}/camvid/train/a01.png: " in line
    assert "only 45 of 46 pictures can be used, under the minimum coverage of 1" in line
    lenient = built(root, minimum_coverage=0.9)
    assert len(lenient.train) == 38 and lenient.notes[0] == "coverage 45 of 46" and message in lenient.notes[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(IDS + 1), "has the id 4, which is no class of the set"),
        (png(IDS)[:-30], "cannot be decoded"),
        (png(IDS)[:45] + b"\xff\xff" + png(IDS)[47:], "cannot be decoded"),
        (png(IDS, 16), "must be a PNG of 8-bit grey or with a palette"),
        (png(IDS, 4), "must be a PNG of 8-bit grey or with a palette"),
        (png(flat(1), colour=COLOUR), "must be a PNG of 8-bit grey or with a palette"),
        (jpeg(flat(1)), "must be a PNG of 8-bit grey or with a palette"),
    ],
)
def test_a_faulty_mask_is_named_when_it_is_read(root, content, message):
    (root / "camvid/train/a01.png").write_bytes(content)
    split = built(root).train
    line = refused(lambda: split.annotation(1))
    assert line.startswith(f"{root}/camvid/list.csv:3: {root}/camvid/train/a01.png: ") and message in line
    assert split.annotation(0).shape == (12, 16)


def test_a_picture_that_breaks_off_is_named(root):
    file = root / "camvid/train/a01.jpg"
    content = jpeg(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8))
    file.write_bytes(content[: -len(content) // 4])
    assert f"list.csv:3: {file}: cannot be decoded" in refused(lambda: built(root).train.video(1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 sky\n2 road\n3 unlabelled\n", "classes.txt:2: expected '1 NAME', got '2 road'"),
        ("0 sky\nroad\n", "classes.txt:2: expected '1 NAME', got 'road'"),
        ("0 sky\n1 road\n2 car\n", "then 'unlabelled'"),
        ("0 sky\n1 sky\n2 unlabelled\n", "names of their own"),
        ("", "classes.txt: expected two classes or more"),
    ],
)
def test_faulty_classes_are_named(root, text, message):
    (root / "camvid/classes.txt").write_text(text)
    assert message in refused(lambda: built(root))


def test_what_is_not_there_is_named(root):
    assert "camvid: needs a data root" in refused(lambda: camvid(data_root=None))
    assert "elsewhere/camvid/classes.txt: No such file" in refused(lambda: built(root / "elsewhere"))
    (root / "camvid/list.csv").write_bytes(b"\xff\xfe\x00")
    assert "list.csv: not in UTF-8" in refused(lambda: built(root))
    (root / "camvid/list.csv").write_text("split,image,mask,sequence\n")
    assert "only 0 of 0 pictures can be used" in refused(lambda: built(root))
    (root / "camvid/list.csv").write_text("split,image,mask,sequence\ntrain,train/a00.jpg,train/a00.png,a\n")
    assert "no picture is left for the validation split" in refused(lambda: built(root))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_mask_gives_its_indices(tmp_path, bits):
    ids = IDS % 2**bits
    (tmp_path / "m.png").write_bytes(png(ids, bits, PALETTE))
    assert (read_mask(tmp_path / "m.png", torch.arange(256)).numpy() == ids).all()


def test_every_grey_level_is_an_id(tmp_path):
    ids = np.arange(256).reshape(8, 32)
    (tmp_path / "m.png").write_bytes(png(ids))
    assert (read_mask(tmp_path / "m.png", torch.arange(256)).numpy() == ids).all()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_broken_in_a_file_there_is_one_error_or_a_picture(tmp_path: Path, data: st.DataObject):
    whole = data.draw(st.sampled_from([png(IDS), png(IDS, 4, PALETTE), jpeg(flat(90)), png(flat(9), colour=COLOUR)]))
    cut = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3)) if cut else 0):
        cut[data.draw(st.integers(0, len(cut) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "x.png"
    file.write_bytes(bytes(cut))
    for read in (picture_size, read_picture, lambda path: read_mask(path, TABLE)):
        try:
            read(file)
        except DataError as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)


REAL = Path(os.environ.get("VARED_DATA", "")) / "camvid"


@pytest.mark.skipif(not (REAL / "list.csv").is_file(), reason="no CamVid under VARED_DATA")
def test_the_real_set():
    dataset = camvid(data_root=REAL.parent)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [367, 101, 233]
    assert len(dataset.test.classes) == 11 and len(set(dataset.test.groups)) == 23
    for index in (0, 100, 232):
        assert dataset.test.video(index).shape[1:3] == dataset.test.annotation(index).shape
