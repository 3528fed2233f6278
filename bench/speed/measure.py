"""One paired timing, from a job to a stored record: rounds, checks, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any, TypeGuard

import torch
from torch import Tensor

from bench.data.loading import anew
from bench.distributed import first, from_first
from bench.environment import environment
from bench.lost_gpu import gpu_lost
from bench.method import Prediction
from bench.speed import figures, guards, roofline, telemetry, truth
from bench.speed.allocator import keep_buffers
from bench.speed.arms import Arms, TimedArm
from bench.speed.clock import clock_of
from bench.speed.forms import channels_last, freezing, tensor_cores
from bench.speed.guards import BusyError, CheatError
from bench.speed.inputs import Given
from bench.speed.pair import Job, Pair, Setting
from bench.speed.pairing import CLIPS, Times, interleave, warm_up
from bench.speed.record import Arm, SpeedIdentity, SpeedRecord, SpeedStore
from bench.speed.side_by_side import Start, of_all

TYPICAL = 2
"""Batches that are counted and bounded: those whose cost is nearest to the mean."""

TELL = 15.0
"""Seconds between two lines of progress."""

Announce = Callable[[str], None]


def measure(
    job: Job,
    *,
    results: Path,
    data_root: Path | None = None,
    again: bool = False,
    announce: Announce = lambda text: None,
) -> SpeedRecord:
    """Does a timing, and stores its record in `results`/records/speed.

    What is recorded there is not timed again, unless `again`, or for plain forms that it lacks, or because a busy
    machine may have made it fail. Trained weights are taken from `results`/runs where they are.

    Of several processes that torchrun started each times its own device, all at once; the first stores what it found
    together with what the others did.

    A finished timing is not replaced by one that fails, which is given and not stored.

    Raises:
        SpeedError: what is asked for cannot be timed. A timing that fails is a record with its reason.
    """
    with _under(job.setting):
        pair = Pair(job, results, data_root)
        store = SpeedStore(results / "records" / "speed")
        if not again and _serves(stored := from_first(store.find(pair.identity)), job):
            return stored
        with store.alone() if first() else nullcontext():
            kept = from_first(store.kept(pair.identity) if first() else None)  # the others wait here until it is alone
            if not again and _serves(kept, job):  # timed while this process waited
                return kept
            record = of_all(_record(pair, announce if first() else lambda text: None))
            return from_first(_stored(store, kept, record, announce) if first() else record)


def _stored(store: SpeedStore, kept: SpeedRecord | None, record: SpeedRecord, announce: Announce) -> SpeedRecord:
    """Stores a timing in place of the one that is there, unless that was finished and the new one failed."""
    if record.status == "failed" and kept is not None and kept.status == "done":
        announce(f"{record.identity.id}: failed, and the finished timing that is stored stays: {record.reason}")
        return record
    return store.write(record)


def identity_of(job: Job, results: Path, data_root: Path | None) -> SpeedIdentity:
    """What a timing would be stored under here and now.

    Raises:
        SpeedError: as `measure`.
    """
    with _under(job.setting):
        return Pair(job, results, data_root).identity


def timed_anew(job: Job, results: Path, data_root: Path | None, announce: Announce) -> SpeedRecord:
    """Does a timing as `measure`, whatever is recorded, and stores nothing.

    Raises:
        SpeedError: as `measure`.
    """
    with _under(job.setting):
        return _record(Pair(job, results, data_root), announce)


def _serves(stored: SpeedRecord | None, job: Job) -> TypeGuard[SpeedRecord]:
    """Whether a stored record has all that a job asks for; a failure that a busy machine explains does not."""
    return stored is not None and not stored.doubtful and (not job.setting.plain or bool(stored.protocol.get("plain")))


@contextmanager
def _under(setting: Setting) -> Iterator[None]:
    """Within it torch computes with so many threads, and where decoding is timed nothing that was decoded is kept."""
    before = torch.get_num_threads()
    torch.set_num_threads(setting.threads or before)
    try:
        with anew() if setting.decode else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


def _record(pair: Pair, announce: Announce) -> SpeedRecord:
    """Times a pair; what fails on the way is the record's reason."""
    stated: dict[str, Any] = {**pair.protocol, "allocator": keep_buffers(), "missing": pair.missing}
    found: dict[str, Any]
    shown, start = pair.sides["a"], Start()
    with torch.no_grad(), tensor_cores(pair.setting.precision), freezing(pair.setting.plain):
        surroundings = environment()
        try:
            run = _Run(pair, stated, lambda text: announce(f"{shown.name}, batch {pair.setting.batch}: {text}"), start)
            stated["execution"] = {name: arm.method.details() for name, arm in run.arms.all.items()}
            found = {"status": "done", **run.figures()}
        except (CheatError, RuntimeError) as error:  # RuntimeError: torch's own, such as too little memory
            reason = str(error).partition("\n")[0] or type(error).__name__
            found = {"status": "failed", "reason": reason, "doubtful": _passing(error)}
        start.given_up()
    return SpeedRecord(identity=pair.identity, row=pair.setting.row, protocol=stated, environment=surroundings, **found)


def _passing(error: Exception) -> bool:
    """Whether another try may end otherwise: the machine was busy, or a fault has cost this process its GPU."""
    return isinstance(error, BusyError) or gpu_lost()


