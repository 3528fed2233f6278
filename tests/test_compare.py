"""A new method beside the others: what is run for it, what is said of it, and evaluating again without training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from test_experiment import STATIC, TOML
from typer.testing import CliRunner

from bench import compare, profiles
from bench.answers.compare import answer, print_compare
from bench.cli import app
from bench.compare import Asked, asked
from bench.conformance import named
from bench.evaluation import score
from bench.experiment.plan import Experiment, ExperimentError
from bench.experiment.run import Run, run
from bench.experiment.single import single
from bench.memory import MemoryShortError
from bench.profiles import Fitted, Profile
from bench.records import Record, Store, read_record, read_samples
from bench.speed.pair import Job
from bench.tables.blocks import blocks
from bench.tables.paths import published
from bench.tables.schema import load
from bench.training import TrainingError

MINE = "bench.new_method.template:NewMethod"
TINY = TOML.replace("frames = [4]", "frames = [4, 8]").replace("epochs = 3", "epochs = 1")
OPTIONS = {"width": 4, "price": 0.5}


@pytest.fixture
def tiny(tmp_path: Path) -> Profile:
    (tmp_path / "tiny.toml").write_text(TINY)
    return profiles.load(str(tmp_path / "tiny.toml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A results folder with one finished run, and its record."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(TINY)
    record = run(STATIC, profiles.load(str(folder / "tiny.toml")), folder / "runs", None)
    assert record is not None and record.status == "done"
    return folder / "runs", record


@pytest.fixture
def ran(trained: tuple[Path, Record], tmp_path: Path) -> tuple[Path, Record]:
    """A copy of it."""
    return Path(shutil.copytree(trained[0], tmp_path / "runs")), trained[1]


def alone(folder: Path) -> Path:
    """A folder of published tables with one table, and no shipped record beside it."""
    (folder / "published").mkdir(exist_ok=True)
    shutil.copy(published() / "table10.toml", folder / "published")
    return folder / "published"


def again(profile: Profile, results: Path) -> Any:
    given = {"profile": profile, "frames": 4, "seed": 0, "options": {}, "results": results, "data_root": None}
    return single("r2plus1d_18", until="again", **given)


def test_evaluating_again_replaces_the_record_and_trains_nothing(
    tiny: Profile, ran: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, first = ran
    path = results / "records" / f"{first.identity.id}.json"
    old = read_samples(path, first)
    assert first.samples_file is not None
    changed = first.model_copy(update={"figures": {}, "seconds": {"train": 123.0, "evaluate": 1.0}})
    Store(results / "records").write(changed, old.assign(cost=1))
    assert not (results / "records" / first.samples_file).exists()
    monkeypatch.setattr("bench.gradient_stage.GradientStage.step", None)  # would raise if it were called
    found = again(tiny, results)
    assert found == read_record(path)
    assert (found.figures, found.cost, found.seconds["train"]) == (first.figures, first.cost, 123.0)
    pd.testing.assert_frame_equal(read_samples(path, found), old)
    assert len(list((results / "records").glob("*.parquet"))) == 1


def test_what_is_not_trained_is_not_evaluated_again(tiny: Profile, ran: tuple[Path, Record], tmp_path: Path) -> None:
    results, record = ran
    with pytest.raises(ExperimentError, match=r"no trained checkpoint in .*; `train` or `evaluate` makes it"):
        again(tiny, tmp_path / "other")
    checkpoint = results / "runs" / record.identity.id / "checkpoint.pt"
    checkpoint.unlink()
    before = {path: path.read_bytes() for path in (results / "records").iterdir()}
    words = ["--profile", str(tmp_path / "tiny.toml"), "--frames", "4", "--results", str(results), "--again"]
    result = CliRunner().invoke(app, ["evaluate", "r2plus1d_18", *words])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "no trained checkpoint" in result.stderr
    assert {path: path.read_bytes() for path in (results / "records").iterdir()} == before


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (TrainingError("the logits are not finite"), ExperimentError),
        (MemoryShortError("evaluation: out of memory"), MemoryShortError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failure_replaces_nothing(
    at: int,
    error: BaseException,
    raised: type[BaseException],
    tiny: Profile,
    ran: tuple[Path, Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At whichever of the two scorings, on validation and on the test set."""
    calls = count(1)

    def broken(*given: Any, **more: Any) -> Any:
        if next(calls) == at:
            raise error
        return score(*given, **more)

    results, first = ran
    scores = results / "runs" / first.identity.id / "validation.json"
    before = scores.read_bytes()
    monkeypatch.setattr("bench.experiment.run.score", broken)
    with pytest.raises(raised):
        again(tiny, results)
    assert Store(results / "records").read(first.identity) == first
    assert scores.read_bytes() == before


