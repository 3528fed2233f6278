"""Parts of a split, cut between independent sources: what a method holds out of its training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from bench.data.coverage import LeftOut
from bench.data.split import DataError, Split, annotated, frames_of

SHUFFLE = 20201207  # of the sources


@dataclass
class Subset:
    """Some rows of a split, as a split."""

    whole: Split
    rows: NDArray[np.int64]
    classes: Sequence[str] = field(init=False)
    targets: NDArray[np.int64] = field(init=False)
    groups: NDArray[np.str_] = field(init=False)
    attributes: pd.DataFrame = field(init=False)
    flip: bool = field(init=False)
    task: Literal["classes", "boxes", "masks"] = field(init=False)

    def __post_init__(self) -> None:
        """Takes the rows out of everything that is one row a video."""
        self.classes, self.flip = self.whole.classes, self.whole.flip
        self.targets, self.groups = self.whole.targets[self.rows], self.whole.groups[self.rows]
        self.attributes = self.whole.attributes.iloc[self.rows].reset_index(drop=True)
        found = annotated(self.whole)
        self.task = found.task if found else "classes"

    def __len__(self) -> int:
        return len(self.rows)

    def video(self, index: int) -> Tensor:
        """As of the whole split."""
        return self.whole.video(int(self.rows[index]))

    def frames_of(self, index: int, choose: Callable[[int], Sequence[int]]) -> Tensor:
        """As of the whole split."""
        return frames_of(self.whole, int(self.rows[index]), choose)

    @property
    def left_out(self) -> LeftOut | None:
        """As of the whole split."""
        return getattr(self.whole, "left_out", None)

    @property
    def reads_files(self) -> bool:
        """As the whole split."""
        return getattr(self.whole, "reads_files", False)

    def is_left_out(self, index: int) -> bool:
        """As in the whole split, which must have `left_out`."""
        return bool(self.whole.is_left_out(int(self.rows[index])))  # type: ignore[attr-defined]

    def annotation(self, index: int) -> Tensor:
        """As of the whole split, which must have boxes or masks."""
        found = annotated(self.whole)
        assert found is not None
        return found.annotation(int(self.rows[index]))


def held_out(split: Split, share: float = 0.1, least: int = 1) -> tuple[Subset, Subset]:
    """The split without, and with only, about `share` of its videos; no source is in both, the cut is always the same.

    Where these are fewer than `least`, more sources go over, up to half of them.

    Raises:
        DataError: there is only one source, or half of them have fewer than `least` videos.
        ValueError: the share is not between 0 and 1.
    """
    sources = np.unique(split.groups)
    if not 0 < share < 1:
        raise ValueError(f"the share that is held out must be between 0 and 1, got {share}")
    shuffled = np.random.default_rng(SHUFFLE).permutation(sources)
    first = max(1, round(share * len(sources)))
    for count in range(first, max(first, len(sources) // 2) + 1):
        chosen = np.isin(split.groups, shuffled[:count])
        if least <= chosen.sum() < len(split):
            return Subset(split, np.flatnonzero(~chosen)), Subset(split, np.flatnonzero(chosen))
    raise DataError(f"{least} videos cannot be held out of {len(split)} training videos from {len(sources)} sources")
