"""`inspect` from a profile to what is stored: a static network, its reduced form, and what a user can get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_profile import tiny_profile
from typer.testing import CliRunner, Result

from bench import profiles, reproduce
from bench.cli import app
from bench.data import cutting
from bench.data.coverage import LeftOut
from bench.data.digits import DigitsSplit
from bench.data.sampling import chosen_rows
from bench.data.split import Split, UnreadableError, frames_of
from bench.experiment.plan import Experiment
from bench.inspection import png, run
from bench.inspection.store import Inspection, InspectionStore, read_inspection

TOML = tiny_profile("figure4", [4], (16, 8, 24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspect")
    (path / "tiny.toml").write_text(TOML)
    return path


def inspect(folder: Path, *words: str) -> Result:
    where = ["--profile", str(folder / "tiny.toml"), "--results", str(folder), "--clips", "20"]
    return CliRunner().invoke(app, ["inspect", *words, *where])


def test_a_static_network(folder: Path) -> None:
    result = inspect(folder, "r2plus1d_18", "--least-pixels", "4", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["status"] == "done" and answer["identity"]["settings"]["rule"]["least_pixels"] == 4
    first = answer["layers"][0]
    assert (first["name"], first["channels"], first["frames"], first["height"]) == ("stem.0", 4, 4, 8)
    assert 0 <= first["figures"]["temporal.RP"] <= 1 and -1 <= answer["mean"]["channel.CC"] <= 1
    assert {pair["along"] for pair in answer["pairs"]} == {"temporal", "channel"}
    assert answer["missing"] == {"decisions": "it decides nothing", "clips": "it decides nothing"}
    (path, record), *_ = InspectionStore(folder / "records" / "inspected")
    assert Path(answer["file"]) == path and record.generated and len(record.classes) == 12
    assert record.pairs[0].picture and "picture" not in answer["pairs"][0]


def test_what_is_stored_is_not_looked_at_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("r2plus1d_18", "--least-pixels", "4", "--json")
    first = inspect(folder, *words).stdout
    monkeypatch.setattr(run, "_Look", None)  # would raise if it were called
    assert inspect(folder, *words).stdout == first


def test_a_reduced_network(folder: Path) -> None:
    result = inspect(folder, "vared/r2plus1d_18", "--option", "search_space=2", "--classes", "2")
    assert result.exit_code == 0, result.output
    assert (
        "of the dynamic convolutions' full cost" in result.stdout
        and "without redundancy: measured of networks that compute everything" in result.stdout
    )
    assert "cost by class" in result.stdout and "decisions by class" in result.stdout
    records = [record for _, record in InspectionStore(folder / "records" / "inspected")]
    (record,) = [one for one in records if one.units]
    assert record.sheet and [strip.end for strip in record.sheet.strips] == ["most", "least"] * 2
    assert png.decode(record.sheet.picture).shape == (4 * 16, 4 * 16)
    assert all(most.share >= least.share for most, least in zip(*[iter(record.sheet.strips)] * 2, strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["r2plus1d_18", "--layer", "stem.1"], "no convolution 'stem.1'; did you mean 'stem.0'?"),
        (["r2plus1d_18", "--correlation", "1.5"], "--correlation: 1.5"),
        (["r2plus1d_18", "--least-pixels", "1"], "least-pixels"),
        (["r2plus_18"], "did you mean"),
    ],
)
def test_what_a_user_can_get_wrong(folder: Path, words: list[str], said: str) -> None:
    before = sorted((folder / "records" / "inspected").glob("*"))
    result = inspect(folder, *words)
    assert result.exit_code == 2 and said in " ".join(result.output.split())
    assert sorted((folder / "records" / "inspected").glob("*")) == before


def test_a_video_that_cannot_be_read_any_more_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = chosen_rows(range(24), 20)[0]  # type: ignore[arg-type]  # only its length counts

    def read(split: Split, row: int, choose: Any) -> Any:
        if row == broken:
            raise UnreadableError(Path(f"{row}.mp4"), f"{row}.mp4: broken")
        return frames_of(split, row, choose)

    assert inspect(folder, "vared/r2plus1d_18", "--option", "search_space=2").exit_code == 0  # trained before it breaks
    monkeypatch.setattr(cutting, "frames_of", read)
    monkeypatch.setattr(DigitsSplit, "left_out", LeftOut(48, 48, 0.5), raising=False)
    monkeypatch.setattr(DigitsSplit, "is_left_out", lambda split, row: row == broken, raising=False)
    result = inspect(folder, "r2plus1d_18", "--least-pixels", "5", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    found = Inspection("", Path(answer["file"]), read_inspection(Path(answer["file"])))
    assert len(found.samples) == 19 and broken not in found.samples.index
    assert {pair.video for pair in found.record.pairs} == {found.samples.index[0]}
    result = inspect(folder, "vared/r2plus1d_18", "--option", "search_space=2", "--classes", "12", "--json")
    record = read_inspection(Path(json.loads(result.stdout)["file"]))
    assert record.sheet and broken not in {strip.video for strip in record.sheet.strips}


@pytest.mark.parametrize(
    ("error", "said", "records"),
    [
        (torch.OutOfMemoryError("planted"), "r2plus1d_18, 4 frames, seed 0: inspection: out of memory", 0),
        (RuntimeError("no such kernel\nTraceback"), "r2plus1d_18: no such kernel", 1),
    ],
)
def test_what_fails_is_a_record_with_its_reason_unless_a_larger_device_may_do_it(
    error: Exception, said: str, records: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(run._Look, "found", broken)
    before = set((folder / "records" / "inspected").glob("*.json"))
    result = inspect(folder, "r2plus1d_18", "--layer", "stem.0")
    assert result.exit_code == 2 and f"error: {said}\n" in result.output, result.output
    assert len(set((folder / "records" / "inspected").glob("*.json")) - before) == records


def test_what_failed_is_looked_at_again_by_the_next_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["r2plus1d_18", "--correlation", "0.7"]
    with monkeypatch.context() as broken:
        broken.setattr(run._Look, "found", lambda look: (_ for _ in ()).throw(RuntimeError("no such kernel")))
        assert inspect(folder, *words).exit_code == 2
    found = inspect(folder, *words, "--json")
    assert found.exit_code == 0, found.output
    stored = [one for _, one in InspectionStore(folder / "records" / "inspected")]
    assert [one.status for one in stored if one.identity.settings.rule.correlation == 0.7] == ["done"]


def test_reproduce_inspects_what_tables_ask_to_look_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the redundancy table and that of Figures 3 and 4, at their frames and options; nothing else."""
    calls: list[tuple[Experiment, object]] = []
    monkeypatch.setattr(reproduce, "_one_by_one", lambda what, found: calls.extend(found))
    asked = [Experiment("i3d", (), 8, 0), Experiment("vared/r2plus1d_18", (("search_space", 2),), 8, 1)]
    others = [
        Experiment("i3d", (), 16, 0),
        Experiment("vared/r2plus1d_18", (("search_space", 3),), 8, 0),
        Experiment("faster", (), 8, 0),
    ]
    reproduce.inspect_all(profiles.load(str(folder / "tiny.toml")), [*others, *asked], folder, None)
    assert [experiment for experiment, _ in calls] == asked
