"""Everything that a table needs, started from files of weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_cli import run
from tiny_profile import tiny_profile

from bench import registry
from bench.experiment.plan import Experiment, ExperimentError, plan
from bench.experiment.starts import held_in, started
from bench.profiles import load
from bench.records import Store
from bench.reproduce import planned
from bench.weights import METADATA, WeightsError

SMALL: dict[str, Any] = {"width": 4, "blocks": (1, 1), "stem": (1, 3, 3)}


def kept(folder: Path, network: str, **options: Any) -> Path:
    """A file with the weights of a network as drawn."""
    torch.manual_seed(3)
    state = registry.build_network(network, frames=8, size=16, classes=5, **options).state_dict()
    said = {"network": network, "classes": 5, "normalisation": {"mean": [0.4] * 3, "std": [0.2] * 3}}
    path = folder / f"{network}.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path, {METADATA: json.dumps(said)})
    return path


def weights_of(experiments: list[Experiment]) -> dict[str, Any]:
    return {one.method: dict(one.options).get("weights") for one in experiments}


def test_each_starts_from_the_files_that_it_can_start_from(tmp_path: Path) -> None:
    i3d = kept(tmp_path, "i3d", width=8)
    profile = load("localisation")
    ((same, found),) = started([(profile, plan(profile, None, None))], held_in([i3d]))
    own = {"detector_i3d": str(i3d), "vared/detector_i3d": str(i3d)}
    assert same is profile
    assert weights_of(found) == own | {"detector_x3d_m": None, "vared/detector_x3d_m": None}
    digits = load("digits")
    files = [kept(tmp_path, name, width=8) for name in ("resnet34", "resnet18")]
    ((_, found),) = started([(digits, plan(digits, ["table4"], None))], held_in(files))
    several = weights_of(found)
    assert several["arnet"] == tuple(str(tmp_path / f"{name}.safetensors") for name in ("resnet18", "resnet34"))
    assert several["vared/resnet50"] is None


def test_without_files_a_plan_is_as_it_was() -> None:
    plans = [(load("quick"), plan(load("quick"), None, None))]
    assert started(plans, {}) == plans


def test_a_network_of_another_width_stays_as_drawn_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = load("ut_interaction")
    shape = {**profile.network, "blocks": tuple(profile.network["blocks"]), "stem": tuple(profile.network["stem"])}
    file = kept(tmp_path, "r2plus1d_18", **shape)
    plans = [*planned(profile, ["table1"], None), (profile, plan(profile, None, ["r2plus1d_18"]))]
    found = [one for _, experiments in started(plans, held_in([file])) for one in experiments]
    begun = {(one.method, "width" in dict(one.options)): "weights" in dict(one.options) for one in found}
    assert begun == {("r2plus1d_18", False): True, ("r2plus1d_18", True): False, ("vared/r2plus1d_18", False): True}
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(
        f"r2plus1d_18 width=7, 8 frames: weights as drawn: {file}: stem.0.weight has shape"
    )
    assert [len(experiments) for _, experiments in plans] == [
        len(experiments) for _, experiments in started(plans, held_in([file]))
    ]


@pytest.mark.bad_input
def test_files_that_nothing_starts_from_or_of_one_network_are_refused(tmp_path: Path) -> None:
    profile = load("localisation")
    plans = [(profile, plan(profile, None, None))]
    other = kept(tmp_path, "x3d_s", width=4)
    whole = kept(tmp_path, "detector_i3d", width=8, head_width=128)
    part, wide = kept(tmp_path, "i3d", width=8), kept(tmp_path, "x3d_m", width=24)
    with pytest.raises(ExperimentError, match=r"x3d_s.*: nothing here can start from it: holds the weights of x3d_s"):
        started(plans, held_in([part, other]))
    with pytest.raises(ExperimentError, match=r"x3d_m.safetensors: nothing here can start from it: .*has shape"):
        started(plans, held_in([part, wide]))
    with pytest.raises(ExperimentError, match=r"detector_i3d could start from .* or .*: give one of them"):
        started(plans, held_in([whole, part]))
    with pytest.raises(ExperimentError, match="several of the files hold those of one network"):
        held_in([part, part])
    with pytest.raises(WeightsError, match="no such file"):
        held_in([tmp_path / "none.safetensors"])


def test_what_a_table_needs_is_run_from_stored_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commands alone: a network is trained, kept, and started from."""
    monkeypatch.setattr("bench.reproduce.render", lambda *_: [])
    (tmp_path / "tiny.toml").write_text(tiny_profile("table1", [8], (16, 8, 8), smoke=True))
    words = ["--profile", str(tmp_path / "tiny.toml"), "--results", str(tmp_path / "runs")]
    file = tmp_path / "w.safetensors"
    assert run("train", "r2plus1d_18", *words).exit_code == 0
    assert run("weights", "export", "r2plus1d_18", *words, "--out", str(file)).exit_code == 0
    done = run("reproduce", *words, "--method", "r2plus1d_18", "--jobs", "1", "--weights", str(file))
    assert done.exit_code == 0, done.output
    ((_, record),) = Store(tmp_path / "runs" / "records")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.status == "done" and record.identity.options == {"weights": f"sha256:{digest}"}
    refused = run("reproduce", *words, "--estimate", "--weights", str(file))
    assert refused.exit_code == 2 and "--weights changes nothing" in refused.output.replace("\n", " ")
