"""J-HMDB in both layouts, on tiny trees: boxes to the pixel, every fault in one line, and nothing executed."""

import io
import os
import pickle
import shutil
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.io import savemat

from bench.data import DataError, Dataset, safe_pickle
from bench.data import jhmdb as module
from bench.data.check import check
from bench.data.jhmdb import PICKLE, jhmdb, read_masks
from bench.data.safe_pickle import read_pickle

CLASSES = ("brush_hair", "kick_ball")
HEIGHT, WIDTH, LENGTH = 24, 32, 6
ODD = "#1 a!b;c_(x)[y]&%03d"
VIDEOS = {name: [ODD, "v1", "v2", "v3", "t1", "t2"] for name in CLASSES}


def level(number: int) -> int:
    return 20 + 30 * number


def write_frame(path: Path, number: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """A PNG that is flat in the grey of its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = *shape, "rgb24", Fraction(1, 25)
    picture = np.full((*shape, 3), level(number), np.uint8)
    path.write_bytes(b"".join(map(bytes, codec.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))))


def corners(video: int, number: int) -> list[int]:
    """The box of a frame, numbered from 1, in pixels."""
    return [2 + video, 3, 12 + video + number, 20 - number]


def masks(video: int) -> np.ndarray:
    """A mask (H, W, T) that touches its box at each side and is full at none."""
    found = np.zeros((HEIGHT, WIDTH, LENGTH), np.uint8)
    for frame in range(LENGTH):
        x1, y1, x2, y2 = corners(video, frame + 1)
        found[y1:y2, (x1 + x2) // 2, frame] = 1
        found[(y1 + y2) // 2, x1:x2, frame] = 1
    return found


def mask_file(root: Path, name: str, video: str) -> Path:
    return root / "puppet_mask" / name / video / "puppet_mask.mat"


class Python2(pickle._Pickler):
    """Writes as Python 2 does: all text and bytes as raw strings."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_raw(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_raw


def dumped(value: object, python2: bool = True) -> bytes:
    if not python2:
        return pickle.dumps(value, 4)
    file = io.BytesIO()
    Python2(file, 2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def truth() -> dict[str, object]:
    """What JHMDB-GT.pkl holds."""
    tubes, sizes, train, test = {}, {}, [], []
    for label, name in enumerate(CLASSES):
        for place, video in enumerate(VIDEOS[name]):
            rows = [[number, *corners(place, number)] for number in range(1, LENGTH + 1)]
            tubes[f"{name}/{video}"] = {label: [np.array(rows, np.float32)]}
            sizes[f"{name}/{video}"] = (HEIGHT, WIDTH)
            (test if video.startswith("t") else train).append(f"{name}/{video}")
    whole = {"labels": list(CLASSES), "gttubes": tubes, "nframes": dict.fromkeys(tubes, LENGTH), "resolution": sizes}
    return {**whole, "train_videos": [train, test, train], "test_videos": [test, train, test]}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both layouts, in masks/ and pickle/."""
    base = tmp_path_factory.mktemp("jhmdb")
    for layout, folder in (("masks", "Rename_Images"), ("pickle", "Frames")):
        for name in CLASSES:
            for video in VIDEOS[name]:
                for number in range(1, LENGTH + 1):
                    write_frame(base / layout / folder / name / video / f"{number:05d}.png", number)
    for name in CLASSES:
        for place, video in enumerate(VIDEOS[name]):
            file = mask_file(base / "masks", name, video)
            file.parent.mkdir(parents=True)
            savemat(file, {"part_mask": masks(place), "other": {"text": "x"}}, do_compression=True)
        (base / "masks" / "splits").mkdir(exist_ok=True)
        for split in (1, 2, 3):
            lines = [f"{video}.avi {1 + (video.startswith('t') == (split != 2))} " for video in VIDEOS[name]]
            (base / "masks" / "splits" / f"{name}_test_split{split}.txt").write_text("\n".join([*lines, "", ""]))
    (base / "pickle" / PICKLE).write_bytes(dumped(truth()))
    return base


@pytest.fixture
def root(trees: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(trees, tmp_path / "data")
    return tmp_path / "data"


def get(root: Path, tree: str = "masks", **options: object) -> Dataset:
    return jhmdb(**{"data_root": root, "path": Path(tree), "frames": 4, "size": 48, **options})


def test_both_layouts_give_the_same_boxes_splits_and_clips(trees: Path) -> None:
    first, second = get(trees), get(trees, "pickle")
    for part in ("train", "validation", "test"):
        a, b = getattr(first, part), getattr(second, part)
        assert tuple(a.classes) == CLASSES == tuple(b.classes) and a.flip and a.task == "boxes"
        assert set(a.groups) == set(b.groups) or part != "test"  # the draw goes by the order of the list
        for split in (a, b):
            for row in range(len(split)):
                name, video = split.groups[row].split("/")
                number = split.attributes.frame[row]
                expected = np.array(corners(VIDEOS[name].index(video), number)) * [48 / WIDTH, 2, 48 / WIDTH, 2]
                assert split.annotation(row).tolist() == [[*expected.tolist(), CLASSES.index(name)]]
                assert split.targets[row] == CLASSES.index(name)
                shown = split.video(row)
                assert shown.shape == (4, 48, 48, 3) and shown.dtype == torch.uint8
                assert shown[:, 0, 0, 0].tolist() == [level(max(1, n)) for n in range(number - 3, number + 1)]
    assert first.notes == second.notes == ("coverage 12 of 12 videos, 72 of their 72 frames",)
    assert set(first.test.groups) == {f"{name}/t{i}" for name in CLASSES for i in (1, 2)}
    assert first.test.attributes.object_share[0] == pytest.approx(11 * 16 / (HEIGHT * WIDTH))


def test_validation_is_a_share_of_each_class_and_no_video_is_in_two_splits(trees: Path) -> None:
    drawn = set()
    for seed in range(6):
        dataset = get(trees, validation_share=0.25, seed=seed)
        groups = [set(split.groups) for split in (dataset.train, dataset.validation, dataset.test)]
        assert [len(part) for part in groups] == [6, 2, 4] and len(set.union(*groups)) == 12
        assert sorted(video.split("/")[0] for video in groups[1]) == list(CLASSES)
        drawn |= groups[1]
    assert len(drawn) > 2 and f"kick_ball/{ODD}" in set(get(trees, seed=1).train.groups) | drawn


@pytest.mark.parametrize("layout", ["masks", "pickle"])
def test_the_splits_are_the_published_ones_and_the_fingerprint_follows_them(trees: Path, layout: str) -> None:
    one, two = get(trees, layout), get(trees, layout, split=2)
    assert set(one.test.groups) == set(two.train.groups) | set(two.validation.groups)
    changes = [{"split": 2}, {"frames": 5}, {"size": 40}, {"seed": 5}]
    prints = {get(trees, layout, **change).fingerprint for change in changes} | {one.fingerprint}
    assert len(prints) == 5 and get(trees, layout).fingerprint == one.fingerprint


def test_the_fingerprint_shows_another_box_or_picture(root: Path) -> None:
    before = get(root).fingerprint
    changed = masks(1)
    changed[3, 25, 2] = 1
    savemat(mask_file(root / "masks", CLASSES[0], "v1"), {"part_mask": changed})
    boxes = get(root).fingerprint
    frame = root / "masks" / "Rename_Images" / CLASSES[0] / "v2" / "00003.png"
    frame.write_bytes(frame.read_bytes() + b"x")
    assert len({before, boxes, get(root).fingerprint}) == 3


def test_missing_frames_are_counted_and_the_one_before_stands_for_them(root: Path) -> None:
    folder = root / "masks" / "Rename_Images" / CLASSES[0] / "t1"
    (folder / "00004.png").unlink()
    (folder / "Thumbs.db").write_text("x")
    dataset = get(root)
    assert dataset.notes == (
        "coverage 12 of 12 videos, 71 of their 72 frames",
        f"{CLASSES[0]}/t1: 1 of 6 frames left out, without a picture, a mask or a box",
    )
    row = [dataset.test.attributes.frame[i] for i in range(6)].index(5)
    assert dataset.test.groups[row] == f"{CLASSES[0]}/t1"
    assert dataset.test.video(row)[:, 0, 0, 0].tolist() == [level(n) for n in (2, 3, 3, 5)]
    assert "under the minimum coverage of 0.99; the first: brush_hair/t1" in refused(
        lambda: get(root, minimum_coverage=0.99)
    )


def test_empty_and_missing_masks_of_frames_are_counted(root: Path) -> None:
    empty = masks(4)
    empty[..., 2] = 0
    savemat(mask_file(root / "masks", CLASSES[0], "t1"), {"part_mask": empty.astype(float)})
    savemat(mask_file(root / "masks", CLASSES[1], "t2"), {"part_mask": masks(5)[..., :4] > 0})
    savemat(mask_file(root / "masks", CLASSES[1], "v1"), {"part_mask": masks(1)[..., 0]})  # of a single frame
    savemat(mask_file(root / "masks", CLASSES[1], "v2"), {"part_mask": np.repeat(masks(2), 2, 2)})  # twice as long
    dataset = get(root, minimum_coverage=0.5)
    assert dataset.notes[0] == "coverage 12 of 12 videos, 64 of their 78 frames"
    assert [note.split(" frames")[0] for note in dataset.notes[1:]] == [
        "brush_hair/t1: 1 of 6",
        "kick_ball/v1: 5 of 6",
        "kick_ball/v2: 6 of 12",
        "kick_ball/t2: 2 of 6",
    ]
    test = dataset.test
    frames = {group: test.attributes.frame[test.groups == group].tolist() for group in set(test.groups)}
    assert frames["brush_hair/t1"] == [1, 2, 4, 5, 6] and frames["kick_ball/t2"] == [1, 2, 3, 4]


def broken(root: Path, how: str) -> str:
    """Breaks brush_hair/v1; gives the words with which it is left out."""
    file, frames = mask_file(root / "masks", CLASSES[0], "v1"), root / "masks" / "Rename_Images" / CLASSES[0] / "v1"
    if how in ("truncated", "text", "zero"):
        file.write_bytes({"truncated": file.read_bytes()[:300], "text": b"no mat file at all" * 20, "zero": b""}[how])
        return f"{file}: cannot be read:"
    if how == "no frames":
        shutil.rmtree(frames)
        return f"{frames}: no such folder"
    if how == "no file":
        file.unlink()
        return f"{file}: no such file"
    if how == "picture":
        (frames / "00001.png").write_bytes(b"GIF89a" * 9)
        return f"{frames / '00001.png'}: cannot be decoded: is no JPEG or PNG"
    contents = {
        "all empty": (np.zeros_like(masks(0)), f"{CLASSES[0]}/v1: none of its frames has a box"),
        "wrong size": (masks(1)[:-1], f"{CLASSES[0]}/v1: its boxes are of {WIDTH}x{HEIGHT - 1} pixels, "),
        "turned": (masks(1).transpose(1, 0, 2), f"{CLASSES[0]}/v1: its boxes are of {HEIGHT}x{WIDTH} pixels, "),
        "a struct": (
            {"a": 1},
            f"{file}: cannot be read: ValueError: part_mask must be an array of numbers (H, W, T), not struct",
        ),
        "a cell": (
            np.array([1, "x"], object),
            f"{file}: cannot be read: ValueError: part_mask must be an array of numbers",
        ),
        "text mask": (
            "x",
            f"{file}: cannot be read: ValueError: part_mask must be an array of numbers (H, W, T), not char",
        ),
    }
    value, words = contents[how]
    savemat(file, {"part_mask": value})
    return words


HOW = ["truncated", "text", "zero", "no frames", "no file", "picture", "all empty", "wrong size", "turned"]


@pytest.mark.parametrize("how", [*HOW, "a struct", "a cell", "text mask"])
def test_a_video_that_cannot_be_used_is_left_out_with_one_line_or_refused(root: Path, how: str) -> None:
    words = broken(root, how)
    dataset = get(root, minimum_coverage=0.9)
    assert dataset.notes[0] == "coverage 11 of 12 videos, 66 of their 66 frames"
    assert len(dataset.notes) == 2 and dataset.notes[1].startswith(f"left out {words}") and "\n" not in dataset.notes[1]
    assert f"{CLASSES[0]}/v1" not in {*dataset.train.groups, *dataset.validation.groups}
    line = refused(lambda: get(root))
    assert "only" not in line and "coverage 11 of 12 videos" in line and f"the first: left out {words}" in line


def test_a_mask_file_without_the_array_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "puppet_mask.mat"
    savemat(file, {"other": masks(0)})
    assert refused(lambda: read_masks(file)).endswith("not missing of shape ()")
    savemat(file, {"part_mask": masks(0)})
    monkeypatch.setattr(module, "LARGEST", HEIGHT * WIDTH * LENGTH - 1)
    assert "part_mask must be an array of numbers" in refused(lambda: read_masks(file))


def test_a_broken_frame_is_named_when_it_is_read(root: Path) -> None:
    file = root / "masks" / "Rename_Images" / CLASSES[0] / "t1" / "00002.png"
    file.write_bytes(file.read_bytes()[:40])
    split = get(root).test
    assert f"{file}: cannot be decoded" in refused(lambda: split.video(2))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("v1.avi", "'v1.avi' is not a video's name and 1 (train) or 2 (test)"),
        ("v1.avi 3", "'v1.avi 3' is not a video's name"),
        ("../kick_ball/v1.avi 1", "'../kick_ball/v1.avi 1' is not a video's name"),
        (".. 1", "'.. 1' is not a video's name"),
        ("a\\b 1", "is not a video's name"),
        ("v1.avi 1\nv1.avi 2", "v1 is listed twice"),
    ],
)
def test_a_malformed_line_of_a_split_is_refused(root: Path, line: str, words: str) -> None:
    file = root / "masks" / "splits" / f"{CLASSES[0]}_test_split1.txt"
    file.write_text(f"v2.avi 1\n\n{line}\n")
    message = refused(lambda: get(root))
    assert message.startswith(f"{file}:{2 + len(line.splitlines())}: ") and words in message


def test_a_listed_video_that_is_not_there_is_left_out(root: Path) -> None:
    file = root / "masks" / "splits" / f"{CLASSES[0]}_test_split1.txt"
    file.write_text(file.read_text() + "gone.avi 1\n")
    fault = f"{root / 'masks' / 'Rename_Images' / CLASSES[0] / 'gone'}: no such folder"
    assert get(root, minimum_coverage=0.9).notes[1] == f"left out {fault}"
    call: dict[str, Any] = {"data_root": root, "frames": 4, "size": 48, "read": False, "cache": root, "workers": 0}
    report = check("jhmdb", options={"path": Path("masks")}, **call)
    assert [(found.kind, found.message) for found in report.faults] == [("broken", fault)]
    assert len(report.notes) == 1 and "coverage 12 of 13 videos" in report.notes[0]
    content = truth()
    content["train_videos"][0].append("kick_ball/gone")
    (root / "pickle" / PICKLE).write_bytes(dumped(content))
    note = get(root, "pickle", minimum_coverage=0.9).notes[1]
    assert note == f"left out {root / 'pickle' / 'Frames' / 'kick_ball' / 'gone'}: no such folder"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": 4}, "split must be 1 to 3, not 4"),
        ({"frames": 0}, "frames and size must be 1 or more"),
        ({"validation_share": 0.6}, "validation_share must lie above 0 and at most at 0.5, got 0.6"),
        ({"minimum_coverage": 1.5}, "minimum_coverage must lie in 0..1, got 1.5"),
        ({"path": Path("nowhere")}, "needs Rename_Images, puppet_mask, splits or Frames, JHMDB-GT.pkl in it; set"),
        ({"layout": "frames_pickle"}, "needs Frames, JHMDB-GT.pkl in it"),
    ],
)
def test_an_option_that_cannot_be_is_named(trees: Path, options: dict[str, object], words: str) -> None:
    assert words in refused(lambda: get(trees, **options))


def test_a_layout_without_videos_of_a_split_is_refused(root: Path) -> None:
    for file in (root / "masks" / "splits").glob("*_test_split1.txt"):
        file.write_text("v1.avi 1\nv2.avi 1\n")
    assert refused(lambda: get(root)).endswith("no video is left for the test split")
    for file in (root / "masks" / "splits").glob("*_test_split3.txt"):
        file.unlink()
    assert refused(lambda: get(root, split=3)).endswith("splits: has no <class>_test_split3.txt")


# --- the pickle


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("python2", [True, False])
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch {}", "posix.system"),
        (eval, "open({!r}, 'w')", "eval"),
        (exec, "open({!r}, 'w')", "exec"),
        (np.load, "{}", "load"),
        (getattr, "{}", "getattr"),
        (set, "{}", "set"),
    ],
)
def test_a_malicious_pickle_is_refused_with_the_name_it_asks_for(
    root: Path, tmp_path: Path, python2: bool, function: object, argument: str, named: str
) -> None:
    file, touched = root / "pickle" / PICKLE, tmp_path / "touched"
    file.write_bytes(dumped({**truth(), "nframes": Attack(function, argument.format(str(touched)))}, python2))
    line = refused(lambda: get(root, "pickle"))
    assert line.startswith(f"{file}: cannot be read: UnpicklingError: asks for ") and named in line
    assert "only arrays and plain containers are taken" in line and not touched.exists()


def forged(kind: bytes, state: bytes, shape: bytes = b"(I1\nt") -> bytes:
    """A pickle of an array with a type, a state of the type, and eight bytes of data that could be a pointer."""
    dtype = b"cnumpy\ndtype\n(V" + kind + b"\nI0\nI1\ntR" + state
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
    return array + b"(I1\n" + shape + dtype + b"I00\nVABCDEFGH\ntb."


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (forged(b"O8", b""), "has an array of type 'O8', not of numbers"),
        (forged(b"V8", b"(I3\nV|\nN(Va\nt}I8\nI1\nI0\ntb"), "has an array of type 'V8', not of numbers"),
        (forged(b"f8", b"", b"(I1000000000000\nt"), "cannot reshape array"),
        (forged(b"f8", b"(Va\nVb\nd"), "cannot be read"),
        (b"cnumpy\nndarray\n(V|b\ntR}Va\nI1\nsb.", "cannot be read"),
        (b"Pposix.system\n.", "cannot be read"),
        (b"\x82\x01.", "cannot be read"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "labels: there must be such a list"),  # a memo of four billion
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00a.", "cannot be read"),  # bytes that are not there
        (b"\x80\x02}(" + b")" + b"\x85" * 500_000 + b"K\x01u.", "has tuples in tuples in tuples"),  # as a key
        (b"\x80\x04(\x91.", "cannot be read"),  # a frozen set, which could be as deep
        (b"", "it breaks off"),
        (b"\x80\x02}q\x00.", "labels: there must be such a list"),
        (b"]q\x00.", "labels: there must be such a list"),
    ],
)
def test_forged_arrays_and_broken_pickles_are_refused(root: Path, data: bytes, words: str) -> None:
    file = root / "pickle" / PICKLE
    file.write_bytes(data)
    line = refused(lambda: get(root, "pickle"))
    assert line.startswith(f"{file}: ") and words in line


def test_a_pickle_that_is_too_large_or_not_there_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "pickle" / PICKLE
    assert refused(lambda: read_pickle(file.parent / "none.pkl")).endswith("none.pkl: No such file or directory")
    monkeypatch.setattr(safe_pickle, "LARGEST", 1000)
    assert refused(lambda: get(root, "pickle")) == f"{file}: larger than 1000 bytes"


def test_a_few_bytes_cannot_claim_all_memory(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pkl"
    file.write_bytes(b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".")  # a bytearray of a terabyte, it says
    assert "KeyError" in refused(lambda: read_pickle(file))  # the opcode is not known


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_pickle_never_does_more_than_raise(tmp_path: Path, data: st.DataObject) -> None:
    whole = dumped(truth(), data.draw(st.booleans()))
    file, cut = tmp_path / PICKLE, data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:cut])
    assert refused(lambda: read_pickle(file)).startswith(f"{file}: ")
    file.write_bytes(whole[:cut] + data.draw(st.binary(min_size=1, max_size=4)) + whole[cut + 1 :])
    try:
        read_pickle(file)
    except DataError as error:
        assert str(error).startswith(f"{file}: ") and "\n" not in str(error)


@given(st.sampled_from(["f4", "f8", "i2", "i4", "i8", "u1", ">f4", ">i4"]), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arrays_of_numbers_come_back_as_they_were(tmp_path: Path, kind: str, python2: bool, turned: bool) -> None:
    array = np.arange(-6, 6).astype(kind).reshape(3, 4)
    file = tmp_path / "a.pkl"
    file.write_bytes(dumped([array.T if turned else array, "text", 1.5, None], python2))
    found, *rest = read_pickle(file)
    assert rest == ["text", 1.5, None]
    np.testing.assert_array_equal(np.asarray(found), array.T if turned else array)


def change(field: str, value: object) -> dict[str, object]:
    return {**truth(), field: value}


TUBES = truth()["gttubes"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (change("labels", None), "labels: there must be such a list"),
        (change("gttubes", []), "gttubes: there must be such a dict"),
        (change("train_videos", []), "train_videos: has no list of videos for split 1"),
        (change("train_videos", [["kick_ball"]]), "train_videos: 'kick_ball' is not <class>/<video>"),
        (change("train_videos", [["kick_ball/.."]]), "'kick_ball/..' is not <class>/<video>"),
        (change("train_videos", [[5]]), "train_videos: 'int' is not <class>/<video>"),
        (change("train_videos", [["dance/v1"]]), "'dance/v1' is not <class>/<video> of a class in labels"),
        (change("test_videos", truth()["train_videos"]), f"test_videos: brush_hair/{ODD} is listed twice"),
    ],
)
def test_a_pickle_of_another_form_is_refused(root: Path, content: dict[str, object], words: str) -> None:
    (root / "pickle" / PICKLE).write_bytes(dumped(content))
    assert words in refused(lambda: get(root, "pickle"))


@pytest.mark.parametrize(
    "tubes",
    [
        None,
        {},
        {0: [np.zeros((2, 5))], 1: [np.zeros((2, 5))]},
        {1: [np.full((2, 5), np.nan)]},
        {1: ["x"]},
        {1: []},
        {0: TUBES["kick_ball/v1"][1]},
        {1: [np.zeros((2, 4))]},
        {1: [np.full((1, 5), 1e30)]},
        [np.zeros((2, 5))],
    ],
)
def test_tubes_that_cannot_be_used_leave_their_video_out(root: Path, tubes: object) -> None:
    content = change("gttubes", {**TUBES, "kick_ball/v1": tubes})
    (root / "pickle" / PICKLE).write_bytes(dumped(content))
    dataset = get(root, "pickle", minimum_coverage=0.9)
    words = f"left out {root / 'pickle' / PICKLE}: gttubes or resolution: nothing that can be used on kick_ball/v1"
    assert dataset.notes[1:] == (words,)


def test_boxes_that_reach_out_are_clipped_and_those_outside_are_no_rows(root: Path) -> None:
    tube = np.array([[1, -5, -5, 16, 12], [2, 40, 3, 50, 9], [3, 4, 4, 99, 99], [9, 1, 1, 5, 5]], float)
    content = change("gttubes", {**TUBES, "kick_ball/t1": {1: [tube, np.array([[3, 0, 0, 8, 6]])]}})
    (root / "pickle" / PICKLE).write_bytes(dumped(content))
    dataset = get(root, "pickle", minimum_coverage=0.5)
    rows = np.flatnonzero(dataset.test.groups == "kick_ball/t1")
    assert [dataset.test.annotation(row)[:, :4].tolist() for row in rows] == [
        [[0, 0, 24, 24]],
        [[6, 8, 48, 48], [0, 0, 12, 12]],
    ]
    assert dataset.notes[1].startswith("kick_ball/t1: 5 of 7 frames left out")


# --- links


@pytest.mark.parametrize(
    ("tree", "file"),
    [
        ("masks", "Rename_Images/brush_hair/v1/00003.png"),
        ("masks", "puppet_mask/brush_hair/v1/puppet_mask.mat"),
        ("pickle", "Frames/brush_hair/v1/00003.png"),
    ],
)
def test_a_link_that_leads_out_leaves_its_video_out(root: Path, tree: str, file: str) -> None:
    linked = root / tree / file
    linked.rename(root / "away")
    linked.symlink_to(root / "away")
    dataset = get(root, tree, minimum_coverage=0.9)
    assert dataset.notes[1:] == (f"left out {linked}: is a link that leads out of {root / tree}",)
    linked.unlink()
    (root / "away").rename(linked.with_name("inside"))
    linked.symlink_to("inside")
    assert len(get(root, tree).notes) == 1


def test_a_pickle_that_is_a_link_that_leads_out_is_refused(root: Path) -> None:
    file = root / "pickle" / PICKLE
    file.rename(root / "away.pkl")
    file.symlink_to(root / "away.pkl")
    assert refused(lambda: get(root, "pickle")) == f"{file}: is a link that leads out of {root / 'pickle'}"


# --- films


def of_films(root: Path) -> list[str]:
    """Turns the videos of the masks' layout into three clips each of three training films and one test film a class."""
    films = []
    for name in CLASSES:
        files = root / "masks" / "splits" / f"{name}_test_split1.txt"
        lines = []
        for film, number in ((film, number) for film in range(4) for number in range(3)):
            video = f"Film_{film}_{name}_u_nm_np1_{('fr', 'ba', 'le')[number]}_goo_{number}"
            for folder in ("Rename_Images", "puppet_mask"):
                shutil.copytree(root / "masks" / folder / name / "v1", root / "masks" / folder / name / video)
            lines.append(f"{video}.avi {1 + (film == 3)}")
        films += [f"{name}/Film_{film}_{name}" for film in range(4)]
        files.write_text("\n".join(lines))
    return films


def test_the_clips_of_one_film_are_of_one_source_and_in_one_split(root: Path) -> None:
    films = of_films(root)
    for seed in range(4):
        dataset = get(root, seed=seed)
        groups = [set(split.groups) for split in (dataset.train, dataset.validation, dataset.test)]
        assert [len(part) for part in groups] == [4, 2, 2] and set.union(*groups) == set(films)
        assert len(dataset.validation) == 2 * 3 * LENGTH and len(dataset.notes) == 1
        assert len(set(dataset.validation.attributes["path"])) == 6
    assert dataset.revision == 2
    lists = root / "masks" / "splits" / f"{CLASSES[0]}_test_split1.txt"
    lists.write_text(lists.read_text().replace("fr_goo_0.avi 2", "fr_goo_0.avi 1"))
    assert get(root).notes[1:] == ("1 sources have videos in training and in test, as the set was published",)
