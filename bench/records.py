"""The result schema and its store: one JSON a record, per-sample costs and decisions in Parquet beside it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException
from pyarrow.types import is_integer
from pydantic import BaseModel, ConfigDict, Field

from bench.files import kept, raise_if_passing, read_model, sealed, sound, whole, write_atomically

SCHEMA: Final = 1


class RecordError(Exception):
    """A stored record is not what it should be; the message names file and field."""


class Strict(BaseModel):
    """A schema without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Identity(Strict):
    """What was run. Everything here is hashed into the experiment's id; the commit is not."""

    method: str
    options: dict[str, Any]
    frames: int
    size: int
    profile: str
    setting: str  # digest of the parts of the profile that change results
    dataset: str
    data_fingerprint: str
    seed: int
    method_revision: int
    dataset_revision: int
    method_setting: str = ""  # digest of what the profile gives this method, "" where that is nothing

    @property
    def prefix(self) -> str:
        """The name of the method before its network's."""
        return self.method.partition("/")[0]

    @property
    def id(self) -> str:
        """Readable and unique: method, frames, seed and a digest of the whole."""
        digest = hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:10]
        return f"{self.method.replace('/', '.')}-{self.frames}f-s{self.seed}-{digest}"


class Figure(Strict):
    """A measured value; the interval is 95 %, two-sided, over independent sources."""

    value: float
    low: float | None = None
    high: float | None = None


class Cost(Strict):
    """Multiply-adds per sample over the centre clips of the test set."""

    average: float
    maximum: int
    minimum: int


class Record(Strict):
    """One experiment: what was run, how, on what, and what came out. A failure is a record with its reason.

    figures: "clip-1", "video-1", ... as shares of 1. Empty when the run did not finish.
    static_macs, fvcore_macs: the cost of the plain network, by our counter and as fvcore's total.
    executed: multiply-adds that ran and that were accounted, summed over a stated number of test samples.
    details: what else the method says of itself (`bench.method.Method.details`).
    seconds: of training (since the last start, if it was resumed) and of evaluation.
    samples_file: Parquet with one row a test video; its columns are described in `bench.evaluation.score`.
    """

    schema_version: Literal[1] = SCHEMA
    identity: Identity
    status: Literal["done", "failed"]
    reason: str = ""
    protocol: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    parameters: int | None = None
    static_macs: int | None = None
    fvcore_macs: int | None = None
    cost: Cost | None = None
    executed: dict[str, int] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
    figures: dict[str, Figure] = Field(default_factory=dict)
    validation: dict[str, float] = Field(default_factory=dict)
    missing: dict[str, str] = Field(default_factory=dict)  # figure -> why it was not measured
    seconds: dict[str, float] = Field(default_factory=dict)
    samples_file: str | None = None
    samples_sha256: str | None = None


