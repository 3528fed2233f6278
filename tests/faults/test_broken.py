"""Stored files that a disk or a hand has changed: found by their checksums, set aside, done again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from faults.harness import Bench
from faults.tiny import EVALUATE, REPORT
from tables import clocked
from toys import Toy

from bench.checkpoint import HEADER, Checkpoint, CheckpointError, Log
from bench.files import locked, sealed, unsealed, write_atomically
from bench.inspection.store import InspectionIdentity, InspectionRecord, InspectionStore
from bench.records import Identity, Record, RecordError, Store, read_record
from bench.speed.record import SpeedError, SpeedStore, read_speed_record

Count = Callable[[str], None]
HALFWAY = 40
"""A touch of the disk in the middle of the training, with two checkpoints stored."""


def flipped(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def evaluation(undisturbed: Bench) -> dict[str, object]:
    return {name: found for name, found in undisturbed.end().items() if not name.startswith("report")}


def copied(undisturbed: Bench, bench: Bench) -> None:
    shutil.copytree(undisturbed.runs, bench.runs)
    shutil.rmtree(bench.runs / "report")


def two_checkpoints(folder: Path) -> tuple[Checkpoint, list[Toy]]:
    checkpoint, methods = Checkpoint(folder / "checkpoint.pt"), [Toy(), Toy()]
    for step, method in enumerate(methods):
        with torch.no_grad():
            method.head.weight.fill_(step)
        checkpoint.save(method, 0, step, {})
    return checkpoint, methods


def test_a_checkpoint_with_any_bit_changed_or_any_length_is_set_aside(
    tmp_path: Path, long: bool, count: Count, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the change is, in the header or behind it, training goes on from the checkpoint before."""
    two_checkpoints(tmp_path / "whole" / "run")
    size, draws = (tmp_path / "whole" / "run" / "checkpoint.pt").stat().st_size, random.Random(3)
    header, content = (1, 2000) if long else (5, 30)
    places = [*range(0, HEADER + 4, header), *(draws.randrange(size) for _ in range(content))]
    for number, at in enumerate(places):
        folder = tmp_path / str(number) / "run"
        shutil.copytree(tmp_path / "whole" / "run", folder)
        harm = flipped if number % 2 else cut
        harm(folder / "checkpoint.pt", at)
        found = Toy()
        assert Checkpoint(folder / "checkpoint.pt").load(found)["step"] == 0
        assert (found.head.weight == 0).all()
        assert sorted(file.name for file in folder.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt.broken-1"]
        assert capsys.readouterr().err.count("set aside as checkpoint.pt.broken-1\n") == 1
        count("checkpoints changed or cut")
        shutil.rmtree(folder)


def test_without_a_sound_checkpoint_training_begins_anew_and_nothing_is_deleted(tmp_path: Path) -> None:
    checkpoint, _ = two_checkpoints(tmp_path)
    for path in (checkpoint.path, checkpoint.previous):
        flipped(path, HEADER + 100)
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        checkpoint.load(Toy(), mend=False)  # who does not hold the lock changes nothing
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoint.load(Toy()) == {}
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt.broken-1", "checkpoint.previous.pt.broken-1"}


def test_checkpoints_without_a_header_are_read_as_they_are(tmp_path: Path) -> None:
    checkpoint, (_, last) = two_checkpoints(tmp_path)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[HEADER:])
    found = Toy()
    assert checkpoint.load(found)["step"] == 1 and torch.equal(found.head.weight, last.head.weight)
    cut(checkpoint.path, 1000)
    assert checkpoint.load(found)["step"] == 0


