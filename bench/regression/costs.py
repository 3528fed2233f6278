"""The cost lock: parameters and multiply-adds of everything registered and of every table row, compared exactly."""

from __future__ import annotations

import inspect
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, TypeAdapter, ValidationError

from bench import registry
from bench.cost import CountError, count_meta
from bench.faults import first_fault
from bench.files import write_atomically
from bench.method import Method
from bench.records import Strict
from bench.short_of_memory import short_of_memory
from bench.tables.schema import Table
from bench.tables.static_costs import key
from bench.weights import spec_of

UNDER = "r2plus1d_18"
"""What a registered method that wraps a network is locked on; the tables' rows lock it on others."""
INPUT = (16, 112, 400)
"""Frames, size and classes of what is registered, as `vared-bench cost` has them by default."""
SIZE, CLASSES = 224, 200
"""Of table rows whose network, or whose table, states none."""


class LockError(Exception):
    """A lock cannot be used, or cannot be written; the message names the file and what to do."""


class CountingError(Exception):
    """Costs could not be counted, for a reason that says nothing about them."""


class Costs(Strict):
    """params: trainable ones, of the untrained method. minimum, maximum: multiply-adds a sample can cost."""

    params: int = Field(ge=0, strict=True)
    minimum: int = Field(ge=0, strict=True)
    maximum: int = Field(ge=0, strict=True)


Lock = Mapping[str, Costs]
"""The label of an entry -> its costs."""


@dataclass(frozen=True)
class Entry:
    """Something with a cost. row: "table/row" if a published row names it, "" if it is registered."""

    method: str
    frames: int
    size: int
    classes: int
    options: tuple[tuple[str, Any], ...] = ()
    row: str = ""

    @property
    def label(self) -> str:
        """What the lock calls it: everything that its costs hang on."""
        options = "".join(f", {name}={json.dumps(value)}" for name, value in self.options)
        return (self.row and f"{self.row}: ") + key(self.method, self.frames, self.size, self.classes) + options


@dataclass(frozen=True)
class Offender:
    """A cost that differs from the lock. None: there is none; reason: why none was found."""

    entry: str
    field: str
    locked: int | None
    found: int | None
    reason: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.entry}: {self.field}: locked {_number(self.locked)}, found {_number(self.found)}{why}"


def _number(value: int | None) -> str:
    return "nothing" if value is None else f"{value:,}"


def entries(tables: Sequence[Table]) -> list[Entry]:
    """Every network and method of the built-in providers, and every row of `tables` that an experiment measures."""
    return [*(Entry(name, *INPUT) for name in _registered()), *_rows(tables)]


def _registered() -> Iterator[str]:
    """Names of the built-in providers; a package that a user has installed is no part of the lock."""
    for provider in map(import_module, registry.PROVIDERS):
        yield from (target.rpartition(":")[2] for target in provider.NETWORKS)
        for target in provider.METHODS:
            module, _, name = target.partition(":")
            wraps = "network" in inspect.signature(getattr(import_module(module), name)).parameters
            yield f"{name}/{UNDER}" if wraps else name


def _rows(tables: Sequence[Table]) -> Iterator[Entry]:
    """A row that states no size has that of the rows with its network as it is."""
    runs = [(table, row, row.experiment) for table in tables for row in table.rows if row.experiment is not None]
    sizes = {run.method: row.size for _, row, run in runs if row.size is not None}
    for table, row, run in runs:
        size = row.size or sizes.get(run.method.rpartition("/")[2], SIZE)
        options = tuple(sorted(run.options.items()))
        yield Entry(run.method, run.frames, size, table.classes or CLASSES, options, f"{table.id}/{row.id}")


def measure(chosen: Sequence[Entry], processes: int = 1) -> dict[str, Costs | str]:
    """The costs of each entry by its label, or why they cannot be stated. What several rows name is built once.

    Raises:
        CountingError: memory does not suffice, or a process that counts is gone.
    """
    builds = list(dict.fromkeys(replace(entry, row="") for entry in chosen))
    if processes == 1:
        found = list(map(_costs_or_reason, builds))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
            try:
                found = list(pool.map(_costs_or_reason, builds))
            except BrokenProcessPool:
                raise CountingError("costs: a process that counts was killed") from None
    of_build = dict(zip(builds, found, strict=True))
    return {entry.label: of_build[replace(entry, row="")] for entry in chosen}


