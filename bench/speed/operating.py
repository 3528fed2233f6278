"""Operating points: the policy behind a text such as "matched:20.0:18.0:22.1", and the one of a published row."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor

from bench import registry
from bench.method import Method
from bench.policy import Learned, Policy, everything, matched
from bench.speed.record import SpeedError
from bench.tables import schema
from bench.tables.schema import Row, Table

DRAWS = 256
"""From which a timing takes as many as it has clips, or all."""

FORMS = "learned, all, random:GFLOPS or matched:GFLOPS[:MIN:MAX]"


@dataclass(frozen=True)
class Asked:
    """A policy as asked for. gflops: the mean per sample, then the least and the most; none for learned and all."""

    kind: str
    gflops: tuple[float, ...] = ()

    def __str__(self) -> str:
        """As the command line takes it."""
        return ":".join([self.kind, *map(str, self.gflops)])

    @property
    def drawn(self) -> bool:
        """Whether its decisions are drawn, and look at nothing."""
        return bool(self.gflops)


def parse(text: str) -> Asked:
    """Reads a policy.

    Raises:
        SpeedError: it is none.
    """
    kind, *numbers = text.split(":")
    try:
        gflops = tuple(map(float, numbers))
    except ValueError:
        gflops = (0.0,)
    lengths = {"learned": (0,), "all": (0,), "random": (1,), "matched": (1, 3)}.get(kind, ())
    ordered = len(gflops) != 3 or gflops[1] <= gflops[0] <= gflops[2]
    if len(gflops) not in lengths or not ordered or not all(0 < value < float("inf") for value in gflops):
        raise SpeedError(f"policy {text!r}: it must be {FORMS}, MIN <= GFLOPS <= MAX")
    return Asked(kind, gflops)


def policy(asked: Asked, name: str, method: Method, draws: int, seed: int) -> Policy:
    """What is asked for, for the method `name`. A method that decides nothing follows any.

    Raises:
        SpeedError: no decisions of this method cost that.
    """
    if not method.decisions() or asked.kind == "learned":
        return Learned()
    if asked.kind == "all":
        return everything(method)
    macs, *bounds = (round(value * 1e9) for value in asked.gflops)
    low, high = bounds or (None, None)
    try:
        whole = matched(method, macs, draws=DRAWS, seed=seed, low=low, high=high)
    except ValueError as error:
        raise SpeedError(f"{name}: policy {asked}: {error}") from None
    drawn = len(next(iter(whole.trace.values())))
    return whole if draws == drawn else whole.rows(_fewer(method.account(whole.trace), draws, macs, seed))


def _fewer(cost: Tensor, draws: int, macs: int, seed: int) -> Tensor:
    """Which of all draws to take for a short timing: evenly spaced by cost (N,), but for one that mends their mean."""
    order = cost.argsort(stable=True)
    taken = torch.zeros(len(cost), dtype=torch.bool)
    taken[order[((torch.arange(draws) + 0.5) * len(cost) / draws).long()]] = True
    inside, outside = taken.nonzero()[:, 0], (~taken).nonzero()[:, 0]
    excess = cost[taken].sum() - draws * macs
    left = (excess - (cost[inside].unsqueeze(1) - cost[outside])).abs()  # after each exchange of one for another
    one, other = divmod(int(left.argmin()), len(outside))
    if int(left.min()) < abs(int(excess)):
        inside[one] = outside[other]
    return inside[torch.randperm(draws, generator=torch.Generator().manual_seed(seed))]


def even_rounds(rounds: int, batch: int) -> tuple[int, int]:
    """The first number of rounds, at least as many, in which all draws are used equally often; and how many draws."""
    draws = min(DRAWS, rounds * batch)
    step = draws // gcd(draws, batch)
    return -(-rounds // step) * step, draws


@dataclass(frozen=True)
class OperatingPoint:
    """What a published row ran: row as "table/row"; b: its static twin. classes: None if the table states none."""

    row: str
    a: str
    a_options: dict[str, Any]
    b: str
    b_options: dict[str, Any]
    frames: int
    size: int
    classes: int | None
    policy: Asked


def published(table: str, row: str) -> OperatingPoint:
    """The operating point of a row: its average and, where printed, its bounds. A static row is its own.

    Raises:
        SpeedError: no such row, or it cannot be run, has no static twin in its table, or no size or cost is printed.
    """
    found = schema.load(table)
    line = next((line for line in found.rows if line.id == row), None)
    if line is None:
        raise SpeedError(f"{table}: no row {row!r}; there are {', '.join(line.id for line in found.rows)}")
    try:
        return _point(found, line)
    except SpeedError as error:
        raise SpeedError(f"{table}/{row}: {error}") from None


def timed_rows(table: str) -> list[str]:
    """The rows of a table that print a speed and have a static twin beside them."""
    found = schema.load(table)
    twins = {row.id: _twin(found, row) for row in found.rows if found.value(row.id, "speed") is not None}
    return [row for row, twin in twins.items() if twin is not None and twin.id != row]


def _point(table: Table, row: Row) -> OperatingPoint:
    run, twin, average = row.experiment, _twin(table, row), table.value(row.id, "gflops_avg")
    if run is None:
        raise SpeedError(row.reason)
    if twin is None or twin.experiment is None:
        raise SpeedError("its table has no static network to time it against")
    size = row.size or twin.size
    if size is None or average is None:
        raise SpeedError("no size or no multiply-adds are stated at which to run it")
    bounds = [table.value(row.id, "gflops_min"), table.value(row.id, "gflops_max")]
    spread = tuple(bound for bound in bounds if bound is not None)
    asked = Asked("learned") if twin is row else Asked("matched", (average, *(spread if len(spread) == 2 else ())))
    other = twin.experiment
    return OperatingPoint(
        f"{table.id}/{row.id}", run.method, dict(run.options), other.method, dict(other.options), run.frames, size,
        table.classes, asked,
    )  # fmt: skip


def _twin(table: Table, row: Row) -> Row | None:
    """The row of the same network as it is: the one printed beside, or of the same group; of a static row itself."""
    run = row.experiment
    if run is None:
        return None
    if run.method in registry.networks():
        return row
    network = run.method.partition("/")[2]
    alike = [table.row(row.beside)] if row.beside else [line for line in table.rows if line.group == row.group]
    return next((line for line in alike if _runs(line, network, run.frames)), None)


def _runs(row: Row, network: str, frames: int) -> bool:
    run = row.experiment
    return run is not None and (run.method, run.frames) == (network, frames)
