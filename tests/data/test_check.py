"""`data check`: what it finds in a tree with one fault of each kind, and that it goes on where it stopped."""

import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png
from typer.testing import CliRunner

from bench.cli import app
from bench.commands.data import _counted
from bench.data import DataError, journal
from bench.data.check import check
from bench.data.journal import Checked, Journal, check_file, check_files

CLASSES = ("archery", "bowling", "curling")


@pytest.fixture
def videos(make_video, tmp_path):
    """Twelve small videos, all different."""
    folder = tmp_path / "videos"
    return [make_video(folder / f"{n}.mp4", [40 * i for i in range(3 + n)], 32, 24) for n in range(12)]


@pytest.fixture
def root(videos, tmp_path):
    """Kinetics-400 with its folders as lists: three training and one test video of each of three classes."""
    root = tmp_path / "data" / "kinetics_400"
    for place, video in enumerate(videos):
        part, label = ("val" if place % 4 == 3 else "train"), CLASSES[place // 4]
        (root / part / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / part / label / f"video{place:06d}_000001_000011.mp4")
    (root / "label_map_k400.txt").write_text("\n".join((*CLASSES, "diving")))
    return root


def found(root, tmp_path, workers=0, **more):
    return check(
        "kinetics_400", data_root=root.parent, frames=4, size=14, options={}, read=True, cache=tmp_path / "cache",
        workers=workers, **more,
    )  # fmt: skip


def kinds(report):
    return sorted(fault.kind for fault in report.faults)


def test_every_kind_of_fault_is_found_named_and_counted_by_class(root, tmp_path, videos):
    shutil.copy(
        root / "train/archery/video000000_000001_000011.mp4", root / "val/bowling/video000099_000001_000011.mp4"
    )
    shutil.copy(videos[5], root / "val/curling/video000005_000001_000011.mp4")  # the id of a training video of bowling
    broken = root / "train/curling/video000008_000001_000011.mp4"
    broken.write_bytes(broken.read_bytes()[:200])
    (root / "train/curling/video000009_000001_000011.mp4").write_bytes(b"")
    (root / "train/curling/away.mp4").symlink_to("/dev/null")
    report = found(root, tmp_path)
    text = "\n".join(f"{fault.kind}: {fault.message}" for fault in report.faults)
    assert kinds(report) == ["broken", "broken", "duplicated", "duplicated", "duplicated", "empty", "outside"], text
    assert f"broken: {broken}: cannot be decoded" in text
    assert "video000009_000001_000011.mp4: is empty" in text
    assert "val/bowling/video000099_000001_000011.mp4 (test), train/archery/video000000" in text
    assert "video000005_000001_000011.mp4: have the same id" in text
    assert "away.mp4: is a link that leads out" in text
    assert "empty: class 'diving': no video of 0" in text
    assert report.classes == {"archery": (4, 4), "bowling": (5, 5), "curling": (5, 3), "diving": (0, 0)}


def test_a_class_that_training_alone_has_is_told(root, tmp_path):
    """As the folder of videos that others replaced, which is no class."""
    assert not [note for note in found(root, tmp_path).notes if "nothing of" in note]
    (root / "train" / "replacement").mkdir()
    shutil.move(root / "train/archery/video000000_000001_000011.mp4", root / "train" / "replacement")
    (root / "label_map_k400.txt").unlink()
    assert "test: nothing of 1 of 4 classes: 'replacement'" in found(root, tmp_path).notes


def test_a_list_that_counts_other_frames_and_gaps_between_frames_are_found(tmp_path, videos):
    root = tmp_path / "data" / "kinetics_400"

    for place in range(4):
        (root / "rawframes" / f"clip{place}").mkdir(parents=True)
        for number in (1, 2, 4) if place == 2 else (1, 2, 3):
            grey = np.full((24, 32), 20 * place + number, np.uint8)
            (root / "rawframes" / f"clip{place}" / f"img_{number:05d}.png").write_bytes(png(grey))
    (root / "kinetics400_train_list_rawframes.txt").write_text("clip0 3 0\nclip1 5 1\nclip2 3 0\n")
    (root / "kinetics400_val_list_rawframes.txt").write_text("clip3 3 1\nclip4 3 1\nclip0 3 9\n")
    report = found(root, tmp_path)
    text = "\n".join(f"{fault.kind}: {fault.message}" for fault in report.faults)
    assert "uncounted: " in text and "counts 5 frames, rawframes/clip1 has 3" in text
    assert "clip2: frame 3 is missing; it has 3 of 1 to 4" in text
    assert "missing: " in text and "clip4 is missing under" in text
    assert "clip0 is listed before" in text


def test_a_check_goes_on_where_it_stopped_and_reads_what_changed(root, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        journal, "check_file", lambda root, path, limits: read.append(path) or check_file(root, path, limits)
    )

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(root, tmp_path, progress=stop)
    assert len(read) == 5
    assert not found(root, tmp_path).faults[1:] and len(read) == 12
    (log,) = (tmp_path / "cache").iterdir()
    log.write_bytes(log.read_bytes()[:-20])  # a torn last line
    changed = root / "train/archery/video000000_000001_000011.mp4"
    os.utime(changed, ns=(1, 1))
    before = len(read)
    assert kinds(found(root, tmp_path)) == ["empty"]
    assert sorted(read[before:]) == sorted({changed.relative_to(root).as_posix(), read[before - 1]})
    found(root, tmp_path)
    assert len(read) == before + 2


def _deadly(root, path, limits):
    if "000003" in path:
        (root / path).unlink(missing_ok=True)
    if "000003" in path or "000007" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return check_file(root, path, limits)


def test_a_file_that_kills_its_reader_costs_that_file_only(root, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "check_file", _deadly)
    forked = multiprocessing.get_context("fork")  # starts at once; what is tested is what follows a death
    monkeypatch.setattr(journal, "get_context", lambda name: forked)
    whole = [f"train/archery/video00000{number}_000001_000011.mp4" for number in (0, 1)]
    gone, stays = "val/archery/video000003_000001_000011.mp4", "val/bowling/video000007_000001_000011.mp4"
    paths = [whole[0], gone, stays, whole[1]]
    checked = check_files(root, paths, Journal(tmp_path / "log.jsonl"), 1)
    assert sorted(checked) == sorted(paths)
    assert {path for path, one in checked.items() if "died" in one.fault} == {gone, stays}
    assert checked[whole[0]].frames == 3 and checked[whole[1]].frames == 4
    log = Journal(tmp_path / "log.jsonl")
    assert [path for path in paths if log.get(root, path)] == whole  # the others are read again


def test_what_the_disk_fails_to_give_is_read_again(root, tmp_path, monkeypatch):
    path, log = "train/archery/video000000_000001_000011.mp4", tmp_path / "log.jsonl"

    def away(file, root):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_digest", away)
        assert "Input/output error" in check_files(root, [path], Journal(log), 0)[path].fault
    assert check_files(root, [path], Journal(log), 0)[path].fault == ""


def test_a_frame_repaired_in_place_or_renamed_is_read_again(tmp_path):
    folder, log = tmp_path / "clip", tmp_path / "log.jsonl"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(png(np.full((24, 32), number, np.uint8)))
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(b"x" * len(whole))
    os.utime(folder / "2.png", ns=(1, 1))

    def fault():
        return check_files(tmp_path, ["clip"], Journal(log), 0)["clip"].fault

    assert "2.png" in fault()
    (folder / "2.png").write_bytes(whole)
    assert fault() == ""
    (folder / "2.png").rename(folder / "3.png")
    assert "frame 2 is missing" in fault()


@settings(max_examples=30, deadline=None)
@given(
    noise=st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b'{"path": "a"}', b"[]", b"null", b"[" * 50000])))
)
def test_a_journal_may_hold_anything(noise, tmp_path_factory):
    root = tmp_path_factory.mktemp("journal")
    (root / "a").write_bytes(b"x")
    log = root / "log.jsonl"
    log.write_bytes(b"\n".join(noise))
    state = (1, (root / "a").stat().st_mtime_ns)
    Journal(log).add("a", Checked(state, "digest", 3, ""))
    assert Journal(log).get(root, "a") == Checked(state, "digest", 3, "")
    assert Journal(log).get(root, "b") is None


