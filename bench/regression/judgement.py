"""Whether a change is slower than its base: a pure function of paired samples, and of the noise seen among equals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

LEAST = math.log(0.95)
"""Slower by less than 5 % is never called regressed."""
PLANTED = math.log(0.90)
"""What must be excluded for all to be fine: slower by 10 %."""
CONFIDENCE = 0.99
"""Of the noise interval. Not 95 %: several methods are judged every time, and a false alarm stops a change."""

Pair = tuple[float, float]
"""Two measurements of one tree from the same round: logarithms of speed over that of the reference network."""


@dataclass(frozen=True)
class Judgement:
    """effect: mean of the change minus that of the base, in logarithms. noise: half its interval were both equal."""

    effect: float
    noise: float

    @property
    def status(self) -> Literal["fine", "regressed", "unclear"]:
        """Slower beyond the noise and the least effect; or not, if noise leaves room for no 10 %; else unclear."""
        if self.effect < -self.noise and self.effect < LEAST:
            return "regressed"
        return "fine" if self.effect - self.noise > PLANTED else "unclear"

    @property
    def settled(self) -> bool:
        """Whether even the least effect is excluded, so that more rounds would change nothing."""
        return self.effect - self.noise > LEAST

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Speed of the change over that of the base, and the ends of its interval."""
        return math.exp(self.effect), math.exp(self.effect - self.noise), math.exp(self.effect + self.noise)


def judge(base: Sequence[Pair], change: Sequence[Pair]) -> Judgement:
    """Compares the means of two trees; what the two of a pair differ by is noise, of either tree.

    With σ² = Σd²/2n over the n differences d within pairs, noise = t(n) · σ · √(1/N_base + 1/N_change), N measurements.
    A single measurement that is off by x moves its tree's mean by x/N and, for the rounds that are run, the noise by
    more than that: alone it never makes a regression.

    Raises:
        ValueError: one of the two has no pairs.
    """
    if not base or not change:
        raise ValueError("both trees need pairs of measurements")
    differences = np.array([one - other for one, other in (*base, *change)])
    variance = float(np.square(differences).mean()) / 2
    error = math.sqrt(variance * (1 / (2 * len(base)) + 1 / (2 * len(change))))
    factor = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences)))
    return Judgement(float(np.mean(change) - np.mean(base)), factor * error)
