"""Several processes, started by torchrun, that time the same at once, each its own device: as these are when in use."""

from __future__ import annotations

from bench.distributed import anywhere, gathered
from bench.speed.record import Process, SpeedRecord


class Start:
    """Of the timed rounds: all processes wait for each other; one that does not come that far lets the others know."""

    def __init__(self) -> None:
        self.reached = False

    def wait(self) -> None:
        """Returns when all are there.

        Raises:
            RuntimeError: in all that are there: one is not, since it failed.
        """
        self.reached = True
        if anywhere(False):
            raise RuntimeError("another process failed before the rounds began")

    def given_up(self) -> None:
        """To be called in the end, whatever came of the rounds."""
        if not self.reached:
            anywhere(True)


def of_all(record: SpeedRecord) -> SpeedRecord:
    """The record of this process with what all others found; failed where one of them failed."""
    found = Process(
        device=record.identity.device,
        reason=record.reason,
        doubtful=record.doubtful,
        a=record.a.clips_per_second if record.a else None,
        b=record.b.clips_per_second if record.b else None,
        ratio=record.ratio,
    )
    everyone = gathered(found)
    if len(everyone) == 1:
        return record
    failed = [(number, one) for number, one in enumerate(everyone) if one.reason]
    if not failed:
        return record.model_copy(update={"processes": everyone})
    number, first = next(((n, one) for n, one in failed if not one.reason.startswith("another process")), failed[0])
    return SpeedRecord(
        identity=record.identity,
        row=record.row,
        protocol=record.protocol,
        environment=record.environment,
        status="failed",
        reason=f"process {number}: {first.reason}",
        doubtful=first.doubtful,
        processes=everyone,
    )