def test_the_command_answers_in_json_and_exits_with_1_if_anything_is_wrong(root, tmp_path):
    (root / "label_map_k400.txt").write_text("\n".join(CLASSES))
    call = [
        "data",
        "check",
        "kinetics_400",
        "--data-root",
        str(root.parent),
        "--cache",
        str(tmp_path),
        "--workers",
        "0",
    ]
    fine = CliRunner().invoke(app, [*call, "--json"])
    assert fine.exit_code == 0, fine.output
    answer = json.loads(fine.stdout)
    assert answer["classes"]["archery"] == {"listed": 4, "usable": 4} and answer["faults"] == []
    assert answer["splits"]["train"]["rows"] == 9 and answer["splits"]["test"]["rows"] == 3
    (root / "train/archery/video000000_000001_000011.mp4").write_bytes(b"")
    wrong = CliRunner().invoke(app, call)
    assert wrong.exit_code == 1 and "broken: " in wrong.stdout and "1 things are wrong" in wrong.stderr


def test_options_of_the_lists_are_taken_and_others_refused(root, tmp_path):
    call = {"data_root": root.parent, "frames": 4, "size": 14, "read": False, "cache": tmp_path, "workers": 0}
    assert check("kinetics_400", options={"path": "kinetics_400"}, **call).held[0].rows == 9
    with pytest.raises(DataError, match="no option 'sed'"):
        check("kinetics_400", options={"sed": 1}, **call)
    with pytest.raises(DataError, match=r"kinetics_400: limits\.frames"):
        check("kinetics_400", options={"limits": {"frames": "many"}}, **call)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_options_of_a_profile_are_taken_and_limits_hold(root, tmp_path, workers):
    call = {"data_root": root.parent, "frames": 4, "size": 14, "read": True, "cache": tmp_path, "workers": workers}
    others = {"minimum_coverage": 0.5, "validation_share": 0.1, "seed": 1, "flip": False, "rate": 5.0, "short_side": 16}
    assert kinds(check("kinetics_400", options=others, **call)) == ["empty"]
    few = check("kinetics_400", options=others | {"limits": {"frames": 13}}, **call)
    assert [fault.message for fault in few.faults if fault.kind == "broken"] == [
        f"{root}/val/curling/video000011_000001_000011.mp4: has more than 13 frames; cut it, or raise the limit"
    ]
    assert kinds(check("kinetics_400", options=others, **call)) == ["empty"]


