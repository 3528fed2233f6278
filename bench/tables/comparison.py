"""All methods that were run on the same data at as many frames, in one table, each adaptive one with its controls."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.accuracy.intervals import Interval, interval
from bench.tables.join import gflops, per_video_figure
from bench.tables.runs import Block, NotMeasuredError, Run, groups, per_video
from bench.tables.speeds import Timed, timed
from bench.tables.timings import Timing, learned, of_method, revised
from bench.tables.verdicts import FEWEST_SEEDS, Verdict, decide

TOLERANCE = 0.05
"""A control that costs no more than this share less, or more, than the learned policy is held against it."""

CONTROLS = {
    "all": "everything open",
    "random": "random decisions, about the same cost",
    "fixed": "one fixed choice, nearest cost",
    "shuffled": "learned decisions of other clips",
}


@dataclass(frozen=True)
class Control:
    """A control of an adaptive method beside the learned policy on the same clips.

    clip_1: %. gain: clip-1 of the learned policy minus the control's, points, paired. cost: the control's average cost
    over the learned policy's. verdict: whether the learned policy is better. reason: why there is none.
    """

    name: str
    clip_1: Interval | None = None
    gain: Interval | None = None
    cost: float = float("nan")
    verdict: Verdict = "not run"
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """One method with its options: figures over seeds, of a sample, which is a clip unless the name says otherwise.

    clip_1, video_1: %. gflops: average, maximum and minimum of a sample. executed: multiply-adds that ran, relative to
    those accounted, on a part of the test set. parameters: trained ones. speeds: clips/s, one a machine, or why_not.
    """

    name: str
    seeds: int
    clip_1: Interval | None
    video_1: Interval | None
    gflops: tuple[float, float, float]
    executed: float
    parameters: int
    controls: Sequence[Control]
    speeds: Sequence[Timed] = ()
    why_not: str = ""


def frames(block: Block) -> list[int]:
    """The numbers of frames at which the block has something to compare."""
    return sorted({run.record.identity.frames for run in block.runs if run.record.status == "done"})


def compare(block: Block, frames: int, timings: Sequence[Timing] = ()) -> list[Line]:
    """Every method of a block that was finished at `frames`, the latest revision of each, dearest first.

    timings: of all blocks; those that belong to this one give the speeds.

    Raises:
        RecordError: a per-video file is missing or not the one that was recorded.
    """
    found: dict[tuple[str, str], list[Run]] = {}
    for run in block.runs:
        who = run.record.identity
        if who.frames == frames and run.record.status == "done":
            found.setdefault((who.method, json.dumps(who.options, sort_keys=True)), []).append(run)
    own = learned(timings, block)
    return sorted((_line(runs, own) for runs in found.values()), key=lambda line: -line.gflops[0])


def _line(runs: Sequence[Run], timings: Sequence[Timing]) -> Line:
    latest = max(run.record.identity.method_revision for run in runs)
    runs = sorted(
        (run for run in runs if run.record.identity.method_revision == latest), key=lambda run: run.record.identity.seed
    )
    ran, told = (sum(run.record.executed.get(key, 0) for run in runs) for key in ("executed", "accounted"))
    who = runs[0].record.identity
    costs = [gflops(part)(runs).value for part in ("average", "maximum", "minimum")]
    speeds, why_not = _speeds(runs[0], timings)
    return Line(
        name=described(who.method, who.options) + _unit(runs[0]),
        seeds=len(runs),
        clip_1=_figure(runs, "clip-1"),
        video_1=_figure(runs, "video-1"),
        gflops=(costs[0], costs[1], costs[2]),
        executed=ran / told if told else float("nan"),
        parameters=runs[0].record.parameters or 0,
        controls=_controls(runs),
        speeds=speeds,
        why_not=why_not,
    )


def described(method: str, options: Mapping[str, Any]) -> str:
    """A method with the options that set it apart, for people."""
    return method + "".join(f", {key.replace('_', ' ')} {value}" for key, value in sorted(options.items()))


def _speeds(run: Run, timings: Sequence[Timing]) -> tuple[list[Timed], str]:
    """Clips/s by machine, and why there are none."""
    who = run.record.identity
    try:
        clocked = of_method(timings, who.method, who.options, who.frames)
        return timed("speed", revised(clocked, who.method_revision)), ""
    except NotMeasuredError as reason:
        return [], str(reason)


def _unit(run: Run) -> str:
    """What one sample is, where it is not one clip."""
    protocol = run.record.protocol
    return f" (a {protocol['unit']} of {protocol['clips']} clips)" if protocol.get("unit", "clip") != "clip" else ""


def _figure(runs: Sequence[Run], kind: str) -> Interval | None:
    try:
        return per_video_figure(kind)(runs)
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
    return [name.removesuffix(".clip_1") for name in run.samples.columns if name.startswith("control.")]


def _control(runs: Sequence[Run], name: str) -> Control:
    scored = [run for run in runs if f"control.{name}" in _columns(run)]
    if not scored:
        why = [run.record.missing[key] for run in runs if (key := f"control.{name}") in run.record.missing]
        return Control(CONTROLS[name], reason=why[0])
    try:
        own = per_video(scored, f"control.{name}.clip_1")
        learned = per_video(scored, "clip_1").loc[own.index]
        cost = per_video(scored, f"control.{name}.cost").to_numpy().mean()
        base = per_video(scored, "cost").loc[own.index].to_numpy().mean()
    except NotMeasuredError as error:
        return Control(CONTROLS[name], reason=str(error))
    sources = groups(scored[0], own.index)
    gain = interval(100 * (learned.to_numpy() - own.to_numpy()).T, sources)
    clip_1 = interval(100 * own.to_numpy().T, sources)
    verdict, reason = _verdict(gain, float(cost / base), len(scored))
    return Control(CONTROLS[name], clip_1, gain, float(cost / base), verdict, reason)


def _verdict(gain: Interval, cost: float, seeds: int) -> tuple[Verdict, str]:
    """Whether the learned policy is the better one at the control's cost, which is `cost` times its own."""
    if seeds < FEWEST_SEEDS:
        return "inconclusive", f"{seeds} of at least {FEWEST_SEEDS} seeds"
    if math.isnan(gain.low):
        return "inconclusive", "one independent source: no interval"
    verdict = decide(gain, ">", 0.0)
    unfair = {"holds": cost < 1 - TOLERANCE, "does not hold": cost > 1 + TOLERANCE}.get(verdict, False)
    return ("inconclusive", f"the control costs {cost:.2f} times as much") if unfair else (verdict, "")
