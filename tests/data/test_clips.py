"""A clip read on its own has the frames that it has in the whole video, whatever the file; and is cheaper."""

import csv
import os
from contextlib import nullcontext
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import DataError
from bench.data.loading import anew
from bench.data.video import clip as clip_module
from bench.data.video.clip import read_clip
from bench.data.video.limits import Limits
from bench.data.video.pictures import picture_of
from bench.data.video.reader import VideoReader
from bench.data.video.whole import read_video

STYLES = {
    "b-frames.mp4": ("libx264", {"g": "12", "bf": "3"}),
    "open-gop.mkv": ("libx264", {"x264-params": "keyint=8:open-gop=1:bframes=3:b-adapt=0"}),
    "intra-refresh.mp4": ("libx264", {"x264-params": "keyint=10:intra-refresh=1"}),
    "every-key.mp4": ("libx264", {"g": "1"}),
    "one-key.mp4": ("libx264", {"g": "1000"}),
    "hevc-open.mp4": ("libx265", {"x265-params": "keyint=8:open-gop=1:bframes=3:log-level=none"}),
    "444.mp4": ("libx264", {"g": "8", "x264-params": "qp=0"}),
    "xvid.avi": ("mpeg4", {"g": "6"}),
    "vp9.webm": ("libvpx-vp9", {"g": "10", "lag-in-frames": "8", "auto-alt-ref": "1", "deadline": "realtime"}),
    "vp8.webm": ("libvpx", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "realtime"}),
    "mpeg2.ts": ("mpeg2video", {"g": "6", "bf": "2"}),
}
COUNT = 40


