"""Speed records: identities, and a store that harms nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.speed.record import Arm, Span, SpeedError, SpeedIdentity, SpeedRecord, SpeedStore


def identity(**changed: Any) -> SpeedIdentity:
    values: dict[str, Any] = {
        "a": "vared/r2plus1d_18", "a_options": {"search_space": 2}, "b": "r2plus1d_18", "b_options": {}, "frames": 8,
        "size": 128, "classes": 200, "batch": 4, "precision": "fp32", "policy": "matched:20.0", "profile": "published",
        "dataset": "digits", "seed": 0, "trained": False, "device": "one", "threads": 2, "torch": "2.13.0",
        "revisions": [3, 1, 1],
    }  # fmt: skip
    return SpeedIdentity(**{**values, **changed})


def record(**values: Any) -> SpeedRecord:
    span = Span(value=2.0, low=1.5, high=2.5)
    arm = Arm(
        method="m",
        options={},
        form="optimised",
        accounted=3.5,
        executed=None,
        clips_per_second=span,
        samples=[0.1, 0.3],
    )
    return SpeedRecord(identity=identity(), status="done", a=arm, b=arm, ratio=span, **values)


def test_an_id_is_readable_stable_and_of_everything() -> None:
    assert identity().id == "vared.r2plus1d_18-8f-b4-fp32-662dd44240"
    changes: dict[str, Any] = {
        "a": "x", "a_options": {}, "b": "x", "b_options": {"w": 8}, "frames": 9, "size": 9, "classes": 9, "batch": 9,
        "precision": "bf16", "policy": "all", "profile": "x", "dataset": "x", "seed": 9, "trained": True,
        "device": "other", "threads": 9, "torch": "x", "revisions": [4, 1, 1],
        "b_policy": "all", "processes": 2, "setting": "x",
    }  # fmt: skip
    assert changes.keys() == SpeedIdentity.model_fields.keys()
    ids = {identity(**{field: value}).id for field, value in changes.items()} | {identity().id}
    assert len(ids) == len(changes) + 1


def test_what_was_timed_against_what_is_said() -> None:
    twin = identity()
    assert not twin.own and not twin.alone and twin.against == "r2plus1d_18"
    itself = identity(a="arnet", a_options={}, b="arnet", b_policy="all")
    assert itself.own and not itself.alone and itself.against == "itself with all gates on"
    alone = identity(a="faster", a_options={}, b="faster")
    assert alone.own and alone.alone and alone.against == "a copy of itself"
    assert not identity(a="faster", a_options={"pattern": "E"}, b="faster").own


def test_speeds_are_in_samples_of_a_unit() -> None:
    assert record().unit == "clips/s" and record(protocol={"unit": "video"}).unit == "videos/s"


def test_an_id_does_not_hang_on_the_order_of_options() -> None:
    one, other = identity(a_options={"x": 1, "y": 2}), identity(a_options={"y": 2, "x": 1})
    assert one.id == other.id


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    store, one = SpeedStore(tmp_path / "speed"), record(row="table1/8f-sp2", eta_max=None)
    assert list(store) == [] and store.kept(one.identity) is None
    store.write(one)
    assert store.kept(one.identity) == one == store.find(one.identity)
    assert [found for _, found in store] == [one]
    assert [path.name for path in (tmp_path / "speed").iterdir()] == [f"{one.identity.id}.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not a readable speed record"),
        ("[1", "not a readable speed record"),
        ('{"status": "done"}', "identity: is missing"),
        ('{"oddity": 1, "status": "done", "identity": %s}', "oddity: no such field"),
        ('{"status": "half", "identity": %s}', "status: must be 'done' or 'failed', not 'half'"),
    ],
)
def test_what_is_no_record_is_one_line_with_file_and_field(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content.replace("%s", identity().model_dump_json()))
    with pytest.raises(SpeedError, match=said) as caught:
        list(SpeedStore(tmp_path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
