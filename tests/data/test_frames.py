"""Folders of frames: which files are frames, in which order, and what is refused."""

import numpy as np
import pytest
import torch
from pictures import COLOUR, png
from refusals import refused

from bench.data.frames import FrameReader, MediaReader, frame_files
from bench.data.video.limits import Limits


@pytest.fixture
def folder(tmp_path):
    """Writes frames, each a grey of its number, into a folder by names."""

    def write(names, size=(24, 32), name="clip_7"):
        path = tmp_path / name
        path.mkdir()
        for number, file in enumerate(names):
            (path / file).write_bytes(png(np.full((*size, 3), 10 * number, np.uint8), colour=COLOUR))
        return path

    return write


@pytest.mark.parametrize(
    "form", ["img_{:05d}.png", "image_{:05d}.png", "frame_{:06d}.png", "{:05d}.png", "clip_7_{:06d}.png", "img_{}.png"]
)
def test_every_pattern_is_read_by_number(folder, form):
    path = folder([form.format(number) for number in range(1, 13)])
    video = FrameReader(12)(path)
    assert video.shape == (12, 12, 16, 3) and video.dtype == torch.uint8
    assert video[:, 0, 0, 0].tolist() == [10 * number for number in range(12)]
    clip = MediaReader(12).clip(path, lambda length: [length - 1, 0, 3, 3])
    assert torch.equal(clip, video[[11, 0, 3, 3]])


def test_flow_and_thumbnails_among_them_are_no_frames(folder):
    path = folder(["img_00001.png", "flow_x_00001.png", "thumb.png", "img_00002.png", "00003.png"])
    assert [file.name for file in frame_files(path)] == ["img_00001.png", "img_00002.png"]


@pytest.mark.parametrize("reader", [FrameReader, MediaReader])
def test_links_may_lead_to_other_folders_of_the_set_but_not_out(folder, tmp_path, reader):
    folder(["img_1.png"], name="outside")
    root = tmp_path / "set"
    root.mkdir()
    folder(["img_1.png", "img_2.png"], name="set/a")
    path = folder(["img_1.png"], name="set/b")
    (path / "img_2.png").symlink_to(root / "a/img_2.png")
    assert len(reader(12, root=root)(path)) == 2
    assert "leads out" in refused(lambda: reader(12)(path))
    (path / "img_3.png").symlink_to(tmp_path / "outside/img_1.png")
    for call in (lambda: reader(12, root=root)(path), lambda: reader(12, root=root).clip(path, range)):
        assert f"{path / 'img_3.png'}: is a link that leads out of {root}" in refused(call)


def test_what_cannot_be_read_is_one_line_that_names_it(folder, tmp_path):
    path = folder(["img_1.png", "img_2.png"])
    assert "no frames" in refused(lambda: FrameReader(12)(folder(["flow_x_1.png"], name="other")))
    assert "nowhere" in refused(lambda: FrameReader(12)(tmp_path / "nowhere"))
    assert "no time stamps" in refused(lambda: FrameReader(12, 5.0))
    assert "more than 1 frames" in refused(lambda: FrameReader(12, limits=Limits(frames=1))(path))
    assert "img_1.png" in refused(lambda: FrameReader(12, limits=Limits(pixels=700))(path))
    assert "bytes" in refused(lambda: FrameReader(12, limits=Limits(size=700))(path))
    (path / "img_2.png").write_bytes(b"nothing")
    assert str(path / "img_2.png") in refused(lambda: FrameReader(12)(path))
    assert len(FrameReader(12).clip(path, lambda length: [0])) == 1