def written(path, codec, options):
    """Forty moving pictures, 25 a second, each unlike all others."""
    rows, columns = np.mgrid[0:48, 0:64]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.options = 64, 48, options
        stream.pix_fmt = "yuv444p" if "444" in path.name else "yuv420p"
        for number in range(COUNT):
            waves = np.sin((rows + 3 * number) / 5) * np.cos((columns - 2 * number) / 7)
            picture = np.stack([waves * 100 + 120, waves * 50 + 3 * number, np.full_like(waves, 5 * number)], -1)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Style -> file, with the whole video at a rate and without."""
    folder = tmp_path_factory.mktemp("styles")
    paths = {name: written(folder / name, *style) for name, style in STYLES.items()}
    return {name: (path, {rate: read_video(path, 24, rate) for rate in (None, 10.0)}) for name, path in paths.items()}


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=12, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=6), rate=st.sampled_from([None, 10.0]))
def test_a_clip_is_what_the_whole_video_has_there(files, style, shares, rate):
    path, whole = files[style]
    lengths = []

    def choose(length):
        lengths.append(length)
        return [min(int(share * length), length - 1) for share in shares]

    clip = read_clip(path, choose, 24, rate)
    if clip is None:  # not sure where its frames are
        clip = VideoReader(24, rate, cache_bytes=0).clip(path, choose)
    assert set(lengths) == {len(whole[rate])}
    assert torch.equal(clip, whole[rate][choose(lengths[0])])


@pytest.mark.parametrize("style", ["b-frames.mp4", "open-gop.mkv", "every-key.mp4", "hevc-open.mp4", "vp9.webm"])
def test_the_usual_files_are_read_without_their_rest(files, style, monkeypatch):
    path, whole = files[style]
    decoded = []
    monkeypatch.setattr(clip_module, "picture_of", lambda *given: decoded.append(1) or picture_of(*given))
    clip = read_clip(path, lambda length: [20, 22, 20], 24)
    assert torch.equal(clip, whole[None][[20, 22, 20]]) and len(decoded) == 2


def test_a_file_whose_packets_say_something_else_is_read_whole(files, monkeypatch):
    path, whole = files["b-frames.mp4"]
    listed = clip_module._listed

    def wrong(*given):
        found = listed(*given)
        found.stamps[25] += 1
        return found

    monkeypatch.setattr(clip_module, "_listed", wrong)
    assert read_clip(path, lambda length: [24, 26], 24) is None
    assert torch.equal(VideoReader(24, None, cache_bytes=0).clip(path, lambda length: [24, 26]), whole[None][[24, 26]])


def test_the_reader_keeps_whole_videos_while_there_is_room(files, monkeypatch):
    first, whole = files["b-frames.mp4"]
    second, _ = files["one-key.mp4"]
    read = []
    monkeypatch.setattr(
        "bench.data.video.reader.read_video", lambda path, *more: read.append(path) or read_video(path, *more)
    )
    reader = VideoReader(24, None, cache_bytes=whole[None].nbytes)
    for path in (first, second, first, second):
        assert len(reader.clip(path, lambda length: [5, 6])) == 2
    assert read == [first]


def test_where_decoding_is_timed_nothing_is_kept(files, monkeypatch):
    path, _ = files["one-key.mp4"]
    decoded = []
    monkeypatch.setattr(
        "bench.data.video.reader.read_clip", lambda path, *more: decoded.append(path) or read_clip(path, *more)
    )
    for context, count in ((nullcontext(), 1), (anew(), 3)):
        decoded.clear()
        with context:
            reader = VideoReader(24)
            for _ in range(3):
                reader.clip(path, lambda length: [5, 6])
        assert decoded == [path] * count
    reader(path)
    decoded.clear()
    with anew():
        reader.clip(path, lambda length: [5, 6])
    assert decoded == [path]  # though it was kept before


@pytest.mark.parametrize(
    ("limits", "rate", "words"),
    [
        (Limits(pixels=48 * 64 - 1), None, "{path}: "),
        (Limits(frames=COUNT - 1), None, "more than 39 frames"),
        (Limits(seconds=1.5), 10.0, "more than 1.5 seconds"),
        (Limits(size=24 * 32 * 3), None, "more than 131072 frames or 2304 bytes"),
        (Limits(frames=10**6), 1e6, "more than 1000000 frames"),
    ],
)
@pytest.mark.parametrize("how", ["whole", "clip"])
def test_every_limit_is_kept_and_named(files, limits, rate, words, how):
    path, _ = files["b-frames.mp4"]
    with pytest.raises(DataError) as caught:
        if how == "whole":
            read_video(path, 24, rate, limits)
        else:
            read_clip(path, lambda length: [0, 1], 24, rate, limits)
    assert words.format(path=path) in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    exact = Limits(pixels=48 * 64, frames=COUNT, seconds=1.56, size=COUNT * 24 * 32 * 3)
    assert len(read_video(path, 24, 10.0, exact)) == 16


ROOT = os.environ.get("VARED_DATA")
ASSETS = Path(ROOT or ".") / "decode_assets"
MANIFEST = list(csv.DictReader((ASSETS / "manifest.csv").open())) if ROOT and ASSETS.is_dir() else []


@pytest.mark.bad_input
@pytest.mark.skipif(not MANIFEST, reason="VARED_DATA names no folder with decode_assets/")
def test_every_odd_file_gives_what_its_manifest_says_whole_and_in_clips():
    wrong = []
    for row in MANIFEST:
        path, broken = ASSETS / row["file"], bool(row["decode_error"] or row["open_error"])
        reader = VideoReader(32, None, cache_bytes=0)
        try:
            video = reader(path)
            clip = reader.clip(path, lambda length: [length // 2, length - 1, length // 3])
        except DataError as error:
            if not broken or not str(error).startswith(f"{path}: ") or "\n" in str(error):
                wrong.append(f"{path.name}: {error}")
            continue
        sides = sorted((int(row["w"]), int(row["h"])))
        turned = abs(int(row["rotation"])) % 180 != 0
        shape = (int(row["w"]), int(row["h"]))[:: 1 if turned else -1]  # height and width as they are shown
        scaled = tuple(max(32, round(side * 32 / sides[0])) for side in shape)
        if broken or video.shape != (int(row["decoded_frames"]), *scaled, 3):
            wrong.append(f"{path.name}: {tuple(video.shape)}, not {row['decoded_frames']} of {scaled}")
        elif not torch.equal(clip, video[[len(video) // 2, -1, len(video) // 3]]):
            wrong.append(f"{path.name}: a clip is not what the whole video has")
    assert not wrong, wrong
    assert len(MANIFEST) == 33
