"""The registry: names, laziness, duplicates, near misses, outside builders."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from bench import registry
from bench.method import InputSpec, Method, Prediction, Stage
from bench.option_values import fault_of
from bench.policy import Policy
from bench.recipe import Recipe
from bench.registry import RegistryError, build_network


class Toy(Method):
    """Records what it was built with; costs nothing."""

    def __init__(self, *, frames: int, size: int, classes: int, **given: Any) -> None:
        super().__init__()
        self.given = {"frames": frames, "size": size, "classes": classes, **given}
        self.spec = InputSpec("clip", size, frames)

    def forward(self, sample: torch.Tensor, policy: Policy | None = None) -> Prediction:
        return Prediction(cost=torch.zeros(len(sample), dtype=torch.int64))

    def stages(self, recipe: Recipe) -> list[Stage]:
        return []


def tiny_net(frames: int, size: int, classes: int, width: float = 1.0) -> torch.nn.Module:
    if width <= 0:
        raise ValueError("width must be positive")
    return torch.nn.Linear(frames, classes)


def wrapper(
    network: str, *, frames: int, size: int, classes: int, network_options: dict[str, Any], depth: int = 2
) -> Method:
    return Toy(frames=frames, size=size, classes=classes, network=network, depth=depth, **network_options)


def alone(*, frames: int, size: int, classes: int, glances: int = 4) -> Method:
    if glances < 1:
        raise ValueError("glances must be positive")
    return Toy(frames=frames, size=size, classes=classes, glances=glances)


def not_a_method(*, frames: int, size: int, classes: int) -> int:
    return 7


def leaving(*, frames: int, size: int, classes: int) -> Method:
    sys.exit(0)


def typed(
    *,
    frames: int,
    size: int,
    classes: int,
    flag: bool = False,
    parts: Sequence[int] | None = None,
    rate: float = 0.5,
    mode: Literal["fast", "slow"] = "fast",
    bare=7,
    **others: Any,
) -> Method:
    return Toy(frames=frames, size=size, classes=classes, flag=flag, parts=parts, rate=rate, mode=mode, bare=bare)


SIZES = {"frames": 8, "size": 32, "classes": 10}
HERE = __name__


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A registry whose only provider is this file, with the static form played by `static`."""
    targets = {"NETWORKS": (f"{HERE}:tiny_net",), "METHODS": (f"{HERE}:wrapper", f"{HERE}:alone")}
    provider = ModuleType("toy_provider")
    provider.__dict__.update(targets)
    monkeypatch.setitem(sys.modules, "toy_provider", provider)
    monkeypatch.setattr(registry, "PROVIDERS", ("toy_provider",))
    own = ModuleType("toy_static")
    own.__dict__["static"] = wrapper
    monkeypatch.setitem(sys.modules, "toy_static", own)
    monkeypatch.setattr(registry, "STATIC", "toy_static:static")
    found: dict[str, list[EntryPoint]] = {}
    monkeypatch.setattr(registry, "entry_points", lambda group: found.get(group, []))
    monkeypatch.setattr(registry, "_installed", registry._installed.__wrapped__)
    registry._warn.cache_clear()
    return SimpleNamespace(provider=provider, entry_points=found)


