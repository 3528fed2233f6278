"""From a profile to records and a report: identity, one run at a time, failures kept, nothing run twice."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tables import clocked
from tiny_profile import tiny_profile
from torch import Tensor
from typer.testing import CliRunner

from bench import cli, profiles, registry, reproduce
from bench.experiment.plan import Experiment, ExperimentError, plan
from bench.experiment.run import Run, run
from bench.experiment.single import single
from bench.method import InputSpec, Prediction
from bench.policy import Policy
from bench.profiles import Fitted, Profile, ProfileError
from bench.records import RecordError, Store, read_record, read_samples
from bench.speed.pair import Job
from bench.speed.record import SpeedRecord
from bench.static import Static
from bench.tables.paths import published
from bench.training import TrainingError

TOML = tiny_profile("table10", [4], (48, 24, 48), epochs=3, clips=2, video_videos=24)
STATIC = Experiment("r2plus1d_18", (), 4, 0)
DYNAMIC = Experiment("vared/r2plus1d_18", (("search_space", 2),), 4, 0)


@pytest.fixture
def tiny(tmp_path: Path) -> Profile:
    (tmp_path / "tiny.toml").write_text(TOML)
    return profiles.load(str(tmp_path / "tiny.toml"))


def trained(profile: Profile, results: Path) -> object:
    return single(
        "r2plus1d_18", profile=profile, frames=4, seed=0, options={}, results=results, data_root=None, until="train"
    )


def test_a_record_holds_what_the_report_needs(tiny: Profile, tmp_path: Path) -> None:
    record = run(DYNAMIC, tiny, tmp_path, None)
    assert record is not None and record.status == "done"
    path = tmp_path / "records" / f"{record.identity.id}.json"
    assert read_record(path) == record
    samples = read_samples(path, record)
    assert len(samples) == 48 and samples["video_1"].notna().sum() == 24
    assert record.cost is not None and record.cost.average == pytest.approx(samples["cost"].mean())
    assert record.executed["executed"] == record.executed["accounted"]
    points = [name for name in samples.columns if name.startswith("decision.")]
    assert len(points) == len(Run(DYNAMIC, tiny, tmp_path, None).method.decisions())
    assert {"attribute.motion", "group", "target", "clip_1"} <= set(samples.columns)


def test_what_is_recorded_is_not_run_again(tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(STATIC, tiny, tmp_path, None)
    monkeypatch.setattr("bench.experiment.run.train", None)  # would raise if it were called
    assert run(STATIC, tiny, tmp_path, None) == first


def test_a_held_run_is_left_to_its_holder(tiny: Profile, tmp_path: Path) -> None:
    with Run(STATIC, tiny, tmp_path, None).lock() as held:
        assert held
        assert run(STATIC, tiny, tmp_path, None) is None
        with pytest.raises(ExperimentError, match="another process"):
            single(
                "r2plus1d_18",
                profile=tiny,
                frames=4,
                seed=0,
                options={},
                results=tmp_path,
                data_root=None,
                until="train",
            )
    with Run(STATIC, tiny, tmp_path, None).lock() as held:
        assert held


def test_training_alone_reads_no_test_video(tiny: Profile, tmp_path: Path) -> None:
    scores = trained(tiny, tmp_path)
    assert isinstance(scores, dict) and 0 <= scores["clip-1"] <= 1
    assert list(Store(tmp_path / "records")) == []


def test_a_failure_is_a_record_with_its_reason(tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise TrainingError("stage train, step 3: not finite", 4)

    monkeypatch.setattr("bench.experiment.run.train", broken)
    record = run(STATIC, tiny, tmp_path, None)
    assert record is not None and (record.status, record.reason) == ("failed", "stage train, step 3: not finite")
    assert record.protocol["accumulate"] == 4  # it had been halved twice before


def test_identity_hangs_on_what_changes_results(tiny: Profile, tmp_path: Path) -> None:
    def key(profile: Profile, one: Experiment = STATIC) -> str:
        return Run(one, profile, tmp_path, None).identity.id

    base = key(tiny)
    assert key(tiny.model_copy(update={"description": "other words", "tables": ["table1"]})) == base
    changed = [
        key(tiny, Experiment("r2plus1d_18", (), 4, 1)),
        key(tiny, DYNAMIC),
        key(tiny.model_copy(update={"views": tiny.views.model_copy(update={"clips": 3})})),
        key(tiny.model_copy(update={"network": {**tiny.network, "width": 8}})),
        key(tiny.model_copy(update={"dataset_options": {**tiny.dataset_options, "seed": 1}})),
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_plan_runs_shared_rows_once_and_main_rows_with_more_seeds(tiny: Profile) -> None:
    both = tiny.model_copy(
        update={"tables": ["table1", "table10"], "frames": [8], "seeds": [0, 1, 2], "main_rows": ["table1/8f-sp2"]}
    )
    planned = plan(both, None, None)
    assert len(planned) == len(set(planned))
    twins = [e for e in planned if e.method == "vared/r2plus1d_18" and dict(e.options) == {"search_space": 2}]
    assert sorted(e.seed for e in twins) == [0, 1, 2]
    assert [e.seed for e in planned if e.method == "r2plus1d_18"] == [0]
    with pytest.raises(ExperimentError, match="table4: profile tiny measures table10"):
        plan(tiny, ["table4"], None)


@pytest.mark.bad_input
def test_where_no_row_has_as_many_frames_that_is_said(tiny: Profile) -> None:
    profile = tiny.model_copy(update={"frames": [5, 7], "methods": [], "main_rows": []})
    with pytest.raises(ExperimentError, match="none of its rows has 5, 7 frames"):
        plan(profile, None, None)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("nothing", "there are r2plus1d_18, vared/r2plus1d_18"),
        ("vared/r2plus1d_81", "did you mean 'vared/r2plus1d_18'"),
        ("vared", "did you mean 'vared/r2plus1d_18'"),
        ("vaerd", "did you mean 'vared/r2plus1d_18'"),
    ],
)
def test_a_method_that_no_row_has_is_not_left_out_without_a_word(tiny: Profile, method: str, words: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        plan(tiny, None, ["r2plus1d_18", method])
    assert str(caught.value).startswith(f"profile tiny: none of its rows fits method {method}; {words}")


def test_plan_adds_the_profiles_own_methods(tiny: Profile) -> None:
    profile = tiny.model_copy(update={"tables": [], "methods": ["i3d", "vared/i3d"], "other_seeds": [5]})
    found = [(one.method, one.frames, one.seed) for one in plan(profile, None, None)]
    assert found == [("i3d", tiny.frames[0], 5), ("vared/i3d", tiny.frames[0], 5)]
    assert [one.method for one in plan(profile, None, ["i3d"])] == ["i3d"]


def test_a_main_row_that_there_is_not_is_refused(tiny: Profile) -> None:
    profile = tiny.model_copy(update={"main_rows": ["table1/8f-statc"]})
    with pytest.raises(ExperimentError, match="main_rows: no row table1/8f-statc"):
        plan(profile, None, None)


def test_built_in_profiles_plan_and_smoke_covers_everything_registered() -> None:
    smoke = profiles.load("smoke")
    smokes = [smoke, *map(profiles.load, ("smoke_localisation", "smoke_segmentation"))]
    parts = {part for profile in smokes for one in plan(profile, None, None) for part in one.method.split("/")}
    # r2plus1d_18 is what `quick` itself runs
    assert parts | {"r2plus1d_18", "static"} == {*registry.networks(), *registry.methods()}
    assert all(one.smoke for one in smokes) and not profiles.load("quick").smoke
    assert profiles.load("quick").also == [one.name for one in smokes]
    for name in profiles.names():
        assert plan(profiles.load(name), None, None)


def test_options_of_one_method_leave_the_identities_of_others(tiny: Profile) -> None:
    other = tiny.model_copy(update={"method": {"arnet": {"width": 8}}})
    assert other.setting == tiny.setting
    assert (other.method_setting("vared"), tiny.method_setting("arnet")) == ("", "")
    assert other.method_setting("arnet") != tiny.model_copy(update={"method": {"arnet": {"width": 9}}}).method_setting(
        "arnet"
    )
    for path, record in Store(published().parent / "measured"):
        assert path.stem == record.identity.id  # also of those made before methods had settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": {"widht": 8}}, "network.widht: no network takes it; did you mean 'width'?"),
        ({"method": {"vard": {}}}, "method.vard: no such method or network; did you mean 'vared'?"),
        (
            {"method": {"toys:EarlyExi": {}}},
            "method.toys:EarlyExi: toys:EarlyExi cannot be imported: "
            "AttributeError: module 'toys' has no attribute 'EarlyExi'",
        ),
        ({"fitted": {"i3dd": Fitted(size=32)}}, "fitted.i3dd: no such method or network; did you mean 'i3d'?"),
    ],
)
def test_what_a_profile_gives_to_nobody_is_refused(
    change: dict[str, Any], said: str, tiny: Profile, tmp_path: Path
) -> None:
    with pytest.raises(ExperimentError) as caught:
        Run(STATIC, tiny.model_copy(update=change), tmp_path, None)
    assert str(caught.value) == f"profile tiny: {said}"


def test_weights_in_a_profile_are_refused(tiny: Profile, tmp_path: Path) -> None:
    profile = tiny.model_copy(update={"network": {**tiny.network, "weights": "w.safetensors"}})
    with pytest.raises(ExperimentError, match="--option weights"):
        Run(Experiment("r2plus1d_18", (), 8, 0), profile, tmp_path, None)


def test_reproduce_ends_with_a_report_and_runs_nothing_twice(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tiny.model_copy(update={"frames": [8], "smoke": True})  # smoke is not timed
    results = tmp_path / "runs"
    assert reproduce.reproduce([profile], results, None, None, ["r2plus1d_18"], 1) == 0
    pages = list((results / "report").iterdir())
    assert any(page.suffix == ".html" for page in pages)
    stamps = {path: path.stat().st_mtime_ns for path, _ in Store(results / "records")}
    assert len(stamps) == 1
    monkeypatch.setattr(reproduce, "render", lambda *_: [])  # which takes as long again
    assert reproduce.reproduce([profile], results, None, None, ["r2plus1d_18"], 1) == 0
    assert {path: path.stat().st_mtime_ns for path, _ in Store(results / "records")} == stamps


def test_every_row_is_timed_against_its_twin_or_itself_and_a_twin_only_so(tiny: Profile) -> None:
    narrow = Experiment("r2plus1d_18", (("width", 2),), 4, 0)
    pair = [Experiment("vared/r2plus1d_18", (("search_space", 3), ("width", 2)), 4, 0), narrow]
    alone = [STATIC, Experiment("faster", (), 4, 0), Experiment("vared/r2plus1d_18", (), 8, 0)]
    jobs = reproduce.own_jobs(tiny, [*pair, *alone])
    assert list(jobs) == [pair[0], *alone]
    assert [(job.b, job.b_options, job.b_policy) for job in jobs.values()] == [
        ("r2plus1d_18", {"width": 2}, ""),
        ("r2plus1d_18", {}, ""),
        ("faster", {}, "all"),
        ("r2plus1d_18", {}, ""),
    ]
    assert [job.setting.frames for job in jobs.values()] == [4, 4, 4, 8]


@pytest.mark.parametrize(
    ("fails", "timed"), [(True, ["vared/r2plus1d_18", "r2plus1d_18"]), (False, ["vared/r2plus1d_18"])]
)
def test_a_twin_whose_only_pair_failed_is_timed_by_itself(
    fails: bool, timed: list[str], tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []

    def measure(job: Job, **_: Any) -> SpeedRecord:
        asked.append(job)
        return clocked.failed("out of memory") if fails and job.a != job.b else clocked.timing()

    monkeypatch.setattr(reproduce, "measure", measure)
    monkeypatch.setattr(reproduce, "TIMED_BATCHES", (8,))
    (pair,) = reproduce.own_jobs(tiny, [Experiment("vared/r2plus1d_18", (("width", 2),), 4, 0)]).values()
    said = reproduce._clock(pair, tmp_path, None)
    assert [job.a for job in asked] == timed and said.startswith("out of memory") == fails
    assert all((job.b, job.b_options) == ("r2plus1d_18", {"width": 2}) for job in asked)
    assert {(job.setting.batch, job.setting.seed) for job in asked} == {(8, 0)}


@pytest.mark.parametrize(("busy", "calls"), [(0, 1), (1, 2), (9, 2)])
def test_what_a_busy_machine_spoilt_is_timed_once_more_and_that_is_said(
    busy: int, calls: int, tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []

    def measure(job: Job, **_: Any) -> SpeedRecord:
        asked.append(job)
        spoilt = clocked.failed("other threads ran").model_copy(update={"doubtful": True})
        return spoilt if len(asked) <= busy else clocked.timing(1.5)

    monkeypatch.setattr(reproduce, "measure", measure)
    monkeypatch.setattr(reproduce, "TIMED_BATCHES", (8,))
    (alone,) = reproduce.own_jobs(tiny, [Experiment("r2plus1d_18", (), 4, 0)]).values()
    said = reproduce._clock(alone, tmp_path, None)
    assert len(asked) == calls
    remark = " (timed once more; at first, the machine may have been busy: other threads ran)"
    assert said == {0: "", 1: remark, 9: remark}[busy].join(
        ["other threads ran" if busy == 9 else "1.50 times as fast as r2plus1d_18 in batches of 8", ""]
    )


def test_the_outcome_of_a_timing_is_one_line() -> None:
    assert reproduce._told(clocked.timing(1.5)) == "1.50 times as fast as r2plus1d_18 in batches of 8"
    video = {"a": "faster", "a_options": {}, "b": "faster", "protocol": {"unit": "video"}}
    assert reproduce._told(clocked.timing(**video)) == "100 videos/s in batches of 8"
    assert reproduce._told(clocked.failed("why")) == "why"


@pytest.mark.bad_input
def test_broken_records_and_profiles_are_one_line(tiny: Profile, tmp_path: Path) -> None:
    record = run(STATIC, tiny, tmp_path, None)
    assert record is not None
    path = tmp_path / "records" / f"{record.identity.id}.json"
    parquet = path.with_suffix(".parquet")
    parquet.write_bytes(parquet.read_bytes()[:-1])
    with pytest.raises(RecordError, match="checksum differs"):
        read_samples(path, record)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": "x"'))
    with pytest.raises(RecordError, match=r"identity\.seed"):
        read_record(path)
    (tmp_path / "typo.toml").write_text(TOML.replace("epochs = 3", "epoch = 3"))
    with pytest.raises(ProfileError, match=r"typo\.toml: recipe\.epoch"):
        profiles.load(str(tmp_path / "typo.toml"))
    with pytest.raises(ProfileError, match=r"no profile 'quik'.*did you mean 'quick'"):
        profiles.load("quik")


class Lying(Static):
    """Accounts half of what it runs."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        told = super().forward(sample, policy)
        return Prediction(told.cost // 2, logits=told.logits)


class Unknown(Static):
    """Runs an operation without a formula."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        told = super().forward(sample, policy)
        assert told.logits is not None
        return Prediction(told.cost, logits=told.logits + 0 * torch.fft.fft(told.logits).real)


@pytest.mark.parametrize(("kind", "words"), [(Lying, "accounts"), (Unknown, "no multiply-add formula for")])
def test_a_method_that_cheats_is_a_failed_record(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Static], words: str
) -> None:
    def build(one: Experiment, profile: Profile, classes: int) -> Static:
        return kind(registry.network("r2plus1d_18")(4, 16, classes, width=4, blocks=[1]), InputSpec("clip", 16, 4))

    monkeypatch.setattr("bench.experiment.run.build_method", build)
    monkeypatch.setattr("bench.experiment.run.train", None)  # it is caught before anything is trained
    record = run(STATIC, tiny, tmp_path, None)
    assert record is not None and record.status == "failed" and words in record.reason


def _told(network: Static) -> dict[str, Any]:
    raise KeyError("gone")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("told", "words"),
    [
        (lambda _: {"gain": torch.ones(3)}, "details() gives 'gain' as what JSON cannot hold"),
        (lambda _: {"gain": {"a": [float("nan")]}}, "details() gives 'gain' as what JSON cannot hold"),
        (_told, "details() fails: KeyError: 'gone'"),
    ],
)
def test_details_that_cannot_be_stored_are_a_failed_record_with_nothing_beside_it(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Any, words: str, late: bool
) -> None:
    """Early: before anything is trained. Late: where only what is trained says so."""
    one = Run(STATIC, tiny, tmp_path, None)
    trained_ = one.train

    def then() -> dict[str, float]:
        scores = trained_()
        monkeypatch.setattr(Static, "details", told)
        return scores

    if late:
        monkeypatch.setattr(one, "train", then)
    else:
        monkeypatch.setattr(Static, "details", told)
        monkeypatch.setattr(one, "train", None)
    record = one.measure()
    assert record.status == "failed" and words in record.reason
    kinds = {path.name.partition(record.identity.id)[2] for path in (tmp_path / "records").iterdir()}
    assert kinds <= {".json", ".log.jsonl"} and one.store.find(record.identity) == record


def test_costs_can_be_recomputed_from_the_stored_decisions(tiny: Profile, tmp_path: Path) -> None:
    record = run(DYNAMIC, tiny, tmp_path, None)
    assert record is not None
    samples = read_samples(tmp_path / "records" / f"{record.identity.id}.json", record)
    method = Run(DYNAMIC, tiny, tmp_path, None).method
    trace = {}
    for point, options in method.decisions().items():
        bits = torch.from_numpy(samples[f"decision.{point}"].to_numpy().copy()).unsqueeze(1)
        trace[point] = bits >> torch.arange(len(options)) & 1
    assert method.account(trace).tolist() == samples["cost"].tolist()


def test_an_error_of_one_experiment_does_not_stop_the_others(
    tiny: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "render", lambda *_: [])
    profile = tiny.model_copy(update={"frames": [8], "network": {**tiny.network, "width": -1}})
    assert reproduce.reproduce([profile], tmp_path, None, None, ["r2plus1d_18", "vared/r2plus1d_18"], 1) == 1
    said = capsys.readouterr().err
    assert ("[4/4]" in said and "RegistryError" in said) or "RuntimeError" in said


def test_without_a_terminal_a_line_says_how_much_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "progress").write_text("0.5")
    with reproduce._shown(reproduce.Progress([STATIC, DYNAMIC]), tmp_path) as show:
        show()
        monkeypatch.setattr(reproduce, "SAID", 0.0)
        show()
    assert capsys.readouterr().err == "0.5 of 2 run\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.EACCES])
def test_only_a_disk_that_takes_nothing_ends_all(code: int) -> None:
    progress, refused = reproduce.Progress([STATIC, DYNAMIC]), OSError(code, os.strerror(code), "a")
    if code in (errno.EMFILE, errno.EACCES):
        progress.take(STATIC, refused)
        assert progress.finished == {STATIC: "failed"}
    else:
        with pytest.raises(OSError, match=re.escape(os.strerror(code))):
            progress.take(STATIC, refused)


@pytest.mark.parametrize(("gpu", "side_by_side"), [(True, 1), (False, 2)])
def test_a_gpu_runs_one_experiment_at_a_time(gpu: bool, side_by_side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(reproduce, "reproduce", lambda *arguments: asked.append(arguments[5]) or 0)
    for more in ([], ["--jobs", "3"]):
        assert CliRunner().invoke(cli.app, ["reproduce", *more]).exit_code == 0
    assert asked == [side_by_side, 3]
