"""However many processes make the batches, they are the same to the byte; and a process that dies is one line."""

import logging
import math
import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import DataError, loader
from bench.data import loading as loading_module
from bench.data.coverage import LeftOut
from bench.data.cutting import Cutter, Loaded
from bench.data.lists import VideoFiles
from bench.data.loader import FORK
from bench.data.loading import Loading, loading, use
from bench.data.sampling import Sampling, test_batches, train_batches
from bench.data.subset import Subset
from bench.method import Batch, InputSpec

SPEC = InputSpec("clip", 6, 4, mean=0.0, std=1 / 255)
FRAMES = 20


class NoFrameError(Exception):
    """A decoder's own, which cannot be made of its message alone."""

    def __init__(self, file, fault):
        super().__init__(f"{file}: {fault}")


class Reader:
    """Videos of 20 frames whose pixels are the number in the name; notes whatever is read in a file.

    Of those in `torn` nothing from frame 8 on can be read; one in `deadly` kills its process, one in
    `wrong` is more than the decoder can take; `slow`: seconds for each.
    """

    short_side, rate = 6, None

    def __init__(self, torn=(), deadly=(), wrong=(), slow=0.0, journal=None):
        self.torn, self.deadly, self.wrong, self.slow, self.journal = torn, deadly, wrong, slow, journal

    def __call__(self, path):
        return self.clip(path, range)

    def clip(self, path, choose):
        number, frames = int(path.stem), list(choose(FRAMES))
        if self.journal:
            with self.journal.open("a") as file:
                file.write(f"{number}\n")
        if number in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.wrong:
            raise NoFrameError(path, "no frame")
        if number in self.torn and max(frames) >= 8:
            raise DataError(f"{path}: cannot be decoded")
        time.sleep(self.slow)
        pixels = torch.arange(FRAMES, dtype=torch.uint8).view(-1, 1, 1, 1) + torch.arange(8, dtype=torch.uint8)[:, None]
        return (pixels.expand(FRAMES, 6, 8, 1) + torch.tensor([number, 0, 0], dtype=torch.uint8))[frames]


def split_of(count=40, minimum=0.5, **reader):
    files = [Path(f"{number}.mp4") for number in range(count)]
    attributes = pd.DataFrame({"path": [file.name for file in files]})
    groups, left_out = np.array([file.name for file in files]), LeftOut(count, count, minimum)
    return VideoFiles(
        files, Reader(**reader), ("a", "b"), np.arange(count) % 2, groups, attributes, flip=True, left_out=left_out
    )


def same(left, right):
    return len(left) == len(right) and all(
        a.sample.numpy().tobytes() == b.sample.numpy().tobytes()
        and torch.equal(a.target, b.target)
        and torch.equal(a.index, b.index)
        for a, b in zip(left, right, strict=True)
    )


def trained(workers, skip=0, torn=(), deal=None, wrapped=False):
    """The batches of three epochs, and who was left out."""
    whole = split_of(torn=torn)
    split = Subset(whole, np.arange(2, 38)) if wrapped else whole
    batches = list(train_batches(split, SPEC, Sampling(), 4, 5, 1, skip, workers, deal, epochs=3))
    return batches, whole.left_out.faults


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"skip": 7},
        {"torn": (3, 9, 21)},
        {"torn": (3, 9, 21), "skip": 5, "wrapped": True},
        {"torn": (3,), "deal": lambda batch: batch[2:]},
    ],
)
def test_any_number_of_workers_makes_the_same_batches(workers, how):
    alone, faults = trained(0, **how)
    batches, theirs = trained(workers, **how)
    assert same(alone, batches) and list(theirs) == list(faults)
    assert len(theirs) == len(how.get("torn", ()))  # torn files can be read in part, and some clip of each could not


def test_epochs_in_a_row_are_those_one_by_one():
    whole = trained(2)[0]
    split = split_of()
    assert same(whole, [b for epoch in (1, 2, 3) for b in train_batches(split, SPEC, Sampling(), 4, 5, epoch)])


