"""Which way of executing batches of one shape is the fastest: tried on the first of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from bench.inference.convolution import FEWEST, race

Way = Literal["in turn", "grouped", "dense", "by layer", "device"]
WAYS: tuple[Way, ...] = ("in turn", "grouped", "dense", "by layer")
"""In turn: one sample after the other; nothing to sort, and maps that stay in a CPU's cache. Grouped: in each unit,
those with equal decisions together. Dense: everything is computed and summed for all at once, where skipping does not
pay. By layer: each unit grouped or dense, as was faster. These are for every device; where kernels run, "device": one
launch a layer for all samples, each as far as it decided, read on the device.
"""

CLIPS, SECONDS = 16, 10.0
"""Tried until so many clips were seen, since decisions for the first may not be typical, or for so long."""


class Trial:
    """What the ways took of the batches so far."""

    def __init__(self, ways: Sequence[Way] = WAYS) -> None:
        self.clips, self.ways = 0, tuple(ways)
        self._ways: dict[Way, float] = dict.fromkeys(ways, 0.0)
        self._units: dict[Way, dict[str, float]] = {"grouped": {}, "dense": {}}

    def run(self, sample: Tensor, execute: Callable[[Way], object], lapped: Callable[[Way], dict[str, float]]) -> None:
        """Tries all ways, in turns, on one more batch.

        execute: runs it in a way. lapped: the same, and gives the seconds of each unit; apart, since to time units
        one has to wait after each, which would not slow all ways alike.
        """
        self.clips += len(sample)
        forms = [lambda x, way=way: execute(way) for way in self.ways]
        for way, took in zip(self.ways, race(forms, sample), strict=True):
            self._ways[way] += took
        if "by layer" not in self.ways:
            return
        laps = [{way: lapped(way) for way in self._units} for _ in range(FEWEST)]
        for way, taken in self._units.items():
            for unit in laps[0][way]:
                taken[unit] = taken.get(unit, 0.0) + min(lap[way][unit] for lap in laps)

    @property
    def done(self) -> bool:
        """Whether enough was seen."""
        return self.clips >= CLIPS or sum(self._ways.values()) >= SECONDS

    @property
    def fastest(self) -> Way:
        """The fastest way so far."""
        return min(self.ways, key=lambda way: self._ways[way])

    @property
    def dense(self) -> frozenset[str]:
        """The units that were faster so."""
        grouped, dense = self._units["grouped"], self._units["dense"]
        return frozenset(unit for unit in dense if dense[unit] < grouped[unit])