def _costs_or_reason(entry: Entry) -> Costs | str:
    try:
        return costs_of(entry)
    except (
        registry.RegistryError, CountError, ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError
    ) as error:  # fmt: skip
        if any(cause is not None and short_of_memory(cause) for cause in (error, error.__cause__)):
            raise CountingError(f"costs: out of memory at {entry.label}") from None
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def costs_of(entry: Entry) -> Costs:
    """Counted without computing anything, wherever a method needs no real weights to know its cost."""
    if entry.method in registry.networks():
        with torch.device("meta"):
            network = registry.build_network(entry.method, **_input(entry), **dict(entry.options))
        macs = count_meta(network, spec_of(network, entry.size, entry.frames).shape(1)).macs
        params = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        return Costs(params=params, minimum=macs, maximum=macs)
    try:
        return _of_method(entry, "meta")
    except RuntimeError:
        return _of_method(entry, "cpu")


def _input(entry: Entry) -> dict[str, int]:
    return {"frames": entry.frames, "size": entry.size, "classes": entry.classes}


def _of_method(entry: Entry, device: str) -> Costs:
    """Untrained; one without decisions costs the same whatever it sees."""
    theirs, own = registry.split_options(entry.method, dict(entry.options))
    torch.manual_seed(0)
    with torch.device(device):
        method = registry.build(entry.method, **_input(entry), network_options=theirs, **own).eval()
    if method.decisions():
        minimum, maximum = extremes(method)
        return Costs(params=method.parameter_count, minimum=minimum, maximum=maximum)
    with torch.no_grad():
        cost = int(method(torch.zeros(method.spec.shape(1), device=device)).cost)
    return Costs(params=method.parameter_count, minimum=cost, maximum=cost)


def extremes(method: Method) -> tuple[int, int]:
    """The least and the most multiply-adds that a sample can cost, whatever is decided.

    Among the cheapest option everywhere, the dearest everywhere, and all of them open together: where options may be
    open at once each adds its cheap operations, so that everything open costs more than the dearest option alone; where
    they exclude each other, `account` takes several for the dearest.

    Raises:
        ValueError: the method takes no decisions.
    """
    options = method.decisions()
    cheapest = {point: choices[-1:] for point, choices in options.items()}
    dearest = {point: choices[:1] for point, choices in options.items()}
    together = {point: choices.amax(0, keepdim=True) for point, choices in options.items()}
    costs = [int(method.account(trace)) for trace in (cheapest, dearest, together)]
    return min(costs), max(costs)


def compare(locked: Lock, found: Mapping[str, Costs | str]) -> list[Offender]:
    """Every field of every entry that differs; an entry that only one of the two has differs in all of its fields."""
    offenders = []
    for entry in {**locked, **found}:
        now = found.get(entry, "neither registered nor in a table")
        reason = now if isinstance(now, str) else "" if entry in locked else "not in the lock"
        for field in Costs.model_fields:
            before = getattr(locked.get(entry), field, None)
            after = getattr(now, field, None)
            if before != after or before is None:
                offenders.append(Offender(entry, field, before, after, reason))
    return offenders


def read_lock(path: Path) -> dict[str, Costs]:
    """The lock as it stands.

    Raises:
        LockError: there is none, or it is not what it should be; names file, entry and field.
    """
    try:
        return TypeAdapter(dict[str, Costs]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise LockError(
            f"{path}: there is no cost lock; `vared-bench regress --costs-only --update` writes it"
        ) from None
    except ValidationError as error:
        raise LockError(f"{path}: {first_fault(error)}") from None
    except ValueError as error:
        raise LockError(f"{path}: {error}") from None


def write_lock(path: Path, found: Mapping[str, Costs | str]) -> None:
    """Replaces the lock.

    Raises:
        LockError: an entry whose costs cannot be stated; nothing is written.
    """
    failed = [f"{entry}: {costs}" for entry, costs in found.items() if isinstance(costs, str)]
    if failed:
        raise LockError(f"{path} was not written; no costs of {'; '.join(failed)}")
    lock = {entry: costs.model_dump() for entry, costs in found.items() if isinstance(costs, Costs)}
    write_atomically(path, json.dumps(lock, indent=1, ensure_ascii=False).encode() + b"\n")