@settings(max_examples=25, deadline=None)
@given(
    videos=st.integers(1, 7),
    clips=st.integers(1, 4),
    crops=st.sampled_from([1, 3]),
    batch=st.integers(1, 9),
    torn=st.sets(st.integers(0, 6)),
    processes=st.integers(1, 3),
)
def test_test_batches_are_cut_from_the_views_in_their_order(videos, clips, crops, batch, torn, processes):
    def batches(size, turn=(0, 1)):
        split = split_of(videos, 0.0, torn=torn)
        return list(test_batches(split, SPEC, Sampling(), clips, crops, size, leave_out=True, turn=turn))

    views = batches(1)
    places = [v for v in range(videos * clips * crops) if v // (clips * crops) in {int(one.index) for one in views}]
    for rank in range(processes):
        found = batches(batch, (rank, processes))
        own = [
            [view for place, view in zip(places, views, strict=True) if place // batch == number]
            for number in range(rank, -(-videos * clips * crops // batch), processes)
        ]
        assert [len(one.index) for one in found] == [len(part) for part in own if part]
        assert all(
            torch.equal(one.sample, torch.cat([view.sample for view in part]))
            and torch.equal(one.index, torch.cat([view.index for view in part]))
            for one, part in zip(found, filter(None, own), strict=True)
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_is_read_once_for_all_its_views(workers, tmp_path):
    split = split_of(7, torn=(4,), journal=tmp_path / "read")
    alone = list(test_batches(split_of(7, torn=(4,)), SPEC, Sampling(), 5, 3, 4, leave_out=True))
    assert same(alone, list(test_batches(split, SPEC, Sampling(), 5, 3, 4, workers=workers, leave_out=True)))
    assert sorted((tmp_path / "read").read_text().split()) == list("0123456")


def test_a_video_that_kills_its_reader_is_one_line_that_names_it():
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(DataError, match=r"^5\.mp4: the process that was reading it died") as caught:
        list(test_batches(split_of(9, deadly=(5,)), SPEC, Sampling(), 1, 1, 2, workers=2))
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGCHLD) == handler  # nothing is raised in the midst of a training step
    assert not multiprocessing.active_children()


def test_a_decoder_that_raises_what_is_not_foreseen_has_not_died():
    with pytest.raises(RuntimeError, match=r"NoFrameError: 5\.mp4: no frame"):
        list(test_batches(split_of(9, wrong=(5,)), SPEC, Sampling(), 1, 1, 2, workers=2))
    assert not multiprocessing.active_children()


def test_a_worker_killed_from_outside_ends_the_loop_with_one_line():
    batches = train_batches(split_of(slow=0.02), SPEC, Sampling(), 4, 0, 0, workers=2, epochs=100)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match="died"):
        list(batches)


def test_a_loop_that_is_left_leaves_no_process():
    batches = train_batches(split_of(), SPEC, Sampling(), 4, 0, 0, workers=2, epochs=100)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def loop(pipe, log):
    """A process of its own group that trains on what two workers make."""
    os.setpgrp()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    batches = train_batches(split_of(slow=0.01), SPEC, Sampling(), 4, 0, 0, workers=2, epochs=1000)
    try:
        next(batches)
        pipe.send([child.pid for child in multiprocessing.active_children()])
        for _ in batches:
            pass
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")


def gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"  # its parent is dead, and nobody has asked for its end yet


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_and_say_nothing(number, tmp_path):
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=loop, args=(theirs, tmp_path / "log"))
    process.start()
    workers = ours.recv()
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.join(20)
    deadline = time.monotonic() + 10
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2 and all(map(gone, workers)) and process.exitcode is not None
    assert (tmp_path / "log").read_text() == ("interrupted\n" if number == signal.SIGINT else "")


def test_workers_are_as_many_as_cores_and_none_where_they_are_of_no_use(monkeypatch, tmp_path):
    monkeypatch.setattr(loading_module, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    files, held = split_of(), type("Held", (), {})()
    assert Loading().workers_for(files) == 0  # who asks for nothing gets no processes
    assert [Loading(None).shared(jobs).workers_for(files) for jobs in (1, 2, 3, 8, 20)] == [8, 4, 2, 0, 0]
    assert Loading(None).workers_for(Subset(files, np.arange(3))) == 8
    assert Loading(None).workers_for(held) == 0 and Loading(3).workers_for(held) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert Loading(None).workers_for(files) == 2


@pytest.mark.parametrize(("quota", "workers"), [("max", 16), ("500000", 5), ("150000", 0), ("7000000", 16)])
def test_workers_are_no_more_than_a_container_has_time_for(quota, workers, monkeypatch, tmp_path):
    monkeypatch.setattr(loading_module, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    assert Loading(None).workers_for(split_of()) == workers


def test_no_more_is_kept_ahead_than_there_is_room_for(monkeypatch):
    alone = trained(0)[0]
    for pieces, workers in ((1, 1), (2, 2), (5, 3)):
        monkeypatch.setattr(loader, "AHEAD", pieces * alone[0].sample.nbytes)
        split = split_of()
        batches = train_batches(split, SPEC, Sampling(), 4, 5, 1, workers=3, epochs=3)
        found = [next(batches)]
        assert len(multiprocessing.active_children()) == workers
        assert same(alone, found + list(batches))


@pytest.mark.parametrize(("pieces", "workers"), [(2.9, 0), (3, 1), (4, 2), (100, 3)])
def test_no_more_is_kept_in_shared_memory_than_is_free(pieces, workers, monkeypatch):
    alone = trained(0)[0]
    free = math.ceil(pieces * alone[0].sample.nbytes / loader.FILLED)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free, f_frsize=1))
    batches = train_batches(split_of(), SPEC, Sampling(), 4, 5, 1, workers=3, epochs=3)
    found = [next(batches)]
    assert len(multiprocessing.active_children()) == workers
    assert same(alone, found + list(batches))


def short_of_shared_memory(pipe):
    """Trains where a worker can share 4096 bytes, less than a batch."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        list(train_batches(split_of(), SPEC, Sampling(), 4, 0, 0, workers=1))
    except DataError as error:
        pipe.send(str(error))


def test_too_little_shared_memory_is_one_line():
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=short_of_shared_memory, args=(theirs,))
    process.start()
    try:
        assert ours.poll(60)  # it is not waited for without end
        assert ours.recv().startswith("/dev/shm is too small for the batches of so many workers")
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("boxes", [torch.arange(2), [torch.rand(1, 5), torch.rand(0, 5)]])
def test_every_tensor_is_shared_by_the_worker_itself(boxes):
    batch = loader._shared(Loaded(Batch(torch.rand(2, 3), boxes, torch.arange(2)), np.arange(2), 1)).batch
    targets = batch.target if isinstance(boxes, list) else [batch.target]
    assert all(tensor.is_shared() for tensor in (batch.sample, batch.index, *targets) if len(tensor))


def test_a_video_that_was_not_read_is_not_being_read_any_more():
    noted, split = list[int](), split_of(3, torn=(1,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cutter, "__getitem__", noting(noted))
        list(test_batches(split, SPEC, Sampling(), 3, 1, 1, leave_out=True))
    assert noted == [0, -1, 1, -1, 2, -1]


def noting(noted):
    """As a piece is cut, with a note of what is read."""
    real = Cutter.__getitem__

    def cut(cutter, piece):
        cutter.note = noted.append
        return real(cutter, piece)

    return cut


def test_memory_that_does_not_suffice_for_a_video_is_told_as_it_is():
    class Short(Reader):
        def clip(self, path, choose):
            raise MemoryError("Unable to allocate 9.00 TiB")

    split = replace(split_of(4), reader=Short())
    with pytest.raises(MemoryError, match=r"^Unable to allocate 9\.00 TiB$"):
        list(test_batches(split, SPEC, Sampling(), 1, 1, 1, workers=1))


def test_on_the_way_to_a_gpu_every_tensor_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    for target in (torch.arange(2), [torch.rand(1, 5), torch.rand(2, 5)]):
        batch = Batch(torch.rand(2, 3), target, torch.arange(2))
        found = Loaded(batch, np.arange(2), 1, (), ("said",)).pin_memory()
        expected = [batch.sample, *(target if isinstance(target, list) else [target])]
        assert all(one is other for one, other in zip(pinned, expected, strict=True))
        assert torch.equal(found.batch.sample, batch.sample) and found.said == ("said",) and found.last == 1
        pinned.clear()
    assert Loaded(None, np.arange(0), 1).pin_memory().batch is None


def test_what_the_cache_of_every_worker_says_is_told_once(tmp_path, monkeypatch, caplog):
    before = loading()
    try:
        use(Loading(2, tmp_path))
        for epoch in range(2):
            loading().opened_cache.said = [f"of {tmp_path}"]  # each worker is forked with it
            with caplog.at_level(logging.WARNING):
                assert len(list(train_batches(split_of(), SPEC, Sampling(), 4, 0, epoch))) == 10
        assert caplog.messages == [f"of {tmp_path}"]
    finally:
        use(before)


def test_what_is_in_force_is_what_batches_are_made_by():
    before = loading()
    try:
        use(Loading(2))
        batches = test_batches(split_of(), SPEC, Sampling(), 1, 1, 4)
        next(batches)
        assert len(multiprocessing.active_children()) == 2
        batches.close()
    finally:
        use(before)
