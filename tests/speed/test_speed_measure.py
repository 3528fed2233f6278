"""From a job to a stored record, with small methods: what is measured, what is refused, what fails with its reason."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from speed.fake_clock import FakeClock
from toys import EarlyExit, ToySplit
from typer.testing import CliRunner, Result

from bench import cli, profiles, registry
from bench.checkpoint import Checkpoint
from bench.data import Dataset
from bench.data.loading import loading
from bench.experiment.build import build_method, identify
from bench.experiment.plan import Experiment
from bench.method import InputSpec, Prediction
from bench.policy import Policy
from bench.profiles import Profile
from bench.speed import arms, figures, guards, measure, pair, truth
from bench.speed.again import job_of
from bench.speed.ceilings import CeilingError, Ceilings
from bench.speed.measure import SpeedStore
from bench.speed.pair import Job, Setting
from bench.speed.record import SpeedError, SpeedIdentity, SpeedRecord

EXIT, NETWORK = f"{__name__}:exits", f"{__name__}:network"
CLOCK = FakeClock()


class Ticking(EarlyExit):
    """Takes a millisecond for each multiply-add that it accounts."""

    def __init__(self, *, frames: int, size: int, classes: int) -> None:
        super().__init__()
        self.spec = InputSpec("clip", size, frames)

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        CLOCK.tick(float(prediction.cost.sum()) / 1e3)
        return prediction


class Whole(Ticking):
    """The same network, which never exits and decides nothing."""

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(sample[:, :, 0].mean((-2, -1)))
        logits = logits + self.late(sample.mean((-2, -1)).flatten(1))
        CLOCK.tick(0.075 * len(sample))
        return Prediction(torch.full((len(sample),), 75), logits=logits)

    def decisions(self) -> dict[str, torch.Tensor]:
        return {}


class Stale(Whole):
    """Answers with what it found for the first input of all."""

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        if not hasattr(self, "kept"):
            self.kept = super().forward(sample, policy)
        return self.kept


class Broken(Whole):
    """Runs into what torch refuses."""

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        raise torch.OutOfMemoryError("out of memory\nand a long explanation")


class Videos(Whole):
    """Eats videos of three clips."""

    def __init__(self, *, frames: int, size: int, classes: int) -> None:
        super().__init__(frames=frames, size=size, classes=classes)
        self.spec = InputSpec("clips", size, frames, 3, unit="video")


exits, network, stale, broken, videos = Ticking, Whole, Stale, Broken, Videos


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small dataset, no time but what the methods say, and ceilings that need no measuring."""
    split = ToySplit(24)
    dataset = Dataset("toys", 4, "f", split, split, split)
    CLOCK.now = 0.0
    monkeypatch.setattr(pair, "dataset_of", lambda *_: dataset)
    monkeypatch.setattr(measure, "clock_of", lambda device: CLOCK)
    monkeypatch.setattr(truth, "_ceilings", lambda *_: Ceilings(1e3, 1e9))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(registry, "entry_points", lambda group: ())  # every look-up would search the whole environment


@pytest.fixture
def profile() -> Profile:
    tiny = {
        "name": "tiny",
        "description": "",
        "dataset": "digits",
        "size": 8,
        "tables": [],
        "frames": [4],
        "seeds": [0],
    }
    network = {"width": 2, "blocks": [1, 1, 1, 1], "stem": [3, 3, 3]}
    return Profile.model_validate(
        {**tiny, "other_seeds": [0], "recipe": {"epochs": 2}, "views": {}, "network": network}
    )


def timed(a: str, b: str, profile: Profile, results: Path, **setting: Any) -> SpeedRecord:
    again = setting.pop("again", False)
    chosen = Setting(profile, 4, **{"rounds": 8, "batch": 4, "untrained": True, **setting})
    return measure.measure(Job(a, b, {}, {}, chosen), results=results, again=again)


