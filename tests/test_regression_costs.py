"""The cost lock: the bounds of a dynamic cost are its bounds, and nothing that differs goes unseen."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import EarlyExit
from typer.testing import CliRunner

from bench import registry
from bench.cli import app
from bench.method import InputSpec, Method
from bench.regression import check
from bench.regression.costs import Costs, Entry, LockError, compare, entries, extremes, measure, read_lock, write_lock
from bench.tables.paths import published
from bench.tables.schema import ids, load
from vared.method import Units, VaRed
from vared.reduce import spatial

LOCKED = {"one": Costs(params=7, minimum=10, maximum=20), "two": Costs(params=8, minimum=30, maximum=30)}


def over_all(method: Method, one_of: bool) -> tuple[int, int]:
    """The bounds over every combination of options, one a point or any of them together."""
    options = {}
    for point, choices in method.decisions().items():
        chosen = [choices] if one_of else [_together(choices)]
        options[point] = torch.cat(chosen)
    rows = torch.tensor(list(itertools.product(*(range(len(choices)) for choices in options.values()))))
    trace = {point: choices[rows[:, column]] for column, (point, choices) in enumerate(options.items())}
    found = method.account(trace)
    return int(found.min()), int(found.max())


def _together(choices: Tensor) -> Tensor:
    """Every set of options, the empty one too."""
    sets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(choices))))
    return sets @ choices


def tiny(search_space: int, kind: str, policy: Any = str) -> VaRed:
    """Two convolutions, the second with a stride and fewer frames' worth of work."""
    network = nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 5, (1, 3, 3), (1, 2, 2)), nn.ReLU()
    )
    return VaRed(network, InputSpec("clip", 9, 5), units=Units(spatial, policy), search_space=search_space, kind=kind)


@pytest.mark.parametrize("kind", ["absorbable", "affine", "depthwise"])
@pytest.mark.parametrize("search_space", [2, 3])
@pytest.mark.parametrize("policy", [str, lambda name: "one"], ids=["own", "shared"])
def test_bounds_of_options_that_may_be_open_together(kind: str, search_space: int, policy: Any) -> None:
    method = tiny(search_space, kind, policy)
    found = extremes(method)
    assert found == over_all(method, one_of=False)
    assert over_all(method, one_of=True)[1] <= found[1]


def test_everything_open_costs_more_than_the_dearest_option() -> None:
    method = tiny(2, "affine")
    dearest = method.account({point: choices[:1] for point, choices in method.decisions().items()})
    assert extremes(method)[1] > int(dearest)


@pytest.mark.parametrize(
    ("name", "options"), [("arnet", {}), ("adafocus_v2", {"exits": True}), ("uni_adafocus", {})], ids=str
)
def test_bounds_of_options_that_exclude_each_other(name: str, options: Mapping[str, Any]) -> None:
    with torch.device("meta"):
        method = registry.build(name, frames=3, size=32, classes=5, width=8, **options)
    assert extremes(method) == over_all(method, one_of=True)


def test_bounds_of_an_early_exit() -> None:
    assert extremes(EarlyExit()) == (15, 75)


def test_bounds_of_gates_of_single_values() -> None:
    small = {"width": 8, "blocks": (1, 1, 1, 1)}
    method = registry.build("cgnet/r2plus1d_18", frames=4, size=32, classes=5, network_options=small)
    least, most = extremes(method)
    torch.manual_seed(0)
    with torch.no_grad():
        trace = dict(method(torch.randn(4, 3, 4, 32, 32)).trace)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        drawn = {point: (torch.rand_like(gates) < share).float() for point, gates in trace.items()}
        cost = method.account(drawn)
        assert least <= int(cost.min()) and int(cost.max()) <= most
        assert share not in (0, 1) or set(cost.tolist()) == {most if share else least}


