"""Datasets by name: the real sets' layout is imitated with copies of one small video, and read where it is at hand."""

import csv
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from bench.data import builders
from bench.data.builders import DATASETS, build
from bench.data.sampling import Sampling, test_batches, train_batches
from bench.method import InputSpec

ROOT = os.environ.get("VARED_DATA")
real = pytest.mark.skipif(
    not ROOT or not (Path(ROOT) / "ut_interaction" / "clips.csv").is_file(),
    reason="VARED_DATA names no folder with ut_interaction/ and surveillance_fight/",
)


@pytest.fixture
def data_root(make_video, tmp_path, monkeypatch):
    """A data root with both real sets in small: every sequence and fold, and files that open."""
    clip = make_video(tmp_path / "clip.mp4", [round(1000 * i / 30) for i in range(12)], 64, 48)
    classes = ["handshake", "hug", "kick", "point", "punch", "push"]
    interaction = [
        (f"{name}/{sequence}.mp4", label, name, sequence, (sequence - 1) % 10)
        for sequence in range(1, 21)
        for label, name in enumerate(classes)
    ]
    fight = [
        (f"{n}/{i}.mp4", 1 - j, n, f"yt{i // 4}", i // 8) for i in range(40) for j, n in enumerate(("fight", "noFight"))
    ]
    for folder, header, rows in (
        ("ut_interaction", "path,label,cls,sequence,fold", interaction),
        ("surveillance_fight", "path,label,cls,group,fold", fight),
    ):
        for path, *_ in rows:
            (tmp_path / folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(clip, tmp_path / folder / path)
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (tmp_path / folder / "clips.csv").write_text("\n".join(lines))
    monkeypatch.delenv("VARED_DATA", raising=False)
    return tmp_path


def get(name, data_root=None, size=28, frames=8, **options):
    return build(name, data_root=data_root, frames=frames, size=size, options=options)


def parts(dataset):
    return dataset.train, dataset.validation, dataset.test


@pytest.mark.parametrize("fold", range(10))
def test_ut_interaction_leaves_sequences_i_and_i_plus_10_out_together(data_root, fold):
    dataset = get("ut_interaction", data_root, fold=fold)
    assert dataset.name == "ut_interaction" and dataset.notes == ("coverage 120 of 120",)
    assert set(dataset.test.groups) == {str(fold + 1), str(fold + 11)}
    following = (fold + 1) % 10
    assert set(dataset.validation.groups) == {str(following + 1), str(following + 11)}
    assert len(set(dataset.train.groups)) == 16 and len(dataset.train) == 96
    assert dataset.train.flip and dataset.train.classes == ("handshake", "hug", "kick", "point", "punch", "push")
    for part in parts(dataset):
        names = [path.split("/")[0] for path in part.attributes["path"]]
        assert names == [part.classes[target] for target in part.targets]


@pytest.mark.parametrize("fold", range(5))
def test_surveillance_fight_tests_on_the_sources_of_one_fold(data_root, fold):
    dataset = get("surveillance_fight", data_root, fold=fold)
    assert set(dataset.test.groups) == {f"yt{2 * fold}", f"yt{2 * fold + 1}"}
    assert sum(map(len, parts(dataset))) == 80
    assert len(set().union(*(set(part.groups) for part in parts(dataset)))) == 10
    assert len(dataset.validation) == 8 and np.bincount(dataset.validation.targets).tolist() == [4, 4]
    assert dataset.train.flip


def test_a_real_set_gives_pictures_an_eighth_larger_than_the_crop_at_its_rate(data_root):
    assert get("ut_interaction", data_root).test.video(0).shape == (6, 32, 43, 3)
    assert get("ut_interaction", data_root, rate=30, short_side=30).test.video(0).shape == (12, 30, 40, 3)
    with_other = [
        get("ut_interaction", data_root, **o).fingerprint for o in ({}, {"rate": 30}, {"short_side": 30}, {"fold": 1})
    ]
    assert len(set(with_other)) == 4


def test_the_data_root_may_come_from_the_environment(data_root, monkeypatch):
    message = refused(lambda: get("ut_interaction"))
    assert "VARED_DATA" in message and "--data-root" in message
    monkeypatch.setenv("VARED_DATA", str(data_root))
    assert len(get("ut_interaction").test) == 12
    elsewhere = data_root / "ut_interaction"
    assert refused(lambda: get("ut_interaction", elsewhere)).startswith(f"{elsewhere}/ut_interaction/clips.csv: ")


def test_lists_and_folders_are_found_in_the_data_root_or_anywhere(data_root):
    near = get("list", data_root, path="surveillance_fight/clips.csv", fold=1)
    far = get("list", path=str(data_root / "surveillance_fight" / "clips.csv"), fold=1)
    assert near.fingerprint == far.fingerprint
    assert not near.train.flip and len(near.train.video(0)) == 12
    assert get("list", data_root, path="surveillance_fight/clips.csv", fold=1, flip=True).train.flip
    copy = data_root / "lists" / "clips.csv"
    copy.parent.mkdir()
    shutil.copy(data_root / "surveillance_fight" / "clips.csv", copy)
    assert (
        get("list", data_root, path="lists/clips.csv", root="surveillance_fight", fold=1).fingerprint
        == near.fingerprint
    )
    assert get("folders", data_root, path="surveillance_fight").test.classes == ("fight", "noFight")


def test_digits_get_their_sizes_and_options():
    dataset = get("digits", size=20, frames=4, train_videos=30, validation_videos=20, test_videos=10)
    assert [len(part) for part in parts(dataset)] == [30, 20, 10]
    video = dataset.test.video(0)
    assert min(video.shape[1:3]) >= 20 and len(video) > 4


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ut_interactoin", {}, ["'ut_interactoin'", "did you mean ut_interaction?", "surveillance_fight"]),
        ("zzz", {}, ["'zzz'", "there are digits, "]),
        ("ut_interaction", {"flod": 1}, ["ut_interaction: ", "'flod'", "did you mean fold?", "rate"]),
        ("digits", {"fold": 1}, ["digits: ", "'fold'", "test_videos"]),
        ("ut_interaction", {"data_root": "x"}, ["ut_interaction: ", "'data_root'"]),
        ("ut_interaction", {"fold": "first"}, ["ut_interaction: fold: "]),
        ("ut_interaction", {"rate": "fast"}, ["ut_interaction: rate: "]),
        ("ut_interaction", {"fold": 10}, ["no fold 10", "0, 1, 2"]),
        ("list", {}, ["list: path: "]),
        ("list", {"path": "nowhere.csv"}, ["nowhere.csv: No such file"]),
        ("folders", {"path": "nowhere"}, ["nowhere: no class folders"]),
    ],
)
def test_names_and_options_that_do_not_exist_are_one_line(data_root, name, options, words):
    message = refused(lambda: build(name, data_root=data_root, frames=8, size=28, options=options))
    assert all(word in message for word in words), message


