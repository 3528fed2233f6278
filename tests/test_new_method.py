"""The file that `new-method` writes passes the real conformance; with a fault planted in it, it is refused in words."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bench import new_method, profiles
from bench.cli import app
from bench.conformance.named import conform
from bench.new_method import NewMethodError, write

PROFILE = """
name = "tiny"
description = "a handful of videos"
dataset = "digits"
size = 16
tables = []
frames = [4]
seeds = [0]
other_seeds = [0]
dataset_options = { train_videos = 24, validation_videos = 8, test_videos = 8 }
recipe = { epochs = 1, batch = 8 }
views = {}
"""


SMALL = """
from bench.method import InputSpec
from bench.new_method.template import NewMethod


class Mine(NewMethod):
    unit = "clip"
{}

    def __init__(self, **given):
        super().__init__(**given)
        self.spec = InputSpec("clip", given["size"], given["frames"], unit=self.unit)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder whose modules can be imported, as `vared-bench` does it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tiny.toml").write_text(PROFILE)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_the_file_conforms_as_it_is(folder: Path) -> None:
    assert run("new-method", "FewFrames").exit_code == 0
    result = run("check", "fewframes:FewFrames", "--profile", "tiny.toml")
    assert (result.exit_code, result.stdout) == (0, "fewframes:FewFrames: keeps every promise\n"), result.output


