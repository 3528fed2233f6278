"""TorchCodec gives the frames that PyAV gives, or PyAV gives them: a stand-in of its interface, and the real one."""

import importlib.util
import sys
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from test_clips import COUNT, STYLES, written

from bench.data import DataError
from bench.data import decoders as decoders_module
from bench.data.decoders import NAMES, PYAV, TORCHCODEC, decoder_named
from bench.data.loading import Loading, loading, use
from bench.data.video.reader import VideoReader
from bench.data.video.whole import read_video
from bench.environment import environment
from bench.short_of_memory import short_of_memory
from bench.workers import Workers

PLACES = [3, 20, 21, 20, COUNT - 1]
ALONE = ("vp8.webm",)
"""Styles whose packets do not tell their frames, so that PyAV decodes them whatever is asked for."""


class VideoDecoder:
    """TorchCodec's, as far as it is used, made of PyAV."""

    late, opened = 0.0, []

    def __init__(self, source, *, stream_index, dimension_order, num_ffmpeg_threads, device):
        self.opened.append((source, device))
        assert dimension_order == "NHWC" and num_ffmpeg_threads == 1
        with av.open(source) as container:
            frames = list(container.decode(container.streams[stream_index]))
        self.data = torch.from_numpy(np.stack([frame.to_ndarray(format="rgb24") for frame in frames]))
        self.seconds = torch.tensor([float(frame.pts * Fraction(frame.time_base)) for frame in frames]).double()
        self.metadata = SimpleNamespace(rotation=frames[0].rotation or None)

    def get_frames_at(self, indices):
        return SimpleNamespace(data=self.data[indices], pts_seconds=self.seconds[indices] + self.late)


@pytest.fixture
def stand_in(monkeypatch):
    """A TorchCodec."""
    package, inner = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    package.__version__, inner.VideoDecoder = "0.0", type("VideoDecoder", (VideoDecoder,), {"opened": []})
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", inner)
    return inner.VideoDecoder


def usable():
    if importlib.util.find_spec("torchcodec") is None:
        return False
    try:
        decoder_named(TORCHCODEC)
    except DataError:
        return False
    return True


def shrunk(whole):
    """Frames of 48 x 64 at half their size, resized as RGB, as TorchCodec's are; PyAV's are as they are coded."""
    resize = VideoReformatter()
    return torch.from_numpy(np.stack([decoders_module._resized(resize, one, (32, 24)) for one in whole.numpy()]))


def holds(path, alone=False):
    """Whether TorchCodec's frames are PyAV's, to the byte, where both resize RGB. alone: PyAV decodes all the same."""
    small, whole = read_video(path, 24), read_video(path, 48)
    use(Loading(decoder=TORCHCODEC))
    for side, expected in ((48, whole), (24, small if alone else shrunk(whole))):
        reader = VideoReader(side, None, cache_bytes=0)
        assert torch.equal(reader.clip(path, lambda length: PLACES), expected[PLACES])
        assert torch.equal(reader(path), expected)
    return True


@pytest.mark.parametrize("style", ["b-frames.mp4", "open-gop.mkv", "vp8.webm", "444.mp4"])
def test_frames_are_those_of_pyav(style, stand_in, tmp_path):
    path = written(tmp_path / style, *STYLES[style])
    assert holds(path, alone=style in ALONE)
    assert bool(stand_in.opened) == (style not in ALONE)


@pytest.mark.skipif(not usable(), reason="no torchcodec that works here")
@pytest.mark.parametrize("style", STYLES)
def test_frames_of_the_real_one_are_those_of_pyav(style, tmp_path):
    assert holds(written(tmp_path / style, *STYLES[style]), alone=style in ALONE)


def test_a_frame_of_another_moment_is_not_taken(stand_in, tmp_path):
    path = written(tmp_path / "a.mp4", *STYLES["b-frames.mp4"])
    whole = read_video(path, 24)
    stand_in.late = 0.04
    use(Loading(decoder=TORCHCODEC))
    assert torch.equal(VideoReader(24).clip(path, lambda length: PLACES), whole[PLACES]) and stand_in.opened


def test_what_it_cannot_decode_pyav_does_or_says_why(stand_in, tmp_path, monkeypatch):
    path = written(tmp_path / "a.mp4", *STYLES["b-frames.mp4"])
    whole = read_video(path, 24)
    monkeypatch.setattr(stand_in, "get_frames_at", lambda self, indices: 1 / 0)
    use(Loading(decoder=TORCHCODEC))
    assert torch.equal(VideoReader(24)(path), whole)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"broken\.mp4: cannot be decoded"):
        VideoReader(24)(tmp_path / "broken.mp4")


def test_the_record_says_which_decoded_and_caches_keep_them_apart(stand_in, tmp_path):
    path = written(tmp_path / "a.mp4", *STYLES["b-frames.mp4"])
    plain, whole = read_video(path, 24), read_video(path, 48)
    assert environment()["decoder"].startswith("pyav ")
    for name in (PYAV, TORCHCODEC, PYAV):
        use(Loading(decoder=name, cache=tmp_path / "cache"))
        found = VideoReader(24)(path)
        assert torch.equal(found, plain if name == PYAV else shrunk(whole)) and not torch.equal(plain, shrunk(whole))
    use(Loading(decoder=TORCHCODEC))
    assert environment()["decoder"] == "torchcodec 0.0, cpu"


def test_short_memory_is_no_fault_of_the_file(stand_in, tmp_path, monkeypatch):
    path = written(tmp_path / "a.mp4", *STYLES["b-frames.mp4"])
    use(Loading(decoder=TORCHCODEC))
    for kind in (MemoryError, torch.OutOfMemoryError):

        def short(self, indices, kind=kind):
            raise kind("out of memory")

        monkeypatch.setattr(stand_in, "get_frames_at", short)
        for read in (VideoReader(24), lambda path: VideoReader(24).clip(path, lambda length: PLACES)):
            with pytest.raises(kind) as caught:
                read(path)
            assert short_of_memory(caught.value)


def test_a_broken_installation_is_one_line(monkeypatch):
    def fails(name):
        raise OSError("libavutil.so.57: cannot open\nshared object file")

    monkeypatch.setattr(decoders_module, "import_module", fails)
    with pytest.raises(DataError, match="torchcodec cannot be used here: OSError: libavutil") as caught:
        use(Loading(decoder=TORCHCODEC))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="there are pyav, torchcodec, torchcodec-cuda"):
        use(Loading(decoder="ffmpeg"))


def test_a_gpu_decodes_in_one_process(stand_in, monkeypatch):
    with pytest.raises(DataError, match="there is no GPU"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        use(Loading(decoder=NAMES[2]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DataError, match="give it 0 workers"):
        use(Loading(2, decoder=NAMES[2]))
    chosen = Loading(None, decoder=NAMES[2])
    use(chosen)
    assert chosen.workers_for(SimpleNamespace(reads_files=True)) == 0 and chosen.opened_decoder.frames.device == "cuda"


@pytest.mark.skipif(usable(), reason="there is a torchcodec, which a worker has as well")
def test_a_worker_without_the_decoder_says_so_and_has_not_died(stand_in):
    use(Loading(decoder=TORCHCODEC))
    with Workers(1) as workers:
        ended = dict(filter(None, workers.ended([loading, loading])))
    assert [type(one) for one in ended.values()] == [DataError, DataError]
    assert str(ended[0]).startswith("decoder torchcodec: torchcodec cannot be used here: ModuleNotFoundError")
