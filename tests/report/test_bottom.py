"""The bottom line says what the records say, and nothing without them."""

from dataclasses import replace
from pathlib import Path

import pytest
from tables.clocked import at_point, store, timing

from bench import profiles
from bench.report.bottom import bottom_line
from bench.report.content import Content, gather
from bench.report.summary import summary
from bench.tables import published

MAIN = {"method": "vared/r2plus1d_18", "options": {"search_space": 2}}
WITHOUT = {"method": "vared/r2plus1d_18", "options": {"search_space": 2, "efficiency": 0.0}}
NARROW = {"method": "r2plus1d_18", "options": {"width": 7}}


def told(tmp_path: Path) -> str:
    return "\n".join(bottom_line(gathered(tmp_path)))


def gathered(tmp_path: Path) -> Content:
    return gather(published(), [("runs", tmp_path / "runs")])


@pytest.fixture
def pair(write):
    """Three seeds of the main pair: three quarters of the cost; every second video wrong, of the static one none."""

    def stored(profile: str = "digits", seeds: int = 3, dataset: str = "digits", **protocol) -> None:
        for seed in range(seeds):
            named = {"profile": profile, "seed": seed, "dataset": dataset, "protocol": protocol}
            write({"cost": 10**9}, **named)
            write({"cost": 75 * 10**7, "clip_1": [0.0, 1.0] * 20}, **MAIN, **named)

    return stored


def test_without_records_it_says_nothing(tmp_path: Path) -> None:
    assert told(tmp_path) == ""


def test_the_main_pair_stands_with_intervals_beside_what_is_published(pair, tmp_path: Path) -> None:
    pair()
    found = told(tmp_path)
    assert "multiply-adds ×0.750 (0.750 to 0.750, 3 seeds), published 0.722" in found
    assert "clip-1 −50.00 points (−50.00 to −50.00, 3 seeds), published +1.3" in found
    assert "No published accuracy was tested" in found and "None of the 6 records and timings is from a GPU" in found
    assert "decides nothing" not in found and "Speed at" not in found


def test_a_record_that_two_settings_share_is_counted_once(pair, write, tmp_path: Path) -> None:
    pair()
    write({"cost": 8 * 10**8}, **MAIN, profile="digits", method_setting="other")
    content = gathered(tmp_path)
    assert sum(len(block.runs) for block in content.found) > 7
    assert "None of the 7 records and timings" in "\n".join(bottom_line(content))


@pytest.mark.parametrize(("shrunk", "said"), [({"width": 8}, "Miniature networks were"), ({}, "Networks were")])
def test_miniatures_are_called_so(shrunk: dict[str, int], said: str, pair, tmp_path: Path) -> None:
    pair(network=shrunk)
    assert told(tmp_path).startswith(f"{said} trained and tested on moving digits.")


def test_data_sets_have_plain_names_with_the_folds_that_were_tested(pair, tmp_path: Path) -> None:
    pair()
    pair("ut_interaction", dataset="ut_interaction", dataset_options={"fold": 0})
    pair("other", dataset="her_own")
    first = told(tmp_path).partition(".")[0]
    assert all(name in first for name in ("moving digits", "UT-Interaction (fold 0 only)", "her_own", " and "))


def test_published_data_and_a_gpu_take_their_sentences_back(pair, tmp_path: Path) -> None:
    pair()
    content = gathered(tmp_path)
    for run in content.found[0].runs:
        run.record.environment["cuda"] = "13.0"
    published_data = [replace(content.found[0], dataset="mini_kinetics_200")]
    found = "\n".join(bottom_line(replace(content, found=published_data)))
    assert "No published accuracy" not in found and "6 of the 6 records and timings are from a GPU" in found


def test_what_decides_nothing_stands_beside_the_main_row(pair, write, tmp_path: Path) -> None:
    """Seed by seed, where both have it, with its cost."""
    pair(seeds=4)
    for seed in range(3):
        write({"cost": 6 * 10**8}, **NARROW, profile="digits", seed=seed)
    found = told(tmp_path)
    assert "r2plus1d_18, width 7, which decides nothing, at 1.250 of its cost: clip-1 −50.00 points" in found
    (one,) = gathered(tmp_path).undecided
    assert (one.judgement.verdict, one.judgement.seeds) == ("does not hold", 3)
    assert profiles.load("quick").methods == [] and not any(
        other.other.options for other in gathered(tmp_path / "none").undecided
    )


