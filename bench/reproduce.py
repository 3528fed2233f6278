"""Everything that the chosen tables need, in parallel processes, with progress; then the report."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress as Bar

from bench.experiment import Experiment, plan, run
from bench.inspection.run import inspect
from bench.inspection.settings import Settings
from bench.profiles import Profile
from bench.records import Record
from bench.report import render
from bench.speed.measure import measure
from bench.speed.pair import Job, Setting, job
from bench.speed.record import SpeedRecord
from bench.tables.analysis import inspected_rows
from bench.tables.paths import published

TIMED_BATCHES = (1, 8)


@dataclass
class Progress:
    """What is done of a list of experiments, and how long the rest may take."""

    experiments: Sequence[Experiment]
    started: float = field(default_factory=time.monotonic)
    finished: dict[Experiment, str] = field(default_factory=dict)
    stored: set[Experiment] = field(default_factory=set)

    def finish(self, experiment: Experiment, record: Record | None, seconds: float) -> None:
        """Notes an experiment's end and prints its line."""
        if record is None or seconds < 5:  # no time was spent on it here
            self.stored.add(experiment)
        self._tell(experiment, "elsewhere" if record is None else record.status, _outcome(record))

    def fail(self, experiment: Experiment, error: Exception) -> None:
        """Notes an experiment that could not be run and has no record; it will be tried again the next time."""
        self._tell(experiment, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _tell(self, experiment: Experiment, outcome: str, words: str) -> None:
        self.finished[experiment] = outcome
        left = self.estimate()
        rest = "" if left is None else f", about {left / 60:.0f} min left"
        line = f"[{len(self.finished)}/{len(self.experiments)}] {experiment.label}: {words}{rest}"
        print(line, file=sys.stderr, flush=True)

    def estimate(self) -> float | None:
        """Seconds left, from the frames of what has been run (what was stored already says nothing about speed)."""
        ran = sum(e.frames for e in self.finished if e not in self.stored)
        left = sum(e.frames for e in self.experiments if e not in self.finished)
        return (time.monotonic() - self.started) * left / ran if ran else None


def _outcome(record: Record | None) -> str:
    if record is None:
        return "another process is at it"
    if record.status == "failed":
        return f"failed: {record.reason}"
    assert record.cost is not None
    name, figure = next(iter(record.figures.items()))  # the main one of its task is the first
    return f"{name} {100 * figure.value:.1f} %, {record.cost.average / 1e6:.2f} M multiply-adds"


def _work(
    experiment: Experiment, profile: Profile, results: Path, data_root: Path | None, threads: int
) -> tuple[Record | None, float]:
    """Runs one experiment in a process of its own."""
    import torch

    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    started = time.monotonic()
    return run(experiment, profile, results, data_root), time.monotonic() - started


def _end_with_parent() -> None:
    """In a worker: ends with the parent, however that ends. Left alone it would hold its experiment's lock."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def reproduce(
    profiles: Sequence[Profile],
    results: Path,
    data_root: Path | None,
    tables: Sequence[str] | None,
    methods: Sequence[str] | None,
    jobs: int,
) -> int:
    """Runs what is not recorded yet, profile by profile, and renders the report; 0 if all is recorded."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the workers are ended too
    plans = [(profile, plan(profile, tables, methods)) for profile in profiles]  # all, before the first is run
    ended = [run_all(profile, experiments, results, data_root, jobs) for profile, experiments in plans]
    for profile, outcome in zip(profiles, ended, strict=True):  # when nothing else runs
        if not profile.smoke:
            done = [one for one, how in outcome.items() if how == "done"]
            inspect_all(profile, done, results, data_root)
            time_all(list(own_jobs(profile, done).items()), results, data_root)
    shipped = published().parent / "measured"
    for path in render(published(), [("shipped", shipped), ("yours", results / "records")], results / "report", None):
        print(path)
    return ended_well(how for outcome in ended for how in outcome.values())


def ended_well(outcomes: Iterable[str]) -> int:
    """The exit status of experiments that ended so: 0 if all are done."""
    found = set(outcomes)
    if "elsewhere" in found:
        print("some rows are with another process: run again when it has ended", file=sys.stderr)
    return 0 if found == {"done"} else 1


def run_all(
    profile: Profile, experiments: Sequence[Experiment], results: Path, data_root: Path | None, jobs: int
) -> dict[Experiment, str]:
    """Runs the experiments of one profile, `jobs` side by side; gives how they ended."""
    progress = Progress(experiments)
    what = f"{len(experiments)} experiments, {jobs} side by side, in {results}"
    print(f"profile {profile.name}: {what}", file=sys.stderr, flush=True)
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        futures: dict[Future[tuple[Record | None, float]], Experiment] = {
            pool.submit(_work, experiment, profile, results, data_root, threads): experiment
            for experiment in progress.experiments
        }
        try:
            _follow(futures, progress, results)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return progress.finished


def inspect_all(profile: Profile, experiments: Sequence[Experiment], results: Path, data_root: Path | None) -> None:
    """Looks into what was trained, where a published table or figure is about the inside of a network."""
    asked = inspected_rows()
    chosen = [one for one in experiments if (one.method, one.frames, dict(one.options)) in asked]
    _one_by_one("inspected", [(one, partial(_look, one, profile, results, data_root)) for one in chosen])


def time_all(timed: Sequence[tuple[Experiment, Job]], results: Path, data_root: Path | None) -> None:
    """Times what was trained."""
    _one_by_one("timed", [(one, partial(_clock, asked, results, data_root)) for one, asked in timed])


def _one_by_one(what: str, calls: Sequence[tuple[Experiment, Callable[[], str]]]) -> None:
    """Makes calls one after the other in a process of their own, and prints the line that each gives."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        for number, (experiment, call) in enumerate(calls, 1):
            try:
                found = pool.submit(call).result()
            except Exception as error:  # a row that cannot be had keeps its other figures
                found = f"not {what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
            print(f"[{number}/{len(calls)} {what}] {experiment.label}: {found}", file=sys.stderr, flush=True)


def own_jobs(profile: Profile, experiments: Sequence[Experiment]) -> dict[Experiment, Job]:
    """The timing of each experiment beside its twin or itself, but for those timed as the twin of another."""
    jobs = {
        one: job(one.method, None, dict(one.options), Setting(profile, one.frames, seed=one.seed))
        for one in experiments
    }
    twins = {
        Experiment(asked.b, tuple(sorted(asked.b_options.items())), one.frames, one.seed)
        for one, asked in jobs.items()
        if asked.a != asked.b
    }
    return {one: asked for one, asked in jobs.items() if one not in twins}


def _look(experiment: Experiment, profile: Profile, results: Path, data_root: Path | None) -> str:
    """Inspects one run at the stated settings; gives the outcome in one line."""
    warnings.filterwarnings("ignore", category=UserWarning)
    record = inspect(experiment, profile, results, data_root, Settings()).record
    return record.reason or f"{len(record.layers or record.units)} convolutions in {record.seconds:.0f} s"


def _clock(asked: Job, results: Path, data_root: Path | None) -> str:
    """Times one job in batches of each size; gives the outcome in one line."""
    warnings.filterwarnings("ignore", category=UserWarning)
    return "; ".join(_told(measure(asked.at(batch), results=results, data_root=data_root)) for batch in TIMED_BATCHES)


def _told(record: SpeedRecord) -> str:
    who = record.identity
    if record.b is None or record.ratio is None:
        return record.reason
    if who.alone:
        found = f"{record.b.clips_per_second.median:.3g} {record.unit}"
    else:
        found = f"{record.ratio.median:.2f} times as fast as {who.against}"
    return f"{found} in batches of {who.batch}"


def _follow(futures: dict[Future[tuple[Record | None, float]], Experiment], progress: Progress, results: Path) -> None:
    """Prints a line as each experiment ends; in a terminal, a bar that moves in between."""
    pending = set(futures)
    console = Console(stderr=True)
    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("running", total=len(futures))
        while pending:
            done, pending = wait(pending, timeout=2, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    record, seconds = future.result()
                except (BrokenProcessPool, OSError):  # no worker, or no disk: nothing else will run either
                    raise
                except Exception as error:
                    progress.fail(futures[future], error)
                else:
                    progress.finish(futures[future], record, seconds)
            bar.update(task, completed=len(futures) - len(pending) + sum(_under_way(results)))


def _under_way(results: Path) -> list[float]:
    """Share done of each training under way."""
    found = []
    for path in (results / "runs").glob("*/progress"):
        with suppress(OSError, ValueError):  # a process may be just writing or removing it
            found.append(float(path.read_text()))
    return found
