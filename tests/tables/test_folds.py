"""Runs in several folds as one: what is pooled, over what the interval is, and when there is nothing yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tables.clocked import store, timing

from bench.accuracy.intervals import interval
from bench.experiment.plan import plan
from bench.inspection.store import InspectionIdentity, InspectionRecord, InspectionStore
from bench.profiles import Profile, load
from bench.records import Figure, Record, Store
from bench.report.sources import Sources
from bench.reproduce import planned
from bench.tables import load as table
from bench.tables.analysis import by_clip
from bench.tables.block import Block
from bench.tables.blocks import blocks
from bench.tables.comparison import compare
from bench.tables.floors import Floor, FloorRecord, floors
from bench.tables.folds import Folded
from bench.tables.join import Joined, join
from bench.tables.timings import timings
from bench.tables.verdicts import STATISTICS

Write = Callable[..., Record]
FOLDS, DYNAMIC = 4, "vared/r2plus1d_18"


def fold(write: Write, number: int, right: Any, *, cost: Any = 10**9, target: Any = 0, **given: Any) -> None:
    """A record of one fold: 40 videos of 20 sources, which are in no other fold."""
    protocol = {"dataset_options": {"fold": number}, "folds": list(range(FOLDS)), "across_folds": "all"}
    columns = {
        "clip_1": np.broadcast_to(np.asarray(right, float), 40),
        "cost": cost,
        "group": [f"{number}-{i // 2}" for i in range(40)],
        "target": target,
    }
    about = {"setting": f"s{number}", "data_fingerprint": f"f{number}", "dataset": "real", "protocol": protocol}
    write(columns, **{**about, **given})


def pair(write: Write, seeds: int = 3, folds: int = FOLDS, loss: float = 0.0) -> None:
    random = np.random.default_rng(0)
    for number in range(folds):
        for seed in range(seeds):
            right = (random.random(40) < 0.9).astype(float)
            fold(write, number, right, seed=seed)
            fold(write, number, right * (1 - loss), cost=7 * 10**8, seed=seed, method=DYNAMIC, options=SPACE)


SPACE = {"search_space": 2}


def one_block(folder: Path) -> Block:
    (block,) = blocks([("runs", folder / "runs")])
    return block


def joined(folder: Path) -> Joined:
    stores = [("runs", folder / "runs")]
    return join(table("table1"), blocks(stores), timings(stores))


def verdicts(found: Joined) -> dict[str, Any]:
    return {one.claim.id: one.latest[0].judgement for one in found.claims if one.latest}


def test_folds_of_one_seed_are_one_run_over_all_their_videos(write: Write, tmp_path: Path) -> None:
    pair(write, seeds=2)
    block = one_block(tmp_path)
    assert len(block.runs) == 4 and all(isinstance(run, Folded) and len(run.parts) == FOLDS for run in block.runs)
    assert (block.setting, block.folds, len(block.fingerprints)) == ("all", FOLDS, FOLDS)
    for run in block.runs:
        assert len(run.samples) == FOLDS * 40 and run.samples.index.is_unique
        parts = np.concatenate([part.samples["clip_1"].to_numpy() for part in run.parts])
        assert sorted(run.samples["clip_1"]) == sorted(parts)


def test_the_interval_is_over_the_sources_of_all_folds_and_over_seeds(write: Write, tmp_path: Path) -> None:
    pair(write)
    row = joined(tmp_path).rows["8f-static"][0]
    found, runs = row.cells["clip-1"].found, one_block(tmp_path).runs[:3]
    values = np.stack([100 * run.samples["clip_1"].to_numpy() for run in runs])
    assert found == pytest.approx(interval(values, runs[0].samples["group"]))
    assert len(set(runs[0].samples["group"])) == FOLDS * 20 and row.seeds == 3


def test_claims_are_judged_over_all_folds(write: Write, tmp_path: Path) -> None:
    pair(write, loss=0.1)
    found = verdicts(joined(tmp_path))
    assert found["8f-sp2-cost"].verdict == "holds" and found["8f-sp2-cost"].interval == pytest.approx((0.7, 0.7, 0.7))
    assert found["8f-sp2-clip-1"].verdict == "does not hold" and found["8f-sp2-clip-1"].seeds == 3


def test_what_the_networks_of_folds_differ_by_is_no_difference_of_clips(write: Write, tmp_path: Path) -> None:
    """A fold whose network costs more as a whole tells nothing of its clips: spread and correlation stay the same."""
    random = np.random.default_rng(0)
    right, step = random.random((FOLDS, 40)) < 0.5, random.integers(0, 9, (FOLDS, 40))

    def measured(profile: str, apart: int, among: int) -> list[tuple[float, ...]]:
        for number in range(FOLDS):
            cost = 5 * 10**8 + among * step[number] + apart * (2 * number - FOLDS + 1)
            fold(write, number, right[number], profile=profile)
            fold(write, number, right[number], cost=cost, method=DYNAMIC, options=SPACE, profile=profile)
        (block,) = [one for one in blocks([("runs", tmp_path / "runs")]) if one.name.startswith(profile)]
        static, dynamic = sorted(block.runs, key=lambda run: len(run.record.identity.method))
        return [STATISTICS[name]([dynamic], [static])[:3] for name in ("cost_spread", "difficulty")]

    for even, uneven in zip(measured("even", 0, 10**7), measured("uneven", 10**8, 10**7), strict=True):
        assert uneven == pytest.approx(even) and even[0] != 0
    assert measured("alike", 10**8, 0)[0] == pytest.approx((0, 0, 0))


def test_what_the_networks_of_folds_open_follows_no_motion_of_their_clips(write: Write, tmp_path: Path) -> None:
    """Where videos move more a fold's network opens every frame, elsewhere none: no network looks at its own clip."""
    for number in range(FOLDS):
        fold(write, number, 1.0, method=DYNAMIC, options=SPACE)
    for path, record in list(Store(tmp_path / "runs")):
        number = record.protocol["dataset_options"]["fold"]
        seen = {"decision.a.temporal": np.uint8(1 + number % 2), "attribute.motion": np.arange(40) / 40 - number % 2}
        Store(tmp_path / "runs").write(record, pd.read_parquet(path.with_suffix(".parquet")).assign(**seen))
    assert STATISTICS["motion"](one_block(tmp_path).runs, []) == (0, 0, 0)


