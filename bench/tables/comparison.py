"""All methods that were run on the same data at as many frames, in one table, each adaptive one with its controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.accuracy.intervals import Interval, interval
from bench.registry import WEIGHTS, short
from bench.tables.block import Block
from bench.tables.figures import figure
from bench.tables.runs import NotMeasuredError, Run, by_form, groups, per_video
from bench.tables.speeds import Timed, timed
from bench.tables.timings import Clocked, Timing, learned, of_method, revised, with_own_twin
from bench.tables.verdicts import FEWEST_SEEDS, Verdict, decide, weigh

TOLERANCE = 0.05
"""A control that costs no more than this share less, or more, than the learned policy is held against it."""

ACCURACIES = (("mAP", "recall", "classification"), ("mIoU", "pixel-accuracy"), ("clip-1", "video-1"))
"""The figures that tell how right a method is, its main one first: of boxes, of masks, of classes."""

RIGHT = {"clip_1": "clip-1", "first_box": "first box", "crop_pixels": "pixels of the centre crop"}
"""The per-sample figures that controls are scored by (clips, key frames, images), and their names."""

FORCED = "forced for whole layers, which the network never met in training: a gain over it says little"
"""Why no better policy is found beside a control of one that decides for single elements."""

SAME = "every clip computes the same: the control can differ in the weights of open options only"
"""Why no policy is found better than what follows the same decisions."""

CONTROLS = {
    "all": "all gates on",
    "random": "random decisions, about the same cost",
    "fixed": "one fixed choice, nearest cost",
    "shuffled": "learned decisions of other clips",
    "opened": "options that other clips open, own weights",
}


@dataclass(frozen=True)
class Control:
    """A control of an adaptive method beside the learned policy on the same samples.

    right: how many are right, %, by the figure `of`. gain: that of the learned policy minus the control's, points,
    paired. cost: the control's average cost over the learned policy's. verdict: whether the learned policy is better.
    reason: why there is none. seeds: those of the method that it was scored on.
    """

    name: str
    of: str = ""
    right: Interval | None = None
    gain: Interval | None = None
    cost: float = float("nan")
    verdict: Verdict = "not run"
    reason: str = ""
    seeds: int = 0


@dataclass(frozen=True)
class Line:
    """One method with its options: figures over seeds, of a sample, which is a clip unless the name says otherwise.

    name: with what sets it apart, its revision where a later one supersedes it, for people. method, options: as
    they are named in records. accuracies: %, by the names of `accuracies`, None where there is none. gflops:
    average, maximum and minimum of a sample; cost: the average with its interval. executed: multiply-adds that ran
    over those accounted, on a part of the test set. parameters: trained ones. speeds: samples a second in `unit`,
    one a machine, or why_not. against: what they were timed against, "" for what is a twin of others. runs: what
    all this is from.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    seeds: int
    accuracies: Mapping[str, Interval | None]
    gflops: tuple[float, float, float]
    cost: Interval
    executed: float
    parameters: int
    controls: Sequence[Control]
    speeds: Sequence[Timed] = ()
    unit: str = "clips/s"
    against: str = ""
    why_not: str = ""
    runs: Sequence[Run] = ()


def frames(block: Block) -> list[int]:
    """The numbers of frames at which the block has something to compare."""
    return sorted({run.record.identity.frames for run in block.runs if run.record.status == "done"})


def accuracies(block: Block) -> Sequence[str]:
    """What the methods of a block are compared by: all are of one data set, and so have one task."""
    recorded = {name for run in block.runs for name in run.record.figures}
    return next((names for names in ACCURACIES if recorded >= {*names}), ACCURACIES[-1])


