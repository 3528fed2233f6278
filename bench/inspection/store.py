"""What an inspection is of, what came out, and where it is kept: one JSON a trained run, figures by clip beside it.

Read without torch. The inspections of the runs in a folder of records lie in its folder "inspected".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import pandas as pd
from pydantic import AfterValidator, Field, PositiveInt, ValidationError, model_validator

from bench.faults import first_fault
from bench.files import kept, read_model, sealed, sound, whole, write_atomically
from bench.inspection import png
from bench.inspection.settings import Settings
from bench.records import Identity, RecordError, Strict, read_samples, sample_bytes

SCHEMA: Final = 1
REVISION = 1
"""Raised by hand whenever what is inspected changes; inspections of another revision are not read."""


def _readable(picture: str) -> str:
    png.decode(picture)
    return picture


Png = Annotated[str, AfterValidator(_readable)]
"""A PNG in base64, which can be read."""


class InspectionError(Exception):
    """An inspection cannot be made, or a stored one is not what it should be; one line."""


BROKEN = (InspectionError, RecordError)
"""What reading a stored inspection with its figures by clip may raise."""


class InspectionIdentity(Strict):
    """Which run was inspected, how."""

    run: Identity
    settings: Settings = Settings()
    revision: int = REVISION

    @property
    def id(self) -> str:
        """That of the run, and a digest of what is the inspection's own."""
        own = self.model_dump_json(exclude={"run"})
        return f"{self.run.id}-{hashlib.sha256(own.encode()).hexdigest()[:8]}"


class Layer(Strict):
    """A convolution and the redundancy of its feature maps, the mean over clips.

    figures: "temporal.CC", ... as in `bench.inspection.redundancy`; those that are not defined are not there.
    """

    name: str
    channels: int
    frames: int
    height: int
    width: int
    figures: dict[str, float] = Field(default_factory=dict)


class Pair(Strict):
    """The two most similar feature maps of a layer in one clip.

    of: the channel whose frames, or the frame whose channels they are; places: which two. video: the row of the test
    split. picture: both side by side, a PNG in base64, grey from the least to the greatest value of the two.
    """

    along: Literal["temporal", "channel"]
    layer: str
    video: int
    of: int
    places: tuple[int, int]
    cc: float
    rmse: float
    picture: Png


class Unit(Strict):
    """A convolution that decides what it computes, as `Method.details` states it under "units".

    channel, temporal: the decision points that it follows, "" where that dimension is whole. counts, frames: channels
    and frames that each option computes, dearest first. macs: of the whole convolution.
    """

    name: str
    channel: str
    temporal: str
    counts: list[int]
    frames: list[int]
    macs: int


class Strip(Strict):
    """A row of an inspection's sheet: a clip that its class costs most or least.

    share: of the full cost of the dynamic convolutions that it computes.
    """

    label: str
    end: Literal["most", "least"]
    video: int
    share: float


class Sheet(Strict):
    """Frames of clips: one strip a row, its frames side by side. picture: a PNG in base64."""

    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt
    strips: list[Strip]
    picture: Png

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if png.decode(self.picture).shape[:2] != (len(self.strips) * self.height, self.frames * self.width):
            raise ValueError("the picture is not of this size")
        return self


class InspectionRecord(Strict):
    """One inspection of one trained run. A failure is a record with its reason.

    generated: whether its pictures are of a data set that is made on the spot; others are not to be passed on.
    classes: their names, in the order of the labels. layers: in order of execution; left_out: others by name, and why.
    missing: what was not looked at, and why.
    samples_file: Parquet with one row an inspected clip: index, group, target, estimated.motion (mean absolute change
    between frames, 1 is white), attribute.*, and of networks without decisions the six figures of redundancy.
    """

    schema_version: Literal[1] = SCHEMA
    identity: InspectionIdentity
    status: Literal["done", "failed"]
    reason: str = ""
    protocol: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    generated: bool = False
    classes: list[str] = Field(default_factory=list)
    layers: list[Layer] = Field(default_factory=list)
    left_out: dict[str, str] = Field(default_factory=dict)
    pairs: list[Pair] = Field(default_factory=list)
    units: list[Unit] = Field(default_factory=list)
    sheet: Sheet | None = None
    missing: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0
    samples_file: str | None = None
    samples_sha256: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A stored inspection under the label of its store, with its figures by clip read when first needed."""

    store: str
    path: Path
    record: InspectionRecord

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row an inspected clip, by its index in the test split.

        Raises:
            RecordError: the file is missing or not the one that was recorded.
        """
        return read_samples(self.path, self.record).set_index("index")


