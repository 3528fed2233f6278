"""Files are written with PyAV, each frame a grey of its own, and read back; every refusal is one line with the name."""

import math
import shutil
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data import DataError
from bench.data.video.limits import Limits
from bench.data.video.opened import check_video
from bench.data.video.reader import VideoReader
from bench.data.video.whole import _timed, on_show, read_video

IDENTITY = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
CLOCKWISE = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000 00000000 00000000 00000000 40000000")


def shown(video):
    """The number of each frame, from its grey."""
    return [round((float(frame.float().mean()) - 20) / 8) for frame in video]


def refusal(call, path):
    with pytest.raises(DataError) as caught:
        call(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def read(path):
    return read_video(path, 16, None)


def audio(path, seconds=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * 8000 * seconds))
    return path


def test_a_constant_rate_is_thinned_evenly(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", [round(1000 * i / 24) for i in range(24)])
    every = read_video(path, 12)
    assert every.shape == (24, 12, 16, 3) and every.dtype == torch.uint8
    assert shown(every) == list(range(24))
    assert shown(read_video(path, 12, 24.0)) == list(range(24))
    assert shown(read_video(path, 12, 12.0)) == list(range(0, 24, 2))
    assert shown(read_video(path, 12, 8.0)) == list(range(0, 24, 3))
    assert shown(read_video(path, 12, 48.0)) == [i // 2 for i in range(47)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_variable_rate_is_followed_by_time_and_not_by_the_header(make_video, tmp_path, name):
    path = make_video(tmp_path / name, [0, 100, 200, 1200, 1300])  # the header's rate is 30
    assert shown(read_video(path, 12, 10.0)) == [0, 1] + [2] * 10 + [3, 4]
    assert shown(read_video(path, 12)) == [0, 1, 2, 3, 4]


def test_time_counts_from_the_first_frame(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", [5000, 5100, 5200])
    assert shown(read_video(path, 12, 10.0)) == [0, 1, 2]


@given(
    gaps=st.lists(st.integers(0, 400), min_size=0, max_size=30),
    rate=st.sampled_from([1.0, 5.0, 12.5, 15.0, 29.97, 60.0]),
)
def test_the_frame_on_show_at_each_moment_is_the_last_that_has_begun(gaps, rate):
    times = [0.0, *(t / 1000 for t in np.cumsum(gaps).tolist())]
    chosen = [frame for frame, n in on_show(enumerate(times), rate) for _ in range(n)]
    moments = math.floor(times[-1] * rate + 0.1) + 1
    late = 0.1 + 1e-9  # of the spacing
    assert len(chosen) == moments
    for k, frame in enumerate(chosen):
        assert times[frame] * rate <= k + late
        assert frame == len(times) - 1 or times[frame + 1] * rate >= k + 0.1 - 1e-9


def test_time_stamps_that_are_missing_or_run_backwards_keep_the_frames_in_order():
    class Frame:
        def __init__(self, time):
            self.time = time

    missing = [Frame(t) for t in (None, None, None)]
    assert [t for _, t in _timed(missing, 4.0)] == [0, 0.25, 0.5]
    backwards = [Frame(t) for t in (3.0, 4.0, 3.5, 5.0)]
    assert [t for _, t in _timed(backwards, 25.0)] == [0, 1, 1, 2]


def test_a_raw_stream_without_time_stamps_still_gives_its_frames(make_video, tmp_path):
    path = make_video(tmp_path / "a.h264", [0, 40, 80, 120], codec="libx264")
    with av.open(str(path)) as container:
        assert {frame.pts for frame in container.decode(video=0)} == {None}
        rate = float(container.streams.video[0].guessed_rate)
    assert shown(read_video(path, 12, rate)) == shown(read(path)) == [0, 1, 2, 3]


@pytest.mark.parametrize("rate", [None, 1.0, 60.0])
def test_one_frame_is_a_video(make_video, tmp_path, rate):
    assert shown(read_video(make_video(tmp_path / "a.mp4", [0]), 12, rate)) == [0]


@pytest.mark.parametrize(
    ("width", "height", "shape"), [(33, 21, (16, 25)), (21, 33, (25, 16)), (7, 7, (16, 16)), (321, 5, (16, 1027))]
)
def test_odd_sizes_keep_their_shape(make_video, tmp_path, width, height, shape):
    video = read(make_video(tmp_path / "a.mkv", [0, 40], width, height, codec="ffv1"))
    assert video.shape == (2, *shape, 3)
    assert video.is_contiguous()


def test_rotation_in_the_metadata_is_honoured(make_video, tmp_path):
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:, 16:] = 200  # bright on the right: after a quarter turn clockwise, at the bottom
    path = make_video(tmp_path / "a.mp4", [0], pictures=[picture])
    data = path.read_bytes()
    place = data.rindex(IDENTITY)  # the track's; the file's comes before
    path.write_bytes(data[:place] + CLOCKWISE + data[place + len(IDENTITY) :])
    (frame,) = read_video(path, 24)
    assert frame.shape == (32, 24, 3)
    assert frame[:14].float().mean() < 10 and frame[18:].float().mean() > 190


def test_two_sizes_in_one_stream_come_out_as_the_first(make_video, tmp_path):
    small = make_video(tmp_path / "1.h264", range(0, 400, 40), 32, 24, codec="libx264").read_bytes()
    large = make_video(tmp_path / "2.h264", range(0, 400, 40), 64, 80, codec="libx264").read_bytes()
    path = tmp_path / "both.h264"
    path.write_bytes(small + large)
    assert read(path).shape == (20, 16, 21, 3)


def test_a_name_may_hold_anything(make_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "plain.mp4", [0, 40])
    for name in ("http:é %d #1.mp4", "concat:a|b.mp4", "-i.mp4"):
        shutil.copy("plain.mp4", name)
        assert len(read(Path(name))) == 2


@pytest.mark.bad_input
def test_a_playlist_does_not_lead_elsewhere(make_video, tmp_path):
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    assert "a.m3u8" in refusal(read, path)


@pytest.mark.bad_input
@pytest.mark.parametrize("call", [read, check_video])
def test_what_is_no_video_is_refused_by_name(tmp_path, call):
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("not a video\n" * 100)
    for path in (empty, text, tmp_path, tmp_path / "missing.mp4"):
        refusal(call, path)
    assert "no such file" in refusal(call, tmp_path / "missing.mp4")
    assert "no video stream" in refusal(call, audio(tmp_path / "sound.wav"))


@pytest.mark.bad_input
@pytest.mark.parametrize("call", [read, check_video])
def test_a_cover_picture_is_no_video(tmp_path, call):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode())
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert "no video stream" in refusal(call, path)


@pytest.mark.bad_input
def test_a_truncated_file_without_its_index_is_refused_and_one_with_it_gives_what_is_there(make_video, tmp_path):
    mp4 = make_video(tmp_path / "a.mp4", range(0, 800, 40), 320, 240)
    mp4.write_bytes(mp4.read_bytes()[: mp4.stat().st_size // 2])
    refusal(read, mp4)
    refusal(check_video, mp4)
    mkv = make_video(tmp_path / "a.mkv", range(0, 800, 40), 64, 48, codec="ffv1")
    mkv.write_bytes(mkv.read_bytes()[: mkv.stat().st_size // 2])
    kept = shown(read(mkv))
    assert 0 < len(kept) < 20 and kept == list(range(len(kept)))


@pytest.mark.bad_input
def test_bytes_broken_in_the_middle_are_refused_or_decoded_but_nothing_else(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", range(0, 800, 40), 64, 48, codec="ffv1")
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    for _ in range(20):
        broken = data.copy()
        place = int(generator.integers(0, len(data) - 200))
        broken[place : place + 200] = generator.bytes(200)
        path.write_bytes(broken)
        try:
            assert read(path).shape[1:] == (16, 21, 3)
        except DataError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@pytest.mark.bad_input
def test_the_decoded_size_is_limited_before_it_is_taken(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", [0, 40, 80])
    frame = 12 * 16 * 3
    assert len(read_video(path, 12, limits=Limits(size=3 * frame))) == 3
    refusal(lambda path: read_video(path, 12, limits=Limits(size=3 * frame - 1)), path)
    stray = make_video(tmp_path / "b.mkv", [0, 10**9])  # eleven days
    assert "more than" in refusal(lambda path: read_video(path, 12, 1000.0), stray)
    assert len(read_video(stray, 12)) == 2


@pytest.mark.parametrize(("short_side", "rate"), [(0, None), (12, 0.0), (12, -1.0)])
def test_sizes_and_rates_must_be_positive(make_video, tmp_path, short_side, rate):
    path = make_video(tmp_path / "a.mp4", [0])
    assert "a.mp4" in refusal(lambda path: read_video(path, short_side, rate), path)


def test_the_reader_keeps_the_videos_used_last_within_its_bytes(make_video, tmp_path, monkeypatch):
    a, b, c = (make_video(tmp_path / f"{name}.mp4", [0, 40]) for name in "abc")
    decoded = []
    monkeypatch.setattr(
        "bench.data.video.reader.read_video", lambda path, *more: decoded.append(path) or read_video(path, *more)
    )
    reader = VideoReader(12, None, cache_bytes=2 * (2 * 12 * 16 * 3))
    assert torch.equal(reader(a), read_video(a, 12))
    for path in (b, a, c, a, b):  # c pushes b out, since a was used after it
        reader(path)
    assert decoded == [a, b, c, b]
    without = VideoReader(12, None, cache_bytes=0)
    assert len(without(a)) == len(without(a)) == 2
    assert decoded[4:] == [a, a]
