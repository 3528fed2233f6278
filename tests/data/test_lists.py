"""Lists and class folders: who goes into which split, what is refused, and with which line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from bench.data import DataError
from bench.data.lists import Splitting, VideoFiles, folder_dataset, list_dataset
from bench.data.sampling import Sampling, train_batches
from bench.data.video.reader import VideoReader
from bench.method import InputSpec

READER = VideoReader(14)


@pytest.fixture
def clip(make_video, tmp_path):
    """One small video that the others are copies of."""
    return make_video(tmp_path / "original" / "clip.mp4", [0, 40, 80])


@pytest.fixture
def write_list(clip, tmp_path):
    """Writes root/list.csv from rows, and a video at each row's first field unless it is among `missing`."""

    def write(header, rows, missing=()):
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for path, *_ in rows:
            if path not in missing:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(clip, root / path)
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (root / "list.csv").write_text("\n".join(lines) + "\n")
        return root / "list.csv"

    return write


def parts(dataset):
    return dataset.train, dataset.validation, dataset.test


def all_paths(dataset):
    return [path for part in parts(dataset) for path in paths(part)]


def paths(split):
    return list(split.attributes["path"])


def by_group(count=30, groups=10):
    return [(f"v{i}.mp4", "ab"[i % 2], f"g{i % groups // 2}{i % 2}") for i in range(count)]


def test_a_split_column_is_followed_to_the_letter(write_list):
    rows = [
        (f"x/{i}.mp4", label, split)
        for i, (label, split) in enumerate(
            [("kick", "train"), ("hug", "train"), ("hug", "validation"), ("kick", "test"), ("hug", "test")]
        )
    ]
    dataset = list_dataset(write_list("path,label,split", rows), READER, Splitting())
    assert dataset.name == "list" and dataset.notes == ("coverage 5 of 5",)
    assert [paths(part) for part in parts(dataset)] == [["x/0.mp4", "x/1.mp4"], ["x/2.mp4"], ["x/3.mp4", "x/4.mp4"]]
    assert dataset.test.classes == ("hug", "kick")
    assert dataset.train.targets.tolist() == [1, 0] and dataset.test.targets.dtype == np.int64
    assert dataset.test.video(1).shape == (3, 14, 19, 3)
    assert not dataset.test.flip
    assert dataset.test.groups.tolist() == paths(dataset.test)


def test_a_list_without_validation_rows_has_them_drawn_from_its_training_groups(write_list):
    rows = [(*row, "test" if row[2] == "g00" else "train") for row in by_group()]
    rows[1] = (*rows[1][:3], "train")
    dataset = list_dataset(write_list("path,label,group,split", rows), READER, Splitting())
    assert set(dataset.test.groups) == {"g00"}
    assert 0 < len(dataset.validation) < len(dataset.train)
    assert set(dataset.validation.groups).isdisjoint(dataset.train.groups)


