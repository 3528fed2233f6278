"""From timings to the figures of a cell and a verdict on a claim: machine by machine, setting by setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import special

from bench.accuracy.intervals import Interval
from bench.speed.record import Precision, Span, SpeedRecord
from bench.tables.runs import NotMeasuredError
from bench.tables.schema import Claim, Kind, SpeedKind
from bench.tables.timings import Clocked, Timing
from bench.tables.verdicts import FEWEST_SEEDS, Judgement, few, weigh

SPEED_KINDS = frozenset(get_args(SpeedKind))
NOT_MEASURED = "speed was not measured"
_PRECISIONS = get_args(Precision)
_NAN = float("nan")

Machine = tuple[str, str, int, str]
"""Store, device, threads, version of torch."""


class Setting(NamedTuple):
    """Under what was timed. Figures of different settings are never put together.

    origins: the folders of the store, by name, that hold timings of the machine.
    """

    store: str
    device: str
    threads: int
    torch: str
    precision: str
    batch: int
    origins: str = ""

    @property
    def machine(self) -> Machine:
        """All but the workload."""
        return self[:4]

    @property
    def workload(self) -> str:
        """What the machine was given."""
        return f"batch {self.batch}, {self.precision}"

    @property
    def software(self) -> str:
        """Threads and version."""
        return f"{self.threads} thread{'' if self.threads == 1 else 's'}, torch {self.torch}"

    @property
    def where(self) -> str:
        """The machine without its store, which stands elsewhere."""
        return f"{self.device}, {self.software}"

    @property
    def text(self) -> str:
        """All but the store."""
        return f"{self.workload}, {self.where}"


@dataclass(frozen=True)
class Timed:
    """A figure from one machine, at one precision (single, where it is there) and its largest batch.

    ratio: speed over that of the static twin, paired; None for the twin itself. count: how many timings it is the mean
    of. others: the figure under the machine's other settings. records: those timings. twin: what the static twin gave
    in the same rounds: over all its partners it may give another mean.
    """

    setting: Setting
    found: Interval
    ratio: Interval | None
    count: int
    others: Sequence[tuple[Setting, Interval]]
    records: Sequence[SpeedRecord] = ()
    twin: Interval | None = None

    @property
    def seeds(self) -> int:
        """How many trained networks were timed."""
        return len({record.identity.seed for record in self.records if record.identity.trained})


def setting(timing: Timing) -> Setting:
    """Under what a timing was taken."""
    who = timing.record.identity
    names = timing.origins or timing.store
    return Setting(timing.store, who.device, who.threads, who.torch, who.precision, who.batch, names)


def timed(kind: Kind, clocked: Sequence[Clocked]) -> list[Timed]:
    """The figures of a cell, one a machine.

    Raises:
        NotMeasuredError: there is none; says why.
    """
    found = [one for settings in machines(clocked) if (one := _timed(kind, settings))]
    if found:
        return found
    failed = [one.record.reason for one in clocked if one.record.status == "failed"]
    if failed and len(failed) == len(clocked):
        raise NotMeasuredError(f"failed: {failed[-1]}")
    raise NotMeasuredError("not timed at batch 1" if kind == "latency" and clocked else "not timed")


def machines(clocked: Iterable[Clocked]) -> list[dict[Setting, list[Clocked]]]:
    """Finished timings by machine, and within by setting: the one that is shown first."""
    settings: dict[Setting, list[Clocked]] = {}
    for one in clocked:
        if one.record.status == "done":
            settings.setdefault(setting(one.timing), []).append(one)
    ordered = sorted(settings, key=lambda key: (key.machine, _PRECISIONS.index(key.precision), -key.batch))
    found: dict[Machine, dict[Setting, list[Clocked]]] = {}
    for key in ordered:
        found.setdefault(key.machine, {})[key] = settings[key]
    return list(found.values())


def _timed(kind: Kind, settings: Mapping[Setting, Sequence[Clocked]]) -> Timed | None:
    """The figure of one machine, if any of its settings gives one."""
    known = {key: found for key, clocked in settings.items() if (found := _mean(_FIGURES[kind], clocked))}
    if not known:
        return None
    first, *rest = known
    ratio = _mean(_ratio, settings[first])
    records = [one.record for one in settings[first]]
    others = [(key, known[key]) for key in rest]
    return Timed(first, known[first], ratio, len(records), others, records, _mean(_twin, settings[first]))


def _mean(figure: Callable[[Clocked], Interval | None], clocked: Sequence[Clocked]) -> Interval | None:
    values = [value for one in clocked if (value := figure(one)) is not None]
    return pooled(values) if values else None


def _speed(one: Clocked) -> Interval | None:
    arm = one.record.a if one.side == "method" else one.record.b
    return interval(arm.clips_per_second) if arm else None


def _latency(one: Clocked) -> Interval | None:
    speed = _speed(one)
    if speed is None or one.record.identity.batch != 1:
        return None
    return Interval(1 / speed.value, 1 / speed.high, 1 / speed.low)


def _ratio(one: Clocked) -> Interval | None:
    ratio = one.record.ratio
    return interval(ratio) if ratio and one.side == "method" else None


def _twin(one: Clocked) -> Interval | None:
    arm = one.record.b
    return interval(arm.clips_per_second) if arm and _ratio(one) else None


_FIGURES: Mapping[Kind, Callable[[Clocked], Interval | None]] = {
    "speed": _speed,
    "latency": _latency,
    "speedup": _ratio,
}


def interval(span: Span) -> Interval:
    """As an interval of this package; both ends on the value say that there is none."""
    if span.low == span.high:
        return Interval(span.value, _NAN, _NAN)
    return Interval(span.value, span.low, span.high)


def pooled(found: Sequence[Interval]) -> Interval:
    """The geometric mean of several timings, of a speed, a latency or a ratio: all are above 0.

    On the log scale, to their own intervals is added the spread between them (Student's t).
    """
    if len(found) == 1:
        return found[0]
    count, values = len(found), np.log(np.array(found))
    spread = special.stdtrit(count - 1, 0.975) * values[:, 0].std(ddof=1) / math.sqrt(count)
    below, above = (math.hypot(*(values[:, end] - values[:, 0])) / count for end in (1, 2))
    mean = values[:, 0].mean()
    ends = (mean, mean - math.hypot(below, spread), mean + math.hypot(above, spread))
    return Interval(*(math.exp(end) for end in ends))


def judge_speed(claim: Claim, clocked: Sequence[Clocked]) -> list[tuple[Setting | None, Judgement]]:
    """The verdict on a claim about the ratio of speeds, one a machine, from timings of its row against the other.

    The interval of the paired ratio against the margin decides, but where a timing's own ratio does not differ from 1
    by more than two copies of the twin differ from each other nothing is concluded. Trained networks need as many seeds
    as for any other claim; what is matched has none.
    """
    shown = [next(iter(settings.items())) for settings in machines(one for one in clocked if one.record.ratio)]
    judged = {key: _judge(claim, [one.record for one in chosen]) for key, chosen in shown}
    done = {key.machine for key in judged}
    for one in clocked:
        if one.record.status == "failed" and setting(one.timing).machine not in done:
            judged[setting(one.timing)] = Judgement("not run", reason=f"failed: {one.record.reason}")
    return list(judged.items()) or [(None, Judgement("not run", reason=NOT_MEASURED))]


def _judge(claim: Claim, records: Sequence[SpeedRecord]) -> Judgement:
    found = pooled([interval(record.ratio) for record in records if record.ratio])
    seeds = len({record.identity.seed for record in records if record.identity.trained})
    noisy = _told(
        "within the noise between two copies of the static baseline", [one.different is False for one in records]
    )
    lacking = [few(seeds)] if 0 < seeds < FEWEST_SEEDS else []
    lacking += ["too few rounds: no interval"] if math.isnan(found.low) else []
    verdict = "inconclusive" if noisy else weigh(found, claim.relation, claim.margin, seeds or FEWEST_SEEDS)
    remarks = _told("the device was throttled", [throttled(one) for one in records])
    return Judgement(verdict, found, seeds, "; ".join([*lacking, *noisy, *remarks]))


def _told(text: str, seen: Sequence[bool]) -> list[str]:
    """What was seen of some timings and of how many; nothing where it was seen of none."""
    share = f" in {sum(seen)} of {len(seen)} timings" if len(seen) > 1 else ""
    return [text + share] if any(seen) else []


def throttled(record: SpeedRecord) -> bool:
    """Whether the device slowed itself down during a timing."""
    return record.telemetry.get("throttled") is True


def joules(record: SpeedRecord, arm: Literal["a", "b"] = "a") -> float | None:
    """Energy of a sample by the method or its twin, idle power subtracted; None where the device tells none."""
    found = record.telemetry.get("energy", {}).get(arm, {}).get("joules_per_clip")
    return None if found is None else float(found)
