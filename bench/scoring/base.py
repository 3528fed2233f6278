"""What the scoring of every kind of answer offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.accuracy.intervals import Interval
from bench.data.sampling import Sampling
from bench.data.split import Split
from bench.method import Method, Prediction
from bench.profiles import Views


@dataclass(frozen=True)
class Pass:
    """What a pass over test data needs besides the method: views, and samples taken together."""

    split: Split
    sampling: Sampling
    views: Views
    batch: int


class Scoring(ABC):
    """How answers of one kind are scored.

    main: the column that says how right a centre sample is, 0..1; a policy is compared with its controls by it.
    together: samples taken together: few enough for memory, enough to group them by their decisions.
    """

    main: str
    together: int = 256

    @abstractmethod
    def centre(self, prediction: Prediction, target: Any) -> dict[str, list[Any]]:
        """Columns of B centre samples, `main` among them."""

    def further(self, method: Method, data: Pass) -> tuple[pd.DataFrame, Mapping[str, Interval]] | None:
        """A pass over other views than the centre: more columns by "index", and figures that no column gives."""
        return None

    @abstractmethod
    def figures(self, samples: pd.DataFrame) -> dict[str, Interval]:
        """Every figure that the per-sample table gives, as shares of 1."""