def listed(root, tmp_path, text):
    (root / "list.csv").write_text(text)
    return check(
        "list", data_root=root, frames=4, size=14, options={"path": "list.csv"}, read=True, cache=tmp_path / "cache",
        workers=0,
    )  # fmt: skip


def test_of_a_list_every_fault_is_told_beside_what_it_holds(root, tmp_path):
    parts = {0: "test", 1: "validation", 2: "train"}
    files = [file for label in CLASSES for file in sorted((root / "train" / label).iterdir())]  # three of each class
    rows = [f"{file.relative_to(root)},{file.parent.name},{parts[n % 3]}" for n, file in enumerate(files)]
    rows[4] = rows[4].replace("validation", "train")
    missing = [f"{name}.mp4,archery,train" for name in ("gone", "lost")]
    report = listed(root, tmp_path, "\n".join(["path,label,split", *rows, *missing]))
    assert kinds(report) == ["missing", "missing"] and [part.rows for part in report.held] == [4, 2, 3]
    assert [fault.message for fault in report.faults] == [
        f"{root / name}.mp4: no such file" for name in ("gone", "lost")
    ]
    assert report.notes == ["coverage 9 of 11", "validation: nothing of 1 of 3 classes: 'bowling'"]
    again = listed(root, tmp_path, "\n".join(["path,label,split", *rows, *missing, *rows[:2], "x.mp4,,train"]))
    assert kinds(again) == ["duplicated", "duplicated", "malformed", "missing", "missing"] and again.held == []
    with pytest.raises(DataError, match="lists no videos"):
        listed(root, tmp_path, "path,label")


def test_of_a_set_that_is_made_of_a_list_the_faults_of_the_list_are_told(tmp_path):
    folder = tmp_path / "ut_interaction"
    folder.mkdir()
    (folder / "clips.csv").write_text("path,cls,sequence,fold\na.mp4,hug,1,0\nb.mp4,kick,2,1\n")
    call = {"data_root": tmp_path, "frames": 8, "size": 64, "read": False, "cache": tmp_path, "workers": 0}
    report = check("composed", options={"source": "ut_interaction"}, **call)
    assert [(fault.kind, fault.message) for fault in report.faults] == [
        ("missing", f"{folder / name}.mp4: no such file") for name in "ab"
    ]
    assert report.held == [] and "only 0 of 2 videos can be opened" in report.notes[0]


def test_the_time_left_is_told_once_files_were_read_for_a_while(monkeypatch, capsys):
    clock = iter([0.0, 30.0, 31.0, 130.0])  # the workers take half a minute to start, then a file takes a second
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    told = _counted("set")
    for done in (1, 2, 101):
        told(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "set: 2 of 1,000 read",
        "set: 101 of 1,000 read, about 15 minutes left",
    ]
