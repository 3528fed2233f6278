"""A method that no table prints, as further rows of a published table, held to that table's own claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.registry import without_start
from bench.tables.block import Block
from bench.tables.comparison import described
from bench.tables.rows import static_twin
from bench.tables.schema import Claim, Experiment, Row, Table

MARK = "new-"


def is_new(row: str) -> bool:
    """Whether the row of this id was added by `with_method`."""
    return row.startswith(MARK)


def static_rows(table: Table, method: str, frames: int) -> list[Row]:
    """The rows of plain networks at so many frames beside which the table puts a method, each experiment once.

    Of a method on a network (METHOD/NETWORK) only those of that network.
    """
    under = method.partition("/")[2]
    twins = dict.fromkeys(static_twin(table, row.id) for row in table.rows)
    found: dict[str, Row] = {}
    for row in (table.row(id) for id in twins if id is not None):
        run = row.experiment
        if run and run.frames == frames and under in ("", run.method):
            found.setdefault(run.method, row)
    return list(found.values())


def with_method(table: Table, method: str, blocks: Sequence[Block]) -> Table:
    """The table with a row for each form (options, frames) of `method` that is recorded, and with its claims on it.

    A claim is a published one about a row beside its plain network, its margin as it stands, with the new row in the
    place of that row; of claims that then say the same the first is kept. Where the table measures nothing at so many
    frames, there is no row.
    """
    rows, claims = list(table.rows), list(table.claims)
    for run in experiments(method, blocks):
        twins = static_rows(table, method, run.frames)
        like = [*twins, *(row for row in table.rows if row.experiment and row.experiment.frames == run.frames)]
        if like:
            rows.append(_row(table, like[0], run, len(rows) - len(table.rows)))
            claims += _claims(table, rows[-1], {twin.id for twin in twins})
    return table.model_copy(update={"rows": rows, "claims": claims})  # its cells stay: in print the new rows have none


def experiments(method: str, blocks: Sequence[Block]) -> list[Experiment]:
    """Everything that is recorded of a method, failures too; options may be of any kind that JSON has.

    Weights to start from are no option here: they belong to the block, as for printed rows.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for identity in (run.record.identity for block in blocks for run in block.runs):
        if identity.method == method:
            options = without_start(identity.options)
            found[identity.frames, json.dumps(options, sort_keys=True)] = options
    keys = sorted(found)
    return [Experiment.model_construct(method=method, options=found[key], frames=key[0]) for key in keys]


def _row(table: Table, like: Row, run: Experiment, number: int) -> Row:
    """In the group and with the labels of another row, but for the last label, which is the method's name."""
    name = described(run.method, run.options)
    labels = like.labels | {list(like.labels)[-1]: name} if like.labels else {"": name}
    row = Row(id=f"{MARK}{number}", labels=labels, cells=[""] * len(table.columns), group=like.group, size=None)
    return row.model_copy(update={"experiment": run})


def _claims(table: Table, row: Row, twins: set[str]) -> list[Claim]:
    """What the table claims of rows beside these plain networks, or of such rows alone, of the new one."""
    found: dict[tuple[object, ...], Claim] = {}
    for claim in table.claims:
        beside = static_twin(table, claim.row)
        if beside not in twins or claim.against not in (None, beside):
            continue
        said = claim.text.partition(": ")[2] or claim.text
        update = {"id": f"{row.id}-{claim.id}", "row": row.id, "text": f"{row.labels[list(row.labels)[-1]]}: {said}"}
        key = (claim.statistic, claim.relation, claim.margin, claim.against)
        found.setdefault(key, claim.model_copy(update=update))
    return list(found.values())
