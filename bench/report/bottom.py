"""The bottom line: what was tested and what came of it, in a few sentences, each only where its records are there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from bench.report import text
from bench.report.content import Content
from bench.report.views.recorded import miniature, most_seeds
from bench.report.views.timed import at_points
from bench.speed.record import SpeedRecord
from bench.tables.block import Block
from bench.tables.claims import ClaimResult, Judged
from bench.tables.comparison import accuracies, described
from bench.tables.schema import Claim, Experiment
from bench.tables.speed_truth import SpeedLine
from bench.tables.speeds import Machine, Setting, setting
from bench.tables.undecided import main_rows
from bench.tables.verdicts import FEWEST_SEEDS

ABOUT = {"cost_ratio": "multiply-adds"}
"""What a statistic is of, where its own name does not say so."""

TITLES = {
    "digits": "moving digits",
    "composed": "composed scenes",
    "ut_interaction": "UT-Interaction",
    "surveillance_fight": "Surveillance Fight",
    "scenes": "generated scenes",
    "camvid": "CamVid",
}
"""Data sets whose names say too little to people; of all others the name itself is shown."""

TASKS = {"boxes": "localisation", "masks": "segmentation"}
"""What the data ask for, where it is not the class of a video."""


def bottom_line(content: Content) -> list[str]:
    """The sentences, none where nothing was finished."""
    blocks = [block for block in content.found if not block.smoke and most_seeds(block)]
    pairs = {block.name: told for block in blocks if (told := _pair(content, block))}
    first = max((block for block in blocks if block.name in pairs), key=most_seeds, default=None)
    chosen = [block for block in blocks if block.name in pairs and (block is first or _enough(block))]
    found = [*_tested(content, blocks)] if blocks else []
    for block in sorted(chosen, key=lambda block: (block is not first, first and block.dataset != first.dataset)):
        found += [pairs[block.name], *_undecided(content, block)]
    found += [told for block in chosen for told in _clocked(content, block)]
    return [*found, *_timed(at_points(content.speeds, True))]


def _enough(block: Block) -> bool:
    """Whether something follows from it: all folds were run or, where there are none, enough seeds."""
    return bool(block.folds) or (not block.part and most_seeds(block) >= FEWEST_SEEDS)


def _tested(content: Content, blocks: Sequence[Block]) -> Iterator[str]:
    """On what data and machines, and that no published accuracy was tested where no published data are there."""
    *most, last = dict.fromkeys(map(_titled, blocks))
    data = f"{', '.join(most)} and {last}" if most else last
    what = "Miniature networks" if all(map(miniature, blocks)) else "Networks"
    yield f"{what} were trained and tested on {data}."
    published = {_plain(name) for joined in content.joined for name in joined.table.dataset.split(",")}
    if not {_plain(block.dataset) for block in blocks} & published:
        yield "No published accuracy was tested: none of the published data sets is in the records."
    records = {part.path: part.record for block in content.found for run in block.runs for part in run.parts}
    stored = [one.environment for one in records.values()] + [one.record.environment for one in content.timed]
    gpu = sum(bool(environment.get("cuda")) for environment in stored)
    yield f"{gpu or 'None'} of the {len(stored)} records and timings {'is' if gpu < 2 else 'are'} from a GPU."


def _titled(block: Block) -> str:
    """A data set for people, with its task and the folds that were tested."""
    told = ", ".join(filter(None, (TASKS.get(block.answers or ""), block.part.removeprefix(", "))))
    return TITLES.get(block.dataset, block.dataset) + (f" ({told})" if told else "")


def _plain(name: str) -> str:
    """The name of a data set as both tables and records may write it."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _of_pair(content: Content, block: Block) -> tuple[Sequence[Experiment | None], list[ClaimResult]]:
    """The main row and its static one, and the claims on the one beside the other; none where there is no such pair."""
    rows = main_rows(block, [joined.table for joined in content.joined])
    if len(rows) < 2 or rows[0][0].id != rows[-1][0].id:
        return (), []
    (table, static), (_, row) = rows[0], rows[-1]
    results = next(joined.claims for joined in content.joined if joined.table is table)
    own = [result for result in results if (result.claim.row, result.claim.against) == (row, static)]
    return [table.row(id).experiment for id in (row, static)], own