def test_built_in_names_are_listed_without_importing_anything_heavy() -> None:
    code = (
        "import sys; from bench import registry; n, m = registry.networks(), registry.methods()\n"
        "assert {'r2plus1d_18', 'r2plus1d_18_torchvision'} <= set(n) and {'static', 'vared'} <= set(m), (n, m)\n"
        "print([x for x in ('torch', 'numpy', 'pandas', 'pydantic', 'typer') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_key_is_the_builders_own_name(house: SimpleNamespace) -> None:
    assert registry.networks() == ["tiny_net"]
    assert registry.methods() == ["alone", "static", "wrapper"]
    assert registry.network("tiny_net") is tiny_net


def test_network_alone_is_its_static_form(house: SimpleNamespace) -> None:
    method = registry.build("tiny_net", **SIZES, network_options={"width": 0.5})
    assert isinstance(method, Toy)
    assert method.given == {**SIZES, "network": "tiny_net", "depth": 2, "width": 0.5}


def test_method_on_a_network_and_method_alone_get_their_options(house: SimpleNamespace) -> None:
    on_network = registry.build("wrapper/tiny_net", **SIZES, depth=5)
    by_itself = registry.build("alone", **SIZES, glances=3, network_options={"width": 0.5})
    assert isinstance(on_network, Toy) and isinstance(by_itself, Toy)
    assert on_network.given == {**SIZES, "network": "tiny_net", "depth": 5}
    assert by_itself.given == {**SIZES, "glances": 3}


def test_outside_names_need_no_registration(house: SimpleNamespace) -> None:
    assert isinstance(registry.build(f"{HERE}:Toy", **SIZES), Toy)
    method = registry.build(f"static/{HERE}:tiny_net", **SIZES)
    assert isinstance(method, Toy) and method.given["network"] == f"{HERE}:tiny_net"


def test_entry_points_of_installed_packages_are_found(house: SimpleNamespace) -> None:
    house.entry_points["vared_bench.methods"] = [EntryPoint("any", f"{HERE}:Toy", "vared_bench.methods")]
    assert "Toy" in registry.methods()
    assert isinstance(registry.build("Toy", **SIZES), Toy)


def test_duplicates_of_our_own_raise_across_networks_and_methods(house: SimpleNamespace) -> None:
    house.provider.METHODS = (f"{HERE}:wrapper", "other.package:tiny_net")
    with pytest.raises(RegistryError, match=r"'tiny_net' is registered twice.*other.package:tiny_net"):
        registry.networks()


@pytest.mark.parametrize("group", ["vared_bench.networks", "vared_bench.methods"])
def test_entry_points_that_clash_are_left_out_with_a_line(
    house: SimpleNamespace, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    house.entry_points[group] = [
        EntryPoint(entry.rpartition(":")[2], entry, group) for entry in ("one:tiny_net", "one:new", "two:new")
    ]
    assert registry.networks() == ["tiny_net"] and registry.network("tiny_net") is tiny_net
    assert registry.methods() == ["alone", "static", "wrapper"]
    with pytest.raises(RegistryError, match="no network or method 'new'"):
        registry.build("new", **SIZES)
    first, *others = capsys.readouterr().err.splitlines()
    assert (
        first == f"warning: one:tiny_net of one is left out: the name 'tiny_net' is registered by {HERE}:tiny_net too"
    )
    assert [line.partition(" of ")[0] for line in others] == ["warning: one:new", "warning: two:new"]  # each once


def test_a_network_of_others_that_cannot_be_imported_stops_only_who_asks_for_it(
    house: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    group = "vared_bench.networks"
    house.entry_points[group] = [EntryPoint("net", "no_such_module:net", group)]
    assert registry.network_options() == registry.network_options() == {"width"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: network net is left out: no_such_module:net cannot be imported: ModuleNotFound")
    with pytest.raises(RegistryError, match="no_such_module:net cannot be imported"):
        registry.build("net", **SIZES)
    house.provider.NETWORKS = ("no_such_module:own",)
    with pytest.raises(RegistryError, match="no_such_module:own cannot be imported"):
        registry.network_options()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny_nte", {}, "no network or method 'tiny_nte'; did you mean 'tiny_net'"),
        ("zzz", {}, "there are alone, static, tiny_net, wrapper"),
        ("./nets/tiny.py:Net", {}, "./nets/tiny.py:Net is a file: name its module, tiny:Net, and run"),
        ("wrapper/nets/tiny.py:Net", {}, "nets/tiny.py:Net is a file: name its module, tiny:Net, and run"),
        ("wrapr/tiny_net", {}, "no method 'wrapr'; did you mean 'wrapper'"),
        ("wrapper/tinynet", {}, "no network 'tinynet'; did you mean 'tiny_net'"),
        ("wrapper", {}, "wrapper wraps a network: name it as wrapper/NETWORK"),
        ("alone/tiny_net", {}, "alone does not wrap a network"),
        ("static/tiny_net", {}, "the static form of tiny_net is named 'tiny_net'"),
        ("wrapper/tiny_net", {"dept": 3}, "no wrapper option 'dept'; did you mean 'depth'"),
        ("wrapper/tiny_net", {"network_options": {"wdth": 3}}, "no tiny_net option 'wdth'; did you mean 'width'"),
        ("wrapper/tiny_net", {"network_options": {"frames": 3}}, "no tiny_net option 'frames'"),
        ("tiny_net", {"wdth": 3}, "no tiny_net option 'wdth'; did you mean 'width'"),
        ("wrapper/tiny_net", {"wdth": 3}, "no wrapper option 'wdth'; did you mean 'width'"),
        ("alone", {"glances": 0}, "alone: glances must be positive (given glances=0)"),
        ("alone", {"glances": "abc"}, "alone: glances=abc: must be a whole number, not 'abc'"),
        ("alone", {"glances": 9.5}, "glances=9.5: must be a whole number"),
        ("alone", {"glances": True}, "glances=true: must be a whole number"),
        ("tiny_net", {"network_options": {"width": "x"}}, "tiny_net: width=x: must be a number"),
        ("tiny_net", {"network_options": {"width": math.nan}}, "width=NaN: must be finite"),
        ("tiny_net", {"network_options": {"width": []}}, "width=[]: must be a number"),
        (f"{HERE}:typed", {"flag": "maybe"}, "flag=maybe: must be true or false"),
        (f"{HERE}:typed", {"flag": 1}, "flag=1: must be true or false"),
        (f"{HERE}:typed", {"parts": "a"}, "parts=a: must be a list"),
        (f"{HERE}:typed", {"parts": [1, "a"]}, "must be a whole number, not 'a'"),
        (f"{HERE}:typed", {"rate": math.inf}, "rate=Infinity: must be finite"),
        (f"{HERE}:typed", {"other": [math.nan]}, "other=[NaN]: must be finite"),
        (f"{HERE}:typed", {"mode": "slwo"}, "mode=slwo: must be 'fast' or 'slow'"),
        (f"{HERE}:typed", {"bare": "abc"}, "bare=abc: must be a number"),
        (f"{HERE}:leaving", {}, "leaving: SystemExit: 0"),
        ("no_such_module:Thing", {}, "no_such_module:Thing cannot be imported: ModuleNotFoundError"),
        (f"{HERE}:Missing", {}, "cannot be imported: AttributeError"),
        (f"{HERE}:SIZES", {}, "is not a builder"),
        (f"{HERE}:not_a_method", {}, "built int, not a bench.method.Method"),
    ],
)
def test_bad_names_and_options_are_one_clear_line(
    house: SimpleNamespace, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegistryError) as raised:
        registry.build(name, **SIZES, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"parts": [1, 2]},
        {"parts": (1, 2)},
        {"parts": None},
        {"rate": 1},
        {"mode": "slow"},
        {"bare": 0.5},
        {"parts": np.arange(2)},  # nothing that JSON could say
    ],
    ids=str,
)
def test_values_that_a_builder_takes_reach_it_as_they_are(house: SimpleNamespace, options: dict[str, Any]) -> None:
    built = registry.build(f"{HERE}:typed", **SIZES, **options)
    assert isinstance(built, Toy)
    assert all(built.given[option] is value for option, value in options.items())


