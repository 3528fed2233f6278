"""Everything that the chosen tables need, in parallel processes, with progress; then the report."""

from __future__ import annotations

import errno
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress as Bar

from bench.data.loading import cores_here
from bench.experiment.plan import Experiment, plan
from bench.experiment.run import run
from bench.experiment.starts import held_in, started
from bench.inspection.run import inspect
from bench.inspection.settings import Settings
from bench.profiles import Profile
from bench.records import Record
from bench.registry import without_start
from bench.report import render
from bench.speed.measure import measure
from bench.speed.pair import Job, Setting, job
from bench.speed.record import SpeedRecord
from bench.tables.analysis import inspected_rows
from bench.tables.paths import published
from bench.workers import Workers

TIMED_BATCHES = (1, 8)
SAID = 60.0  # seconds between lines on what is done, where there is no terminal


@dataclass
class Progress:
    """What is done of a list of experiments, and how long the rest may take."""

    experiments: Sequence[Experiment]
    started: float = field(default_factory=time.monotonic)
    finished: dict[Experiment, str] = field(default_factory=dict)
    stored: set[Experiment] = field(default_factory=set)

    def take(self, experiment: Experiment, ended: tuple[Record | None, float] | Exception) -> None:
        """Notes an experiment's end and prints its line; one without a record will be tried again the next time.

        Raises:
            OSError: see `_end_if_the_disk_refuses`.
        """
        _end_if_the_disk_refuses(ended)
        if isinstance(ended, Exception):
            self._tell(experiment, "failed", f"{type(ended).__name__}: {' '.join(str(ended).split())[:300]}")
            return
        record, seconds = ended
        if record is None or seconds < 5:  # no time was spent on it here
            self.stored.add(experiment)
        self._tell(experiment, "elsewhere" if record is None else record.status, _outcome(record))

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


def _end_if_the_disk_refuses(ended: object) -> None:
    """Other refusals of the system are about one file, and end one experiment.

    Raises:
        OSError: the disk takes no more, or is broken: nothing else will be stored either.
    """
    if isinstance(ended, OSError) and ended.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        raise ended


def _outcome(record: Record | None) -> str:
    if record is None:
        return "another process is at it"
    if record.status == "failed":
        return f"failed: {record.reason}"
    assert record.cost is not None
    name, figure = next(iter(record.figures.items()))  # the main one of its task is the first
    return f"{name} {100 * figure.value:.1f} %, {record.cost.average / 1e6:.2f} M multiply-adds"


def _work(
    experiment: Experiment, profile: Profile, results: Path, data_root: Path | None, threads: int, patient: bool
) -> tuple[Record | None, float]:
    """Runs one experiment in a process of its own. patient: waits while another process is at it."""
    import torch

    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    started = time.monotonic()
    return run(experiment, profile, results, data_root, wait=patient), time.monotonic() - started


