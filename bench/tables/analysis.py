"""What tables and figures say of the inside of networks: redundancy of feature maps, decisions by class and layer.

From runs with their inspections to figures with intervals, under the scheme of `bench.accuracy.intervals`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.accuracy.intervals import FEWER, Interval, estimate, interval, ratio_interval, spearman_interval
from bench.inspection.policy import NoDecisionsError, computed, shares
from bench.inspection.store import Inspection
from bench.tables.runs import NotMeasuredError, Run, groups, per_video
from bench.tables.schema import ids, load

Floats = NDArray[np.float64]
Runner = Callable[[Sequence[Run], Sequence[Run]], Interval]

INSIDE = {"CC", "RMSE", "RP", "share", "share_max", "share_min"}
"""The kinds of columns of tables and figures that are about the inside of networks."""


def inspected_rows() -> list[tuple[str, int, dict[str, str | int | float | bool]]]:
    """Method, frames and options of the published rows that only an inspection fills, or whose pictures it has."""
    tables = [load(id) for id in ids()]
    rows = [row for table in tables if INSIDE & {column.kind for column in table.columns} for row in table.rows]
    return [(one.method, one.frames, one.options) for row in rows if (one := row.experiment)]


def inspected(run: Run) -> Inspection:
    """The inspection of a run.

    Raises:
        NotMeasuredError: there is none, or it failed.
    """
    if run.inspection is None:
        raise NotMeasuredError("the trained network was not inspected")
    if run.inspection.record.status == "failed":
        raise NotMeasuredError(f"the inspection failed: {run.inspection.record.reason}")
    return run.inspection


def by_clip(runs: Sequence[Run], name: str) -> pd.DataFrame:
    """A figure of the inspected clips, "temporal.RP": one column a run, one row for every clip that has it in all.

    Raises:
        NotMeasuredError: a run was not inspected, or has no such figure, or no clip has it in all of them.
    """
    lacking = sum(run.inspection is None for run in runs)
    if 0 < lacking < len(runs):
        raise NotMeasuredError(f"{lacking} of {len(runs)} trained networks were not inspected")
    found = [inspected(run) for run in runs]
    for one in found:
        if name not in one.samples.columns:
            raise NotMeasuredError(one.record.missing.get("redundancy", f"the inspection has no {name}"))
    table = pd.concat([one.samples[name].astype(float) for one in found], axis=1, keys=range(len(found))).dropna()
    if table.empty:
        raise NotMeasuredError(f"no clip has a {name} in all runs")
    return table


def redundancy(name: str) -> Callable[[Sequence[Run]], Interval]:
    """How a figure of redundancy, "temporal.RP", is had from runs: the mean over clips."""

    def measure(runs: Sequence[Run]) -> Interval:
        table = by_clip(runs, name)
        return interval(table.to_numpy().T, _sources(runs[0], table.index))

    return measure


def redundancy_difference(along: str, other: str) -> Runner:
    """The proportion of redundant maps along one dimension of the row, less that along one of the other row."""

    def difference(row: Sequence[Run], against: Sequence[Run]) -> Interval:
        if len({run.record.identity.data_fingerprint for run in (*row, *against)}) > 1:
            raise NotMeasuredError("the two rows were tested on different data")
        first, second = by_clip(row, f"{along}.RP"), by_clip(against, f"{other}.RP")
        common = first.index.intersection(second.index)
        if common.empty:
            raise NotMeasuredError("no clip was inspected in both rows")
        values = first.loc[common].to_numpy() - second.loc[common].to_numpy()
        return interval(values.T, _sources(row[0], common))

    return difference


def redundancy_motion(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    """Rank correlation of a clip's temporal redundancy (RP) with its motion."""
    return _follows(row, "temporal.RP", motion(row[0]))


def motion_is_known(run: Run) -> bool:
    """Whether the data set knows the true motion of each test video."""
    return "attribute.motion" in run.samples.columns


