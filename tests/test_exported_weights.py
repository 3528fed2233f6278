"""Weights of networks that were trained here, kept as files that others start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_cli import run
from tiny_profile import tiny_profile

from bench import registry
from bench.checkpoint import Checkpoint
from bench.files import locked

NAME, FRAMES = "r2plus1d_18", 4
SMALL = {"width": 4, "blocks": [1, 1], "stem": [1, 3, 3]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile, and what `train` left in runs/."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(tiny_profile("table1", [FRAMES], (16, 8, 8)))
    done = run("train", NAME, *words(folder))
    assert done.exit_code == 0, done.output
    return folder


def words(folder: Path) -> list[str]:
    return ["--profile", str(folder / "tiny.toml"), "--results", str(folder / "runs")]


def checkpoint(folder: Path) -> Path:
    (found,) = (folder / "runs" / "runs").glob(f"{NAME}*/checkpoint.pt")
    return found


@pytest.mark.parametrize("name", [NAME, f"vared/{NAME}"])
def test_others_start_from_what_was_trained(trained: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "w.safetensors"
    done = run("weights", "export", NAME, *words(trained), "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    network = registry.build_network(NAME, frames=FRAMES, size=16, classes=said["classes"], **SMALL)
    assert said["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert said["options"] == SMALL
    assert said["trained"]["dataset"] == "digits" and said["trained"]["seed"] == 0
    method = registry.build(NAME, frames=FRAMES, size=16, classes=said["classes"], network_options=SMALL)
    Checkpoint(checkpoint(trained)).load(method, mend=False)
    stored = load_file(out)
    wanted = {key.removeprefix("network."): value for key, value in method.state_dict().items()}
    assert stored.keys() == wanted.keys()
    assert all(torch.equal(stored[key], wanted[key]) for key in wanted)
    started = registry.build(
        name, frames=FRAMES, size=32, classes=3, network_options={**SMALL, "weights": str(out)}
    )  # other clips, other classes
    assert torch.equal(started.get_parameter("network.stem.0.weight"), wanted["stem.0.weight"])
    assert started.get_parameter("network.head.weight").shape[0] == 3
    assert started.spec.mean == (0.45,) * 3 and started.spec.std == (0.225,) * 3


def test_equal_weights_are_equal_files(trained: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        assert run("weights", "export", NAME, *words(trained), "--out", str(file)).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.bad_input
def test_what_has_no_weights_to_keep_is_one_line_and_writes_nothing(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    wrong = {
        (f"vared/{NAME}", *words(trained)): "only a network's static form",
        (f"subsampled/{NAME}", *words(trained), "--option", "share=0.5"): "only a network's static form",
        (NAME, *words(trained), "--seed", "1"): "no trained checkpoint",
        (NAME, "--profile", str(trained / "tiny.toml"), "--results", str(tmp_path)): "no trained checkpoint",
    }
    for given, said in wrong.items():
        result = run("weights", "export", *given, "--out", str(out))
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1, result.output
    with locked(checkpoint(trained).parent / "lock") as held:
        assert held
        result = run("weights", "export", NAME, *words(trained), "--out", str(out))
    assert result.exit_code == 2 and "another process is training it" in result.stderr
    assert not out.exists()
