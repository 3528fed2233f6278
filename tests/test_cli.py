"""The command line: what it asks of the parts, what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner, Result

import bench.reproduce
from bench import registry
from bench.cli import app
from bench.cost import UncountedError
from bench.data import DataError
from bench.experiment.plan import ExperimentError
from bench.method import InputSpec, Method, Prediction, Stage
from bench.policy import Policy
from bench.profiles import ProfileError
from bench.recipe import LARGEST_SEED, Recipe
from bench.records import Figure, Identity, Record, RecordError
from bench.registry import RegistryError
from bench.tables.schema import TableError

COMMANDS = [
    *("list", "cost", "train", "evaluate", "inspect", "speed", "reproduce", "report", "regress"),
    *("new-method", "check", "compare", "weights"),
]
PROFILE = """
name = "tiny"
description = "for tests"
dataset = "digits"
dataset_options = { fold = 0, noise = 0.5 }
size = 16
tables = ["table1"]
frames = [4, 8]
seeds = [0]
other_seeds = [0]
recipe = { epochs = 1 }
views = {}
"""


class Spectral(Method):
    """Holds an operation that the counter does not know, and accounts nothing."""

    def __init__(self, *, frames: int, size: int, classes: int) -> None:
        super().__init__()
        self.spec = InputSpec("clip", size, frames)
        self.fc = torch.nn.Linear(3 * size * size, classes)

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.fc(torch.fft.rfft(sample, dim=2).abs()[:, :, 0].flatten(1))
        return Prediction(torch.zeros(len(sample), dtype=torch.int64), logits=logits)

    def stages(self, recipe: Recipe) -> list[Stage]:
        return []


class Leaving(Spectral):
    """Ends the program, as a script does that thinks it is done."""

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        sys.exit(0)

    def stages(self, recipe: Recipe) -> list[Stage]:
        sys.exit(0)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(PROFILE)
    return str(path)


def a_record(**values: Any) -> Record:
    identity = Identity(
        method="m",
        options={},
        frames=4,
        size=16,
        profile="tiny",
        setting="s",
        dataset="digits",
        data_fingerprint="f",
        seed=0,
        method_revision=1,
        dataset_revision=1,
    )
    return Record(identity=identity, **values)


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "weights import", "weights export"])
def test_every_command_has_help_with_an_example_of_itself(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: vared-bench {command}" in result.stdout


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "bench", "speed", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert not process.stderr.read()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bench.cli import app; app(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pydantic', 'scipy', 'sklearn', 'jinja2', 'av'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    assert all(command in done.stdout for command in COMMANDS)


def test_listing_and_rendering_need_no_torch() -> None:
    code = (
        "import sys; from bench.cli import app; app(['list', '--json'], standalone_mode=False); import bench.report\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "False"
    found = json.loads(done.stdout)
    assert set(found) == {"networks", "methods", "datasets", "profiles", "tables"}
    assert "digits" in found["datasets"] and "table1" in found["tables"]
    assert found["networks"] == registry.networks() and found["methods"] == registry.methods()


def test_cost_answers_in_integers_that_add_up() -> None:
    result = run("cost", "r2plus1d_18", "--frames", "4", "--size", "16", "--option", "width=8", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert set(answer) == {
        *("name", "input", "macs", "params", "by_module", "by_operation", "counters", "uncounted", "missed")
    }
    assert answer["input"] == {"frames": 4, "size": 16}
    assert answer["macs"] == sum(answer["by_module"].values()) == sum(answer["by_operation"].values())
    assert set(answer["counters"]) == {"dispatch", "fvcore", "ptflops"}
    assert answer["counters"]["dispatch"] == answer["macs"] < answer["counters"]["fvcore"]
    assert answer["uncounted"] == [] and answer["missed"] == {"fvcore": [], "ptflops": []}
    whole = registry.build_network("r2plus1d_18", frames=4, size=16, classes=400, width=8)
    assert answer["params"] == sum(weight.numel() for weight in whole.parameters())


def test_cost_grows_with_frames_and_leaves_slow_counters_out_when_told() -> None:
    words = ["cost", "r2plus1d_18", "--size", "16", "--option", "width=8", "--no-agreement", "--json"]
    four, eight = (json.loads(run(*words, "--frames", frames).stdout) for frames in ("8", "16"))
    head = four["by_module"]["head"]
    assert eight["macs"] - head == 2 * (four["macs"] - head)
    assert four["counters"] == {"dispatch": four["macs"], "fvcore": None, "ptflops": None}


def test_cost_of_a_dynamic_method_counts_what_it_decides() -> None:
    words = ["--frames", "4", "--size", "16", "--option", "width=8", "--no-agreement", "--json"]
    static, dynamic = (json.loads(run("cost", name, *words).stdout) for name in ("r2plus1d_18", "vared/r2plus1d_18"))
    assert dynamic["macs"] == sum(dynamic["by_module"].values()) != static["macs"]
    assert any("gate" in module for module in dynamic["by_module"])
    assert dynamic["params"] > static["params"]


def test_cost_with_an_unknown_operation_prints_and_exits_1() -> None:
    result = run("cost", f"{__name__}:Spectral", "--frames", "2", "--size", "4", "--no-agreement", "--json")
    assert result.exit_code == 1
    (operation,) = json.loads(result.stdout)["uncounted"]
    assert operation in result.stderr and result.stderr.count("\n") == 1


def test_cost_of_a_table_has_every_static_row_beside_print() -> None:
    result = run("cost", "--table", "table1", "--json")
    assert result.exit_code == 0, result.stderr
    rows = {row["row"]: row for row in json.loads(result.stdout)}
    assert set(rows) == {"8f-static", "16f-static", "32f-static"}
    for row in rows.values():  # print adds normalisation to multiply-adds
        assert row["cost"]["fvcore"] / 1e9 == pytest.approx(row["published"], rel=0.005)


@pytest.mark.parametrize("words", [["cost"], ["cost", "r2plus1d_18", "--table", "table1"]])
def test_cost_needs_either_a_name_or_a_table(words: list[str]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.bad_input
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_method_that_ends_the_program_has_failed(command: str, profile: str, tmp_path: Path) -> None:
    Path(profile).write_text(PROFILE.replace("fold = 0, noise = 0.5", "train_videos = 16, test_videos = 8"))
    result = run(command, f"{__name__}:Leaving", "--profile", profile, "--results", str(tmp_path / "runs"))
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr == "error: a method ended the program: SystemExit: 0; nothing was recorded\n"
    assert not list(tmp_path.glob("runs/records/*.json"))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["cost", "r2plus1d_81"], "did you mean 'r2plus1d_18'"),
        (["cost", "r2plus1d_18", "--option", "wdth=8"], "did you mean 'width'"),
        (["cost", "vared/r2plus1d_18", "--option", "serch_space=2"], "did you mean 'search_space'"),
        (["cost", "--table", "tabel1"], "did you mean 'table1'"),
        (["cost", "--table", "arnet"], "no row states the size"),
        (["cost", "r2plus1d_18", "--option", "frames=8"], "frames is no --option"),
        (["train", "r2plus1d_18", "--profile", "no/such.toml"], "no/such.toml"),
        (["train", "r2plus1d_18", "--profile", "quik"], "did you mean 'quick'"),
        (["train", "r2plus1d_18", "--option", "widht=9", "--results", "OUT"], "did you mean 'width'"),
        (["reproduce", "--method", "vaerd", "--results", "OUT"], "did you mean 'vared/r2plus1d_18'"),
        (["report", "--only", "tabel1", "--out", "OUT"], "did you mean 'table1'"),
    ],
)
def test_bad_names_end_with_one_line_and_exit_2(words: list[str], hint: str, tmp_path: Path) -> None:
    result = run(*(word.replace("OUT", str(tmp_path / "out")) for word in words))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert hint in result.stderr


@pytest.mark.bad_input
@pytest.mark.parametrize(("seed", "limit"), [(-1, 0), (LARGEST_SEED + 1, LARGEST_SEED), (10**22, LARGEST_SEED)])
@pytest.mark.parametrize("command", ["train", "evaluate", "speed", "inspect", "compare"])
def test_seeds_are_held_against_what_can_be_drawn_from(command: str, seed: int, limit: int) -> None:
    result = run(command, "r2plus1d_18", "--seed", str(seed), "--profile", "no/such.toml")
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "--seed" in said and f"or equal to {limit} " in said


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("cost --table table1 --size 64", "--size does not go with --table"),
        ("cost --table table1 --option width=8 --frames 16", "--frames, --option do not go with --table"),
        ("speed --check F --batch 32 --policy foo --size 7", "--policy, --size, --batch do not go with --check"),
        ("speed --check F --no-such", "No such option"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(words: str, said: str) -> None:
    result = run(*words.split())
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.bad_input
@pytest.mark.parametrize("words", ["report --out", "report --results", "train r2plus1d_18 --results"])
def test_a_file_where_a_folder_is_asked_for_is_refused(words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    result = run(*words.split(), str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "is a file" in " ".join(result.stderr.replace("│", " ").split())
    assert (tmp_path / "file").read_text() == "kept"


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "error",
    [
        *(kind("row 3:\nbroken") for kind in (RegistryError, DataError, ProfileError, RecordError, TableError)),
        ExperimentError("row 3: broken"),
        UncountedError({"aten.lstm": 1}),
        OSError(28, "No space left on device", "runs/x.json"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_user_can_mend_is_one_line(error: Exception, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.experiment.single.single", raising(error))
    result = run("evaluate", "r2plus1d_18", "--profile", profile)
    assert result.exit_code == 2
    assert result.stderr == f"error: {' '.join(str(error).split())}\n"


def test_a_bug_keeps_its_traceback(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.experiment.single.single", raising(ValueError("bug")))
    result = run("evaluate", "r2plus1d_18", "--profile", profile)
    assert isinstance(result.exception, ValueError)


def test_interrupting_says_how_to_go_on(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.experiment.single.single", raising(KeyboardInterrupt()))
    result = run("train", "r2plus1d_18", "--profile", profile)
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr


def test_options_reach_the_experiment_with_their_types(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def single(name: str, **given: Any) -> dict[str, float]:
        seen.update(given, name=name)
        return {"clip-1": 0.5}

    monkeypatch.setattr("bench.experiment.single.single", single)
    options = ["--option", "search_space=3", "--option", "kind=affine", "--option", "gate_scales=[0.1, 2]"]
    data = ["--data-option", "fold=3"]
    result = run("train", "vared/r2plus1d_18", "--profile", profile, *options, *data, "--seed", "7", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"validation": {"clip-1": 0.5}}
    assert seen["options"] == {"search_space": 3, "kind": "affine", "gate_scales": [0.1, 2]}
    assert seen["profile"].dataset_options == {"fold": 3, "noise": 0.5}
    assert (seen["name"], seen["frames"], seen["seed"], seen["until"]) == ("vared/r2plus1d_18", 4, 7, "train")
    assert run("train", "r2plus1d_18", "--profile", profile, "--option", "width").exit_code == 2


def test_evaluate_prints_figures_and_fails_with_a_failed_record(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"clip-1": Figure(value=0.8765, low=0.85, high=0.9)}
    done = a_record(status="done", figures=figures, missing={"video-5": "fewer than 20 classes"})
    monkeypatch.setattr("bench.experiment.single.single", lambda *_, **__: done)
    result = run("evaluate", "r2plus1d_18", "--profile", profile)
    assert result.exit_code == 0
    assert all(text in result.stdout for text in ("87.65 %", "85.00 to 90.00 %", "fewer than 20 classes"))
    assert Record.model_validate_json(run("evaluate", "m", "--profile", profile, "--json").stdout) == done
    failed = a_record(status="failed", reason="the loss is not finite")
    monkeypatch.setattr("bench.experiment.single.single", lambda *_, **__: failed)
    result = run("evaluate", "r2plus1d_18", "--profile", profile)
    assert result.exit_code == 1 and "the loss is not finite" in result.stderr


def test_reproduce_passes_its_choices_on_and_ends_as_the_experiments_did(
    profile: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VARED_DATA", "some/where")
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(bench.reproduce, "reproduce", lambda *given: calls.append(given) or 3)
    words = ["--table", "table1", "--method", "r2plus1d_18", "--results", str(tmp_path), "--jobs", "5"]
    result = run("reproduce", "--profile", profile, *words, "--weights", "w.safetensors")
    assert result.exit_code == 3, result.output
    ((chosen, *rest),) = calls
    assert [profile.name for profile in chosen] == ["tiny"]
    assert rest == [tmp_path, Path("some/where"), ["table1"], ["r2plus1d_18"], 5, [Path("w.safetensors")]]


def test_report_without_any_record_renders_what_was_published(tmp_path: Path) -> None:
    result = run("report", "--results", str(tmp_path / "nothing"), "--only", "table1")
    assert result.exit_code == 0, result.output
    page = tmp_path / "nothing" / "report" / "report.md"
    assert str(page) in result.stdout.replace("\n", "") and "R(2+1)D" in page.read_text()


def test_weights_are_imported_with_the_layout_found_by_itself(tmp_path: Path) -> None:
    network = registry.build_network("resnet18", frames=1, size=32, classes=7, width=8, blocks=(1, 1, 1, 1))
    state = {key.removeprefix("network."): value for key, value in network.state_dict().items()}
    torch.save({key: value.squeeze(2) if value.dim() == 5 else value for key, value in state.items()}, tmp_path / "tv")
    out = tmp_path / "ours.safetensors"
    words = [str(tmp_path / "tv"), "resnet18", "--out", str(out), "--option", "width=8", "--option", "blocks=[1,1,1,1]"]
    result = run("weights", "import", *words, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["classes"] == 7 and answer["layout"] == "torchvision's ResNet" and answer["out"] == str(out)
    assert answer["options"] == {"width": 8, "blocks": [1, 1, 1, 1]}
    written = safetensors.torch.load_file(out)
    assert all(torch.equal(written[key], value) for key, value in network.state_dict().items())
    assert "7 classes" in run("weights", "import", *words).stdout.replace("\n", " ")


@pytest.mark.bad_input
def test_weights_that_cannot_be_imported_are_one_line(tmp_path: Path) -> None:
    file, out = tmp_path / "file.pth", tmp_path / "ours.safetensors"
    file.write_text("no weights")
    for words, said in {
        (str(file), "resnet18"): f"{file}: cannot be read",
        (str(file), "resnt18"): "did you mean 'resnet18'",
        (str(file), "corrnet"): "no public weights of 'corrnet'",
        (str(tmp_path), "resnet18"): "Is a directory",
        (str(tmp_path / "none.pth"), "resnet18"): "No such file",
    }.items():
        result = run("weights", "import", *words, "--out", str(out))
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert not out.exists()