def redundancy_object(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    """Rank correlation of a clip's channel redundancy (RP) with the share of the frame that its object fills."""
    samples = inspected(row[0]).samples
    if "attribute.object_share" not in samples.columns:
        raise NotMeasuredError("the data set does not know how much of the frame the object fills")
    return _follows(row, "channel.RP", samples["attribute.object_share"])


def motion(run: Run) -> pd.Series[float]:
    """The true motion of each test video where it is known, else what the inspection estimated from the frames.

    Raises:
        NotMeasuredError: neither is stored, or all videos have the same.
    """
    if motion_is_known(run):
        found = run.samples["attribute.motion"]
    elif run.inspection and "estimated.motion" in inspected(run).samples.columns:
        found = inspected(run).samples["estimated.motion"]
    else:
        raise NotMeasuredError("the true motion of the videos is not known, and it was not estimated")
    values = pd.to_numeric(found, errors="coerce").dropna()
    if values.nunique() < 2:
        raise NotMeasuredError("all videos have the same motion")
    return values


def _follows(row: Sequence[Run], name: str, other: pd.Series[float]) -> Interval:
    table = by_clip(row, name)
    known = pd.to_numeric(other, errors="coerce").reindex(table.index).dropna()
    if known.nunique() < 2:
        raise NotMeasuredError(f"all inspected clips have the same {other.name}")
    return spearman_interval(table.loc[known.index].to_numpy().T, known.to_numpy(), _sources(row[0], known.index))


def _sources(run: Run, index: pd.Index) -> NDArray[np.object_]:
    """The independent source of each inspected clip."""
    return inspected(run).samples["group"].astype(str).reindex(index).to_numpy(dtype=object)


def unit_shares(run: Run) -> pd.DataFrame:
    """Computed share 0..1 of every dynamic convolution (columns) for every test video (rows).

    Raises:
        NotMeasuredError: nothing says what the decisions compute, or none were stored.
    """
    try:
        return shares(run.samples, run.units)
    except NoDecisionsError as error:
        raise NotMeasuredError(str(error)) from None


def computed_share(run: Run) -> pd.Series[float]:
    """Of the full cost of the dynamic convolutions the share computed for every test video, 0..1.

    Raises:
        NotMeasuredError: as `unit_shares`.
    """
    try:
        return computed(run.samples, run.units)
    except NoDecisionsError as error:
        raise NotMeasuredError(str(error)) from None


def mean_share(runs: Sequence[Run]) -> Interval:
    """The share of features computed, the mean over dynamic convolutions, in %."""
    codes, _ = _codes(runs)
    return interval(np.stack([100 * unit_shares(run).mean(axis=1).to_numpy() for run in runs]), codes)


ONE_CLASS = "a single class in print"
"""Why such a cell is not measured; below its table stands what is judged instead."""


def of_a_class(runs: Sequence[Run]) -> Interval:
    """The cells of Figure 4, which are of classes that other data do not have."""
    raise NotMeasuredError(ONE_CLASS)


def class_spread(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    """Standard deviation over classes of the mean computed share, relative to its mean, less what chance gives."""
    labels, targets = np.unique(_classes(row), return_inverse=True)
    codes, sources = _codes(row)
    if len(labels) < 2:
        raise NotMeasuredError("there is a single class")
    sums = np.zeros((len(row), sources, len(labels)))
    for own, run in zip(sums, row, strict=True):
        np.add.at(own, (codes, targets), run.levelled(unit_shares(run).mean(axis=1)).to_numpy())
    counts = np.zeros((sources, len(labels)))
    np.add.at(counts, (codes, targets), 1)
    return _spread(sums, counts)


def layer_spread(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    """Standard deviation over dynamic convolutions of their mean computed share, relative to its mean, less what chance
    gives.
    """
    codes, sources = _codes(row)
    tables = [unit_shares(run) for run in row]
    if tables[0].shape[1] < 2:
        raise NotMeasuredError("there is a single dynamic convolution")
    sums = np.zeros((len(row), sources, tables[0].shape[1]))
    for own, table in zip(sums, tables, strict=True):
        np.add.at(own, codes, table.to_numpy())
    counts = np.bincount(codes, minlength=sources).astype(float)
    return _spread(sums, np.repeat(counts[:, None], sums.shape[2], axis=1))


def _classes(runs: Sequence[Run]) -> Floats:
    """The class of each test video.

    Raises:
        NotMeasuredError: they have none.
    """
    if not runs[0].classifies:
        raise NotMeasuredError("the data have no classes of videos")
    return per_video(runs[:1], "target")[0].to_numpy()


def _codes(runs: Sequence[Run]) -> tuple[NDArray[np.intp], int]:
    """The number of each test video's source, and how many sources there are.

    Raises:
        NotMeasuredError: the runs were not scored on the same videos.
    """
    first = runs[0].samples.index
    if any(not run.samples.index.equals(first) for run in runs):
        raise NotMeasuredError("the runs were not scored on the same videos")
    names, codes = np.unique(groups(runs[0], first).astype(str), return_inverse=True)
    return codes, len(names)


def _spread(sums: Floats, counts: Floats) -> Interval:
    """Standard deviation over parts K of their means, relative to the mean of those, from sums within sources.

    sums: (S, G, K) of S seeds and G sources. counts: (G, K). Means of equal parts differ by chance already; what they
    differ by on average, from the variance between sources, is taken off the variance of the means.
    """
    seeds, sources, parts = sums.shape
    flat = sums.transpose(1, 0, 2).reshape(sources, -1)

    def means(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):  # a draw may leave a part out
            return np.asarray((weights @ flat).reshape(-1, seeds, parts) / (weights @ counts)[:, None])

    apart = (sums - means(np.ones((1, sources)))[0][:, None] * counts) / counts.sum(0)
    inflate = sources / max(sources - 1, 1)
    chance = inflate * (np.square(apart).sum(1).mean(1) - np.square(apart.mean(2)).sum(1))

    def spread(weights: Floats) -> Floats:
        found = means(weights)
        variance = np.nanvar(found, axis=2) - chance
        return np.asarray(np.sqrt(np.maximum(variance, 0)) / np.nanmean(found, axis=2))

    return estimate(spread, sources, centred=True)


def class_range(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    """Largest minus smallest computed share of the dynamic convolutions' cost among the clips of a class, in points;
    the mean over classes.
    """
    targets = _classes(row)
    codes, sources = _codes(row)
    values = [np.asarray(100 * run.levelled(computed_share(run)), np.float64) for run in row]
    ordered = [
        [np.flatnonzero(targets == label)[np.argsort(own[targets == label])] for label in np.unique(targets)]
        for own in values
    ]

    def ranges(weights: Floats) -> Floats:
        drawn = weights > 0
        found = [
            np.mean([_first(drawn, codes, own, rows[::-1]) - _first(drawn, codes, own, rows) for rows in classes], 0)
            for own, classes in zip(values, ordered, strict=True)
        ]
        return np.stack(found, axis=1)

    return estimate(ranges, sources, resamples=FEWER, centred=True)  # a part of the clips never has a larger range


def _first(drawn: NDArray[np.bool_], codes: NDArray[np.intp], values: Floats, rows: NDArray[np.intp]) -> Floats:
    """Of each draw (B, G) the value of the first of `rows` whose source is drawn; of the first where none is."""
    return np.asarray(values[rows][np.argmax(drawn[:, codes[rows]], axis=1)])


def reduction(row: Sequence[Run], against: Sequence[Run]) -> Interval:
    """Mean multiply-adds of the plain network, whose runs are `against`, over those of the row."""
    plain, own = per_video(against, "cost").mean(axis=1), per_video(row, "cost")
    common = own.index.intersection(plain.index)
    if common.empty:
        raise NotMeasuredError("the network and its plain form have no video in common")
    own = own.loc[common]
    above = np.repeat(plain.loc[common].to_numpy()[None], own.shape[1], axis=0)
    return ratio_interval(above, own.to_numpy().T, groups(row[0], common))
