"""From runs to a verdict on a claim: its statistic with an interval, held against the margin stated beforehand."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bench.accuracy.intervals import Interval, interval, ratio_interval, spearman_interval, spread_interval
from bench.accuracy.pooled import Name, needed, pooled_difference
from bench.tables.analysis import (
    Runner,
    class_range,
    class_spread,
    layer_spread,
    motion,
    motion_is_known,
    reduction,
    redundancy_difference,
    redundancy_motion,
    redundancy_object,
)
from bench.tables.runs import NotMeasuredError, Run, Runs, groups, per_video
from bench.tables.schema import Claim, Relation, Statistic

Verdict = Literal[
    "holds", "does not hold", "set", "too few seeds, within", "too few seeds, beyond", "inconclusive", "not run"
]
"""Set: a cost that was chosen to be so, and is. Within, beyond: the side of the margin on which the interval lies."""

FEWEST_SEEDS = 3
"""With fewer seeds training noise is not, or hardly, known, and nothing is concluded about trained networks."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim, the interval behind it (None: not run), over how many seeds; reason: why not more."""

    verdict: Verdict
    interval: Interval | None = None
    seeds: int = 0
    reason: str = ""


def decide(found: Interval, relation: Relation, margin: float) -> Verdict:
    """Holds: the whole interval lies on the claim's side of its margin. Does not hold: wholly on the other side."""
    low, high = found.low, found.high
    holds, fails = {
        "<": (high < margin, low >= margin),
        "<=": (high <= margin, low > margin),
        ">": (low > margin, high <= margin),
        ">=": (low >= margin, high < margin),
    }[relation]
    if holds:
        return "holds"
    return "does not hold" if fails else "inconclusive"


def weigh(found: Interval, relation: Relation, margin: float, seeds: int) -> Verdict:
    """As `decide`; of too few seeds on which side the interval lies."""
    verdict = decide(found, relation, margin)
    if verdict == "inconclusive" or seeds >= FEWEST_SEEDS:
        return verdict
    return "too few seeds, within" if verdict == "holds" else "too few seeds, beyond"


def judge(claim: Claim, row: Runs, against: Runs, along: tuple[str, str] = ("", "")) -> Judgement:
    """The verdict on a claim from the finished runs of its row and, where it compares, of the other row.

    Compared are the seeds that both rows have; difficulty alone uses every seed of the other row. against: of a
    reduction, the runs of the plain network. along: the dimensions that the two rows are about, of RP.
    """
    paired = claim.against is not None and claim.statistic != "difficulty"
    seeds = sorted(row.keys() & against.keys() if paired else row.keys())
    if not seeds:
        return Judgement("not run", reason="the two rows have no seed in common")
    others = [against[seed] for seed in (seeds if paired else sorted(against))]
    try:
        found = _found(claim.statistic, along, tuple(row[seed] for seed in seeds), tuple(others))
    except NotMeasuredError as error:
        return Judgement("not run", reason=str(error))
    lacking = [few(len(seeds))] if len(seeds) < FEWEST_SEEDS else []
    if not lacking and math.isnan(found.low):
        lacking = ["too few independent sources: no interval"]
    estimated = claim.statistic == "redundancy_motion" and not motion_is_known(row[seeds[0]])
    verdict = weigh(found, claim.relation, claim.margin, len(seeds))
    return Judgement(verdict, found, len(seeds), "; ".join([*lacking, *(["estimated motion"] if estimated else [])]))


@functools.lru_cache(maxsize=1024)
def _found(statistic: Statistic, along: tuple[str, str], row: tuple[Run, ...], against: tuple[Run, ...]) -> Interval:
    """A statistic of runs; remembered, since several tables make the same claim."""
    return (redundancy_difference(*along) if statistic == "RP" else STATISTICS[statistic])(row, against)


def few(seeds: int) -> str:
    """Why fewer than the fewest seeds conclude nothing."""
    if seeds == 1:
        return "1 seed: training noise is not in the interval"
    return f"{seeds} seeds: too few to know training noise (at least {FEWEST_SEEDS})"