def _pair(content: Content, block: Block) -> str:
    """What a block says of the main row beside its static one: multiply-adds and accuracy; "" where it says nothing."""
    experiments, own = _of_pair(content, block)
    wanted = ("cost_ratio", accuracies(block)[0])
    parts = [
        told for name in wanted for result in own if result.claim.statistic == name if (told := _told(result, block))
    ]
    return f"{' beside '.join(map(_named, experiments))}, {_where(block)}: {'; '.join(parts)}." if parts else ""


def _clocked(content: Content, block: Block) -> Iterator[str]:
    """The speed of the main row as it was trained, under its own decisions, on each machine that timed it there."""
    experiments, own = _of_pair(content, block)
    for result in (result for result in own if result.claim.statistic == "speed_ratio"):
        for item in (item for item in result.latest if item.block is block and not item.superseded):
            if item.judgement.interval and item.setting:
                yield (
                    f"Speed of {_named(experiments[0])} as trained, under its own decisions, {_where(block)}, "
                    f"{item.setting.workload}, {item.setting.device}: {_figure(result.claim, item)} of the static "
                    f"network; that it is faster: {item.judgement.verdict}."
                )


def _told(result: ClaimResult, block: Block) -> str:
    found = next((item for item in result.latest if item.block is block and not item.superseded), None)
    if found is None or found.judgement.interval is None:
        return ""
    said = _figure(result.claim, found)
    return f"{ABOUT.get(result.claim.statistic, result.claim.statistic)} {said}" + (
        f", published {result.printed}" if result.printed else ""
    )


def _figure(claim: Claim, item: Judged) -> str:
    interval, seeds = item.judgement.interval, text.seeds(item.judgement.seeds)
    assert interval is not None
    return f"{text.with_unit(interval.value, claim)} ({text.bounds(interval, claim)}, {seeds})"


def _named(one: Experiment | None) -> str:
    return described(one.method, one.options) if one else ""


def _where(block: Block) -> str:
    return f"on {block.dataset}{block.part} (profile {block.name})"


def _undecided(content: Content, block: Block) -> Iterator[str]:
    """What costs about as much and decides nothing does there."""
    for one in (one for one in content.undecided if one.block is block):
        found, cost = one.judgement.interval, one.cost.interval
        assert found is not None and cost is not None
        yield (
            f"The same, beside {_named(one.other)}, which decides nothing, at {text.fixed(cost.value)} of its cost: "
            f"{one.claim.statistic} {text.with_unit(found.value, one.claim)} ({text.bounds(found, one.claim)}, "
            f"{text.seeds(one.judgement.seeds)})."
        )


def _timed(lines: Sequence[SpeedLine]) -> Iterator[str]:
    """Of each machine the ratios at published operating points: networks that were not trained, decisions drawn."""
    machines: dict[tuple[Machine, str], list[SpeedRecord]] = {}
    settings: dict[Machine, Setting] = {}
    for line in lines:
        who, on = line.record.identity, setting(line.timing)
        if line.record.ratio and not who.own and not who.trained and who.policy.startswith("matched"):
            machines.setdefault((on.machine, on.precision), []).append(line.record)
            settings.setdefault(on.machine, on)
    for (machine, precision), found in machines.items():
        ratios = [one.ratio.value for one in found if one.ratio]
        span = " to ".join(dict.fromkeys(text.fixed(ratio, 2) for ratio in (min(ratios), max(ratios))))
        where = _machine(settings[machine], settings.values())
        yield (
            f"Speed at published operating points, full size, not trained, random decisions of the published cost, "
            f"{where}, {precision}: ×{span} of the static network ({_counted(found)})."
        )


def _machine(one: Setting, every: Collection[Setting]) -> str:
    """A machine by as little as tells it from the others of these."""
    if [other.device for other in every].count(one.device) == 1:
        return one.device
    alone = [other.where for other in every].count(one.where) == 1
    return one.where if alone else f"{one.where} ({one.origins})"


def _counted(found: Sequence[SpeedRecord]) -> str:
    """How many rows were timed, and at each size of batch."""
    rows: dict[int, set[str | None]] = {}
    for one in sorted(found, key=lambda one: one.identity.batch):
        rows.setdefault(one.identity.batch, set()).add(one.row)
    told = [f"{len(names)} row{'' if len(names) == 1 else 's'} in batches of {batch}" for batch, names in rows.items()]
    return ", ".join(told)