def test_every_name_leads_to_a_builder_with_a_docstring():
    for place in DATASETS.values():
        module, function, *_ = place.split(":")
        assert getattr(__import__(module, fromlist=[function]), function).__doc__


def test_listing_the_names_imports_nothing_heavy():
    code = (
        "import sys; import bench.data.builders; print(sorted({'torch', 'av', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(builders.__file__).parents[2], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


@real
@pytest.mark.parametrize(
    ("name", "folds", "videos", "groups"), [("ut_interaction", 10, 120, 20), ("surveillance_fight", 5, 300, 46)]
)
def test_the_real_sets_are_tested_once_each_over_their_folds(name, folds, videos, groups):
    tested, sources = Counter(), Counter()
    for fold in range(folds):
        dataset = get(name, fold=fold)
        tested.update(dataset.test.attributes["path"])
        sources.update(set(dataset.test.groups))
        assert sum(map(len, parts(dataset))) == videos
        assert np.ptp(np.bincount(dataset.validation.targets)) <= 4
        assert set(dataset.train.targets) == set(dataset.validation.targets) == set(dataset.test.targets)
    assert len(tested) == videos and set(tested.values()) == {1}
    assert len(sources) == groups and set(sources.values()) == {1}


@real
@pytest.mark.parametrize("name", ["ut_interaction", "surveillance_fight"])
def test_real_clips_come_out_as_samples(name):
    with (Path(ROOT) / name / "clips.csv").open() as file:
        listed = {row["path"]: row for row in csv.DictReader(file)}
    dataset, spec = get(name, rate=1000.0), InputSpec("clip", 28, 8)
    for row, path in enumerate(dataset.test.attributes["path"][:3]):
        video, source = dataset.test.video(row), listed[path]
        seconds = int(source["frames"]) / float(source["fps"])
        assert len(video) == pytest.approx(1000 * seconds, abs=2000 / float(source["fps"]))
        assert (video.shape[2] > video.shape[1]) == (int(source["width"]) > int(source["height"]))
    dataset = get(name)
    batch = next(train_batches(dataset.train, spec, Sampling("uniform"), 4, 0, 0))
    assert batch.sample.shape == (4, 3, 8, 28, 28) and batch.sample.std() > 0.1
    views = list(test_batches(dataset.test, spec, Sampling(), 2, 3, 6, rows=np.array([1])))
    assert len(views) == 1 and views[0].target.tolist() == [dataset.test.targets[1]] * 6