def _pair(row: Sequence[Run], against: Sequence[Run], name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A per-video figure of both rows, for the videos that both scored."""
    _same_data(row, against)
    first, second = per_video(row, name), per_video(against, name)
    common = first.index.intersection(second.index)
    if common.empty:
        raise NotMeasuredError(f"the two rows have no video in common with {name}")
    return first.loc[common], second.loc[common]


def _same_data(row: Sequence[Run], against: Sequence[Run]) -> None:
    if len({run.record.identity.data_fingerprint for run in (*row, *against)}) > 1:
        raise NotMeasuredError("the two rows were tested on different data")


def _cost_ratio(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    first, second = _pair(row, against, "cost")
    return ratio_interval(first.to_numpy().T, second.to_numpy().T, groups(row[0], first.index))


def _accuracy(name: str) -> Runner:
    def difference(row: Sequence[Run], against: Sequence[Run]) -> Interval:
        first, second = _pair(row, against, name)
        points = 100 * (first.to_numpy() - second.to_numpy())
        return interval(points.T, groups(row[0], first.index))

    return difference


def pooled_tables(runs: Sequence[Run], name: Name) -> list[pd.DataFrame]:
    """The per-sample table of each run, of the samples that all of them scored, that a figure is computed from.

    Raises:
        NotMeasuredError: a run has none, or not what this figure needs, or no sample was scored in all of them.
    """
    for run in runs:
        if not {*needed(name, run.samples.columns)} <= {*run.samples.columns}:
            why = run.record.missing.get(name, f"what {name} is computed from was not stored of each sample")
            raise NotMeasuredError(why)
    scored = [run.samples.dropna(subset=[*needed(name, run.samples.columns)]) for run in runs]
    common = functools.reduce(pd.Index.intersection, [table.index for table in scored])
    if common.empty:
        raise NotMeasuredError(f"the runs have no sample in common with {name}")
    return [table.loc[common] for table in scored]


def _pooled(name: Name) -> Runner:
    def difference(row: Sequence[Run], against: Sequence[Run]) -> Interval:
        _same_data(row, against)
        tables = pooled_tables([*row, *against], name)
        return pooled_difference(name, tables[: len(row)], tables[len(row) :])

    return difference


def _cost(row: Sequence[Run]) -> pd.DataFrame:
    """What each video costs beside others that met the same network: one column a run."""
    cost = per_video(row, "cost")
    return pd.concat([run.levelled(cost[number]) for number, run in enumerate(row)], axis=1)


def _cost_spread(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    cost = _cost(row)
    return spread_interval(cost.to_numpy().T, groups(row[0], cost.index))


def temporal_cost(run: Run) -> pd.Series[float]:
    """The share of a video's temporal decision points whose dearest option (bit 0) is open: 1 - temporal saving.

    Raises:
        NotMeasuredError: the run decides nothing along time.
    """
    points = [name for name in run.samples.columns if name.startswith("decision.") and name.endswith(".temporal")]
    if not points:
        raise NotMeasuredError("no temporal decisions were stored")
    return pd.Series((run.samples[points].to_numpy() & 1).mean(1), index=run.samples.index)


def _motion(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    if not motion_is_known(row[0]):
        raise NotMeasuredError("the data set does not know the true motion of its videos")
    known = motion(row[0])
    cost = np.stack([run.levelled(temporal_cost(run)).reindex(known.index).to_numpy() for run in row])
    return spearman_interval(cost, known.to_numpy(), groups(row[0], known.index))


def _difficulty(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    _same_data(row, against)
    difficulty = 1 - per_video(against, "clip_1").mean(axis=1)
    cost = _cost(row)
    common = cost.index.intersection(difficulty.index)
    if difficulty.loc[common].nunique() < 2:
        raise NotMeasuredError("the static network errs equally on all videos")
    cost = cost.loc[common]
    return spearman_interval(cost.to_numpy().T, difficulty.loc[common].to_numpy(), groups(row[0], common))


STATISTICS: Mapping[Statistic, Runner] = {
    "cost_ratio": _cost_ratio,
    "clip-1": _accuracy("clip_1"),
    "video-1": _accuracy("video_1"),
    "mAP": _pooled("mAP"),
    "recall": _pooled("recall"),
    "classification": _pooled("classification"),
    "mIoU": _pooled("mIoU"),
    "cost_spread": _cost_spread,
    "motion": _motion,
    "difficulty": _difficulty,
    "reduction": reduction,
    "class_spread": class_spread,
    "layer_spread": layer_spread,
    "class_range": class_range,
    "redundancy_motion": redundancy_motion,
    "redundancy_object": redundancy_object,
}
"""How each is computed, but for RP, which depends on what its rows are about, and speed_ratio, had from timings."""