def test_the_smallest_method_of_the_walk_through_conforms(folder: Path) -> None:
    page = Path(new_method.__file__).parents[2] / "docs" / "new-method.md"
    (text,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    Path("mymethod.py").write_text(text)
    assert conform("mymethod:FrameMean", profiles.load("tiny.toml"), 4, {}, None) == []


def test_nothing_is_overwritten_or_hidden(folder: Path) -> None:
    write("FewFrames").write_text("mine")
    assert "not overwritten" in run("new-method", "FewFrames").stderr
    assert Path("fewframes.py").read_text() == "mine"
    assert write("FewFrames", Path("other.py")) == Path("other.py")
    for name, words in (("Torch", "hidden by the installed module 'torch'"), ("class", "no name"), ("a b", "no name")):
        with pytest.raises(NewMethodError, match=words):
            write(name)
    with pytest.raises(NewMethodError, match=r"ends in \.py"):
        write("Fine", Path("not-a-module.py"))
    assert run("new-method", "Fine", "--out", "no/such/folder/fine.py").exit_code == 2
    result = run("new-method", "Fine", "--out", "__main__.py")
    assert result.exit_code == 2 and "hidden" in result.stderr


def test_a_full_disk_leaves_no_half_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.open

    def full(self: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "x":
            self.touch()
        return plain(Path("/dev/full") if mode == "x" else self, mode.replace("x", "w"), **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(NewMethodError, match=r"few\.py: No space left on device"):
            write("Few", Path("few.py"))
    assert not Path("few.py").exists()


def test_the_next_command_says_from_which_folder(folder: Path) -> None:
    Path("a b").mkdir()
    assert run("new-method", "Few", "--out", "few.py").stdout.endswith("\nvared-bench check few:Few\n")
    assert run("new-method", "Fine", "--out", "a b/fine.py").stdout.endswith(
        "\ncd 'a b' && vared-bench check fine:Fine\n"
    )


NETWORK = "answer = self.network(sample[rows, :, ::step])"
FIRST = "self.price, self.classes = price, classes"  # in __init__
FORWARD, TRACE = "        learned = F", "        trace = {"  # where forward begins, and before its last lines

FAULTS = {
    "work hidden in __init__": (
        {
            FIRST: f"{FIRST}; self.ready = torch.randn(2, classes).double()",
            NETWORK: "self.network(sample[rows, :, ::step]); answer = self.ready[[option]].expand(len(rows), -1)",
        },
        "the answer does not depend on the weights",
    ),
    "an output kept": (
        {TRACE: f'        logits = self.__dict__.setdefault("kept", logits.detach())\n{TRACE}'},
        "gets another answer or cost in reversed order",
    ),
    "an error in forward": (
        {TRACE: f"        raise KeyError('no such part')\n{TRACE}"},
        "forward fails: KeyError: 'no such part' (faulty.py:",
    ),
    "an input changed": ({FORWARD: f"        sample.mul_(0.5)\n{FORWARD}"}, "forward changes its input"),
    "a cost that does not fit": (
        {"return torch.tensor(self.costs)": "return torch.tensor([self.costs[0] - 1, self.costs[1]])"},
        "cost is not what runs",
    ),
    "a cost out of bounds": (
        {"Prediction(self.account(trace)": "Prediction(self.account(trace) + 10 * self.costs[0]"},
        "cost is not what runs",
    ),
    "decisions ignored": (
        {"        logits = sample.new_zeros": "        decided = learned\n        logits = sample.new_zeros"},
        "does not follow the decisions forced at 'frames'",
    ),
    "randomness in eval": (
        {NETWORK: "answer = self.network(F.dropout(sample[rows, :, ::step], 0.5))"},
        "two runs give different answers",
    ),
    "neighbours in the batch": (
        {TRACE: f"        logits = logits - logits.mean(0)\n{TRACE}"},
        "gets another answer or cost alone",
    ),
    "a trace that is not documented": (
        {'trace = {"frames": decided}': 'trace = {"frames": decided, "more": decided}'},
        "only one of trace and decisions() names ['more']",
    ),
    "a wrong shape": ({TRACE: f"        logits = logits[:, :, None]\n{TRACE}"}, "logits must be (B, K)"),
    "too few classes": ({FIRST: f"classes -= 1; {FIRST}"}, "classes, and the data have"),
    "a part that stays in training": (
        {
            "    def weights(self": "    def train(self, mode: bool = True):\n"
            "        return super().train(True)\n\n    def weights(self"
        },
        "stays in training mode",
    ),
    "options in the wrong order": (
        {"torch.eye(len(STEPS))}": "torch.eye(len(STEPS)).flip(0)}"},
        "not listed from dearest to cheapest",
    ),
    "weights that are not saved": (
        {
            FIRST: f"{FIRST}; self.tilt = torch.randn(3, 1, 1, 1).double()",
            NETWORK: "answer = self.network((sample[rows, :, ::step] * self.tilt).to(sample))",
        },
        "its saved weights, loaded into a fresh method",
    ),
    "no spec": ({"self.spec =": "self.looks ="}, "cannot be built: AttributeError"),
    "a parameter that nothing trains": (
        {"        self.gate =": "        self.idle = nn.Parameter(torch.ones(3))\n        self.gate ="},
        "no gradient reaches 1 of",
    ),
    "a loss that does not fall": (
        {
            "return (weights * losses).sum(1).mean() + self.price": "up = -(weights * losses).sum(1).mean()\n"
            "        return up - 2 * up.detach() - self.price"
        },
        "the loss does not fall",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused_with_the_right_words(folder: Path, fault: str) -> None:
    changes, words = FAULTS[fault]
    text = write("Faulty").read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is not once in the template"
        text = text.replace(old, new)
    Path("faulty.py").write_text(text)
    faults = conform("faulty:Faulty", profiles.load("tiny.toml"), 4, {}, None)
    assert any(words in line for line in faults), faults


def test_every_fault_is_told_and_nothing_is_stored(folder: Path) -> None:
    text = write("Faulty").read_text().replace("        learned = F", "        self.price += 1\n        learned = F")
    Path("faulty.py").write_text(text.replace("torch.eye(len(STEPS))}", "torch.eye(len(STEPS)).flip(0)}"))
    result = run("compare", "faulty:Faulty", "--profile", "tiny.toml", "--results", "runs")
    assert result.exit_code == 1 and not Path("runs").exists()
    assert "- options at 'frames' are not listed from dearest to cheapest" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: faulty:Faulty breaks ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be imported: ModuleNotFoundError"),
        ("x = 1", "cannot be imported: AttributeError"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("def (", "cannot be imported: SyntaxError"),
        ("class Mine:\n    def __init__(self, width): ...", "unexpected keyword argument 'frames'"),
        (SMALL.format("    revision = 'v2'"), "mine:Mine: revision must be a whole number, not 'v2'"),
        (SMALL.format("    revision = 1.5"), "mine:Mine: revision must be a whole number, not 1.5"),
        (
            SMALL.format("    unit = 'video'"),
            "mine:Mine: a sample of kind 'clip' has its cost per clip, not per video",
        ),
        ("class Mine:\n    def __init__(self, frames, size, classes): ...", "built Mine, not a bench.method.Method"),
    ],
)
def test_what_cannot_be_built_is_one_line(folder: Path, text: str | None, words: str) -> None:
    if text is not None:
        Path("mine.py").write_text(text)
    result = run("check", "mine:Mine", "--profile", "tiny.toml")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 2 and len(errors) == 1 and words in errors[0], result.output


def test_another_precision_than_that_of_the_check_is_explained_once(folder: Path) -> None:
    source = write("Faulty").read_text()
    text = source.replace("torch.stack([motion, contrast], 1)", "torch.stack([motion, contrast], 1).float()")
    assert text != source
    Path("faulty.py").write_text(text)
    (fault,) = conform("faulty:Faulty", profiles.load("tiny.toml"), 4, {}, None)
    assert "forward fails: RuntimeError" in fault and fault.endswith("make tensors with dtype=sample.dtype")


def test_the_template_is_named_once(folder: Path) -> None:
    source = Path(new_method.__file__).parent / "template.py"
    assert write("Other").read_text() == source.read_text().replace(new_method.CLASS, "Other")