class Store:
    """A folder of records: `<id>.json`, with its per-sample table and the log of its training beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, identity: Identity) -> Path:
        """Where the record of this experiment is, or would be."""
        return self.folder / f"{identity.id}.json"

    def read(self, identity: Identity) -> Record:
        """The stored record of this experiment."""
        return read_record(self.path(identity))

    def find(self, identity: Identity) -> Record | None:
        """The record of this experiment, finished or failed; None if none is stored, or it is broken."""
        return sound(self.path(identity), partial(_read_of, identity), RecordError)

    def kept(self, identity: Identity) -> Record | None:
        """As `find`, and sets aside what is broken: only for who holds the experiment's lock."""
        path = self.path(identity)
        beside = (table for table in sorted(self.folder.glob("*.parquet")) if table.name.startswith(f"{path.stem}."))
        return kept(path, partial(_read_of, identity), RecordError, beside)

    def write(self, record: Record, samples: pd.DataFrame | None = None, log: bytes = b"") -> Record:
        """Stores a record, what belongs to it first, so that a record never points at what is not there.

        A record that is there already is replaced; until the moment in which it is, it keeps its own samples. log: the
        lines of the training, kept as `<id>.log.jsonl`.
        """
        name, last = record.identity.id, self._samples_file(record.identity)
        if samples is not None:
            data = samples.to_parquet(index=False, compression="zstd")
            digest = hashlib.sha256(data).hexdigest()
            file = f"{name}.parquet" if last is None else f"{name}.{digest[:8]}.parquet"
            write_atomically(self.folder / file, data)
            record = record.model_copy(update={"samples_file": file, "samples_sha256": digest})
        if log:
            write_atomically(self.folder / f"{name}.log.jsonl", log)
        write_atomically(self.path(record.identity), sealed(record.model_dump_json(indent=1)))
        if last is not None and last != record.samples_file:
            (self.folder / last).unlink(missing_ok=True)
        return record

    def _samples_file(self, identity: Identity) -> str | None:
        """The per-sample table of the record that is stored, if one is and is whole.

        Raises:
            OSError: it could not be read this time: its table, under whatever name, must not be written over.
        """
        try:
            stored = self.read(identity).samples_file
        except RecordError as error:
            raise_if_passing(error)
            return None
        return None if stored is None else Path(stored).name

    def __iter__(self) -> Iterator[tuple[Path, Record]]:
        """Every record, in the order of file names."""
        return self.whole(None)

    def whole(self, faults: list[str] | None) -> Iterator[tuple[Path, Record]]:
        """Every record that is whole with its per-sample table, in the order of file names.

        faults: gets a line for each that is not; without it, that is raised, and tables are not looked at.
        """
        read = read_record if faults is None else read_whole
        return whole(sorted(self.folder.glob("*.json")), read, RecordError, faults)


def read_record(path: Path) -> Record:
    """Reads one record.

    Raises:
        RecordError: the file is not a record of this schema, or not as it was written; names file and field.
    """
    return read_model(path, Record, RecordError, "record")


def read_whole(path: Path) -> Record:
    """Reads one record, and holds its per-sample table, if it has one, against the checksum.

    Raises:
        RecordError: as `read_record` and `sample_bytes`, or the table has no cost of any sample.
    """
    record = read_record(path)
    if record.samples_file is not None:
        data = sample_bytes(path, record)
        if record.status == "done":
            _holds_costs(path.parent / record.samples_file, data)
    return record


def _holds_costs(file: Path, data: bytes) -> None:
    """Looks at a per-sample table from the outside: what any use of it needs."""
    try:
        table = pq.ParquetFile(io.BytesIO(data))
    except ArrowException as error:
        raise RecordError(f"{file}: not Parquet: {error}") from None
    schema = table.schema_arrow
    if "cost" not in schema.names or not is_integer(schema.field("cost").type) or not table.metadata.num_rows:
        raise RecordError(f"{file}: has no sample's cost")


def _read_of(identity: Identity, path: Path) -> Record:
    """As `read_whole`, of what must be this experiment's.

    Raises:
        RecordError: as there, or it is another one's, copied or renamed.
    """
    record = read_whole(path)
    if record.identity.id != identity.id:
        raise RecordError(f"{path}: is the record of {record.identity.id}")
    return record


class Sampled(Protocol):
    """What has a per-sample table beside it."""

    @property
    def samples_file(self) -> str | None:
        """Its name, None where there is none."""

    @property
    def samples_sha256(self) -> str | None:
        """The digest of its bytes."""


def read_samples(path: Path, record: Sampled) -> pd.DataFrame:
    """The per-sample table that belongs to the record stored at `path`.

    Raises:
        RecordError: it is missing, or not the file that was recorded.
    """
    return pd.read_parquet(io.BytesIO(sample_bytes(path, record)))


def sample_bytes(path: Path, record: Sampled) -> bytes:
    """The file of the per-sample table that belongs to the record stored at `path`.

    Raises:
        RecordError: it is missing, or not the file that was recorded.
    """
    if record.samples_file is None:
        raise RecordError(f"{path}: has no per-sample table")
    if Path(record.samples_file).name != record.samples_file:
        raise RecordError(f"{path}: samples_file: {record.samples_file!r} is not the name of a file beside it")
    file = path.parent / record.samples_file
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}; {path.name} names it") from error
    if hashlib.sha256(data).hexdigest() != record.samples_sha256:
        raise RecordError(f"{file}: checksum differs from the one in {path.name}")
    return data


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found
