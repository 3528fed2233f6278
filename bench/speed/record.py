"""What a timing was of, what came out, and where it is kept: one JSON file a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from bench.files import kept, locked, read_model, remove_leftovers, sealed, sound, whole, write_atomically
from bench.records import Strict

SCHEMA: Final = 2

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Form = Literal["optimised", "eager", "channels_last", "compiled"]


class SpeedError(Exception):
    """A speed cannot be measured, or what was measured cannot be believed; one line."""


class Span(Strict):
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


class Arm(Strict):
    """One of the forms timed against each other in the same rounds.

    options: as they were given, which names files of weights.
    accounted, executed: mean multiply-adds a sample under the policy, by the method's formula and by the dispatcher.
    clips_per_second: samples a second; what one sample is, `SpeedRecord.unit` says.
    samples: seconds a batch, in the order timed.
    """

    method: str
    options: dict[str, Any]
    form: Form
    accounted: float
    executed: float | None
    clips_per_second: Span
    samples: list[float]


class SpeedIdentity(Strict):
    """What was timed, where. Everything here is hashed into the id; the commit is not.

    a_options, b_options: of weights to start from, their content and not their path (`bench.registry.by_content`).
    policy: "learned", "all", "random:20.0" or "matched:20.0:18.0:22.1", in GFLOPs of 1e9 multiply-adds. b_policy: of b,
    "" where it is the same. A method without a network under it is timed against itself with all gates on ("all").
    device: the name of the processor or GPU. revisions: of a, of b and of the data set. processes: that torchrun
    started and that timed the same at once, each its own device; what several found is no measure of one alone.
    setting: digest of the data and of what of the profile a speed hangs on, "" in records from before it was told.
    """

    a: str
    a_options: dict[str, Any]
    b: str
    b_options: dict[str, Any]
    frames: int
    size: int
    classes: int
    batch: int
    precision: Precision
    policy: str
    profile: str
    dataset: str
    seed: int
    trained: bool
    device: str
    threads: int
    torch: str
    revisions: list[int]
    b_policy: Literal["", "all"] = ""
    processes: int = 1
    setting: str = ""

    @property
    def id(self) -> str:
        """Readable and unique: method, frames, batch, precision and a digest of the whole."""
        whole = json.dumps(self.model_dump(exclude_defaults=True), sort_keys=True)
        digest = hashlib.sha256(whole.encode()).hexdigest()[:10]
        return f"{self.a.replace('/', '.')}-{self.frames}f-b{self.batch}-{self.precision}-{digest}"

    @property
    def own(self) -> bool:
        """Whether a was timed against itself, with the same options."""
        return (self.a, self.a_options) == (self.b, self.b_options)

    @property
    def alone(self) -> bool:
        """Whether there was nothing to compare: a against a copy of itself under the same policy."""
        return self.own and not self.b_policy

    @property
    def against(self) -> str:
        """What a was timed against, for people."""
        if not self.own:
            return self.b
        return "a copy of itself" if self.alone else "itself with all gates on"


class Process(Strict):
    """What one of several processes found that timed the same at once; a, b: samples a second. reason: of a failure."""

    device: str
    reason: str
    doubtful: bool
    a: Span | None
    b: Span | None
    ratio: Span | None


class SpeedRecord(Strict):
    """One paired timing of a method `a` against its static twin `b`. A failure is a record with its reason.

    doubtful: of a failure, whether a busy machine or a fault of the GPU may have been the reason: it is tried again,
        and counts as not done.
    row: "table1/8f-sp2", the published cell whose operating point this is. plain: the twin's other forms.
    again: seconds of each round of an identical second copy of b (none in records from before they were kept). noise:
    speed of b over that of this copy. ratio: speed of a over b, of the same rounds.
    different: whether the ratio excludes 1 by more than the noise. cost_ratio: accounted a / accounted b.
    eta: (ratio - 1) / (1 / cost_ratio - 1). bound: clips/s at the most for "a" and "b", and the ceilings
    "macs_per_second" and "bytes_per_second" it follows from. telemetry: of the GPU in all rounds, and under "energy"
    that of "a" and of "b" in a window each; of a CPU "processor_seconds", what each call of each arm got. processes: of
    several processes what each found, the first being the one whose figures the record has.
    """

    schema_version: Literal[2] = SCHEMA
    identity: SpeedIdentity
    row: str | None = None
    protocol: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    status: Literal["done", "failed"]
    reason: str = ""
    doubtful: bool = False
    a: Arm | None = None
    b: Arm | None = None
    plain: list[Arm] = Field(default_factory=list)
    again: list[float] = Field(default_factory=list)
    noise: Span | None = None
    ratio: Span | None = None
    different: bool | None = None
    cost_ratio: float | None = None
    eta: Span | None = None
    eta_max: float | None = None
    bound: dict[str, float] | None = None
    telemetry: dict[str, Any] = Field(default_factory=dict)
    processes: list[Process] = Field(default_factory=list)

    @property
    def together(self) -> tuple[float, float] | None:
        """Samples a second of a and of b in all processes at once: the sums of what each found."""
        spans = [(one.a, one.b) for one in self.processes]
        known = [(a.value, b.value) for a, b in spans if a and b]
        return (sum(a for a, _ in known), sum(b for _, b in known)) if known and len(known) == len(spans) else None

    @property
    def unit(self) -> str:
        """What its speeds are in: "clips/s", or "videos/s" where one sample is a video of several clips."""
        return f"{self.protocol.get('unit', 'clip')}s/s"


class SpeedStore:
    """A folder of speed records: `<id>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, identity: SpeedIdentity) -> Path:
        """Where the record of this timing is, or would be."""
        return self.folder / f"{identity.id}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other process times anything for this folder, and holds others off meanwhile."""
        with locked(self.folder / "lock", wait=True):
            remove_leftovers(self.folder)
            yield

    def find(self, identity: SpeedIdentity) -> SpeedRecord | None:
        """The record of this timing, finished or failed; None if none is stored, or it is broken."""
        return sound(self.path(identity), read_speed_record, SpeedError)

    def kept(self, identity: SpeedIdentity) -> SpeedRecord | None:
        """As `find`, and sets aside what is broken: only when `alone`."""
        return kept(self.path(identity), read_speed_record, SpeedError)

    def write(self, record: SpeedRecord) -> SpeedRecord:
        """Stores a record, whole or not at all."""
        write_atomically(self.path(record.identity), sealed(record.model_dump_json(indent=1)))
        return record

    def __iter__(self) -> Iterator[tuple[Path, SpeedRecord]]:
        """Every record, in the order of file names."""
        return self.whole(None)

    def whole(self, faults: list[str] | None) -> Iterator[tuple[Path, SpeedRecord]]:
        """The same. faults: gets a line for each that is broken; without it, that is raised."""
        return whole(sorted(self.folder.glob("*.json")), read_speed_record, SpeedError, faults)


def read_speed_record(path: Path) -> SpeedRecord:
    """Reads one record.

    Raises:
        SpeedError: the file is not a speed record of this schema, or not as it was written; names file and field.
    """
    return read_model(path, SpeedRecord, SpeedError, "speed record")
