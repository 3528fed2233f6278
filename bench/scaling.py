"""What a training takes on several devices, reckoned from what one was measured to take and from what is assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.estimate import Estimate


@dataclass(frozen=True)
class Assumed:
    """What is not measured.

    readers: processes a device that read videos while it computes, each as fast as the one that was measured; 0: the
    process that computes reads, too. link: bytes a second that a device sends and receives at once.
    """

    readers: int
    link: float


@dataclass(frozen=True)
class Scaled:
    """One experiment on several devices like the one that was measured.

    samples: of the recipe's batch that one device gets, 0 where it cannot be divided equally. Seconds of a step:
    computing and reading them, and exchange, the all-reduce of the gradients; and hours of all steps and one reading of
    the test set. bound: what takes longest.
    """

    devices: int
    samples: int
    computing: float
    reading: float
    exchange: float
    step: float
    hours: float

    @property
    def bound(self) -> Literal["computing", "reading", "exchange"]:
        """What takes longest of a step, and so what to mend first."""
        if self.exchange >= max(self.computing, self.reading):
            return "exchange"
        return "computing" if self.computing >= self.reading else "reading"


def scaled(one: Estimate, devices: int, assumed: Assumed) -> Scaled:
    """Work in proportion to samples; a ring all-reduce, 2 (n - 1) / n of the gradients, after the computing.

    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009. Left out: latencies, the exchange of
    normalisation statistics, that a device computes few samples less well than many, and disks that all share.
    """
    computing, reading = one.computing / devices, one.reading / devices / max(1, assumed.readers)
    exchange = 2 * (devices - 1) / devices * one.gradients / assumed.link
    step = _with_reading(computing, reading, assumed) + exchange
    clip = _with_reading(one.clip_computing, one.clip_reading / max(1, assumed.readers), assumed) / devices
    hours = (step * one.steps + clip * one.clips) / 3600
    samples = 0 if one.batch % devices else one.batch // devices
    return Scaled(devices, samples, computing, reading, exchange, step, hours)


def _with_reading(computing: float, reading: float, assumed: Assumed) -> float:
    """Seconds of both: one after the other in one process, side by side with processes that read."""
    return max(computing, reading) if assumed.readers else computing + reading