def test_an_ablation_stands_between_the_main_rows(pair, write, tmp_path: Path) -> None:
    """What the part costs that it leaves out, and what all the rest costs; where seeds are in common."""
    pair(seeds=4)
    for seed in range(3):
        write({"cost": 12 * 10**8, "clip_1": [0.0, 1.0, 1.0, 1.0] * 10}, **WITHOUT, profile="digits", seed=seed)
    found = [(one.own.options, one.other.options, one.judgement, one.cost) for one in gathered(tmp_path).ablated]
    assert [told[:2] for told in found] == [(MAIN["options"], WITHOUT["options"]), (WITHOUT["options"], {})]
    values = [
        (found.interval.value, cost.interval.value) for *_, found, cost in found if found.interval and cost.interval
    ]
    assert values == [(-25.0, pytest.approx(0.625)), (-25.0, pytest.approx(1.2))]
    assert {(found.verdict, found.seeds) for *_, found, _ in found} == {("does not hold", 3)}
    (question,) = (one for one in summary(gathered(tmp_path)) if one.id == "parts")
    assert sorted(one.text for one in question.findings) == [
        "no loss of more than one point of clip-1 to r2plus1d_18",
        "no loss of more than one point of clip-1 to vared/r2plus1d_18, efficiency 0.0, search space 2",
    ]


def test_a_loss_of_a_point_is_allowed_to_an_ablation(pair, write, tmp_path: Path) -> None:
    pair()
    for seed in range(3):
        write({"clip_1": [0.0, 1.0] * 20}, **WITHOUT, profile="digits", seed=seed)
    dynamic, static = (one.judgement for one in gathered(tmp_path).ablated)
    assert (dynamic.verdict, static.verdict) == ("holds", "does not hold")


def test_at_least_as_accurate_and_no_dearer_is_also_what_is_equal(pair, write, tmp_path: Path) -> None:
    pair()
    for seed in range(3):
        write({"cost": 75 * 10**7, "clip_1": [0.0, 1.0] * 20}, **NARROW, profile="digits", seed=seed)
    (one,) = gathered(tmp_path).undecided
    assert (one.judgement.verdict, one.cost.verdict) == ("holds", "holds")


def test_speeds_at_published_points_are_a_range_by_device(tmp_path: Path) -> None:
    store(tmp_path / "runs", at_point(1.3), at_point(0.9, batch=1), at_point(2.0, device="another"))
    first, second = bottom_line(gathered(tmp_path))
    ranges = {one for line in (first, second) for one in ("×0.90 to 1.30", "×2.00 of") if one in line}
    assert ranges == {"×0.90 to 1.30", "×2.00 of"}
    assert all("not trained, random decisions" in line for line in (first, second))


def test_machines_that_differ_in_threads_version_or_store_have_ranges_of_their_own(tmp_path: Path) -> None:
    store(tmp_path / "runs", at_point(1.3), at_point(0.9, threads=8), at_point(0.8, torch="2.0.0"))
    store(tmp_path / "more", at_point(1.1), at_point(2.0, device="another"))
    stores = [(name, tmp_path / name) for name in ("runs", "more")]
    found = bottom_line(gather(published(), stores))
    assert len(found) == 5 and len({*found}) == 5 and not any(" to " in line for line in found)
    told = "\n".join(found)
    assert "one processor, 8 threads, torch 2.13.0, fp32: ×0.90 of" in told and "cost, another, fp32: ×2.00" in told
    assert "one processor, 2 threads, torch 2.13.0 (more), fp32: ×1.10 of" in told and "2.0.0, fp32: ×0.80 of" in told


def test_the_speed_of_the_trained_main_row_stands_with_its_verdict(pair, tmp_path: Path) -> None:
    pair()
    assert "as trained" not in told(tmp_path)
    store(tmp_path / "runs", *(timing(0.5, seed=seed, profile="digits") for seed in range(3)))
    (line,) = (line for line in told(tmp_path).splitlines() if "as trained" in line)
    assert "×0.500 (" in line and "3 seeds) of the static network" in line and line.endswith("does not hold.")


def test_another_profile_of_the_same_data_stands_with_three_seeds(pair, tmp_path: Path) -> None:
    pair(seeds=4)
    pair("digits_wide", seeds=2)
    assert told(tmp_path).count("beside r2plus1d_18,") == 1
    pair("digits_wide")
    found = told(tmp_path)
    assert found.count("beside r2plus1d_18,") == 2
    assert found.index("(profile digits)") < found.index("(profile digits_wide)")


def test_real_video_stands_where_all_folds_are_there(pair, write, tmp_path: Path) -> None:
    """One fold is no result of the data set; it is told with what was tested, and no more."""
    pair()
    pair("ut_interaction", dataset_options={"fold": 0})
    assert told(tmp_path).count("beside r2plus1d_18,") == 1
    for fold in (0, 1):
        folds = {"folds": [0, 1], "across_folds": "a", "dataset_options": {"fold": fold}}
        named = {"profile": "surveillance_fight", "setting": f"s{fold}", "data_fingerprint": f"f{fold}"}
        write({"cost": 10**9}, **named, protocol=folds)
        write({"cost": 9 * 10**8}, **MAIN, **named, protocol=folds)
    found = told(tmp_path)
    assert found.count("beside r2plus1d_18,") == 2 and "on digits, 2 folds (profile surveillance_fight)" in found
    assert found.index("×0.750") < found.index("multiply-adds ×0.900")
