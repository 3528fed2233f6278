"""Two and four processes train as one does, and score to the last byte what one does."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from processes import together
from toys import Toy, ToySplit

from bench.cost import CountError, UncountedError
from bench.data.sampling import Sampling
from bench.data.split import UnreadableError
from bench.distributed import DistributedError, _exchange, average_values, from_first, in_turns, own_part, place, wait
from bench.memory import parts
from bench.method import Batch, Recipe
from bench.training import train

WORKER = Path(__file__).with_name("distributed_worker.py")


def ran(folder: Path, processes: int) -> Path:
    out = folder / str(processes)
    out.mkdir()
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    paths = [str(WORKER.parent), str(WORKER.parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*start, str(WORKER), str(out)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_and_four_processes_train_and_score_as_one(tmp_path: Path) -> None:
    one = ran(tmp_path, 1)
    (tmp_path / "trained.pt").write_bytes((one / "weights.pt").read_bytes())
    for count in (2, 4):
        several = ran(tmp_path, count)
        assert len(losses(several)) == len(losses(one)) == 9
        np.testing.assert_allclose(losses(several), losses(one), rtol=1e-6)
        for table in ("static.parquet", "vared.parquet"):
            assert (several / table).read_bytes() == (one / table).read_bytes()
        alone, together = ((folder / "figures.txt").read_text().rpartition("\n") for folder in (one, several))
        assert together[0] == alone[0] and together[2] == str(count)


def test_one_process_does_everything_itself() -> None:
    assert place() == (0, 1)
    assert own_part(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert list(in_turns(lambda rank, size: range(rank, 4, size), str)) == ["0", "1", "2", "3"]
    assert from_first("said") == "said"
    assert average_values({"loss": 2.0}) == {"loss": 2.0}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), "another process is gone"),
        (RuntimeError("[gloo/unbound_buffer.cc:81] Timed out waiting 7200000ms for recv operation"), "another process"),
        (torch.distributed.DistNetworkError("failed to recv, got 0 bytes"), "another process is gone"),
        (RuntimeError("x" * 300 + "Tensors must be contiguous\nmore"), "exchange with the other processes failed: x+T"),
    ],
)
def test_only_a_closed_connection_or_silence_means_that_a_process_is_gone(error: Exception, said: str) -> None:
    with pytest.raises(DistributedError, match=f"^process 0: (an )?{said}"), _exchange():
        raise error


@given(st.integers(1, 12), st.integers(1, 9))
def test_parts_of_a_batch_are_all_of_it_and_nearly_equal(samples: int, count: int) -> None:
    rows = torch.arange(samples)
    found = parts(Batch(rows[:, None].float(), rows * 2, rows), count)
    assert torch.cat([part.index for part in found]).equal(rows)
    assert all(part.target.equal(part.index * 2) and part.sample[:, 0].equal(part.index.float()) for part in found)
    sizes = [len(part.index) for part in found]
    assert len(found) == min(count, samples) and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("accumulate", [2, 3])
def test_gradients_add_up_over_the_parts_of_a_batch(accumulate: int, tmp_path: Path) -> None:
    trained = []
    for count in (1, accumulate):
        method = Toy()
        recipe = Recipe(epochs=1, batch=8, lr=0.5, accumulate=count)
        train(method, ToySplit(), Sampling(), recipe, 0, tmp_path / str(count))
        trained.append(method.state_dict())
    assert not torch.equal(trained[0]["head.weight"], Toy().head.weight)
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-4, atol=1e-6)


class Vanishing(Toy):
    """The second process is killed in the middle of a step, `after` so many."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        self.after -= 1
        if self.after < 0 and place()[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch)


def vanishing(folder: Path, after: int) -> dict[str, Any]:
    method = Vanishing(after)
    train(method, ToySplit(), Sampling(), Recipe(epochs=2, batch=8, lr=0.5), 0, folder, save_every=0)
    return {name: value.numpy() for name, value in method.state_dict().items()}


def test_of_a_process_that_is_killed_the_others_tell_and_the_next_start_goes_on(tmp_path: Path) -> None:
    expected = together(2, vanishing, tmp_path / "whole", 99)
    left, killed = together(2, vanishing, tmp_path / "cut", 3)
    assert killed == "gone"
    assert left.startswith("DistributedError: process 0: another process is gone or does not answer; the same command")
    assert "\n" not in left
    found = together(2, vanishing, tmp_path / "cut", 99)
    for one, other in zip(found, expected, strict=True):
        assert all((one[name] == other[name]).all() for name in other)


def refused_in_one(rank: int, file: str) -> None:
    """A disk that refuses one process, which the others wait for at the next exchange."""
    wait()  # until all are connected
    if place()[0] == rank:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)
    wait()


@pytest.mark.parametrize("rank", [0, 1])
def test_what_ends_one_process_is_what_the_others_say(rank: int) -> None:
    found = together(3, refused_in_one, rank, "records/full.json")
    line = "[Errno 28] No space left on device: 'records/full.json'"
    assert found[rank] == f"OSError: {line}"
    for other in {0, 1, 2} - {rank}:
        again = "the same command goes on from the last checkpoint"
        assert found[other] == f"DistributedError: process {other}: process {rank} ended: {line}; {again}"


class UnsentError(CountError):
    """Its text is not what it is made of."""

    __module__ = "bench.cost"

    def __init__(self, number: int, unit: str) -> None:
        super().__init__(f"{number} {unit}")


FAULTS: dict[str, Exception] = {
    "uncounted": UncountedError({"aten.fft": 2}),
    "unreadable": UnreadableError(Path("a.mp4"), "a.mp4: broken"),
    "plain": CountError("item 3"),
    "unsent": UnsentError(3, "items"),
}


def faulty_in_one(kind: str) -> Any:
    """Each of two processes has items; the second of the first process is wrong."""

    def work(number: int) -> int:
        if number == 2:
            raise FAULTS[kind]
        return number

    try:
        list(in_turns(lambda rank, size: range(rank, 7, size), work))
    except (CountError, UnreadableError, RuntimeError) as error:
        return type(error).__name__, str(error), {**vars(error)}
    return None


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_wrong_in_one_process_is_raised_in_all_as_what_it_is(kind: str) -> None:
    fault = FAULTS[kind]
    own = (type(fault).__name__, str(fault), {**vars(fault)})
    assert together(2, faulty_in_one, kind) == [("RuntimeError", "3 items", {}) if kind == "unsent" else own] * 2


def ends_well_in_the_first() -> None:
    wait()
    if place()[0] == 0:
        raise typer.Exit(0)
    wait()


def test_an_end_without_error_is_not_taken_for_one() -> None:
    assert "another process is gone" in together(2, ends_well_in_the_first)[1]
