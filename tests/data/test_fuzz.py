"""Whatever bytes lists, annotations and videos hold, a DataError of one line comes out, or something usable."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_videos import write_video
from pictures import png
from scipy.io import savemat

from bench.data import DataError
from bench.data.ade20k import _listed as odgt_rows
from bench.data.camvid import _rows as camvid_rows
from bench.data.frames import FrameReader, frame_files
from bench.data.furg_fire import read_annotations
from bench.data.images import read_picture
from bench.data.jhmdb import read_masks
from bench.data.list_rows import (
    Listed,
    activitynet_rows,
    diving_rows,
    flagged_rows,
    folder_rows,
    id_rows,
    kinetics_rows,
    moments_rows,
    path_rows,
    read_classes,
    something_rows,
)
from bench.data.lists import Splitting, list_dataset
from bench.data.media import Media, listed_media
from bench.data.safe_pickle import read_pickle
from bench.data.video.clip import read_clip
from bench.data.video.limits import Limits
from bench.data.video.opened import check_video
from bench.data.video.reader import VideoReader
from bench.data.video.whole import read_video

pytestmark = pytest.mark.bad_input
FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
READERS = {
    "paths": path_rows,
    "kinetics": kinetics_rows,
    "moments": moments_rows,
    "ucf101": folder_rows,
    "hmdb51": flagged_rows("1"),
    "ids": id_rows,
    "something": something_rows,
    "diving": diving_rows,
    "activitynet": activitynet_rows("training"),
    "camvid": camvid_rows,
    "odgt": odgt_rows,
}
PIECES = [
    *("train/air drumming/a_b-c_000001_000011.mp4", "../../x", "/etc/passwd", "archery", "0", "1", "-1", "9" * 400),
    *("label,youtube_id,time_start,time_end,split", "split,image,mask,sequence", "null", "1e999", "NaN"),
    *(" ", ";", ",", "\t", '"', "\0", "\ufeff", "\u202e", "\ud7ff", "é", "e\u0301", "{", "}", "[", "]"),
    *('{"id": "1", "template": "[a]"}', '{"database": {"a": {"subset": "training", "annotations": [{}]}}}'),
    '{"fpath_img": "a", "fpath_segm": "b", "width": 1, "height": 1}',
]
TEXTS = st.lists(st.sampled_from([*PIECES, "\n", "\r\n", "\u2028"]), max_size=14).map("".join)
CONTENT = st.one_of(TEXTS.map(str.encode), st.binary(max_size=200))


def usable_or_one_line(call):
    """The result, or None after a DataError of one line."""
    try:
        return call()
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return None


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(content=CONTENT)
def test_list_readers(tmp_path, name, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    for row in usable_or_one_line(lambda: list(READERS[name](path))) or []:
        if isinstance(row, DataError):
            assert str(row).startswith(str(path)) and "\n" not in str(row)
        elif isinstance(row, Listed):
            assert row.name and row.frames >= 0
            found = Media(tmp_path, ["a/x.mp4"], {"x": ["a/x.mp4"]}).find(row.name)
            assert found in (None, "a/x.mp4")  # never anything else than what lies there


@FUZZ
@given(content=CONTENT, json_too=st.booleans())
def test_class_files(tmp_path, content, json_too):
    path = tmp_path / ("classes.json" if json_too else "classes.txt")
    path.write_bytes(content)
    names = usable_or_one_line(lambda: read_classes(path))
    assert names is None or (names and len(set(names)) == len(names))


@FUZZ
@example(content=b"path,label\n" + 400 * b"9" + b",a\n")  # a name that the system refuses
@given(content=CONTENT.map(lambda rest: b"path,label\n" + rest))
def test_csv_lists(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    usable_or_one_line(lambda: list_dataset(path, VideoReader(14), Splitting()))


@pytest.mark.parametrize("depth", [10_000, 200_000])
@pytest.mark.parametrize("name", ["something", "diving", "activitynet"])
def test_json_without_end_is_refused(tmp_path, name, depth):
    path = tmp_path / "deep.json"
    path.write_text("[" * depth)
    assert usable_or_one_line(lambda: list(READERS[name](path))) is None


@FUZZ
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=6), cut=st.floats(0.1, 1)
)
@pytest.mark.parametrize("kind", ["mat", "xml", "pickle", "png", "odgt"])
def test_annotations_with_broken_bytes(tmp_path, kind, places, cut):
    path, read = tmp_path / f"file.{kind}", None
    if kind == "mat":
        savemat(path, {"part_mask": np.ones((6, 8, 3), np.uint8)})
        read = read_masks
    elif kind == "xml":
        path.write_text(
            "<opencv_storage><fps>30</fps><frames><_><frameNumber>0</frameNumber></_></frames></opencv_storage>"
        )
        read = read_annotations
    elif kind == "pickle":
        path.write_bytes(b"\x80\x02}q\x00(X\x06\x00\x00\x00labelsq\x01]q\x02U\x01aau.")
        read = read_pickle
    elif kind == "png":
        path.write_bytes(png(np.full((6, 8), 7, np.uint8)))
        read = read_picture
    else:
        path.write_text('{"fpath_img": "a", "fpath_segm": "b", "width": 1, "height": 1}\n' * 3)
        read = lambda file: list(odgt_rows(file))  # noqa: E731
    data = bytearray(path.read_bytes())
    for share, noise in places:
        start = int(share * max(0, len(data) - len(noise)))
        data[start : start + len(noise)] = noise
    path.write_bytes(data[: int(cut * len(data))])
    usable_or_one_line(lambda: read(path))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Bytes of small videos in three containers."""
    folder, found = tmp_path_factory.mktemp("fuzz"), {}
    for name, codec in (("a.mp4", "libx264"), ("a.mkv", "mpeg4"), ("a.avi", "mpeg4")):
        found[name] = write_video(folder / name, [40 * i for i in range(12)], 64, 48, codec=codec).read_bytes()
    return found


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@FUZZ
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=30)), max_size=8), cut=st.floats(0.05, 1)
)
def test_videos_with_broken_bytes(tmp_path, video, name, places, cut):
    path, data = tmp_path / name, bytearray(video[name])
    for share, noise in places:
        start = int(share * max(0, len(data) - len(noise)))
        data[start : start + len(noise)] = noise
    path.write_bytes(data[: int(cut * len(data))])
    limits = Limits(pixels=2**16, frames=500, seconds=100.0, size=2**22)
    usable_or_one_line(lambda: check_video(path))
    for rate in (None, 10.0):
        whole = usable_or_one_line(lambda rate=rate: read_video(path, 16, rate, limits))
        clip = usable_or_one_line(
            lambda rate=rate: read_clip(path, lambda length: [0, length // 2, length - 1], 16, rate, limits)
        )
        for found in (whole, clip):
            assert found is None or (found.dtype == torch.uint8 and found.nbytes <= limits.size and len(found))


def test_a_small_file_cannot_claim_much_memory(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "large.png"
    path.write_bytes(
        png(np.zeros((1, 1), np.uint8)).replace((1).to_bytes(4, "big") * 2, (60_000).to_bytes(4, "big") * 2)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert usable_or_one_line(lambda: read_picture(path)) is None
    shown = tmp_path / "large.gif"
    shown.write_bytes(
        b"GIF89a"
        + (65_535).to_bytes(2, "little") * 2
        + b"\x80\0\0"
        + b"\0\0\0\xff\xff\xff"
        + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    )
    assert usable_or_one_line(lambda: read_video(shown, 16)) is None
    assert usable_or_one_line(lambda: read_clip(shown, lambda length: [0], 16)) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB; the picture would take 17 GB


@FUZZ
@given(
    names=st.lists(
        st.sampled_from(
            [
                "img_1.png",
                "img_01.png",
                "1.jpg",
                "img_" + "9" * 200 + ".png",
                "a.png",
                "\u202e1.png",
                ".1.png",
                "²1.png",
            ]
        )
    )
)
def test_folders_with_any_names(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names") / "clip"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(png(np.zeros((16, 16), np.uint8)))
    files = usable_or_one_line(lambda: frame_files(folder))
    assert files is None or all(file.parent == folder for file in files)
    usable_or_one_line(lambda: FrameReader(8)(folder))
    media = listed_media(folder.parent)
    assert all("\u202e" not in path for path in media.paths)


def test_a_name_that_is_no_unicode_is_passed_over(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.mp4", "wb"):
        pass
    media = listed_media(tmp_path)
    assert media.paths == [] and len(media.faults) == 1
    json.dumps([str(fault) for fault in media.faults]).encode()
    assert isinstance(media.root, Path)