def test_without_all_folds_there_is_no_figure_but_how_many_are_there(write: Write, tmp_path: Path) -> None:
    pair(write, folds=FOLDS - 1)
    row = joined(tmp_path).rows["8f-static"][0]
    assert row.seeds == 0 and row.reason == "waits for folds: 3 of 4 are there"
    assert verdicts(joined(tmp_path))["8f-sp2-cost"].verdict == "not run"
    assert compare(one_block(tmp_path), 8) == []


def test_a_fold_that_failed_is_named(write: Write, tmp_path: Path) -> None:
    pair(write, seeds=1, folds=FOLDS - 1)
    fold(write, FOLDS - 1, 1.0, method=DYNAMIC, options=SPACE, reason="loss is no number")
    fold(write, FOLDS - 1, 1.0)
    rows = joined(tmp_path).rows
    assert rows["8f-static"][0].seeds == 1
    assert rows["8f-sp2"][0].reason == "failed: fold 3: loss is no number"


def test_a_fold_that_failed_is_not_waited_for(write: Write, tmp_path: Path) -> None:
    pair(write, seeds=1, folds=1)
    fold(write, 1, 1.0, reason="loss is no number")
    static, dynamic = sorted(one_block(tmp_path).runs, key=lambda run: run.record.identity.method)
    assert static.record.reason == "fold 1: loss is no number" and not static.waiting
    assert dynamic.record.reason == "waits for folds: 1 of 4 are there" and dynamic.waiting


def test_folds_are_not_mixed_with_runs_of_one_fold_only(write: Write, tmp_path: Path) -> None:
    pair(write, seeds=1)
    write({"clip_1": 0.0}, setting="s0", data_fingerprint="f0", dataset="real", seed=0)
    assert sorted((block.folds, len(block.runs)) for block in blocks([("runs", tmp_path / "runs")])) == [(0, 1), (4, 2)]


def old_record(write: Write, tmp_path: Path, **given: Any) -> Profile:
    """Of fold 0, from before its profile had folds: it states the whole setting, and nothing of folds."""
    profile = load("surveillance_fight").model_copy(update={"size": 32})  # as `write` has it
    named = ("views", "recipe", "sampling", "stride", "scales", "network", "dataset_options")
    stated = profile.model_dump(mode="json", include=set(named))
    fold(write, 0, 1.0, **{**about(profile), "protocol": stated, "setting": profile.setting, "seed": 0, **given})
    return profile


def about(profile: Profile) -> dict[str, Any]:
    return {"profile": profile.name, "dataset": profile.dataset}


def planned_folds(write: Write, profile: Profile) -> None:
    """The other folds of the same run, and another run of all."""
    stated = {"folds": [0, 1, 2, 3, 4], "across_folds": profile.across_folds}
    for part in profile.in_folds():
        number = part.dataset_options["fold"]
        protocol = {**stated, "dataset_options": {"fold": number}}
        for seed in range(number == 0, 2):
            fold(write, number, 1.0, **about(profile), setting=part.setting, protocol=protocol, seed=seed)


