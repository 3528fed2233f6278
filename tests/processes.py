"""Several processes as torchrun starts them, but at once: forked from a server that has everything loaded."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch.distributed import TCPStore

from bench.distributed import joined

TIMEOUT = 120.0
"""Seconds after which processes that wait for each other have failed the test."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["bench.data.lists", "bench.experiment.run", "bench.speed.measure", "pytest", "toys"])


def together(count: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What `work(*args)`, a function of a module, gives in each of `count` processes; an error is given as its text."""
    pipes, started = [], []
    met = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's own: it outlives them
    for rank in range(count):
        here, there = _context.Pipe(duplex=False)
        process = _context.Process(target=_run, args=(rank, count, met.port, there, work, args), daemon=True)
        process.start()
        there.close()
        pipes.append(here)
        started.append(process)
    found = [_received(pipe) for pipe in pipes]
    for process in started:
        process.join(TIMEOUT)
        process.kill()
    return found


def _received(pipe: Connection) -> Any:
    assert wait([pipe], TIMEOUT), "processes wait for each other"
    try:
        return pipe.recv()
    except EOFError:
        return "gone"


def _run(rank: int, count: int, port: int, pipe: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in given.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    torch.set_num_threads(1)
    try:
        with joined():
            answer = work(*args)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    pipe.send(answer)
    pipe.close()