def compare(block: Block, frames: int, timings: Sequence[Timing] = ()) -> list[Line]:
    """Every method of a block that was finished at `frames`, the latest revision of each, dearest first.

    timings: of all blocks; those that belong to this one give the speeds.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    done = [run for run in block.runs if run.record.status == "done" and run.record.identity.frames == frames]
    own = learned(timings, block)
    return sorted((_line(runs, block, own) for runs in by_form(done)), key=lambda line: -line.gflops[0])


def _line(runs: Sequence[Run], block: Block, timings: Sequence[Timing]) -> Line:
    ran, told = (sum(run.record.executed.get(key, 0) for run in runs) for key in ("executed", "accounted"))
    who = runs[0].record.identity
    cost, most, least = (figure(f"gflops_{part}", tuple(runs)) for part in ("avg", "max", "min"))
    return Line(
        name=described(who.method, who.options) + _unit(runs[0]) + _old(block, who.method, who.method_revision),
        method=who.method,
        options=who.options,
        seeds=len(runs),
        accuracies={name: _figure(runs, name) for name in accuracies(block)},
        gflops=(cost.value, most.value, least.value),
        cost=cost,
        executed=ran / told if told else float("nan"),
        parameters=runs[0].record.parameters or 0,
        controls=_controls(runs),
        unit=f"{runs[0].record.protocol.get('unit', 'clip')}s/s",
        runs=runs,
        **_speeds(runs[0], timings),
    )


def described(method: str, options: Mapping[str, Any]) -> str:
    """A method with the options that set it apart, for people; weights by the beginning of their digest."""
    told = {**options, WEIGHTS: f"from {short(options[WEIGHTS])}"} if WEIGHTS in options else options
    return method + "".join(f", {key.replace('_', ' ')} {value}" for key, value in sorted(told.items()))


def _speeds(run: Run, timings: Sequence[Timing]) -> dict[str, Any]:
    """Speeds by machine and what they were timed against, or why there are none: fields of a line."""
    who = run.record.identity
    clocked = with_own_twin(of_method(timings, who.method, who.options, who.frames))
    clocked = revised(clocked, who.method_revision)
    against = {one.record.identity.against if _first(one) else "" for one in clocked}
    try:
        return {"speeds": timed("speed", clocked), "against": against.pop() if len(against) == 1 else ""}
    except NotMeasuredError as reason:
        return {"why_not": str(reason)}


def _first(one: Clocked) -> bool:
    """Whether the timing was of this method, not of another against it."""
    return one.side == "method" or one.record.identity.alone


def _old(block: Block, method: str, revision: int) -> str:
    """Which revision, where a later one supersedes it: those of one block may differ."""
    return f", revision {revision}" if block.superseded(method, revision) else ""


def _unit(run: Run) -> str:
    """What one sample is, where it is made of several clips."""
    protocol = run.record.protocol
    return f" (a {protocol['unit']} of {protocol['clips']} clips)" if protocol.get("unit") == "video" else ""


def _figure(runs: Sequence[Run], kind: str) -> Interval | None:
    try:
        return figure(kind, tuple(runs))
    except NotMeasuredError:
        return None


def _controls(runs: Sequence[Run]) -> list[Control]:
    """The controls that were scored, or should have been."""
    known = [set(run.record.missing) | set(_columns(run)) for run in runs]
    named = [name for name in CONTROLS if any(f"control.{name}" in keys for keys in known)]
    return [_control(runs, name) for name in named]


def _columns(run: Run) -> list[str]:
    if run.record.samples_file is None:
        return []
    return [name.rpartition(".")[0] for name in run.samples.columns if name.startswith("control.")]


def _control(runs: Sequence[Run], name: str) -> Control:
    scored = [run for run in runs if f"control.{name}" in _columns(run)]
    if not scored:
        why = [run.record.missing[key] for run in runs if (key := f"control.{name}") in run.record.missing]
        return Control(CONTROLS[name], reason=why[0])
    column = next((name for name in RIGHT if name in scored[0].samples.columns), "clip_1")
    try:
        own = per_video(scored, f"control.{name}.{column}")
        learned = per_video(scored, column).loc[own.index]
        cost = per_video(scored, f"control.{name}.cost").to_numpy().mean()
        base = per_video(scored, "cost").loc[own.index].to_numpy().mean()
    except NotMeasuredError as error:
        return Control(CONTROLS[name], reason=str(error))
    sources = groups(scored[0], own.index)
    gain = interval(100 * (learned.to_numpy() - own.to_numpy()).T, sources)
    right = interval(100 * own.to_numpy().T, sources)
    verdict, reason = _verdict(gain, float(cost / base), len(scored))
    if name != "all" and verdict in ("holds", "too few seeds, within") and (doubt := _doubt(scored)):
        verdict, reason = "inconclusive", "; ".join(filter(None, (reason, doubt)))
    if len(scored) < len(runs):
        reason = "; ".join(filter(None, (reason, f"scored on {len(scored)} of {len(runs)} seeds")))
    return Control(CONTROLS[name], RIGHT[column], right, gain, float(cost / base), verdict, reason, len(scored))


def _doubt(runs: Sequence[Run]) -> str:
    """Why a gain over a control says nothing of decisions: they are of single elements, of whose masks only shares are
    stored, not options; or the dearest open option, which says what is computed, is the same for every clip. "" if
    neither.
    """
    decided = [run.samples.filter(regex=r"^decision\.") for run in runs]
    if any(map(pd.api.types.is_float_dtype, decided[0].dtypes)):
        return FORCED
    opened = [table.to_numpy(np.int64) for table in decided]  # a bit an option, the dearest the lowest
    same = all(bits.size and bool((bits & -bits == (bits & -bits)[:1]).all()) for bits in opened)
    return SAME if same else ""


def _verdict(gain: Interval, cost: float, seeds: int) -> tuple[Verdict, str]:
    """Whether the learned policy is the better one at the control's cost, which is `cost` times its own."""
    unfair = {"holds": cost < 1 - TOLERANCE, "does not hold": cost > 1 + TOLERANCE}.get(decide(gain, ">", 0.0), False)
    if unfair:
        return "inconclusive", f"the control costs {cost:.2f} times as much"
    why = f"{seeds} of at least {FEWEST_SEEDS} seeds" if seeds < FEWEST_SEEDS else ""
    if not why and math.isnan(gain.low):
        why = "too few independent sources: no interval"
    return weigh(gain, ">", 0.0, seeds), why