def reproduce(
    profiles: Sequence[Profile],
    results: Path,
    data_root: Path | None,
    tables: Sequence[str] | None,
    methods: Sequence[str] | None,
    jobs: int,
    weights: Sequence[Path] = (),
) -> int:
    """Runs what is not recorded yet, profile by profile, and renders the report; 0 if all is recorded.

    weights: files that the networks start from, see `bench.experiment.starts`.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the workers are ended too
    plans = [part for profile in profiles for part in planned(profile, tables, methods)]
    plans = started(plans, held_in(weights))  # all, before the first is run
    ended = [run_all(profile, experiments, results, data_root, jobs) for profile, experiments in plans]
    for (profile, _), outcome in zip(plans, ended, strict=True):  # when nothing else runs
        if not profile.smoke and profile.leads:
            done = [one for one, how in outcome.items() if how == "done"]
            inspect_all(profile, done, results, data_root)
            time_all(list(own_jobs(profile, done).items()), results, data_root)
    shipped = published().parent / "measured"
    for path in render(published(), [("shipped", shipped), ("yours", results / "records")], results / "report", None):
        print(path)
    return ended_well(how for outcome in ended for how in outcome.values())


def planned(
    profile: Profile, tables: Sequence[str] | None, methods: Sequence[str] | None
) -> list[tuple[Profile, list[Experiment]]]:
    """What a profile needs; of folds every one from the first seed, before any from the next."""
    found = plan(profile, tables, methods)
    seeds = sorted({one.seed for one in found}) if profile.folds else [None]
    return [(part, [one for one in found if seed in (None, one.seed)]) for seed in seeds for part in profile.in_folds()]


def ended_well(outcomes: Iterable[str]) -> int:
    """The exit status of experiments that ended so: 0 if all are done."""
    return 0 if set(outcomes) == {"done"} else 1


def run_all(
    profile: Profile, experiments: Sequence[Experiment], results: Path, data_root: Path | None, jobs: int
) -> dict[Experiment, str]:
    """Runs the experiments of one profile, `jobs` side by side; gives how they ended.

    Those that another process is at come last: it is waited for, and what it leaves undone is done.
    """
    progress = Progress(experiments)
    count = len(experiments)
    what = f"{count} experiment{'' if count == 1 else 's'}, {jobs} at a time, in {results}"
    print(f"profile {profile.name}: {what}", file=sys.stderr, flush=True)
    threads = max(1, cores_here() // jobs)
    with Workers[tuple[Record | None, float]](jobs) as workers, _shown(progress, results) as show:
        for patient in (False, True):
            left = [one for one in experiments if progress.finished.get(one, "elsewhere") == "elsewhere"]
            calls = [partial(_work, one, profile, results, data_root, threads, patient) for one in left]
            for ended in workers.ended(calls):
                if ended is not None:
                    progress.take(left[ended[0]], ended[1])
                show()
    return progress.finished


def inspect_all(profile: Profile, experiments: Sequence[Experiment], results: Path, data_root: Path | None) -> None:
    """Looks into what was trained, where a published table or figure is about the inside of a network."""
    asked = inspected_rows()
    chosen = [one for one in experiments if (one.method, one.frames, without_start(dict(one.options))) in asked]
    _one_by_one("inspected", [(one, partial(_look, one, profile, results, data_root)) for one in chosen])


def time_all(timed: Sequence[tuple[Experiment, Job]], results: Path, data_root: Path | None) -> None:
    """Times what was trained."""
    _one_by_one("timed", [(one, partial(_clock, asked, results, data_root)) for one, asked in timed])


def _one_by_one(what: str, calls: Sequence[tuple[Experiment, Callable[[], str]]]) -> None:
    """Makes calls one after the other in a process of their own, and prints the line that each gives."""
    with Workers[str](1) as workers:
        for number, found in filter(None, workers.ended([call for _, call in calls])):
            _end_if_the_disk_refuses(found)
            if isinstance(found, Exception):  # a row that cannot be had keeps its other figures
                found = f"not {what}: {type(found).__name__}: {' '.join(str(found).split())[:300]}"
            label = calls[number][0].label
            print(f"[{number + 1}/{len(calls)} {what}] {label}: {found}", file=sys.stderr, flush=True)


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
    found = (_measured(asked.at(batch), results, data_root) for batch in TIMED_BATCHES)
    return "; ".join(_told(record) + remark for record, remark in found)


def _measured(asked: Job, results: Path, data_root: Path | None) -> tuple[SpeedRecord, str]:
    """Times one job, and says whether twice: once more where the machine may have been too busy, as later runs do.

    Where it fails its twin is timed by itself, since nothing else gives it a speed.
    """
    record, remark = measure(asked, results=results, data_root=data_root), ""
    if record.doubtful:
        remark = f" (timed once more; at first, the machine may have been busy: {record.reason})"
        record = measure(asked, results=results, data_root=data_root)
    if record.status == "failed" and asked.a != asked.b:
        _measured(job(asked.b, None, asked.b_options, asked.setting), results, data_root)
    return record, remark


def _told(record: SpeedRecord) -> str:
    who = record.identity
    if record.b is None or record.ratio is None:
        return record.reason
    if who.alone:
        found = f"{record.b.clips_per_second.value:.3g} {record.unit}"
    else:
        found = f"{record.ratio.value:.2f} times as fast as {who.against}"
    return f"{found} in batches of {who.batch}"


@contextmanager
def _shown(progress: Progress, results: Path) -> Iterator[Callable[[], None]]:
    """Gives what is to be called time and again: it moves a bar in a terminal, elsewhere says a line now and then."""
    console, total, last = Console(stderr=True), len(progress.experiments), [time.monotonic()]

    def show() -> None:
        completed = len(progress.finished) + sum(_under_way(results))
        bar.update(task, completed=completed)
        if not console.is_terminal and time.monotonic() - last[0] > SAID:
            last[0] = time.monotonic()
            print(f"{completed:.1f} of {total} run", file=sys.stderr, flush=True)

    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("running", total=total)
        yield show


def _under_way(results: Path) -> list[float]:
    """Share done of each training under way."""
    found = []
    for path in (results / "runs").glob("*/progress"):
        with suppress(OSError, ValueError):  # a process may be just writing or removing it
            found.append(float(path.read_text()))
    return found