class _Run:
    """The rounds of one pair, checked. stated: the protocol, added to. start: of the rounds, in all processes."""

    def __init__(self, pair: Pair, stated: dict[str, Any], announce: Announce, start: Start) -> None:
        self.pair, self.seed, self.stated, self.announce = pair, pair.setting.seed, stated, announce
        self.start = start
        announce("reading clips and building what is timed")
        self.arms, self.clock = Arms(pair), clock_of(pair.device)
        videos, forms = self.arms.videos, {name: arm.form for name, arm in self.arms.all.items()}
        stated |= {"clock": self.clock.name, "videos": {"warm_up": len(videos.warm), "timed": len(videos.timed)}}
        stated |= {"channels_last": {name: channels_last(form) for name, form in forms.items()}}
        stated["missing"] |= self.arms.missing
        self.times = self._timed()
        announce("checking answers")
        stated["answers"] = self._guarded()

    def _timed(self) -> Times:
        """All rounds, after as many as it takes to warm up."""
        arms = self.arms
        with telemetry.Watch(self.pair.device) as device:  # opened first: it idles for a while, and clocks fall
            self.announce(f"warming up {len(arms.all)} arms")
            batch, clips = self.pair.setting.batch, max(CLIPS, self.pair.draws * (self.pair.device.type == "cuda"))
            warm = warm_up(arms.all, self._warm, self.clock, self.seed, batch, clips)
            self.start.wait()
            self.rounds = from_first(self.pair.enough_rounds(warm.batch_seconds))
            self.stated |= {"warm_up": asdict(warm), "rounds": self.rounds}
            self.watch = guards.Watch(self.rounds, self.seed)
            times = interleave(arms.all, self._fresh, self.rounds, self.clock, self.seed, self._observer())
        self.telemetry = {**device.summary(), "throttled": device.throttled}
        if times.processor:
            self.telemetry["processor_seconds"] = times.processor
        return times

    def _warm(self, name: str, number: int) -> Given:
        return self.arms.given(self.arms.all[name], number, "warm")

    def _fresh(self, name: str, number: int) -> Given:
        return self.arms.given(self.arms.all[name], number)

    def _observer(self) -> Callable[[str, int, Given, Prediction], None]:
        """Shows every answer to the guards, and tells the time that is left now and then."""
        started, calls, done = monotonic(), self.rounds * len(self.arms.all), 0
        told = started

        def observe(name: str, number: int, given: Given, prediction: Prediction) -> None:
            nonlocal done, told
            label, done = self.arms.all[name].label, done + 1
            self.watch.see(name, label, number, prediction)  # first: an unfinished answer must not gain time
            original = self._fresh(name, number).sample
            if isinstance(given.sample, Tensor) and isinstance(original, Tensor):
                guards.unchanged(label, given.sample, original)
            if monotonic() - told > TELL:
                told = monotonic()
                left = (told - started) * (calls - done) / done
                self.announce(f"{done / calls:.0%} timed, about {left / 60:.1f} min left")

        return observe

    def _guarded(self) -> dict[str, Any]:
        """Catches what cheats; says how well the answers agree with those computed apart."""
        arms, precision, held = self.arms, self.pair.setting.precision, {}
        apart = {key: guards.Apart(side.method, arms.apart(side)) for key, side in self.pair.sides.items()}
        for name, arm in arms.all.items():
            guards.in_sight(arm.label, self.times.seconds[name], self.times.walls[name])
            with tensor_cores("fp32"):
                held[name] = guards.hold(arm.label, self.watch.kept[name], apart[arm.key], precision)
        if not self.pair.setting.decode:  # which waits for a disk
            got = {name: guards.share(self.times.walls[name], part) for name, part in self.times.processor.items()}
            for name in got:
                guards.undisturbed(arms.all[name].label, got[name], got["b"])
        for arm in (arms.all["a"], arms.all["b"]):
            guards.same_when_seen(arm.label, arm, partial(self._unseen, arm), self.clock)
            guards.done_on_return(arm.label, partial(arm, self._unseen(arm, guards.AGAIN)))
        return {"rounds": len(self.watch.kept_rounds), "tolerance": guards.TOLERANCE[precision], **held}

    def _unseen(self, arm: TimedArm, number: int) -> Given:
        """A batch that no round has shown."""
        return self.arms.given(arm, self.rounds + number)

    def figures(self) -> dict[str, Any]:
        """The record's fields."""
        seconds, missing = self.times.seconds, self.stated["missing"]
        cost = {name: fmean(found) for name, found in self.watch.costs.items()}
        cost_ratio = cost["a"] / cost["b"]
        ratio, noise = (figures.ratio(seconds[x], seconds[y]) for x, y in (("a", "b"), ("b", "b again")))
        typical = sorted(range(self.rounds), key=lambda n: abs(self.watch.costs["a"][n] - cost["a"]))[:TYPICAL]
        said = {name: self._said(name, cost[name], typical) for name in self.arms.all if name != "b again"}
        bound, eta = truth.bound(self.arms, typical, missing), figures.eta(ratio, cost_ratio)
        if bound:
            fastest = min(seconds["b"]) / min(seconds["a"])
            guards.believable(self.arms.all["a"].label, ratio.value, bound["a"] / bound["b"], fastest)
        return {
            "a": said.pop("a"),
            "b": said.pop("b"),
            "plain": list(said.values()),
            "again": seconds["b again"],
            "noise": noise,
            "ratio": ratio,
            "different": figures.different(ratio, noise),
            "cost_ratio": cost_ratio,
            "eta": eta,
            "eta_max": roofline.eta_max(1 / bound["b"], 1 / bound["a"], cost_ratio) if eta and bound else None,
            "bound": bound,
            "telemetry": self.telemetry | truth.energy(self.arms),
        }

    def _said(self, name: str, cost: float, typical: Sequence[int]) -> Arm:
        arm, seconds = self.arms.all[name], self.times.seconds[name]
        return Arm(
            method=arm.side.name,
            options=arm.side.options,
            form=arm.form,
            accounted=cost,
            executed=truth.executed(self.arms, arm, typical, self.stated["missing"]),
            clips_per_second=figures.clips_per_second(seconds, self.pair.setting.batch),
            samples=seconds,
        )