def test_a_record_holds_speeds_ratio_and_share_of_the_saving(profile: Profile, tmp_path: Path) -> None:
    found = timed(EXIT, NETWORK, profile, tmp_path, policy="matched:4.5e-8")
    assert found.status == "done", found.reason
    assert found.a is not None and found.b is not None and found.ratio is not None and found.eta is not None
    assert found.cost_ratio == pytest.approx(45 / 75, rel=0.005)  # every draw was used equally
    assert found.a.accounted == pytest.approx(45, rel=0.005) and found.b.accounted == found.b.executed == 75
    assert len(found.a.samples) == len(found.b.samples) == 8 and found.b.samples == pytest.approx([0.3] * 8)
    assert sum(found.a.samples) == pytest.approx(8 * 4 * found.a.accounted / 1e3)
    assert found.ratio == figures.ratio(found.a.samples, found.b.samples)
    assert found.eta.value == pytest.approx((found.ratio.value - 1) / (75 / 45 - 1), rel=0.02)
    assert found.noise is not None and found.noise.low == pytest.approx(1) == found.noise.high
    assert found.bound is not None and found.bound["macs_per_second"] == 1e3
    assert found.bound["b"] == pytest.approx(1e3 / 75)  # by compute alone
    assert found.a.executed is not None and found.bound["a"] == pytest.approx(1e3 / found.a.executed)
    assert found.protocol["draws"] == 32 and found.protocol["warm_up"]["stable"] and found.protocol["missing"] == {}
    assert found.protocol["answers"]["a"]["error"] == 0 and found.telemetry["available"] is torch.cuda.is_available()
    assert found.identity.revisions == [1, 1, 4] and not found.identity.trained


def test_what_is_recorded_is_not_timed_again_unless_asked(profile: Profile, tmp_path: Path) -> None:
    first = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    now = CLOCK.now
    assert timed(EXIT, NETWORK, profile, tmp_path, policy="all") == first and now == CLOCK.now
    assert timed(EXIT, NETWORK, profile, tmp_path, policy="all", batch=2).identity.batch == 2
    timed(EXIT, NETWORK, profile, tmp_path, policy="all", again=True)
    assert now < CLOCK.now and len(list(SpeedStore(tmp_path / "records" / "speed"))) == 2


@pytest.mark.parametrize(
    ("name", "reason"), [("stale", "stale: gives the same answer to different inputs"), ("broken", "out of memory")]
)
def test_what_fails_is_a_record_with_its_reason(name: str, reason: str, profile: Profile, tmp_path: Path) -> None:
    found = timed(f"{__name__}:{name}", NETWORK, profile, tmp_path)
    assert found.status == "failed" and found.reason.endswith(reason) and found.ratio is None
    assert SpeedStore(tmp_path / "records" / "speed").find(found.identity) == found


