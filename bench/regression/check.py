"""What `vared-bench regress` does: holds the working tree against the locks and a commit, or rewrites the locks."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bench
from bench.files import write_atomically
from bench.regression.costs import CountingError, Offender, compare, entries, measure, read_lock, write_lock
from bench.regression.gate import Result, Tell, against_commit, against_lock, described
from bench.regression.speed_lock import SpeedLock, changed_speeds, measure_lock, read_speed_lock
from bench.regression.timing import GateError, Setting, Time, gated_policies, run_speed
from bench.regression.worktree import NoBaseError, resolve, same_code, worktree
from bench.tables.paths import published
from bench.tables.schema import ids, load

ROOT = Path(bench.__file__).parent.parent
PROCESSES = 2
"""Side by side over the entries of the cost lock."""


@dataclass
class Answer:
    """What was found. compared: what speeds were held against; unmeasured: why something could not be."""

    offenders: list[Offender] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    compared: str = ""
    unmeasured: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """0 fine, 1 regressed, 2 could not measure."""
        statuses = {result.status for result in self.results}
        if self.offenders or "regressed" in statuses:
            return 1
        return 2 if self.unmeasured or "unclear" in statuses else 0

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "code": self.code,
            "costs": [asdict(offender) for offender in self.offenders],
            "speed": {"compared": self.compared, "methods": {each.method: _speed(each) for each in self.results}},
            "unmeasured": self.unmeasured,
        }

    def lines(self) -> list[str]:
        """For people: every offender, and what could not be measured."""
        lines = [str(offender) for offender in self.offenders]
        if lines:
            lines.append(f"{len(lines)} differ from the cost lock; if they should, `regress --costs-only --update`")
        lines += map(described, self.results)
        lines += [f"could not measure {reason}" for reason in self.unmeasured]
        verdict = {0: "fine", 1: "regressed", 2: "could not measure all"}[self.code]
        return [*lines, f"{verdict}; speed against {self.compared}" if self.compared else verdict]


def _speed(result: Result) -> dict[str, Any]:
    """The ratio is that of the change's speed over the base's, with the noise interval around it."""
    ratio = result.judgement and dict(zip(("value", "low", "high"), result.judgement.ratio, strict=True))
    samples = {"base": result.base, "change": result.change}
    return {"status": result.status, "ratio": ratio, "reason": result.reason, "log_ratios": samples}


def locks() -> tuple[Path, Path]:
    """The files of the cost lock and of the speed lock."""
    folder = published().parent / "reference"
    return folder / "costs.json", folder / "speed.json"


def check(base: str, costs_only: bool, tell: Tell) -> Answer:
    """Everything against its lock, and speeds against the commit `base`.

    Raises:
        LockError: a lock that cannot be read.
    """
    costs, speeds = locks()
    locked, locked_speeds = read_lock(costs), None if costs_only else read_speed_lock(speeds)
    tell(f"counting {len(locked)} entries of {costs.name}")
    answer = Answer()
    try:
        answer.offenders = compare(locked, measure(entries([load(id) for id in ids()]), PROCESSES))
    except CountingError as error:
        answer.unmeasured.append(str(error))
    if not costs_only:
        _speeds(answer, base, locked_speeds, tell)
    return answer


def update(costs_only: bool, tell: Tell) -> list[str]:
    """Rewrites the locks, all or none of them; gives a line for everything that changed.

    Raises:
        LockError: a lock that cannot be read, or an entry that cannot be counted.
        CountingError: memory does not suffice, or a process that counts is gone.
        GateError: a speed that cannot be measured.
    """
    costs, speeds = locks()
    locked = read_lock(costs) if costs.exists() else {}
    locked_speeds = None if costs_only else read_speed_lock(speeds)
    found = measure(entries([load(id) for id in ids()]), PROCESSES)
    found_speeds = None if costs_only else _measured(speeds.name, tell)
    write_lock(costs, found)
    changes = [str(offender) for offender in compare(locked, found)]
    if found_speeds is not None:
        write_atomically(speeds, found_speeds.model_dump_json(indent=1).encode() + b"\n")
        changes += changed_speeds(locked_speeds, found_speeds)
    return changes


def _measured(name: str, tell: Tell) -> SpeedLock:
    """The speeds of this tree."""
    with tempfile.TemporaryDirectory(prefix="regress-") as folder:
        timed, methods = _timing(Path(folder))
        tell(f"timing {len(methods)} methods for {name}")
        return measure_lock(timed, methods, ROOT, Setting())


def _speeds(answer: Answer, base: str, locked: SpeedLock | None, tell: Tell) -> None:
    """Fills in the speeds, against the commit `base`; where there is none to be timed, against the lock."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the worktree is removed
    with tempfile.TemporaryDirectory(prefix="regress-") as folder:
        scratch = Path(folder)
        timed, methods = _timing(scratch)
        try:
            answer.results = _against_base(timed, methods, base, scratch / "base", tell)
            answer.compared = f"commit {base}" + ("" if answer.results else ", whose code is the same")
        except NoBaseError as no_base:
            try:
                answer.results = against_lock(timed, methods, ROOT, locked, tell)
                answer.compared = f"the speed lock, since {no_base}"
            except GateError as error:
                answer.unmeasured.append(f"speed: {no_base}; {error}")


def _timing(scratch: Path) -> tuple[Time, list[str]]:
    policies = gated_policies(Setting())
    return run_speed(Setting(), policies, scratch), list(policies)


def _against_base(timed: Time, methods: list[str], base: str, folder: Path, tell: Tell) -> list[Result]:
    """None where no code differs.

    Raises:
        NoBaseError: no such commit, or one that cannot time anything.
    """
    commit = resolve(ROOT, base)
    if same_code(ROOT, commit):
        return []
    with worktree(ROOT, commit, folder) as tree:
        help_ = [sys.executable, "-m", "bench", "speed", "--help"]
        if subprocess.run(help_, cwd=tree, capture_output=True).returncode:
            raise NoBaseError(f"{base} has no command speed")
        tell(f"timing {len(methods)} methods at {base} and as they are now")
        return against_commit(timed, methods, ROOT, tree, tell)