def test_folds_are_followed_and_the_validation_fold_may_be_named(write_list):
    path = write_list("path,label,fold", [(f"{i}.mp4", i % 2, i // 4) for i in range(20)])
    for fold in range(5):
        dataset = list_dataset(path, READER, Splitting(fold=fold, validation_fold=(fold + 1) % 5))
        assert paths(dataset.test) == [f"{i}.mp4" for i in range(4 * fold, 4 * fold + 4)]
        next_fold = (fold + 1) % 5
        assert paths(dataset.validation) == [f"{i}.mp4" for i in range(4 * next_fold, 4 * next_fold + 4)]
        assert len(dataset.train) == 12
    assert "no fold 5, only 0, 1, 2, 3, 4" in refused(lambda: list_dataset(path, READER, Splitting(fold=5)))


@pytest.mark.parametrize("seed", range(5))
def test_drawn_splits_share_no_group_lose_no_video_and_keep_the_classes_balanced(write_list, seed):
    path = write_list("path,label,group", by_group(80, 40))
    dataset = list_dataset(path, READER, Splitting(seed=seed))
    groups = [set(part.groups) for part in parts(dataset)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40
    assert sorted(all_paths(dataset)) == sorted(f"v{i}.mp4" for i in range(80))
    assert [len(part) for part in parts(dataset)] == pytest.approx([55, 9, 16], abs=3)
    for part in parts(dataset):
        assert np.ptp(np.bincount(part.targets)) <= 2
    again = list_dataset(path, READER, Splitting(seed=seed))
    assert again.fingerprint == dataset.fingerprint
    assert list_dataset(path, READER, Splitting(seed=seed + 1)).fingerprint != dataset.fingerprint


@pytest.mark.parametrize("seed", range(3))
def test_of_the_draws_the_balanced_one_is_taken(write_list, seed):
    sizes = {f"{label}{size}": (label, size) for size in (1, 2, 3, 5, 6, 7) for label in "ab"}
    rows = [(f"{group}-{i}.mp4", label, group) for group, (label, size) in sizes.items() for i in range(size)]
    test = list_dataset(write_list("path,label,group", rows), READER, Splitting(seed=seed)).test
    assert np.bincount(test.targets).tolist() == [
        5,
        5,
    ]  # a fifth of 24 of each class; greedy folds of 7 and 3 exist too


def test_the_fingerprint_follows_content_labels_sizes_and_decoding(write_list, tmp_path):
    def fingerprint(rows, reader=READER):
        return list_dataset(write_list("path,label,split", rows), reader, Splitting()).fingerprint

    rows = [(f"{i}.mp4", "ab"[i % 2], ("train", "train", "validation", "test")[i % 4]) for i in range(8)]
    first = fingerprint(rows)
    assert fingerprint(rows) == first
    swapped = [*rows[:2], ("2.mp4", "b", "validation"), *rows[3:]]
    moved = [*rows[:2], ("2.mp4", "a", "test"), *rows[3:]]
    others = [
        fingerprint(swapped),
        fingerprint(moved),
        fingerprint(rows, VideoReader(15)),
        fingerprint(rows, VideoReader(14, 5.0)),
    ]
    path = write_list("path,label,split", rows)
    with (path.parent / "3.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")
    others.append(list_dataset(path, READER, Splitting()).fingerprint)
    assert len({first, *others}) == 6


def test_other_columns_become_attributes_and_columns_can_be_renamed(write_list):
    rows = [(f"{i}.mp4", i % 2, ("hug", "kick")[i % 2], i // 2, i / 2, f"w{i}") for i in range(12)]
    path = write_list("path,label,cls,sequence,speed,source", rows)
    dataset = list_dataset(path, READER, Splitting(), columns={"label": "cls", "group": "sequence"})
    assert dataset.test.classes == ("hug", "kick")
    assert list(dataset.test.attributes) == ["path", "speed", "source"]
    assert dataset.train.attributes["speed"].dtype == np.float64
    row = dict(zip(paths(dataset.train), dataset.train.attributes["speed"], strict=True))
    assert all(speed == int(path.split(".")[0]) / 2 for path, speed in row.items())
    assert set(dataset.test.groups) <= {str(i) for i in range(6)}
    missing = refused(lambda: list_dataset(path, READER, Splitting(), columns={"group": "scene"}))
    assert missing.startswith(f"{path}:1:scene: needs exactly one such column; the first row names ")


def test_numeric_labels_are_ordered_by_value(write_list):
    path = write_list(
        "path,label,split", [(f"{i}{s}.mp4", i, s) for i in (10, 9, 2) for s in ("train", "validation", "test")]
    )
    assert list_dataset(path, READER, Splitting()).test.classes == ("2", "9", "10")


def test_broken_and_missing_files_are_counted_named_and_left_out(write_list):
    rows = [(f"{i}.mp4", "ab"[i % 2], "train" if i < 40 else "validation" if i < 45 else "test") for i in range(50)]
    path = write_list("path,label,split", rows, missing=["7.mp4"])
    (path.parent / "8.mp4").write_bytes(b"")
    message = refused(lambda: list_dataset(path, READER, Splitting()))
    assert message.startswith(f"{path}: only 48 of 50 videos") and "0.98" in message and "7.mp4" in message
    dataset = list_dataset(path, READER, Splitting(), minimum_coverage=0.96)
    assert dataset.notes[0] == "coverage 48 of 50" and len(dataset.notes) == 3
    assert "7.mp4: no such file" in dataset.notes[1] and "8.mp4" in dataset.notes[2]
    assert len(dataset.train) == 38 and not {"7.mp4", "8.mp4"} & set(paths(dataset.train))


def test_many_missing_files_are_named_in_part_and_counted_in_full(write_list):
    rows = [(f"{i}.mp4", "ab"[i % 2], "train" if i < 40 else "validation" if i < 45 else "test") for i in range(50)]
    path = write_list("path,label,split", rows, missing=[f"{i}.mp4" for i in range(30)])
    notes = list_dataset(path, READER, Splitting(), minimum_coverage=0.4).notes
    assert "only 20 of 50" in refused(lambda: list_dataset(path, READER, Splitting(), minimum_coverage=0.41))
    assert notes[0] == "coverage 20 of 50" and len(notes) == 22 and notes[-1] == "left out 10 more"


def test_a_list_none_of_whose_files_opens_is_refused_whatever_the_minimum(write_list):
    rows = [(f"{i}.mp4", "ab"[i % 2]) for i in range(20)]
    path = write_list("path,label", rows, missing=[name for name, _ in rows])
    assert "only 0 of 20" in refused(lambda: list_dataset(path, READER, Splitting(), minimum_coverage=0.0))


def test_a_file_that_breaks_in_the_middle_surfaces_in_training_by_name(write_list, make_video, tmp_path):
    rows = [(f"{i}.mp4", "ab"[i % 2], ("train", "train", "validation", "test")[i % 4]) for i in range(8)]
    path = write_list("path,label,split", rows)
    noise = np.random.default_rng(0).integers(
        0, 256, (25, 48, 64, 3), np.uint8
    )  # so that pictures fill most of the file
    broken = make_video(path.parent / "4.mp4", range(0, 1000, 40), 64, 48, codec="libx264", pictures=noise)
    data = bytearray(broken.read_bytes())
    data[10_000:20_000] = bytes(10_000)
    broken.write_bytes(data)
    train = list_dataset(path, READER, Splitting()).train
    with pytest.raises(DataError, match=r"4\.mp4"):
        list(train_batches(train, InputSpec("clip", 12, 2), Sampling(), 4, 0, 0))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("file,label\na.mp4,x\n", ":1:path: "),
        ("path,label,label\na.mp4,x,y\n", ":1:label: "),
        ("path,label\n", ": lists no videos"),
        ("path,label\na.mp4\n", ":2: has 1 fields"),
        ("path,label\na.mp4,x\n\nb.mp4,x,y\n", ":4: has 3 fields"),
        ("path,label\na.mp4,\n", ":2:label: "),
        ("path,label\n ,x\n", ":2:path: "),
        ("path,label,group\na.mp4,x,g\nb.mp4,x,\n", ":3:group: "),
        ("path,label,fold\na.mp4,x,one\n", ":2:fold: 'one'"),
        ("path,label,fold\na.mp4,x,-1\n", ":2:fold: "),
        ("path,label,split\na.mp4,x,val\n", ":2:split: 'val'"),
        ("path,label\na.mp4,x\nb/../a.mp4,x\n", ":3:path: a.mp4 is listed in row 2"),
        ("path,label\n../a.mp4,x\n", ":2:path: "),
        ("path,label\nb/../../a.mp4,x\n", ":2:path: "),
        ("path,label\n/etc/passwd,x\n", ":2:path: /etc/passwd must be relative to the folder of the set"),
        ("path;label\na.mp4;x\n", ":1:path: needs exactly one such column; the first row names 'path;label'"),
        ("a.mp4,x\n", ":1:path: needs exactly one such column; the first row names 'a.mp4', 'x'"),
        ("", ": is empty; its first row must name the columns"),
        ('path,label\n"a.mp4,x\n', ": not a CSV list"),
        (b"path,label\n\xff\xfe.mp4,x\n", ": not a CSV list"),
        (b"path,label\na\0.mp4,x\n", ":2:path: "),
    ],
)
def test_a_malformed_list_is_one_line_with_file_row_and_field(tmp_path, text, place):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused(lambda: list_dataset(path, READER, Splitting())).startswith(f"{path}{place}")


@pytest.mark.parametrize(
    ("header", "rows", "splitting", "words"),
    [
        (
            "path,label,group,split",
            [("a.mp4", "x", "g", "train"), ("b.mp4", "x", "h", "validation"), ("c.mp4", "x", "g", "test")],
            Splitting(),
            "group 'g' is in more than one split",
        ),
        ("path,label,split", [("a.mp4", "x", "train"), ("b.mp4", "x", "validation")], Splitting(), "test split"),
        ("path,label", [("a.mp4", "x"), ("b.mp4", "x")], Splitting(fold=0), "no column 'fold'"),
        ("path,label", [("a.mp4", "x")], Splitting(), "cannot be split by group"),
        (
            "path,label,split",
            [("a.mp4", "x", "train"), ("b.mp4", "x", "validation"), ("c.mp4", "y", "test")],
            Splitting(),
            "no training video of class 'y'",
        ),
    ],
)
def test_splits_that_cannot_be_are_refused(write_list, header, rows, splitting, words):
    path = write_list(header, rows)
    message = refused(lambda: list_dataset(path, READER, splitting))
    assert message.startswith(f"{path}: ") and words in message


@pytest.mark.parametrize(
    "fields",
    [{"test_share": 0.0}, {"validation_share": 0.6}, {"validation_fold": 1}, {"fold": 1, "validation_fold": 1}],
)
def test_a_splitting_that_makes_no_sense_is_refused_by_field(fields):
    message = refused(lambda: Splitting(**fields))
    assert message.split(":")[0] in fields


def test_a_missing_list_is_one_line(tmp_path):
    path = tmp_path / "list.csv"
    assert refused(lambda: list_dataset(path, READER, Splitting())) == f"{path}: No such file or directory"


def test_paths_may_be_relative_to_another_root_and_names_may_hold_commas_and_spaces(clip, tmp_path):
    lines = ["\ufeffpath,label"]
    for i in range(12):
        file = tmp_path / "videos" / f"a, b {i} é.mp4"
        file.parent.mkdir(exist_ok=True)
        shutil.copy(clip, file)
        lines.append(f'"{file.name}",{"ab"[i % 2]}')
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    dataset = list_dataset(path, READER, Splitting(), root=tmp_path / "videos", flip=True)
    assert sum(map(len, parts(dataset))) == 12 and dataset.train.flip
    assert isinstance(dataset.test, VideoFiles) and torch.equal(dataset.test.video(0), dataset.train.video(0))


def test_class_folders(clip, tmp_path):
    root = tmp_path / "classes"
    for i in range(20):
        file = root / ("jump", "run")[i % 2] / ("", "deeper")[i % 3 == 0] / f"{i}.MP4"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, file)
    (root / "run" / "notes.txt").write_text("no video")
    (root / "empty").mkdir()
    shutil.copy(clip, root / "stray.mp4")
    dataset = folder_dataset(root, READER, Splitting())
    assert dataset.train.classes == ("jump", "run") and dataset.notes == ("coverage 20 of 20",)
    assert len(set(all_paths(dataset))) == 20
    for part in parts(dataset):
        assert [Path(path).parts[0] for path in paths(part)] == [part.classes[target] for target in part.targets]
    assert "one class, 'deeper'" in refused(lambda: folder_dataset(root / "run", READER, Splitting()))
    assert "no class folders" in refused(lambda: folder_dataset(root / "empty", READER, Splitting()))


def test_hidden_folders_and_files_are_no_classes_and_no_videos(clip, tmp_path):
    root = tmp_path / "classes"
    for i in range(20):
        for place in (f"{'ab'[i % 2]}/{i}.mp4", f".cache/{i}.mp4", f"a/.trash/{i}.mp4", f"b/._{i}.mp4"):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, root / place)
    dataset = folder_dataset(root, READER, Splitting())
    assert dataset.train.classes == ("a", "b") and dataset.notes == ("coverage 20 of 20",)