def test_a_failure_that_a_busy_machine_explains_is_tried_again(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as busy:
        busy.setattr(guards, "REPEATED", 0.0)  # every second sight is as fast as the first
        found = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    assert found.status == "failed" and found.doubtful and "faster on input that it has seen" in found.reason
    again = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    assert again.status == "done" and again.identity == found.identity
    stale = timed(f"{__name__}:stale", NETWORK, profile, tmp_path)
    now = CLOCK.now
    assert not stale.doubtful and timed(f"{__name__}:stale", NETWORK, profile, tmp_path) == stale and CLOCK.now == now


def test_an_arm_that_got_less_of_the_processor_than_the_other_makes_a_timing_doubtful(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(share: float, name: str = EXIT, **setting: Any) -> SpeedRecord:
        monkeypatch.setattr(CLOCK, "shares", {"a": share})
        return timed(name, NETWORK, profile, tmp_path, policy="all", **setting)

    spoilt = seen(0.4)
    assert spoilt.status == "failed" and spoilt.doubtful and "got 40% of a processor" in spoilt.reason
    done = seen(0.95)  # is tried again
    assert done.status == "done" and done.a is not None
    assert done.telemetry["processor_seconds"]["a"] == pytest.approx([0.95 * wall for wall in done.a.samples])
    assert seen(1.9, again=True).status == "done"  # two threads
    monkeypatch.setattr(ToySplit, "reads_files", True, raising=False)
    assert seen(0.4, again=True, decode=True).status == "done"  # reading waits
    assert "processor" not in (cheat := seen(0.4, f"{__name__}:stale")).reason and not cheat.doubtful


def test_decoding_is_timed_of_files_alone_and_always_done(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpeedError, match=r"^toys holds its videos in memory: there is no decoding to time$"):
        timed(EXIT, NETWORK, profile, tmp_path, policy="all", decode=True)
    kept: set[bool] = set()

    def video(self: ToySplit, index: int) -> torch.Tensor:
        kept.add(loading().keeping)
        return read(self, index)

    read = ToySplit.video
    monkeypatch.setattr(ToySplit, "reads_files", True, raising=False)
    monkeypatch.setattr(ToySplit, "video", video)
    assert timed(EXIT, NETWORK, profile, tmp_path, policy="all", decode=True).status == "done"
    assert kept == {False} and loading().keeping


def test_methods_of_steady_shapes_run_first(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what cuDNN guessed for a shape of the others would be what it takes for theirs."""
    ran: list[str] = []
    forward = arms.TimedArm.__call__
    monkeypatch.setattr(Whole, "steady", True)
    monkeypatch.setattr(arms.TimedArm, "__call__", lambda arm, given: ran.append(arm.key) or forward(arm, given))
    assert timed(EXIT, NETWORK, profile, tmp_path, policy="all").status == "done"
    assert ran[:2] == ["b", "b"] and "a" in ran


def test_a_ratio_that_the_roofline_cannot_explain_makes_a_timing_doubtful(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slices(FakeClock):
        """Of the calls of b only every fifth is through before another program takes the processor."""

        def __init__(self) -> None:
            super().__init__()
            self.calls: Counter[int] = Counter()

        def time(self, call: Any, given: Any) -> Any:
            found = super().time(call, given)
            self.calls[id(call)] += 1
            cut = call.key == "b" and self.calls[id(call)] % 5
            return replace(found, seconds=30 * found.seconds, wall=30 * found.wall) if cut else found

    monkeypatch.setattr(f"{__name__}.CLOCK", slices := Slices())
    monkeypatch.setattr(measure, "clock_of", lambda device: slices)
    found = timed(EXIT, NETWORK, profile, tmp_path, policy="matched:4.5e-8")
    assert found.status == "failed" and found.doubtful and "where the roofline allows 1." in found.reason


@pytest.mark.parametrize(
    ("error", "lost", "passing"),
    [
        (guards.BusyError("a", "faster"), False, True),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), True, True),
        (torch.OutOfMemoryError("CUDA out of memory"), False, False),
        (guards.CheatError("a", "stale"), False, False),
    ],
)
def test_what_may_pass_is_tried_again(
    error: Exception, lost: bool, passing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "gpu_lost", lambda: lost)
    assert measure._passing(error) is passing


def test_learned_decisions_need_trained_weights_or_leave(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(SpeedError, match=f"{EXIT}: policy learned needs trained weights"):
        timed(EXIT, NETWORK, profile, tmp_path, untrained=False)
    assert not timed(EXIT, NETWORK, profile, tmp_path).identity.trained
    for name in (EXIT, NETWORK):
        experiment = Experiment(name, (), 4, 0)
        method = build_method(experiment, profile, 3)
        identity = identify(experiment, profile, pair.dataset_of(profile, 4, None), method)
        with torch.no_grad():
            method.head.weight.mul_(3)  # type: ignore[operator, union-attr]
        Checkpoint(tmp_path / "runs" / identity.id / "checkpoint.pt").save(method, 1, 0, {})  # of two stages
        half = pair.Pair(Job(name, NETWORK, {}, {}, Setting(profile, 4, policy="all")), tmp_path, None)
        assert not half.sides["a"].trained and not torch.equal(half.sides["a"].method.head.weight, method.head.weight)  # type: ignore[arg-type, union-attr]
        Checkpoint(tmp_path / "runs" / identity.id / "checkpoint.pt").save(method, 2, 0, {})
    found = timed(EXIT, NETWORK, profile, tmp_path, untrained=False)
    assert found.identity.trained and found.status == "done"


def test_plain_forms_are_timed_in_the_same_rounds_and_one_that_fails_is_left_out(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(measure, "clock_of", lambda device: Steps())
    monkeypatch.setattr(torch, "compile", refuse)
    given = {"policy": "all", "rounds": 6, "batch": 8}
    first = timed("r2plus1d_18", "r2plus1d_18", profile, tmp_path, **given)
    assert first.plain == [] and first.status == "done", first.reason
    found = timed("r2plus1d_18", "r2plus1d_18", profile, tmp_path, plain=True, **given)
    assert [arm.form for arm in found.plain] == ["eager", "channels_last"]
    assert found.protocol["missing"]["compiled"] == "RuntimeError: no compiler here"
    assert all(len(arm.samples) == 6 and arm.executed == arm.accounted for arm in found.plain)
    assert found.protocol["channels_last"] == {
        "a": True,
        "b": True,
        "b again": True,
        "eager": False,
        "channels_last": True,
    }
    assert timed("r2plus1d_18", "r2plus1d_18", profile, tmp_path, **given) == found  # has all that is asked for


class Steps(FakeClock):
    """Every call takes a second."""

    def time(self, call: Any, given: Any) -> Any:
        self.tick(1.0)
        return super().time(lambda it: (self.tick(1.0), call(it))[1], given)


def test_what_is_compiled_is_compiled_with_its_weights(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []

    def compiled(network: Any, **options: Any) -> Any:
        def call(x: torch.Tensor) -> Any:
            seen.append((torch._inductor.config.freezing, torch.is_grad_enabled()))
            return network(x)

        return call

    monkeypatch.setattr(measure, "clock_of", lambda device: Steps())
    monkeypatch.setattr(torch, "compile", compiled)
    given = {"policy": "all", "rounds": 6, "batch": 8, "plain": True}
    found = timed("r2plus1d_18", "r2plus1d_18", profile, tmp_path, **given)
    assert found.plain[-1].form == "compiled" and found.plain[-1].executed == found.plain[-1].accounted
    assert set(seen) == {(True, False)} and not torch._inductor.config.freezing


def test_half_precision_and_reading_in_time(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToySplit, "reads_files", True, raising=False)
    monkeypatch.setattr(measure, "clock_of", lambda device: Steps())
    given = {"policy": "all", "rounds": 6, "batch": 8, "precision": "bf16"}
    wider = profile.model_copy(update={"network": {**profile.network, "width": 8}})  # else rounding is much
    found = timed("r2plus1d_18", "r2plus1d_18", wider, tmp_path, decode=True, **given)
    assert found.status == "done", found.reason
    assert 0 < found.protocol["answers"]["a"]["error"] < 0.05 and found.protocol["decode"]
    assert found.identity.dataset == "toys, decoded in time"
    for precision in ("tf32", "fp16"):
        with pytest.raises(SpeedError, match=f"precision {precision}: a CPU computes fp32 and bf16"):
            timed(EXIT, NETWORK, profile, tmp_path, precision=precision)


def test_without_ceilings_there_is_no_bound_but_a_reason(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Ceilings:
        raise CeilingError("no clock for this device")

    monkeypatch.setattr(truth, "_ceilings", refuse)
    found = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    assert found.status == "done" and found.bound is None and found.eta_max is None
    assert found.protocol["missing"]["bound"] == "no clock for this device"


def test_printed_bounds_that_cannot_be_kept_are_given_up_and_said(profile: Profile, tmp_path: Path) -> None:
    given: dict[str, Any] = {"policy": "matched:4.5e-8:4e-8:5e-8"}  # either 15 or 75 multiply-adds
    with pytest.raises(SpeedError, match="no draw"):
        timed(EXIT, NETWORK, profile, tmp_path, **given)
    found = timed(EXIT, NETWORK, profile, tmp_path, row="table1/8f-sp2", **given)
    assert found.identity.policy == "matched:4.5e-08" and found.row == "table1/8f-sp2"
    assert "no draw" in found.protocol["missing"]["the printed operating point"]


def test_too_few_rounds_are_refused(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(SpeedError, match="5 rounds give no 95 % interval: it takes 6 or more"):
        timed(EXIT, NETWORK, profile, tmp_path, rounds=5)


@pytest.mark.parametrize(
    ("asked", "seconds", "rounds"),
    [(None, 1.0, 32), (None, 1 / 32, 32), (None, 1 / 33, 64), (None, 0.004, 256), (None, 1e-6, 256), (40, 1e-6, 40)],
)
def test_short_batches_are_timed_in_more_rounds_unless_a_number_is_asked_for(
    profile: Profile, tmp_path: Path, asked: int | None, seconds: float, rounds: int
) -> None:
    setting = Setting(profile, 4, rounds=asked, batch=4, untrained=True)
    assert pair.Pair(Job(EXIT, NETWORK, {}, {}, setting), tmp_path, None).enough_rounds(seconds) == rounds


def test_in_more_rounds_every_draw_is_used_as_often(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "LONG", 20.0)  # of batches of 0.3 and less
    found = timed(EXIT, NETWORK, profile, tmp_path, policy="matched:4.5e-8", rounds=None)
    assert found.a is not None and found.cost_ratio == pytest.approx(45 / 75, rel=0.005)
    fastest = found.protocol["warm_up"]["batch_seconds"]
    assert found.protocol["draws"] == 128 and 0.1 < fastest < 0.3
    assert len(found.a.samples) == found.protocol["rounds"] > 64 and found.protocol["rounds"] % 32 == 0
    assert fastest * found.protocol["rounds"] >= 20 > fastest * (found.protocol["rounds"] - 32)


def test_the_twin_is_the_network_under_a_method_with_its_options(profile: Profile) -> None:
    setting = Setting(profile, 4)
    job = pair.job("vared/r2plus1d_18", None, {"search_space": 3, "width": 4}, setting)
    assert (job.b, job.b_options, job.a_options) == ("r2plus1d_18", {"width": 4}, {"search_space": 3, "width": 4})
    assert job.b_policy == "" and job.at(7).setting.batch == 7
    assert (pair.job("i3d", None, {}, setting).b, pair.job("i3d", None, {}, setting).b_policy) == ("i3d", "")


def test_a_method_without_a_network_is_timed_against_itself_with_everything_open(
    profile: Profile, tmp_path: Path
) -> None:
    job = pair.job(EXIT, None, {}, Setting(profile, 4, rounds=8, batch=4, untrained=True, policy="matched:4.5e-8"))
    found = measure.measure(job, results=tmp_path)
    assert found.status == "done", found.reason
    assert found.a is not None and found.b is not None and found.ratio is not None and found.eta is not None
    assert (found.a.method, found.b.method, found.identity.b_policy) == (EXIT, EXIT, "all")
    assert found.b.accounted == 75 and found.b.samples == pytest.approx([0.3] * 8)
    assert found.cost_ratio == pytest.approx(45 / 75, rel=0.005) and found.ratio.value > 1.2
    assert set(found.protocol["execution"]) == {"a", "b", "b again"} and found.protocol["unit"] == "clip"
    everything = pair.Pair(replace(job, setting=replace(job.setting, policy="all")), tmp_path, None)
    assert everything.identity.alone


def test_what_decides_nothing_is_timed_beside_a_copy_of_itself(profile: Profile, tmp_path: Path) -> None:
    job = pair.job(NETWORK, None, {}, Setting(profile, 4, rounds=8, batch=4, untrained=True))
    found = measure.measure(job, results=tmp_path)
    assert found.identity.alone and found.different is False and found.eta is None


def test_samples_of_different_units_are_not_compared(profile: Profile, tmp_path: Path) -> None:
    job = Job(f"{__name__}:videos", NETWORK, {}, {}, Setting(profile, 4, untrained=True))
    with pytest.raises(SpeedError, match=r"samples are videos for .*:videos and clips for .*:network"):
        pair.Pair(job, tmp_path, None)
    found = pair.Pair(Job(job.a, job.a, {}, {}, job.setting), tmp_path, None).protocol
    assert (found["unit"], found["views"]) == ("video", "3 clips of each validation video")


def test_published_rows_are_timed_at_full_size(profile: Profile) -> None:
    jobs = pair.published_jobs("table1", None, Setting(profile, 4, batch=8, seed=3))
    assert [job.setting.row for job in jobs] == [f"table1/{row}" for row in ("8f-sp2", "8f-sp3", "16f-sp2", "32f-sp2")]
    setting = jobs[0].setting
    assert (setting.profile.size, setting.frames, setting.classes, setting.profile.network) == (128, 8, 200, {})
    assert (setting.policy, setting.batch, setting.seed, setting.untrained) == ("matched:20.0:18.0:22.1", 8, 3, True)
    assert len(pair.published_jobs("table3", ["tpn-8f-vared"], setting)) == 1
    with pytest.raises(SpeedError, match="table3: no row with a static twin prints a speed"):
        pair.published_jobs("table3", None, setting)


def test_threads_are_set_for_the_timing_alone(profile: Profile, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    found = timed(EXIT, NETWORK, profile, tmp_path, policy="all", threads=before + 1)
    assert found.identity.threads == before + 1 and torch.get_num_threads() == before


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["speed", *words])


@pytest.fixture
def command(profile: Profile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.setattr(profiles, "load", lambda name: profile)
    return ["--rounds", "6", "--results", str(tmp_path)]


def test_the_command_answers_in_json(command: list[str]) -> None:
    result = run(EXIT, NETWORK, "--policy", "matched:4.5e-8", *command, "--batch", "4", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    wanted = {"device", "protocol", "policy", "a", "b", "ratio", "cost_ratio", "eta", "eta_max", "bound"}
    assert wanted <= answer.keys() and answer["policy"] == "matched:4.5e-08"
    for arm in (answer["a"], answer["b"]):
        assert set(arm["clips_per_second"]) == {"value", "low", "high"} and len(arm["samples"]) >= 6
    assert set(answer["ratio"]) == set(answer["eta"]) == {"value", "low", "high"}
    assert f"{EXIT}, batch 4: warming up 3 arms" in result.stderr
    several = json.loads(
        run(EXIT, NETWORK, "--policy", "all", *command, "--batch", "2", "--batch", "4", "--json").stdout
    )
    assert [one["identity"]["batch"] for one in several] == [2, 4]


def test_the_command_prints_a_verdict(command: list[str]) -> None:
    result = run(EXIT, NETWORK, "--policy", "all", *command, "--batch", "4")
    assert result.exit_code == 0 and "no difference" in result.stdout and "cost ratio" in result.stdout
    result = run(EXIT, NETWORK, "--policy", "matched:4.5e-8", *command, "--batch", "4")
    assert "faster" in result.stdout


def test_a_failed_timing_ends_with_exit_1_and_its_reason(command: list[str]) -> None:
    result = run(f"{__name__}:stale", NETWORK, *command)
    assert result.exit_code == 1 and result.stderr.splitlines()[-1].endswith("same answer to different inputs")


@pytest.mark.parametrize(
    "other",
    [
        {"network": {"width": 4, "blocks": [1, 1, 1, 1], "stem": [3, 3, 3]}},
        {"dataset_options": {"test_videos": 7}},
        {"method": {"vared": {"leak": 0.1}}},
        {"stride": 2},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_profile_of_the_same_name_is_timed_on_its_own(
    other: dict[str, Any], profile: Profile, tmp_path: Path
) -> None:
    def found(profile: Profile) -> SpeedIdentity:
        job = Job("vared/r2plus1d_18", "r2plus1d_18", {}, {}, Setting(profile, 4, policy="all"))
        return measure.identity_of(job, tmp_path, None)

    changed = found(Profile.model_validate(profile.model_dump() | other))
    assert changed.id != found(profile).id and changed == found(profile).model_copy(update={"setting": changed.setting})
    assert found(profile.model_copy(update={"seeds": [5], "description": "x"})).id == found(profile).id


@pytest.mark.parametrize(
    ("change", "code", "verdict"),
    [({}, 0, "agrees"), ({"device": "H100"}, 2, "another device"), ({"threads": 99}, 0, "agrees")],
)
def test_a_stored_timing_is_held_against_one_done_now(
    change: dict[str, Any], code: int, verdict: str, command: list[str], profile: Profile, tmp_path: Path
) -> None:
    stored = timed(EXIT, NETWORK, profile, tmp_path, policy="matched:4.5e-8")
    told = stored.model_copy(update={"identity": stored.identity.model_copy(update=change)})
    store = SpeedStore(tmp_path / "elsewhere")
    store.write(told)
    before = sorted(tmp_path.rglob("*.json"))
    result = run("--check", str(store.path(told.identity)), "--json", "--results", str(tmp_path))
    assert result.exit_code == code, result.output
    (answer,) = json.loads(result.stdout)
    assert answer["verdict"] == verdict and sorted(tmp_path.rglob("*.json")) == before
    if code:
        assert answer["now"] is None and answer["figures"] == [] and "stored on" in answer["reason"]
        return
    assert [one["name"] for one in answer["figures"]] == ["ratio", f"{EXIT}, clips/s", f"twin {NETWORK}, clips/s"]
    assert answer["now"]["identity"] | change == told.identity.model_dump() | change
    change_of = answer["figures"][0]["change"]
    assert change_of["low"] <= change_of["value"] <= change_of["high"]
    assert change_of["value"] == pytest.approx(answer["figures"][0]["now"]["value"] / stored.ratio.value)  # type: ignore[union-attr]


def test_all_are_looked_up_before_the_first_is_timed_and_one_that_is_unlike_does_not_end_the_rest(
    command: list[str], profile: Profile, tmp_path: Path
) -> None:
    stored = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    changes = ({"revisions": [7, 1, 4]}, {"processes": 2}, {"device": "H100"}, {"setting": "x"}, {})
    store, now = SpeedStore(tmp_path / "elsewhere"), CLOCK.now
    told = [stored.identity.model_copy(update=change) for change in changes]
    for who in told:
        store.write(stored.model_copy(update={"identity": who}))
    paths = [word for who in told for word in ("--check", str(store.path(who)))]
    result = run(*paths[:-2], "--json", "--results", str(tmp_path))
    assert result.exit_code == 2 and CLOCK.now == now  # nothing was timed
    reasons = [one["reason"] for one in json.loads(result.stdout)]
    assert "revision 7" in reasons[0] and "2 processes" in reasons[1] and "stored on H100" in reasons[2]
    assert "settings" in reasons[3]
    result = run(*paths, "--json", "--results", str(tmp_path))
    unlike = "cannot be held against it"
    assert [one["verdict"] for one in json.loads(result.stdout)] == [
        unlike, unlike, "another device", unlike, "agrees"
    ]  # fmt: skip
    assert CLOCK.now > now


def test_a_finished_timing_is_not_replaced_by_one_that_fails(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    said: list[str] = []
    job = Job(EXIT, NETWORK, {}, {}, Setting(profile, 4, rounds=8, batch=4, untrained=True, policy="all"))
    monkeypatch.setattr(guards, "REPEATED", 0.0)  # every second sight is as fast as the first
    failed = measure.measure(job, results=tmp_path, again=True, announce=said.append)
    assert failed.status == "failed" and failed.identity == first.identity
    assert SpeedStore(tmp_path / "records" / "speed").find(first.identity) == first
    assert any("the finished timing that is stored stays" in line for line in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"profile": "mine"}, "mine, which is not built in"), ({"profile": "digits"}, "not what it was")],
)
def test_weights_of_another_profile_are_not_held_against_a_record(
    change: dict[str, str], said: str, profile: Profile, tmp_path: Path
) -> None:
    stored = timed(EXIT, NETWORK, profile, tmp_path, policy="all")
    who = stored.identity.model_copy(update={**change, "trained": True})
    with pytest.raises(SpeedError, match=said):
        job_of(stored.model_copy(update={"identity": who}))


def test_a_timing_that_differs_now_ends_with_exit_1(command: list[str], profile: Profile, tmp_path: Path) -> None:
    faster, same = (timed(EXIT, NETWORK, profile, tmp_path, policy=policy) for policy in ("matched:4.5e-8", "all"))
    assert faster.ratio and same.ratio and faster.ratio.low > same.ratio.high
    planted = faster.model_copy(update={"ratio": same.ratio})
    store = SpeedStore(tmp_path / "elsewhere")
    store.write(planted)
    paths = [store.path(faster.identity), SpeedStore(tmp_path / "records" / "speed").path(same.identity)]
    result = run(*(word for path in paths for word in ("--check", str(path))), "--results", str(tmp_path))
    assert result.exit_code == 1 and "differs" in result.stdout and "agrees" in result.stdout
    assert run("--check", str(tmp_path / "nowhere.json")).exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give either A or --table"),
        (["r2plus1d_18", "--table", "table1"], "give either A or --table"),
        (["r2plus1d_18", "--row", "8f-sp2"], "--row goes with --table"),
        (["--table", "table1", "--frames", "4"], "a published row has its own methods"),
        (["--table", "table1", "--row", "9f"], "table1: no row '9f'"),
        (["--table", "tabel1"], "did you mean 'table1'"),
        (["vared/r2plus1d_81"], "did you mean 'r2plus1d_18'"),
        (["vared/r2plus1d_18", "--policy", "matchd:20"], "policy 'matchd:20': it must be learned"),
        (["vared/r2plus1d_18"], "policy learned needs trained weights"),
        (["arnte"], "did you mean 'arnet'"),
        (["r2plus1d_18", "--policy", "random:1"], "policy random:1.0: neither r2plus1d_18 nor r2plus1d_18 decides"),
        (["r2plus1d_18", "--precision", "fp16"], "precision fp16: a CPU computes fp32 and bf16"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_2(words: list[str], said: str, command: list[str]) -> None:
    result = run(*words, *command)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
