"""Work in processes of their own, of which one may die without harm to the others."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeAlias, TypeVar

from bench.data.decoders import decoder_named
from bench.data.loader import end_with_parent
from bench.data.loading import Loading, loading, use
from bench.data.split import DataError
from bench.lost_gpu import gpu_lost

Answer = TypeVar("Answer")
_Ended: TypeAlias = tuple[Answer | Exception, bool]
"""What came of a call, and whether its process can do no more."""


class WorkerDiedError(Exception):
    """The process that did a piece of work is gone."""


class CallError(Exception):
    """A piece of work failed with an error that cannot leave its process; the message names it."""


_refused: DataError | None = None
"""Of a worker: why it cannot read videos as its parent does."""


class Workers(Generic[Answer]):
    """`count` processes, each at one call at a time; where one dies, another takes its place, and the call has failed.

    So it is where one lives and has lost its GPU.

    Within `with`; what ends that by an exception ends what is under way as well.
    """

    def __init__(self, count: int) -> None:
        self._loading = loading().shared(count)
        self._free = [_process(self._loading) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def ended(
        self, calls: Sequence[Callable[[], Answer]], every: float = 2.0
    ) -> Iterator[tuple[int, Answer | Exception] | None]:
        """The number and the answer of each call as it ends, or what it raised; None whenever `every` seconds pass.

        A call whose process died raised `WorkerDiedError`; it is not made again.
        """
        waiting = iter(range(len(calls)))
        running: dict[Future[_Ended[Answer]], tuple[int, ProcessPoolExecutor]] = {}
        while True:
            for number in islice(waiting, len(self._free)):
                future, process = self._submitted(calls[number])
                running[future] = number, process
            if not running:
                return
            done = wait(running, every, FIRST_COMPLETED).done
            for future in done:
                number, process = running.pop(future)
                answer, spent = _answer(future)
                if spent:
                    process.shutdown(wait=False)
                    process = _process(self._loading)
                self._free.append(process)
                yield number, answer
            if not done:
                yield None

    def _submitted(self, call: Callable[[], Answer]) -> tuple[Future[_Ended[Answer]], ProcessPoolExecutor]:
        process = self._free.pop()
        try:
            return process.submit(_called, call), process
        except BrokenProcessPool:  # it died of nothing that it was doing
            process = _process(self._loading)
            return process.submit(_called, call), process

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._free:
            process.shutdown(wait=kind is None)
        if kind is not None:
            for child in multiprocessing.active_children():
                child.terminate()


def _process(reading: Loading) -> ProcessPoolExecutor:
    """A pool of one process, so that it is known what a process died of; it starts with its first call."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(reading,))


def _answer(future: Future[_Ended[Answer]]) -> _Ended[Answer]:
    try:
        return future.result()
    except BrokenProcessPool:
        return WorkerDiedError("its process died: killed, or out of memory"), True
    except Exception as error:  # the answer cannot be read in another process
        return error, False


def _begin(reading: Loading) -> None:
    """In a worker: reads videos as the parent does, and ends with it: left alone it would hold an experiment's lock.

    An error here would pass for the worker's death; where it cannot read as the parent does, its calls say why.
    """
    global _refused
    end_with_parent()
    try:
        decoder_named(reading.decoder)
    except DataError as error:  # the parent has it, but its libraries may not load twice
        _refused = error
        return
    try:
        use(reading)
    except DataError as error:  # the cache was there when the parent began
        logging.getLogger(__name__).warning("%s: it is done without", error)
        use(replace(reading, cache=None))


def _called(call: Callable[[], Answer]) -> _Ended[Answer]:
    """In a worker: the answer of a call, or what it raised, as something that the parent can read."""
    if _refused is not None:
        return _refused, False
    try:
        return call(), gpu_lost()
    except (Exception, SystemExit) as error:  # a method of others that ends the program must not end its parent
        told = error if isinstance(error, Exception) and _passes(error) else None
        return told or CallError(f"{type(error).__name__}: {error}"), gpu_lost()


def _passes(error: Exception) -> bool:
    """Whether it can be read in another process: one whose class takes more than a message often cannot."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True