class InspectionStore:
    """A folder of inspections: `<id>.json`, with `<id>.parquet` beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, identity: InspectionIdentity) -> Path:
        """Where this inspection is, or would be."""
        return self.folder / f"{identity.id}.json"

    def write(self, record: InspectionRecord, samples: pd.DataFrame | None = None) -> InspectionRecord:
        """Stores an inspection, its figures by clip first, whole or not at all."""
        path = self.path(record.identity)
        if samples is not None:
            data = samples.to_parquet(index=False, compression="zstd")
            write_atomically(path.with_suffix(".parquet"), data)
            own = {
                "samples_file": path.with_suffix(".parquet").name,
                "samples_sha256": hashlib.sha256(data).hexdigest(),
            }
            record = record.model_copy(update=own)
        write_atomically(path, sealed(record.model_dump_json(indent=1)))
        return record

    def find(self, identity: InspectionIdentity) -> InspectionRecord | None:
        """What is stored of this inspection; None if nothing is, or it is broken."""
        return sound(self.path(identity), read_whole, BROKEN)

    def kept(self, identity: InspectionIdentity) -> InspectionRecord | None:
        """As `find`, and sets aside what is broken: only for who holds the run's lock."""
        path = self.path(identity)
        return kept(path, read_whole, BROKEN, [path.with_suffix(".parquet")])

    def __iter__(self) -> Iterator[tuple[Path, InspectionRecord]]:
        """Every inspection, in the order of file names."""
        return self.whole(None)

    def whole(self, faults: list[str] | None) -> Iterator[tuple[Path, InspectionRecord]]:
        """Every inspection that is whole with its figures by clip, in the order of file names.

        faults: gets a line for each that is not; without it, that is raised, and the figures are not looked at.
        """
        read = read_inspection if faults is None else read_whole
        return whole(sorted(self.folder.glob("*.json")), read, BROKEN, faults)


def read_inspection(path: Path) -> InspectionRecord:
    """Reads one inspection.

    Raises:
        InspectionError: the file is not one of this schema, or not as it was written; names file and field.
    """
    return read_model(path, InspectionRecord, InspectionError, "inspection")


def read_whole(path: Path) -> InspectionRecord:
    """Reads one inspection, and holds its figures by clip, if it has them, against the checksum.

    Raises:
        InspectionError: as `read_inspection`.
        RecordError: the figures are missing, or not those that were recorded.
    """
    record = read_inspection(path)
    if record.samples_file is not None:
        sample_bytes(path, record)
    return record


def inspections(stores: Iterable[tuple[str, Path]], faults: list[str] | None = None) -> list[Inspection]:
    """What lies in the folder "inspected" beside the records of each store; without one, nothing.

    Folders of one label are one store: of what several of them hold the last one's counts.

    faults: gets a line for each that is broken.

    Raises:
        InspectionError: without `faults`, a file is not an inspection; names file and field.
    """
    found = {
        (label, path.name): Inspection(label, path, record)
        for label, folder in stores
        for path, record in InspectionStore(folder / "inspected").whole(faults)
    }
    return list(found.values())


def standard(records: Path, run: Identity) -> Inspection | None:
    """The inspection at the stated settings of a run whose record is in the folder `records`.

    None if there is none or it is broken, which `inspections` says.
    """
    store, identity = InspectionStore(records / "inspected"), InspectionIdentity(run=run)
    record = store.find(identity)
    return Inspection("", store.path(identity), record) if record else None


def units_of(details: Mapping[str, Any]) -> list[Unit]:
    """The dynamic convolutions that the details of a method state; none where it states none.

    Raises:
        InspectionError: "units" is there and is something else.
    """
    try:
        return [Unit.model_validate(one) for one in details.get("units", [])]
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise InspectionError(f"details.units: {fault}") from None