def test_a_kill_between_samples_and_record_leaves_the_old_ones(
    ran: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import records

    results, first = ran
    path = results / "records" / f"{first.identity.id}.json"
    table, write = read_samples(path, first), records.write_atomically

    def killed(file: Path, data: bytes) -> None:
        if file.suffix == ".json":
            raise KeyboardInterrupt
        write(file, data)

    monkeypatch.setattr(records, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        Store(results / "records").write(first, table.assign(cost=1))
    pd.testing.assert_frame_equal(read_samples(path, read_record(path)), table)


def test_the_log_of_the_training_stays_beside_the_record(tiny: Profile, tmp_path: Path, monkeypatch: Any) -> None:
    longer = tiny.model_copy(update={"recipe": tiny.recipe.__class__(epochs=4, batch=8)})
    record = run(STATIC, longer, tmp_path, None)
    assert record is not None
    kept = tmp_path / "records" / f"{record.identity.id}.log.jsonl"
    assert kept.read_bytes() == (tmp_path / "runs" / record.identity.id / "log.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in kept.read_text().splitlines()] == [20]
    assert [path.suffix for path, _ in Store(tmp_path / "records")] == [".json"]


def test_a_table_gives_frames_and_its_plain_networks(tiny: Profile) -> None:
    wide = tiny.model_copy(update={"frames": [8, 16], "seeds": [3, 4]})
    whole = asked(MINE, {}, wide, [], [], "table10")
    assert (list(whole.frames), list(whole.seeds)) == ([8, 16], [3, 4])
    names = [(one.method, one.frames, one.seed) for one in compare.plan(whole)]
    assert names[:2] == [("r2plus1d_18", 8, 3), (MINE, 8, 3)] and len(names) == 8
    alone = asked(MINE, OPTIONS, wide, [], [7, 7], None)
    assert compare.plan(alone) == [Experiment(MINE, (("price", 0.5), ("width", 4)), 8, 7)]
    for table, frames, words in (("table1", [], "tiny measures table10"), ("table10", [5], "has rows at 8, 16 frames")):
        with pytest.raises(ExperimentError, match=words):
            asked(MINE, {}, wide, frames, [], table)


def test_it_is_timed_against_itself_or_its_twin_and_against_the_tables(tiny: Profile) -> None:
    def pairs(method: str, table: str | None) -> list[tuple[str, str]]:
        given = asked(method, {}, tiny, [8], [], table)
        return [(job.b, job.b_policy) for _, job in compare.timings(given, compare.plan(given))]

    assert pairs(MINE, None) == [(MINE, "all")]
    assert pairs(MINE, "table10") == [(MINE, "all"), ("r2plus1d_18", "")]
    assert pairs("vared/r2plus1d_18", "table10") == [("r2plus1d_18", "")]


@pytest.fixture
def fitted(tiny: Profile) -> Profile:
    """A profile that fits the plain network of the table, and with it the methods on it, to a size and recipe."""
    own = Fitted(size=24, recipe={"lr": 0.02})
    return tiny.model_copy(update={"fitted": {"r2plus1d_18": own}})


def test_what_is_timed_is_what_was_trained(fitted: Profile, tmp_path: Path) -> None:
    name = "vared/r2plus1d_18"
    on = fitted.model_copy(update={"fitted": {**fitted.fitted, MINE: Fitted(size=24)}})
    for profile, method, against in ((fitted, name, [name.partition("/")[2]]), (on, MINE, [MINE, "r2plus1d_18"])):
        given = asked(method, {}, profile, [8], [], "table10")
        found = compare.timings(given, compare.plan(given))
        assert [job.b for _, job in found] == against
        for one, job in found:
            assert job.setting.profile.setting == Run(one, profile, tmp_path, None).identity.setting


def test_networks_of_another_size_are_not_timed_against_it(fitted: Profile) -> None:
    given = asked(MINE, {}, fitted, [8], [], "table10")
    assert fitted.fitted_to(MINE).size != fitted.fitted_to("r2plus1d_18").size
    assert [job.b for _, job in compare.timings(given, compare.plan(given))] == [MINE]


def test_a_method_is_checked_as_it_is_run(fitted: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Profile] = []

    def build(experiment: Experiment, profile: Profile, classes: int) -> Any:
        built.append(profile)
        raise ValueError("enough")

    monkeypatch.setattr(named, "build_method", build)
    name = "vared/r2plus1d_18"
    (fault,) = named.conform(name, fitted, 4, {}, None)
    assert fault.startswith("cannot be built: ValueError: enough")
    assert built == [fitted.fitted_to(name)] != [fitted]


def test_networks_that_a_profile_fits_are_answered_beside_each_other(tiny: Profile, tmp_path: Path) -> None:
    profile = tiny.model_copy(update={"fitted": {"r2plus1d_18": Fitted(recipe={"lr": 0.02})}})
    for method in ("r2plus1d_18", MINE):
        record = run(Experiment(method, (), 4, 0), profile, tmp_path, None)
        assert record is not None and record.protocol["across_networks"] == profile.setting
        assert record.identity.setting == profile.fitted_to(method).setting != profile.setting
    (form,) = answer(MINE, {}, profile, [4], None, [("yours", tmp_path / "records")])["forms"]
    assert [one["against"] for one in form["beside"]] == ["r2plus1d_18"]
    assert compare.alone(asked(MINE, {}, profile, [4], [0], None), tmp_path) == ""


def test_a_method_gets_its_row_its_verdicts_and_its_page(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but conformance and clocks, which have tests of their own; in this process."""
    clocked: list[str] = []

    def here(profile: Profile, experiments: Sequence[Experiment], results: Path, *_: object) -> dict[Experiment, str]:
        found = {one: run(one, profile, results, None) for one in experiments}
        return {one: record.status for one, record in found.items() if record}

    def clock(timed: Sequence[tuple[Experiment, Job]], *_: object) -> None:
        clocked.extend(job.b for _, job in timed)

    monkeypatch.setattr(compare, "run_all", here)
    monkeypatch.setattr(compare, "time_all", clock)
    monkeypatch.setattr(compare, "conform", lambda *_: [])
    monkeypatch.setattr(compare, "published", lambda: alone(tmp_path))
    results, profile = tmp_path / "runs", str(tmp_path / "tiny.toml")
    words = ["--profile", profile, "--table", "table10", "--frames", "8", "--seed", "0", "--results", str(results)]
    chosen = [f"--option={key}={value}" for key, value in OPTIONS.items()]
    result = CliRunner().invoke(app, ["compare", MINE, *words, *chosen, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads((results / asked(MINE, OPTIONS, tiny, [8], [0], "table10").file).read_text())
    assert set(clocked) == {MINE, "r2plus1d_18"}
    (form,) = found["forms"]
    assert (form["frames"], form["seeds"], form["not_timed"]) == (8, [0], "not timed")
    assert form["gflops"]["minimum"] <= form["gflops"]["average"] <= form["gflops"]["maximum"]
    assert {one["control"] for one in form["controls"]} >= {"all gates on"}
    (static,) = [one for one in form["beside"] if one["against"] == "r2plus1d_18"]
    accurate, cheaper, faster = static["verdicts"]
    assert accurate["statistic"] == "clip-1" and "1 seed" in accurate["reason"]
    assert accurate["verdict"] in ("too few seeds, within", "too few seeds, beyond", "inconclusive")
    own, other = (
        Store(results / "records").read(Run(one, tiny, results, None).identity)
        for one in compare.plan(asked(MINE, OPTIONS, tiny, [8], [0], "table10"))[::-1]
    )
    assert own.cost and other.cost and cheaper["value"] == pytest.approx(own.cost.average / other.cost.average)
    difference = own.figures["clip-1"].value - other.figures["clip-1"].value
    assert accurate["value"] == pytest.approx(100 * difference)
    assert (faster["verdict"], faster["reason"]) == ("not run", "the two were not timed against each other")
    assert {claim["statistic"] for claim in form["claims"]} >= {"cost_ratio", "clip-1", "cost_spread"}
    page = (results / "report" / "report.html").read_text()
    assert MINE in page and 'class="new' in page


def test_verdicts_point_to_the_notes_that_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    def verdict(text: str, reason: str, **more: Any) -> dict[str, Any]:
        return {
            "question": "faster",
            "statistic": "speed_ratio",
            "text": "c",
            "verdict": text,
            "reason": reason,
            **more,
        }

    found = {"value": 2.0, "low": 1.5, "high": 2.5}
    beside = [
        {
            "against": "x",
            "options": {},
            "verdicts": [verdict("open", "one seed", **found), verdict("open", "elsewhere")],
        },
        {"against": "y", "options": {}, "verdicts": [verdict("not run", "not timed")]},
    ]
    claims = [verdict("within", "one seed"), verdict("holds", "")]
    form = {"frames": 8, "dataset": "d", "seeds": [0], "accuracies": {}, "gflops": {"average": 1.0}, "controls": []}
    print_compare({"method": "m", "report": "page", "forms": [form | {"beside": beside, "claims": claims}]})
    told = capsys.readouterr().out
    assert (
        "open [1]: 2 (1.5 to 2.5)" in told and "not run [2]" in told and "within [1]" in told and "holds [" not in told
    )
    assert told.splitlines()[-3:] == ["[1] one seed", "[2] not timed", "page"]


def test_a_control_that_was_not_run_costs_nothing_known(capsys: pytest.CaptureFixture[str]) -> None:
    control = {"control": "random", "gain": None, "cost": None, "verdict": "not run", "reason": "why"}
    form = {"frames": 8, "dataset": "d", "seeds": [0], "accuracies": {}, "gflops": {"average": 1.0}}
    lists = {"beside": [], "claims": [], "controls": [control]}
    print_compare({"method": "m", "report": "page", "forms": [form | lists]})
    assert "\u2013" in (told := capsys.readouterr().out) and "0.000" not in told


def test_conformance_is_asked_before_anything_is_stored(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "conform", lambda *_: ["forward changes its input", "the answer is not finite"])
    words = ["--profile", str(tmp_path / "tiny.toml"), "--results", str(tmp_path / "runs"), "--json"]
    result = CliRunner().invoke(app, ["compare", MINE, *words])
    assert result.exit_code == 1 and not (tmp_path / "runs").exists()
    assert json.loads(result.stdout) == {"conformance": ["forward changes its input", "the answer is not finite"]}
    assert result.stderr.splitlines()[1:3] == ["- forward changes its input", "- the answer is not finite"]


def test_where_nothing_is_recorded_the_fullest_profile_is_named(tiny: Profile, tmp_path: Path) -> None:
    shipped = published().parent / "measured"
    counted = {
        block.profile: len({(run.record.identity.method, repr(run.record.identity.options)) for run in block.runs})
        for block in sorted(blocks([("shipped", shipped)]), key=lambda block: len(block.runs))
    }
    told = compare.alone(asked(MINE, {}, tiny, [8], [0], None), tmp_path / "none")
    most = max(counted, key=lambda name: counted[name])
    assert told == f"note: no records of tiny; {most} has {counted[most]} methods"
    assert compare.alone(asked(MINE, {}, profiles.load(most), [8], [0], None), tmp_path / "none") == ""


def test_a_file_younger_than_its_record_is_told(tiny: Profile, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "younger.py").write_text("from bench.new_method.template import NewMethod as Mine")
    monkeypatch.syspath_prepend(tmp_path)
    given = asked("younger:Mine", {}, tiny, [4], [0], None)
    assert compare.outdated(given, tmp_path, None) == ""
    identity = Run(compare.plan(given)[0], tiny, tmp_path, None).identity
    Store(tmp_path / "records").write(Record(identity=identity, status="done"))
    assert compare.outdated(given, tmp_path, None) == ""
    os.utime(tmp_path / "younger.py", (2**31, 2**31))
    assert "raise its revision" in compare.outdated(given, tmp_path, None)
    assert compare.outdated(asked("r2plus1d_18", {}, tiny, [4], [0], None), tmp_path, None) == ""


def test_whatever_is_asked_differently_has_a_file_of_its_own(tiny: Profile) -> None:
    first = Asked("a:B/c", {"w": 1}, tiny, [4], [0], None)
    other = tiny.model_copy(update={"name": "other"})
    changes = [{"options": {"w": -1}}, {"profile": other}, {"frames": [4, 8]}, {"table": load("table1")}]
    names = [first.file, *(replace(first, **change).file for change in changes)]
    assert len({*names}) == 5 and all(name.startswith("compare-a.B.c-") for name in names)
    assert replace(first, seeds=[1]).file == first.file
    assert len(replace(first, method="a:" + 300 * "B").file) < 130


def test_shipped_plain_networks_are_not_trained_again(tiny: Profile, tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "published" / ".." / "measured"
    given, plain = asked(MINE, {}, tiny, [8], [0], "table10"), Experiment("r2plus1d_18", (), 8, 0)
    assert not compare._shipped(plain, given, tmp_path, None)
    monkeypatch.setattr(compare, "published", lambda: tmp_path / "published")
    Store(folder.resolve()).write(Record(identity=Run(plain, tiny, tmp_path, None).identity, status="done"))
    assert compare._shipped(plain, given, tmp_path, None)
    assert not compare._shipped(Experiment(MINE, (), 8, 0), given, tmp_path, None)
    shutil.rmtree(folder.resolve())


def test_the_small_batch_of_the_check_is_not_cut_further() -> None:
    profile = profiles.load("jhmdb")
    method = SimpleNamespace(stages=lambda recipe: [recipe])
    assert profile.recipe.accumulate > named.BATCH
    assert named._recipe(method, profile).accumulate == 1  # type: ignore[arg-type]


def test_a_dense_bound_is_that_of_the_network_under_a_method(tiny: Profile) -> None:
    assert named._dense("cgnet/r2plus1d_18", {"width": 4}, tiny, 4, 5) == named._dense("a/r2plus1d_18", {}, tiny, 4, 5)
    assert named._dense(MINE, {}, tiny, 4, 5) is None
