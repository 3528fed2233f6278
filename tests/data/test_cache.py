"""What is cached is what is decoded, to the byte; it keeps its bound, and nothing that befalls it ends a run."""

import errno
import fcntl
import os
import pickle
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png
from test_clips import written

from bench.data import DataError
from bench.data import cache as cache_module
from bench.data.cache import COUNT, PART, SHARE, SUFFIX, Cache, Fixed, key_of
from bench.data.frames import MediaReader
from bench.data.loader import FORK
from bench.data.loading import Loading, loading, use
from bench.data.video import clip as clip_module
from bench.data.video import whole as whole_module
from bench.data.video.limits import Limits
from bench.data.video.opened import video_stream
from bench.data.video.pictures import picture_of
from bench.data.video.reader import VideoReader
from bench.data.video.whole import read_video


def frames(number, count=3, side=16):
    """Unlike those of any other number."""
    return torch.from_numpy(np.random.default_rng(number).integers(0, 256, (count, side, side, 3), np.uint8))


def used(folder):
    """Bytes of the entries, whole and under way."""
    found = 0
    for entry in folder.iterdir():
        try:
            found += entry.stat().st_size if SUFFIX in entry.name else 0
        except FileNotFoundError:
            continue
    return found


def entry_size(tmp_path):
    Cache(tmp_path / "one", 10**9).write("a", frames(0))
    return used(tmp_path / "one")