@pytest.mark.parametrize("field", ["params", "minimum", "maximum"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_change_by_one_is_an_offender(field: str, change: int) -> None:
    found = dict(LOCKED)
    before = getattr(found["two"], field)
    found["two"] = found["two"].model_copy(update={field: before + change})
    (offender,) = compare(LOCKED, found)
    assert str(offender) == f"two: {field}: locked {before}, found {before + change}"


def test_all_offenders_are_listed_at_once() -> None:
    found = {"one": Costs(params=6, minimum=11, maximum=20), "three": LOCKED["two"], "four": "ValueError: no"}
    listed = list(map(str, compare(LOCKED, found)))
    assert listed[:2] == ["one: params: locked 7, found 6", "one: minimum: locked 10, found 11"]
    assert listed[2] == "two: params: locked 8, found nothing (neither registered nor in a table)"
    assert listed[5] == "three: params: locked nothing, found 8 (not in the lock)"
    assert listed[8] == "four: params: locked nothing, found nothing (ValueError: no)"
    assert len(listed) == 2 + 3 * 3
    assert compare(LOCKED, LOCKED) == []


FILTERS = 4


def convolution(frames: int, size: int, classes: int) -> nn.Module:
    """One multiply-add a filter."""
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(3, 1, 1, bias=False), nn.Conv3d(1, FILTERS, 1, bias=False))


def broken(frames: int, size: int, classes: int) -> nn.Module:
    raise ValueError("no such thing")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The registry with a toy network alone."""
    toy = ModuleType("toy_provider")
    toy.NETWORKS, toy.METHODS = (f"{__name__}:convolution",), ()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_provider", toy)
    monkeypatch.setattr(registry, "PROVIDERS", ("toy_provider",))
    yield toy


def test_one_multiply_add_of_a_registered_network_is_seen(
    provider: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = entries([])
    locked = measure(chosen)
    assert locked == {"convolution@16x112, 400 classes": Costs(params=7, minimum=7, maximum=7)}
    monkeypatch.setattr(sys.modules[__name__], "FILTERS", 5)
    lines = list(map(str, compare(locked, measure(chosen))))
    assert [line.split(": ", 1)[1] for line in lines] == [f"{f}: locked 7, found 8" for f in Costs.model_fields]


def test_what_cannot_be_built_is_an_offender_and_never_locked(provider: ModuleType, tmp_path: Path) -> None:
    provider.NETWORKS += (f"{__name__}:broken",)
    found = measure(entries([]))
    assert found["broken@16x112, 400 classes"] == "RegistryError: broken: no such thing"
    with pytest.raises(LockError, match="no costs of broken@16x112, 400 classes: RegistryError"):
        write_lock(tmp_path / "costs.json", found)
    assert not list(tmp_path.iterdir())


def exhausting(frames: int, size: int, classes: int) -> nn.Module:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


def exhausted(frames: int, size: int, classes: int) -> nn.Module:
    raise MemoryError


@pytest.mark.parametrize("network", [exhausting, exhausted])
def test_memory_that_does_not_suffice_says_nothing_about_costs(
    network: Any, provider: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.NETWORKS += (f"{__name__}:{network.__name__}",)
    (path := tmp_path / "costs.json").write_text("{}")
    monkeypatch.setattr(check, "locks", lambda: (path, tmp_path / "speed.json"))
    monkeypatch.setattr(check, "ids", list)
    monkeypatch.setattr(check, "PROCESSES", 1)
    done = CliRunner().invoke(app, ["regress", "--costs-only", "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == found["code"] == 2 and found["costs"] == []
    assert found["unmeasured"] == [f"costs: out of memory at {network.__name__}@16x112, 400 classes"]


def test_an_installed_package_is_no_part_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = entries([])
    targets = [*registry._targets(), ("network", f"{__name__}:convolution")]
    monkeypatch.setattr(registry, "_targets", lambda: iter(targets))
    assert "convolution" in registry.networks() and entries([]) == before


def test_the_shipped_lock_has_everything_registered_and_every_row() -> None:
    tables = [load(id) for id in ids()]
    chosen = entries(tables)
    locked = read_lock(published().parent / "reference" / "costs.json")
    assert list(locked) == [entry.label for entry in chosen]
    rows = {f"{table.id}/{row.id}" for table in tables for row in table.rows if row.experiment is not None}
    assert {entry.row for entry in chosen} == rows | {""}
    assert {e.method.partition("/")[0] for e in chosen if not e.row} >= {*registry.networks(), "vared", "arnet"}


def test_the_shipped_lock_is_what_we_count() -> None:
    """A part of it, static and dynamic; `vared-bench regress` counts the rest."""
    locked = read_lock(published().parent / "reference" / "costs.json")
    chosen = [entry for entry in entries([load("table1")]) if entry.row and entry.frames == 8]
    found = measure([*chosen, Entry("arnet", 16, 224, 200, row="table4/arnet")])
    assert len(found) == 4 and compare({label: locked[label] for label in found}, found) == []
    assert locked["table4/arnet: arnet@16x224, 200 classes"] == Costs(  # as `baselines.arnet.method` states them
        params=62_588_391, minimum=216_122_368, maximum=66_265_223_168
    )


def test_rows_are_counted_at_the_size_of_their_network() -> None:
    by_row = {entry.row: entry for entry in entries([load(id) for id in ids()])}
    sizes = {"table1/8f-sp2": 128, "figure3/x3d-vared": 256, "table3/tpn-8f-vared": 224, "table4/vared": 224}
    assert {row: by_row[row].size for row in sizes} == sizes
    assert by_row["table1/8f-sp2"].label == "table1/8f-sp2: vared/r2plus1d_18@8x128, 200 classes, search_space=2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Expecting property name"),
        ("[]", "must be a table of fields"),
        ('{"one": {"params": 1, "minimum": 1}}', "one.maximum: is missing"),
        ('{"one": {"params": 1, "minimum": 1, "maximum": 1, "macs": 1}}', "one.macs: no such field"),
        ('{"one": {"params": 1, "minimum": 1.5, "maximum": 1}}', "one.minimum: must be a whole number, not 1.5"),
        ('{"one": {"params": -1, "minimum": 1, "maximum": 1}}', "one.params: must be 0 or more, not -1"),
    ],
)
@pytest.mark.parametrize("update", [[], ["--update"]])
def test_a_broken_lock_is_one_line_and_stays(
    text: str, says: str, update: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    monkeypatch.setattr(check, "locks", lambda: (path, tmp_path / "speed.json"))
    done = CliRunner().invoke(app, ["regress", "--costs-only", *update])
    assert done.exit_code == 2 and done.stderr.startswith(f"error: {path}: ") and says in done.stderr
    assert len(done.stderr.splitlines()) == 1 and path.read_text() == text


def test_no_lock_is_one_line_that_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "locks", lambda: (tmp_path / "costs.json", tmp_path / "speed.json"))
    done = CliRunner().invoke(app, ["regress", "--costs-only"])
    assert done.exit_code == 2 and "--update` writes it" in done.stderr and len(done.stderr.splitlines()) == 1


def test_update_says_what_changed_and_the_next_check_is_fine(
    provider: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "costs.json", CliRunner()
    monkeypatch.setattr(check, "locks", lambda: (path, tmp_path / "speed.json"))
    monkeypatch.setattr(check, "ids", list)
    monkeypatch.setattr(check, "PROCESSES", 1)
    entry = "convolution@16x112, 400 classes"
    path.write_text(json.dumps({entry: {"params": 7, "minimum": 6, "maximum": 7}, "old": LOCKED["one"].model_dump()}))
    assert run.invoke(app, ["regress", "--costs-only"]).exit_code == 1
    failed = json.loads(run.invoke(app, ["regress", "--costs-only", "--json"]).stdout)
    assert failed["code"] == 1 and len(failed["costs"]) == 4
    done = run.invoke(app, ["regress", "--costs-only", "--update"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and lines[0] == f"{entry}: minimum: locked 6, found 7" and len(lines) == 4
    assert lines[1] == "old: params: locked 7, found nothing (neither registered nor in a table)"
    assert run.invoke(app, ["regress", "--costs-only"]).exit_code == 0
    assert run.invoke(app, ["regress", "--costs-only", "--update"]).stdout == "nothing changed\n"
    assert list(read_lock(path)) == [entry]