@pytest.mark.parametrize("blocks", [[], ()])
def test_no_list_of_a_network_is_empty(blocks: Sequence[int]) -> None:
    for build in (partial(registry.build, network_options={"blocks": blocks}), partial(build_network, blocks=blocks)):
        with pytest.raises(RegistryError, match=r"r2plus1d_18: blocks=\[\]: must not be empty"):
            build("r2plus1d_18", **SIZES)


@pytest.mark.parametrize("name", [*registry.networks(), *registry.methods()])
def test_every_option_of_what_is_registered_says_what_it_takes(name: str) -> None:
    builder = registry._load(registry._entries()[name][1])
    parameters = inspect.signature(builder).parameters
    for option in registry._options(builder)[0]:
        assert fault_of(builder, option, parameters[option].default) == ""
        assert fault_of(builder, option, {"no": "such"}) or option in ("expensive_options", "cheap_options")


def test_a_module_that_ends_the_program_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_module.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RegistryError, match="leaving_module:Any cannot be imported: SystemExit: 0"):
        registry.build("leaving_module:Any", **SIZES)


def test_options_in_one_heap_go_to_the_network_where_it_names_them(house: SimpleNamespace) -> None:
    heap = {"width": 0.5, "depth": 3}
    assert registry.split_options("wrapper/tiny_net", heap) == ({"width": 0.5}, {"depth": 3})
    assert registry.split_options("alone", heap) == ({}, heap)


def test_a_network_is_built_with_checked_options(house: SimpleNamespace) -> None:
    assert isinstance(registry.build_network("tiny_net", **SIZES, width=0.5), torch.nn.Linear)
    with pytest.raises(RegistryError, match="no tiny_net option 'wdth'; did you mean 'width'"):
        registry.build_network("tiny_net", **SIZES, wdth=0.5)
    with pytest.raises(RegistryError, match=r"tiny_net: width must be positive \(given width=0\)"):
        registry.build_network("tiny_net", **SIZES, width=0)