def test_a_fold_from_before_its_profile_had_folds_is_one_of_them(write: Write, tmp_path: Path) -> None:
    profile = old_record(write, tmp_path)
    (alone,) = blocks([("runs", tmp_path / "runs")])
    assert (alone.folds, alone.part) == (0, ", fold 0 only")  # nothing says that there are others
    planned_folds(write, profile)
    block = one_block(tmp_path)
    assert [(run.record.status, len(run.parts)) for run in block.runs] == [("done", 5)] * 2
    assert block.folds == 5 and not alone.folds


@pytest.mark.parametrize("change", [{"setting": "another"}, {"revision": 2}])
def test_an_old_fold_of_another_setting_or_revision_does_not_join(
    change: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    planned_folds(write, old_record(write, tmp_path, **change))
    runs = [run for block in blocks([("runs", tmp_path / "runs")]) for run in block.runs]
    assert sorted(len(run.parts) for run in runs) == [1, 4, 5]
    assert all(run.waiting for run in runs if len(run.parts) == 4)


def test_one_fold_twice_is_not_all_of_them(write: Write, tmp_path: Path) -> None:
    pair(write, seeds=1, folds=FOLDS - 1)
    for path, record in list(Store(tmp_path / "runs")):
        longer = {**record.protocol, "folds": [0, 1, 2]}  # was planned with fewer
        Store(tmp_path / "runs").write(
            record.model_copy(update={"protocol": longer}), pd.read_parquet(path.with_suffix(".parquet"))
        )
    assert all(run.record.status == "done" for run in one_block(tmp_path).runs)
    fold(write, 5, 1.0, protocol={"dataset_options": {"fold": 5}, "folds": [0, 1, 2, 5], "across_folds": "all"})
    static, dynamic = sorted(one_block(tmp_path).runs, key=lambda run: run.record.identity.method)
    assert static.record.status == "done" and dynamic.record.reason == "waits for folds: 3 of 4 are there"


def test_what_folds_scored_is_weighted_by_their_videos(write: Write, tmp_path: Path) -> None:
    for number in range(FOLDS):
        fold(write, number, float(number == 0), cost=10**9 * (1 + (number == 0)))
    (path, record), *_ = [one for one in Store(tmp_path / "runs") if one[1].protocol["dataset_options"]["fold"] == 0]
    table = pd.read_parquet(path.with_suffix(".parquet")).head(20)
    Store(tmp_path / "runs").write(record, table)
    (run,) = one_block(tmp_path).runs
    assert run.record.figures["clip-1"].value == pytest.approx(20 / 140)
    assert run.record.cost is not None and run.record.cost.average == pytest.approx(1e9 * (1 + 20 / 140))
    assert (run.record.cost.minimum, run.record.cost.maximum) == (10**9, 2 * 10**9)


def test_the_inspection_of_one_fold_is_that_of_the_run_with_its_clips_as_they_are_numbered(
    write: Write, tmp_path: Path
) -> None:
    pair(write, seeds=1)
    identity = next(
        r.identity for _, r in Store(tmp_path / "runs") if r.identity.setting == "s1" and not r.identity.options
    )
    clips = pd.DataFrame({"index": [3, 4], "group": ["1-1", "1-2"], "temporal.RP": [0.5, 0.7]})
    record = InspectionRecord(identity=InspectionIdentity(run=identity), status="done")
    InspectionStore(tmp_path / "runs" / "inspected").write(record, clips)
    static, dynamic = sorted(one_block(tmp_path).runs, key=lambda run: run.record.identity.method)
    assert static.inspection is not None and dynamic.inspection is None
    looked = static.inspection.samples
    assert looked["group"].to_list() == static.samples["group"].loc[looked.index].to_list()
    assert by_clip([static], "temporal.RP").shape == (2, 1)
    facts = dict(Sources().runs(one_block(tmp_path), [static]).facts)
    assert facts["inspections"].endswith(", looked into in fold 1")


def test_few_seeds_stand_neither_above_nor_below(write: Write, tmp_path: Path) -> None:
    pair(write, seeds=2)
    block = one_block(tmp_path)
    given = {"dataset": "real", "dataset_revision": 1, "profile": "p", "frames": 8, "videos": 160}
    rules = {"none": {"clip-1": Figure(value=0.0, low=0.0, high=0.0)}}
    floor = FloorRecord(**given, fingerprints=[f"f{number}" for number in range(FOLDS)], rules=rules)
    found = floors(block, 8, [floor], compare(block, 8))[-1]
    assert (found.above, found.level, found.below) == ([], [], []) and len(found.few) == 2
    assert all(name.endswith(" (2 seeds)") for name in found.few)


def test_a_timing_of_one_fold_belongs_to_all(write: Write, tmp_path: Path) -> None:
    pair(write)
    same = {"dataset": "real", "protocol": {"setting": "s0"}}
    store(tmp_path / "runs", *(timing(1.2, seed=seed, **same) for seed in range(3)))
    store(tmp_path / "runs", timing(9.0, seed=9, **{**same, "protocol": {"setting": "another"}}))
    cell = joined(tmp_path).rows["8f-sp2"][0].cells["speed"]
    assert cell.timed[0].ratio is not None and cell.timed[0].ratio.value == pytest.approx(1.2)


@pytest.mark.parametrize(("name", "folds"), [("ut_interaction", 10), ("surveillance_fight", 5)])
def test_real_data_are_run_in_all_their_folds(name: str, folds: int) -> None:
    profile: Profile = load(name)
    parts = profile.in_folds()
    assert [part.dataset_options["fold"] for part in parts] == list(range(folds))
    assert len({part.setting for part in parts}) == folds and {part.across_folds for part in parts} == {
        profile.across_folds
    }
    assert [part.leads for part in parts] == [True] + [False] * (folds - 1)
    assert profile.setting == parts[0].setting  # one fold by itself is the same experiment
    assert load("quick").in_folds() == [load("quick")] and load("quick").across_folds == load("quick").setting


def test_every_fold_is_run_from_one_seed_before_the_next(write: Write) -> None:
    profile = load("surveillance_fight")
    parts = [
        (part.dataset_options["fold"], {one.seed for one in found}) for part, found in planned(profile, None, None)
    ]
    assert parts == [(fold, {seed}) for seed in range(3) for fold in range(5)]
    (quick,) = planned(load("quick"), ["table1"], None)
    assert quick == (load("quick"), plan(load("quick"), ["table1"], None))


def test_a_floor_stands_beside_the_results_of_exactly_its_data(write: Write, tmp_path: Path) -> None:
    for number in range(FOLDS):
        for seed in range(3):
            fold(write, number, np.arange(40) % 10 != 0, seed=seed, target=np.arange(40) % 4)
    block = one_block(tmp_path)
    about = {"dataset": "real", "dataset_revision": 1, "profile": "p", "frames": 8, "videos": 160}
    prints = [f"f{number}" for number in range(FOLDS)]
    rules = {"looks a little": {"clip-1": Figure(value=0.7, low=0.6, high=0.8)}}
    own = FloorRecord(**about, fingerprints=prints, rules=rules)
    others = [
        own.model_copy(update=change)
        for change in ({"fingerprints": prints[:1]}, {"dataset": "other"}, {"dataset_revision": 2}, {"frames": 16})
    ]
    chance, most, measured = floors(block, 8, [*others, own], compare(block, 8))
    assert (chance.found.value, most.found.value, chance.measured) == (25.0, 25.0, False)
    assert measured.found == pytest.approx((70, 60, 80)) and measured.above == ["r2plus1d_18"]
    wide = own.model_copy(update={"rules": {"looks well": {"clip-1": Figure(value=0.7, low=0.6, high=0.9)}}})
    assert floors(block, 8, [wide], compare(block, 8))[-1].level == ["r2plus1d_18"]  # the two intervals meet
    harder = own.model_copy(update={"rules": {"looks well": {"clip-1": Figure(value=0.95)}}})
    assert floors(block, 8, [harder], compare(block, 8))[-1].below == ["r2plus1d_18"]
    assert [one.measured for one in floors(block, 16, [own], [])] == []


def test_a_floor_whose_answers_are_kept_is_compared_video_by_video(write: Write, tmp_path: Path) -> None:
    right = np.arange(40) % 10 != 0  # 90 %
    for number in range(FOLDS):
        for seed in range(3):
            fold(write, number, right, seed=seed)
    block = one_block(tmp_path)
    prints = [f"f{number}" for number in range(FOLDS)]
    wide = {"looks": {"clip-1": Figure(value=0.8, low=0.6, high=0.95)}}
    about = {"dataset": "real", "dataset_revision": 1, "profile": "p", "frames": 8, "videos": 160}

    def standing(answers: np.ndarray) -> Floor:
        kept = {"looks": {digest: "".join(str(int(one)) for one in answers) for digest in prints}}
        one = FloorRecord(**about, fingerprints=prints, rules=wide, right=kept)
        return floors(block, 8, [one], compare(block, 8))[-1]

    assert standing(right & (np.arange(40) % 4 != 1)).above == ["r2plus1d_18"]  # wrong where it is, and more
    assert standing(right).level == ["r2plus1d_18"]  # the same answers
    assert standing(np.ones(40, bool)).below == ["r2plus1d_18"]
