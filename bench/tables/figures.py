"""Figures of runs: what a kind of column is had from stored records by, with its interval where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from bench.accuracy.intervals import Interval, interval
from bench.accuracy.pooled import Name, pooled_interval
from bench.tables.analysis import mean_share, of_a_class, redundancy
from bench.tables.runs import NotMeasuredError, Run, groups, per_video
from bench.tables.verdicts import pooled_tables


def _per_video(runs: Sequence[Run], name: str, stored: Sequence[float], unit: float) -> Interval:
    """From the per-video figures; where they were not shipped, the mean of the `stored` figures without interval."""
    if any(run.record.samples_file is None for run in runs):
        return Interval(float(np.mean(stored)) / unit, math.nan, math.nan)
    table = per_video(runs, name)
    return interval(table.to_numpy().T / unit, groups(runs[0], table.index))


def per_video_figure(kind: str) -> Callable[[Sequence[Run]], Interval]:
    """How a share of right answers ("clip-1", ...) is had from runs, in %; it raises NotMeasuredError without any."""

    def measure(runs: Sequence[Run]) -> Interval:
        for run in runs:
            if kind not in run.record.figures:
                raise NotMeasuredError(run.record.missing.get(kind, f"{kind} was not recorded"))
        stored = [run.record.figures[kind].value for run in runs]
        return _per_video(runs, kind.replace("-", "_"), stored, 0.01)

    return measure


def gflops(field: str) -> Callable[[Sequence[Run]], Interval]:
    """How the "average", "maximum" or "minimum" cost of a sample is had from runs, in 10⁹ multiply-adds."""

    def measure(runs: Sequence[Run]) -> Interval:
        costs = [run.record.cost for run in runs]
        if None in costs:
            raise NotMeasuredError("no cost was recorded")
        stored = [float(getattr(cost, field)) for cost in costs]
        if field == "average":
            return _per_video(runs, "cost", stored, 1e9)
        return Interval(float(np.mean(stored)) / 1e9, math.nan, math.nan)

    return measure


def pooled_figure(name: Name) -> Callable[[Sequence[Run]], Interval]:
    """How a figure of all samples together ("mAP", ...) is had from runs, in %; NotMeasuredError without any.

    Where it cannot be computed anew (mAP over videos whose scores were not stored; records without their per-sample
    tables), it is the mean of the recorded figures without interval.
    """

    def measure(runs: Sequence[Run]) -> Interval:
        stored = [run.record.figures[name].value for run in runs if name in run.record.figures]
        if not stored:
            raise NotMeasuredError(runs[0].record.missing.get(name, f"{name} was not recorded"))
        try:
            found = pooled_interval(name, pooled_tables(runs, name))
        except NotMeasuredError:
            found = Interval(float(np.mean(stored)), math.nan, math.nan)
        return Interval(*(100 * share for share in found))

    return measure


def _params(runs: Sequence[Run]) -> Interval:
    counts = [run.record.parameters for run in runs if run.record.parameters is not None]
    if not counts:
        raise NotMeasuredError("no parameter count was recorded")
    return Interval(float(np.mean(counts)) / 1e6, math.nan, math.nan)


FIGURES: Mapping[str, Callable[[Sequence[Run]], Interval]] = {
    "gflops_avg": gflops("average"),
    "gflops_max": gflops("maximum"),
    "gflops_min": gflops("minimum"),
    "clip-1": per_video_figure("clip-1"),
    "video-1": per_video_figure("video-1"),
    "video-5": per_video_figure("video-5"),
    "mAP": pooled_figure("mAP"),
    "recall": pooled_figure("recall"),
    "classification": pooled_figure("classification"),
    "mIoU": pooled_figure("mIoU"),
    "pixel-accuracy": pooled_figure("pixel-accuracy"),
    "params": _params,
    "share": mean_share,
    "share_max": of_a_class,
    "share_min": of_a_class,
    **{name: redundancy(name) for name in ("temporal.CC", "temporal.RMSE", "temporal.RP")},
    **{name: redundancy(name) for name in ("channel.CC", "channel.RMSE", "channel.RP")},
}
"""What records hold, by its name or kind of column; a column of any other kind is "not measured"."""


@lru_cache(maxsize=1024)
def figure(kind: str, runs: tuple[Run, ...]) -> Interval:
    """A figure of `FIGURES` from runs; remembered, since many tables ask for it.

    Raises:
        NotMeasuredError: there is none.
    """
    return FIGURES[kind](runs)