@settings(max_examples=20, deadline=None)
@given(places=st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_what_is_read_is_what_was_written(places, tmp_path_factory):
    cache, video = Cache(tmp_path_factory.mktemp("cache"), 10**9), frames(1, 7)
    assert cache.read("a", lambda length: places[:length]) is None
    cache.write("a", video)
    assert torch.equal(cache.read("a", lambda length: places), video[places])
    assert torch.equal(cache.read("a", range), video) and not cache.said


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_or_a_missing_end_is_found_dropped_and_said(data, tmp_path_factory):
    cache, video = Cache(tmp_path_factory.mktemp("cache"), 10**9), frames(2)
    cache.write("a", video)
    path = cache.folder / f"a{SUFFIX}"
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= data.draw(st.integers(1, 255))
    else:
        del whole[place:]
    path.write_bytes(whole)
    found = cache.read("a", range)
    if found is None:
        assert not path.exists() and len(cache.said) == 1 and "broken: decoded anew" in cache.said[0]
        cache.write("a", video)
        assert torch.equal(cache.read("a", range), video)
    else:  # nothing hung on that byte
        assert torch.equal(found, video)


def test_the_bound_is_kept_and_what_is_in_use_is_found_again(tmp_path):
    room, count = SHARE, 2 * SHARE
    size = room * entry_size(tmp_path)
    cache = Cache(tmp_path / "cache", size)
    hits = []
    for epoch in range(3):
        hit = 0
        for number in np.random.default_rng(epoch).permutation(count).tolist():
            found = cache.read(str(number), range)
            if found is None:
                cache.write(str(number), frames(number))
            else:
                hit += torch.equal(found, frames(number))
            assert used(tmp_path / "cache") <= size
        hits.append(hit)
    assert hits == [0, room, room] and cache.full  # the last recently used would be thrown out just before it is wanted


def test_what_an_earlier_run_left_makes_room_the_longest_unused_first(tmp_path):
    size = SHARE * entry_size(tmp_path)
    before = Cache(tmp_path / "cache", size)
    for number in range(SHARE):
        before.write(str(number), frames(number))
        os.utime(before.folder / f"{number}{SUFFIX}", (1000 + number,) * 2)
    cache = Cache(tmp_path / "cache", size)
    assert cache.read("0", range) is not None  # used again, by this run
    for number in range(100, 110):
        cache.write(str(number), frames(number))
        assert used(cache.folder) <= size
    assert all(cache.read(str(number), range) is not None for number in (0, 40, 63, *range(100, 110)))
    assert cache.read("1", range) is None and not cache.full


def test_a_lower_bound_holds_from_the_start(tmp_path):
    one = entry_size(tmp_path)
    before = Cache(tmp_path / "cache", 100 * one)
    for number in range(80):
        before.write(str(number), frames(number))
        os.utime(before.folder / f"{number}{SUFFIX}", (1000, 1000))
    Cache(tmp_path / "cache", 70 * one)
    assert used(tmp_path / "cache") <= 70 * one


def crowd(folder, size, seed):
    cache = Cache(folder, size)
    for number in np.random.default_rng(seed).integers(0, 100, 150).tolist():
        found = cache.read(str(number), range)
        assert found is None or torch.equal(found, frames(number))
        if found is None:
            cache.write(str(number), frames(number))


def test_processes_share_it_without_harm_and_keep_the_bound_together(tmp_path):
    one = entry_size(tmp_path)
    size = SHARE * one
    processes = [FORK.Process(target=crowd, args=(tmp_path / "cache", size, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        if (tmp_path / "cache").exists():
            most = max(most, used(tmp_path / "cache"))
        time.sleep(0.002)
    assert [process.exitcode for process in processes] == [0] * 4
    assert size // 2 < most <= size + 4 * one
    assert used(tmp_path / "cache") <= size


def test_what_a_killed_process_was_writing_is_cleared_away_and_what_a_living_one_writes_is_not(tmp_path):
    size = SHARE * entry_size(tmp_path)
    cache = Cache(tmp_path / "cache", size)
    left, under_way = cache.folder / f".left{PART}", cache.folder / f".way{PART}"
    left.write_bytes(bytes(100))
    with under_way.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for number in range(SHARE + 2):
            cache.write(str(number), frames(number))
        assert not left.exists() and under_way.exists()


def test_files_that_are_not_its_own_are_left_alone(tmp_path):
    size, folder = SHARE * entry_size(tmp_path), tmp_path / "home"
    names = [".gitignore", ".bashrc", "bytes", "size", "holiday.frames", ".key.1", "notes.part"]
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)
        os.utime(folder / name, (1000, 1000))
    (folder / ".git").mkdir()
    (folder / f".nobody{PART}").mkdir()  # even one that is called like ours
    (folder / f".nowhere{PART}").symlink_to(tmp_path / "none")
    for run in range(2):
        cache = Cache(folder, size)
        for number in range(SHARE + 5):
            cache.write(f"{run} {number}", frames(number))
        assert not cache.said and used(folder) > size // 2
        for entry in folder.glob(f"*{SUFFIX}"):
            os.utime(entry, (1000, 1000))
    assert [(folder / name).read_text() for name in names] == names and (folder / ".git").is_dir()


def test_what_this_process_is_writing_is_not_taken_for_left_even_where_locks_are_the_processs(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *given: None)  # a process's own locks do not keep it out
    size = SHARE * entry_size(tmp_path)
    cache = Cache(tmp_path / "cache", size)
    for number in range(SHARE):
        cache.write(str(number), frames(number))
        os.utime(cache.folder / f"{number}{SUFFIX}", (1000, 1000))
    cache.write("new", frames(100))
    assert torch.equal(cache.read("new", range), frames(100))


def test_an_entry_is_bounded_however_large_the_cache(monkeypatch, tmp_path):
    assert Cache(tmp_path, 10**15).largest == cache_module.LARGEST
    monkeypatch.setattr(cache_module, "LARGEST", frames(0).nbytes)
    cache = Cache(tmp_path, 10**9)
    cache.write("a", frames(0))
    cache.write("b", frames(0, 4))
    assert cache.read("a", range) is not None and cache.read("b", range) is None


def test_an_entry_that_cannot_be_read_just_now_stays(tmp_path, monkeypatch):
    cache = Cache(tmp_path, 10**9)
    cache.write("a", frames(0))
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "safe_open", raising(OSError(errno.EMFILE, "Too many open files")))
        assert cache.read("a", range) is None and not cache.said
    assert torch.equal(cache.read("a", range), frames(0))


def raising(error):
    def call(*given):
        raise error

    return call


def test_the_jobs_of_one_run_throw_out_nothing_of_each_other(tmp_path):
    first = Loading(cache=tmp_path, cache_bytes=10**9)
    first.opened_cache.began -= 100.0  # as long ago did the run begin
    job = pickle.loads(pickle.dumps(first.shared(2)))  # as a process of its own gets it
    assert job.opened_cache.began == first.opened_cache.began
    assert Loading(cache=tmp_path).opened_cache.began > first.opened_cache.began + 50  # another run


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_ends_the_storing_with_one_line(code, tmp_path, monkeypatch):
    cache = Cache(tmp_path, 10**9)
    cache.write("a", frames(0))

    def fails(self, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "rename", fails)
    for number in range(3):
        cache.write(str(number), frames(number))
    assert cache.said == [f"cache {tmp_path}: {os.strerror(code)}: nothing more is stored in it"]
    assert torch.equal(cache.read("a", range), frames(0)) and cache.largest == 0
    assert {path.name for path in tmp_path.iterdir()} == {COUNT, f"a{SUFFIX}"}


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/cache: Not a directory"):
        use(Loading(cache=tmp_path / "file" / "cache"))


def test_a_key_changes_with_whatever_the_frames_hang_on(tmp_path):
    path, folder = tmp_path / "a.mp4", tmp_path / "folder"
    path.write_bytes(b"abc")
    folder.mkdir()
    (folder / "1.png").write_bytes(b"abc")
    keys = [key_of(path, 16, None), key_of(path, 17, None), key_of(path, 16, 15.0), key_of(folder, 16, None)]
    times = path.stat()
    path.write_bytes(b"abx")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as large and, by its own word, as old
    (folder / "1.png").write_bytes(b"abx")
    keys += [key_of(path, 16, None), key_of(folder, 16, None)]
    assert len(set(keys)) == len(keys)
    assert key_of(path, 16, None) == keys[4]
    with pytest.raises(DataError, match="No such file"):
        key_of(tmp_path / "none")
    (folder / "2.png").symlink_to(tmp_path / "none")  # is an error only for who reads it
    assert key_of(folder, 16, None) not in keys


def test_what_limits_would_refuse_is_not_taken_from_the_cache(cached, tmp_path):
    path, folder, tight = written(tmp_path / "a.mp4", "libx264", {"g": "12"}), tmp_path / "frames", Limits(frames=0)
    folder.mkdir()
    (folder / "1.png").write_bytes(png(np.full((16, 20), 20, np.uint8)))
    for found in (path, folder):
        assert len(MediaReader(16)(found))
        with pytest.raises(DataError, match="more than 0 frames"):
            MediaReader(16, limits=tight)(found)


def test_a_file_that_changes_while_it_is_read_is_not_cached_as_what_it_became(cached, tmp_path, monkeypatch):
    path, other = written(tmp_path / "a.mp4", "libx264", {"g": "12"}), tmp_path / "b.mp4"
    written(other, "libx264", {"g": "12", "qp": "40"})
    whole = read_video(other, 24)
    cached(SHARE * 10 * whole[0].nbytes)
    for moment in ("_pictures", "_listed"):  # after, and before the frames are chosen
        written(other, "libx264", {"g": "12", "qp": "40"})
        written(path, "libx264", {"g": "12"})
        real = getattr(clip_module, moment)

        def changed(*given, real=real):
            found = real(*given)
            os.replace(other, path)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(clip_module, moment, changed)
            VideoReader(24).clip(path, Fixed(lambda length: [3, 4]))
        assert torch.equal(VideoReader(24).clip(path, Fixed(lambda length: [3, 4])), whole[[3, 4]])


@pytest.fixture
def cached(tmp_path):
    """A cache in force; calling it puts another in force, of this many bytes."""
    before = loading()

    def with_size(size=10**8):
        use(Loading(cache=tmp_path / "cache", cache_bytes=size))

    with_size()
    yield with_size
    use(before)


@pytest.fixture
def decoded(monkeypatch):
    """How often frames were decoded, by the name of the file."""
    count = Counter()

    def opened(path, limits):
        count["now"] = path.name
        return video_stream(path, limits)

    def counted(*given):
        count[count["now"]] += 1
        return picture_of(*given)

    for module in (clip_module, whole_module):
        monkeypatch.setattr(module, "video_stream", opened)
        monkeypatch.setattr(module, "picture_of", counted)
    return count


def clip_of(path, places, side=24):
    return VideoReader(side, None).clip(path, lambda length: [min(place, length - 1) for place in places])


def test_a_warm_reading_is_a_cold_one_and_decodes_nothing(cached, decoded, tmp_path):
    path = written(tmp_path / "a.mp4", "libx264", {"g": "12"})
    whole = read_video(path, 24)
    decoded.clear()
    assert torch.equal(clip_of(path, [3, 4, 5]), whole[[3, 4, 5]]) and decoded["a.mp4"] == 40
    for places in ([7, 8, 9], [39, 0, 39], [12]):
        assert torch.equal(clip_of(path, places), whole[places])  # by a reader of its own each time
    assert torch.equal(VideoReader(24)(path), whole)
    assert decoded["a.mp4"] == 40


def test_of_a_long_video_what_is_fixed_is_cached(cached, decoded, tmp_path):
    path = written(tmp_path / "a.mp4", "libx264", {"g": "12"})
    whole = read_video(path, 24)
    cached(SHARE * 10 * whole[0].nbytes)
    decoded.clear()
    for kind, count in ((Fixed, 5), (lambda choose: choose, 15)):  # training clips hardly ever come again: none is kept
        for places in ([3, 4, 5], [9, 3], [3, 4, 5], [9, 3]):
            clip = VideoReader(24, None).clip(path, kind(lambda length, places=places: places))
            assert torch.equal(clip, whole[places])
        assert decoded["a.mp4"] == count
        assert len(list(tmp_path.glob(f"cache/*{SUFFIX}"))) == 2


def test_a_changed_file_is_decoded_anew(cached, tmp_path):
    path = written(tmp_path / "a.mp4", "libx264", {"g": "12"})
    clip_of(path, [3])
    written(path, "libx264", {"g": "12", "qp": "40"})
    whole = read_video(path, 24)
    assert torch.equal(clip_of(path, [3, 9]), whole[[3, 9]])


def test_a_file_that_is_torn_can_be_read_where_it_is_whole_whatever_is_cached(cached, tmp_path):
    path = written(tmp_path / "a.mp4", "libx264", {"g": "4"})
    whole, data = read_video(path, 24), bytearray(path.read_bytes())
    middle = slice(len(data) * 4 // 10, len(data) * 7 // 10)
    data[middle] = bytes(len(data[middle]))
    path.write_bytes(data)
    with pytest.raises(DataError):
        read_video(path, 24)
    kept, alone = VideoReader(24, None), VideoReader(24, None, cache_bytes=0)
    for loading_ in (loading(), Loading()):
        use(loading_)
        for reader in (kept, alone, kept):
            for places in ([0, 1], [39, 38]):
                assert torch.equal(reader.clip(path, lambda length, places=places: places), whole[places])
            with pytest.raises(DataError, match="cannot be decoded"):
                reader.clip(path, lambda length: [20, 21])


def test_folders_of_frames_are_cached_too(cached, tmp_path, monkeypatch):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"{number:05}.png").write_bytes(png(np.full((16, 20), 20 * number, np.uint8)))
    reader = MediaReader(16)
    cold = reader.clip(folder, lambda length: [1, 3])
    monkeypatch.setattr("bench.data.frames.read_frame", None)  # nothing is decoded from here on
    assert torch.equal(reader.clip(folder, lambda length: [3, 1, 0])[:2], cold.flip(0))
