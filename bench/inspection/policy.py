"""What stored decisions mean for each dynamic convolution: the share of its features that was computed.

An option is open where its bit is set (`bench.evaluation.stored`); a convolution runs as far as its dearest open
option needs, frames counted as ⌈T/R⌉. Cheap operations and gates are no part of the share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.inspection.store import Unit


class NoDecisionsError(Exception):
    """The decisions of a dynamic convolution were not stored, or not in this form; one line."""


def shares(samples: pd.DataFrame, units: Sequence[Unit]) -> pd.DataFrame:
    """Computed share 0..1 of every unit (columns) for every stored clip (rows).

    Raises:
        NoDecisionsError: there is no unit, or no decision at a point that one follows.
    """
    if not units:
        raise NoDecisionsError("no record says what the decisions of each convolution compute")
    return pd.DataFrame({unit.name: _share(samples, unit) for unit in units}, index=samples.index)


def _share(samples: pd.DataFrame, unit: Unit) -> NDArray[np.float64]:
    share = np.ones(len(samples))
    for point, options in ((unit.channel, unit.counts), (unit.temporal, unit.frames)):
        if point:
            share = share * (np.asarray(options, float) / options[0])[dearest(samples, point, len(options))]
    return share


def dearest(samples: pd.DataFrame, point: str, options: int) -> NDArray[np.int64]:
    """The first open option at a decision point for every clip, (N,).

    Raises:
        NoDecisionsError: nothing was stored of the point, or what was is no choice among so many options.
    """
    if (column := f"decision.{point}") not in samples.columns:
        raise NoDecisionsError(f"no decisions were stored at {point!r}")
    bits = samples[column].to_numpy()
    if bits.dtype.kind not in "iu" or not ((bits > 0) & (bits < 1 << options)).all():
        raise NoDecisionsError(f"what was stored at {point!r} is no choice among {options} options")
    lowest = bits.astype(np.int64) & -bits.astype(np.int64)
    found: NDArray[np.int64] = np.log2(lowest).astype(np.int64)
    return found


def computed(samples: pd.DataFrame, units: Sequence[Unit]) -> pd.Series[float]:
    """Of the full cost of the dynamic convolutions the share that every clip computes, 0..1.

    Raises:
        NoDecisionsError: as `shares`.
    """
    each = shares(samples, units)
    weights = np.array([unit.macs for unit in units], float)
    return pd.Series(each.to_numpy() @ weights / weights.sum(), index=samples.index)