@pytest.mark.bad_input
@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0 a picture", b"{}", b"vared-bench, but not a checkpoint"])
def test_what_never_was_a_checkpoint_is_refused_and_left_there(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: not a checkpoint"):
        Checkpoint(path).load(Toy())
    assert path.read_bytes() == data


def test_a_record_of_another_experiment_is_none_of_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (failed(seed).identity for seed in (0, 1))
    store = Store(tmp_path)
    store.path(other).write_bytes(store.path(store.write(Record(identity=one, status="done")).identity).read_bytes())
    assert store.find(one) is not None and store.find(other) is None and store.kept(other) is None
    assert f"is the record of {one.id}" in capsys.readouterr().err


@pytest.mark.bad_input
@pytest.mark.parametrize("table", [b"no Parquet", "no cost", "empty"])
def test_a_record_whose_samples_have_no_cost_is_left_out(table: bytes | str, tmp_path: Path) -> None:
    store, identity = Store(tmp_path), failed(0).identity
    samples = pd.DataFrame({"index": [0], "cost" if table != "no cost" else "price": [1]})
    record = store.write(Record(identity=identity, status="done"), samples.head(0) if table == "empty" else samples)
    if isinstance(table, bytes):
        (tmp_path / str(record.samples_file)).write_bytes(table)
        changed = record.model_copy(update={"samples_sha256": hashlib.sha256(table).hexdigest()})
        store.path(identity).write_bytes(sealed(changed.model_dump_json(indent=1)))
    faults: list[str] = []
    assert list(store.whole(faults)) == [] and len(faults) == 1
    assert ("not Parquet" if isinstance(table, bytes) else "has no sample's cost") in faults[0]


@pytest.mark.bad_input
def test_a_record_of_another_schema_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    whole = json.loads(Record(identity=failed(0).identity, status="done").model_dump_json())
    path.write_bytes(sealed(json.dumps({**whole, "schema_version": 99}, indent=1)))
    with pytest.raises(RecordError, match="written by another version: schema_version"):
        read_record(path)


def test_a_torn_log_keeps_its_whole_lines(tmp_path: Path) -> None:
    lines = [b'{"stage": 0, "name": "a", "step": %d, "loss": 1.0}\n' % step for step in range(1, 4)]
    for harm in (b'{"stage": 0, "na', b"\xff\xfe\n", b"[1]\n", b'"x"\n', b'{"stage": "0", "step": 1}\n', b"[" * 9999):
        path = tmp_path / "log.jsonl"
        path.write_bytes(lines[0] + harm + b"\n" + b"".join(lines[1:]))
        Log(path, 0, 2)
        assert path.read_bytes() == b"".join(lines[:2])


@pytest.mark.parametrize("harm", [flipped, cut])
def test_training_goes_on_from_the_checkpoint_before_a_broken_one(
    harm: Callable[[Path, int], None], bench: Bench, undisturbed: Bench, count: Count
) -> None:
    assert bench.harmed(EVALUATE, "kill", HALFWAY).code == -9
    harm(bench.file("runs/*/checkpoint.pt"), 5000)
    count("checkpoints changed or cut")
    with bench.file("runs/*/log.jsonl").open("ab") as file:
        file.write(b'{"stage": 1, "st')
    ended = bench.run(EVALUATE)
    assert ended.code == 0 and "differs from its checksum; set aside as checkpoint.pt.broken-1" in ended.said
    assert bench.end() == evaluation(undisturbed)


def torn_scores(bench: Bench) -> None:
    cut(bench.file("runs/*/validation.json"), 20)
    bench.file("records/*.json").unlink()


HARMED: dict[str, Callable[[Bench], None]] = {
    "record changed": lambda bench: flipped(bench.file("records/*.json"), 700),
    "record torn": lambda bench: cut(bench.file("records/*.json"), 700),
    "record empty": lambda bench: cut(bench.file("records/*.json"), 0),
    "table missing": lambda bench: bench.file("records/*.parquet").unlink(),
    "table changed": lambda bench: flipped(bench.file("records/*.parquet"), 700),
    "scores torn": torn_scores,
}


@pytest.mark.parametrize("kind", HARMED)
def test_a_broken_record_is_set_aside_and_scored_again_from_the_checkpoint(
    kind: str, bench: Bench, undisturbed: Bench, count: Count
) -> None:
    copied(undisturbed, bench)
    HARMED[kind](bench)
    stored = bench.file("runs/*/checkpoint.pt").stat()
    ended = bench.run(EVALUATE)
    assert ended.code == 0, ended.said
    assert bench.end() == evaluation(undisturbed)
    assert bench.file("runs/*/checkpoint.pt").stat().st_mtime_ns == stored.st_mtime_ns  # nothing was trained
    if kind != "scores torn":
        (line,) = [line for line in ended.said.splitlines() if ".json.broken-1" in line]
        assert str(bench.file("records/*.json").name) in line
    count("records changed, cut or without their table")


def test_scores_do_not_outlive_the_weights_that_they_are_of(bench: Bench, undisturbed: Bench) -> None:
    copied(undisturbed, bench)
    bench.file("records/*.json").unlink()
    for path in bench.runs.glob("runs/*/checkpoint*.pt"):
        path.unlink()
    write_atomically(
        bench.file("runs/*/validation.json"), sealed(json.dumps({"clip-1": 9.0, "seconds": 9.0}, indent=1))
    )
    ended = bench.run(EVALUATE)
    assert ended.code == 0, ended.said
    assert bench.end() == evaluation(undisturbed)


def test_the_report_names_what_it_leaves_out_and_renders_the_rest(
    bench: Bench, undisturbed: Bench, count: Count
) -> None:
    copied(undisturbed, bench)
    record = bench.file("records/*.json")
    for name in ("other", "third"):
        shutil.copy(record, record.with_name(f"{name}.json"))
    flipped(record.with_name("other.json"), 700)
    cut(record.with_name("third.json"), 700)
    (record.parent / "speed").mkdir()
    (record.parent / "speed" / "a.json").write_text("{")
    ended = bench.run(REPORT)
    assert ended.code == 1
    lines = [line for line in ended.said.splitlines() if line.startswith("left out: ")]
    names = ("other.json", "third.json", "speed/a.json")
    assert all(name in line for line, name in zip(lines, names, strict=True)), lines
    page = (bench.runs / "report" / "report.md").read_text()
    assert page.count("Left out, since it is broken") == 3 and str(bench.runs) not in page
    assert "vared" in page
    count("records changed, cut or without their table")


def test_a_seal_holds_every_bit() -> None:
    data = sealed('{\n "a": 1.25,\n "b": []\n}')
    assert unsealed(data) == (b'{\n "a": 1.25,\n "b": []\n}', True)
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            body, sound = unsealed(bytes(changed))
            assert not sound or body == bytes(changed)  # no seal is seen any more: the field is left to the schema
    assert unsealed(b'{"a": 1}') == (b'{"a": 1}', True)


def test_no_bit_of_a_stored_record_changes_unseen(undisturbed: Bench, tmp_path: Path, long: bool, count: Count) -> None:
    data, draws = undisturbed.file("records/*.json").read_bytes(), random.Random(4)
    places = range(len(data)) if long else sorted(draws.sample(range(len(data)), 300))
    path = tmp_path / "record.json"
    for at in [*places, *range(len(data) - 90, len(data))]:
        changed = bytearray(data)
        changed[at] ^= 1 << draws.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(RecordError, match=r"record\.json: "):
            read_record(path)
        count("records changed, cut or without their table")


def test_broken_timings_and_inspections_are_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speeds, record = SpeedStore(tmp_path), clocked.timing(1.5)
    speeds.write(record)
    flipped(speeds.path(record.identity), 300)
    with pytest.raises(SpeedError):
        read_speed_record(speeds.path(record.identity))
    with speeds.alone():
        assert speeds.find(record.identity) is None and speeds.kept(record.identity) is None
    assert capsys.readouterr().err.count("broken-1") == 1 and list(speeds) == []
    run = Identity(
        method="m", options={}, frames=4, size=8, profile="p", setting="s", dataset="d", data_fingerprint="f", seed=0,
        method_revision=1, dataset_revision=1,
    )  # fmt: skip
    looked, identity = InspectionStore(tmp_path / "inspected"), InspectionIdentity(run=run)
    looked.write(InspectionRecord(identity=identity, status="done"))
    assert looked.find(identity) == looked.kept(identity)
    cut(looked.path(identity), 100)
    assert looked.find(identity) is None and looked.kept(identity) is None
    assert list(looked) == [] and len(list(looked.folder.iterdir())) == 1


def test_who_has_no_lock_sets_nothing_aside(undisturbed: Bench, bench: Bench) -> None:
    copied(undisturbed, bench)
    record = read_record(bench.file("records/*.json"))
    bench.file("records/*.parquet").unlink()
    store = Store(bench.runs / "records")
    assert store.find(record.identity) is None and bench.file("records/*.json").exists()


def failed(seed: int) -> Record:
    identity = Identity(
        method="m", options={}, frames=4, size=8, profile="p", setting="s", dataset="d", data_fingerprint="f",
        seed=seed, method_revision=1, dataset_revision=1,
    )  # fmt: skip
    return Record(identity=identity, status="failed")


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_what_could_not_be_read_this_time_is_not_broken(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = Store(tmp_path), Path.read_bytes
    record = store.write(failed(0), pd.DataFrame({"a": [1]}))

    def refused(path: Path) -> bytes:
        if path.suffix == suffix:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refused)
        with pytest.raises(OSError, match="Too many open files"):
            store.kept(record.identity)
    assert store.kept(record.identity) == record


@pytest.mark.bad_input
def test_what_another_version_wrote_is_refused_and_left_there(tmp_path: Path) -> None:
    store, record = Store(tmp_path), failed(0)
    path, content = store.path(record.identity), {**record.model_dump(mode="json"), "joules": 1.0}
    path.write_bytes(sealed(json.dumps(content, indent=1)))
    with pytest.raises(RecordError, match=r"\.json: written by another version: joules: no such field"):
        store.kept(record.identity)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    path.write_text(json.dumps(content, indent=1))  # nothing says that nobody changed it
    assert store.kept(record.identity) is None and not path.exists()


def test_a_lock_ends_with_its_block_though_a_child_lives_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with locked(tmp_path / "lock") as held:
        assert held
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # until the parent closes its end
            os._exit(0)
    with locked(tmp_path / "lock") as held:
        assert held
    os.close(writing)
    os.close(reading)
    os.waitpid(child, 0)


@pytest.mark.parametrize("links", [True, False])
def test_what_is_replaced_is_kept_and_never_missing(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous, seen, replace, link = tmp_path / "a", tmp_path / "b", list[bool](), os.replace, os.link

    def watched(*names: object) -> None:
        seen.append(path.exists())
        replace(*names)  # type: ignore[arg-type]

    def refused(*names: object) -> None:
        if not links:
            raise OSError(errno.EOPNOTSUPP, "no links here")
        link(*names)  # type: ignore[arg-type]

    write_atomically(path, b"1", keep=previous)
    monkeypatch.setattr(os, "replace", watched)
    monkeypatch.setattr(os, "link", refused)
    for content in (b"2", b"3"):
        write_atomically(path, content, keep=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert seen == [True, True] if links else seen == [True, False] * 2


def test_a_record_that_cannot_be_read_this_time_keeps_its_table(
    bench: Bench, undisturbed: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another table would be written over it, and the record that is there would be broken until it is replaced."""
    copied(undisturbed, bench)
    store, path = Store(bench.runs / "records"), bench.file("records/*.json")
    record, before = read_record(path), bench.file("records/*.parquet").read_bytes()
    read = Path.read_bytes

    def refused(file: Path) -> bytes:
        if file == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(OSError, match="Input/output error"):
        store.write(record, pd.DataFrame({"index": [0]}))
    monkeypatch.undo()
    assert bench.file("records/*.parquet").read_bytes() == before and store.find(record.identity) == record
