"""House rules that are about files: which way imports point, what is never imported, and that the README is true."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "baselines", "vared")
FORBIDDEN = {"torchvision", "timm", "pytorchvideo"}
MAY_NOT_IMPORT = {"bench": {"baselines", "vared"}, "baselines": {"vared"}, "vared": set[str]()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports anywhere in it, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way_and_never_to_a_users_own_networks(package: str) -> None:
    banned = MAY_NOT_IMPORT[package] | FORBIDDEN
    offenders = {str(p.relative_to(ROOT)): found for p in sources(package) if (found := banned & set(imported(p)))}
    assert not offenders


def test_every_room_says_what_it_is_for() -> None:
    folders = {path.parent for package in PACKAGES for path in sources(package)}
    silent = [
        str(folder.relative_to(ROOT))
        for folder in sorted(folders)
        if not (folder / "__init__.py").exists()
        or not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    ]
    assert not silent


def test_everything_imported_is_declared() -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["gpu"]]
    names = [re.split(r"[<>=\[;]", text)[0].lower() for text in wanted]
    as_imported = {"scikit-learn": "sklearn", "pillow": "PIL"}
    declared = {as_imported.get(name, name) for name in names}
    used = {module for package in PACKAGES for path in sources(package) for module in imported(path)}
    assert used - declared - set(PACKAGES) - sys.stdlib_module_names == set()


def test_constraints_pin_every_declared_package_once() -> None:
    project = PROJECT["project"]
    declared = [*project["dependencies"], *(t for extra in project["optional-dependencies"].values() for t in extra)]
    wanted = {re.split(r"[<>=\[;]", text)[0].lower() for text in declared} - {"triton"}  # a CUDA torch names its own
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pinned = [line.partition("==")[0].lower() for line in lines]
    assert len(pinned) == len(set(pinned))
    assert wanted <= set(pinned)


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", text, re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_readme_names_only_commands_and_options_that_exist() -> None:
    from typer.main import get_command

    from bench.cli import app

    commands = getattr(get_command(app), "commands")  # noqa: B009 (a group, though typed as a command)
    ours = [line.split() for line in readme_commands() if re.match(r"(vared-bench|python -m bench)\s", line)]
    assert ours
    for words in ours:
        words = words[1:] if words[0] == "vared-bench" else words[3:]
        command = commands[words[0]]
        if hasattr(command, "commands"):  # a group, such as weights
            command = command.commands[words[1]]
        known = {text for parameter in command.params for text in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, words


def test_readme_names_only_nox_sessions_that_exist() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    named = {name for line in readme_commands() for name in re.findall(r"nox -s (\w+)", line)}
    assert {"reproduce", "tests"} <= named <= sessions


def test_the_method_written_from_nothing_builds_trains_and_passes_as_a_method(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "new-method.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mymethod.py").write_text(example)
    code = (
        "import torch\nfrom bench import registry\nfrom bench.method import Batch\nfrom bench.recipe import Recipe\n"
        "method = registry.build('mymethod:FrameMean', frames=4, size=16, classes=3)\n"
        "sample = torch.randn(method.spec.shape(2))\n"
        "(stage,) = method.stages(Recipe(epochs=2))\nstage.begin(steps=30)\n"
        "batch = Batch(sample, torch.tensor([0, 2]), torch.arange(2))\n"
        "losses = [stage.step(batch)['loss'] for _ in range(30)]\n"
        "assert stage.epochs == 2 and losses[-1] < losses[0], losses\n"
        "answer = method.eval()(sample)\n"
        "assert answer.logits.shape == (2, 3) and answer.cost.tolist() == [3 * 16 * 16 * 3] * 2\n"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_licence_is_the_one_declared() -> None:
    assert PROJECT["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
