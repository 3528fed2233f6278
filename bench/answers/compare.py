"""What `compare` answers: a method's figures, and verdicts beside every other method and on a table's claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.accuracy.intervals import Interval
from bench.answers.table import print_table
from bench.profiles import Profile
from bench.registry import WEIGHTS, by_content
from bench.tables.block import Block
from bench.tables.blocks import blocks
from bench.tables.comparison import Control, Line, compare, described
from bench.tables.join import join
from bench.tables.newcomer import is_new, with_method
from bench.tables.schema import Claim, Experiment, Table
from bench.tables.speeds import Setting, Timed
from bench.tables.standing import Standing, standings
from bench.tables.starts import by_start
from bench.tables.timings import Timing, timings
from bench.tables.verdicts import Judgement

UNITS = {"cost_ratio": "cost ratio", "speed_ratio": "speed ratio"}
"""Of statistics that are no difference in points."""


def answer(
    method: str,
    options: Mapping[str, Any],
    profile: Profile,
    frames: Sequence[int],
    table: Table | None,
    stores: Sequence[tuple[str, Path]],
) -> dict[str, Any]:
    """Everything that the records say of a method at these frames under a profile, as JSON has it.

    Broken records are left out; the report, which comes with this answer, names them.

    Raises:
        OSError: weights to start from cannot be read.
    """
    broken: list[str] = []
    recorded = by_content(method, options)
    start = recorded.pop(WEIGHTS, None)
    found, timed = by_start(blocks(stores, broken)), timings(stores, broken)
    alike = [one for one in found if one.under(profile) and one.starts.get(method.rpartition("/")[2]) == start]
    forms = []
    for count in frames:
        own = Experiment.model_construct(method=method, options=recorded, frames=count)
        forms += [_form(own, block, timed, table) for block in alike if block.of(own)]
    return {
        "method": method,
        "options": dict(options),
        "profile": profile.name,
        "smoke": profile.smoke,
        "conformance": [],
        "forms": forms,
    }


def _form(own: Experiment, block: Block, timed: Sequence[Timing], table: Table | None) -> dict[str, Any]:
    """The method at one number of frames, in one block; own: without the weights that it started from there."""
    revision, asked = block.latest(own), block.asked(own)
    assert revision is not None
    form = {"frames": own.frames, "dataset": block.dataset, "block": block.name, "revision": revision}
    if not block.done(own, revision):
        return {**form, "seeds": [], "reason": block.reason(own, revision)}
    lines = compare(block, own.frames, timed)
    line = next(line for line in lines if (line.method, line.options) == (asked.method, asked.options))
    beside = [_standing(found) for found in standings(block, asked, timed)]
    claims = _claims(table, own, block, timed) if table else []
    return {**form, "seeds": sorted(block.done(own, revision)), **_figures(line), "beside": beside, "claims": claims}


def _figures(line: Line) -> dict[str, Any]:
    average, maximum, minimum = line.gflops
    return {
        "parameters": line.parameters,
        "accuracies": {name: _interval(found) for name, found in line.accuracies.items() if found},
        "gflops": {"average": average, "maximum": maximum, "minimum": minimum},
        "executed_over_accounted": _number(line.executed),
        "controls": [_control(control) for control in line.controls],
        "speed_unit": line.unit,
        "timed_against": line.against,
        "speeds": [_timed(one) for one in line.speeds],
        "not_timed": line.why_not,
    }


def _control(control: Control) -> dict[str, Any]:
    """The learned policy minus a control, in points, at `cost` times its own cost."""
    verdict = {"verdict": control.verdict, "reason": control.reason}
    return {"control": control.name, "gain": _interval(control.gain), "cost": _number(control.cost), **verdict}


def _standing(found: Standing) -> dict[str, Any]:
    verdicts = [
        {"question": one.question, "statistic": one.statistic, **_judgement(one.judgement, one.setting)}
        for one in found.answers
    ]
    who = {"against": found.against.method, "options": found.against.options}
    return {**who, "verdicts": verdicts, "speeds": [_timed(one) for one in found.speeds], "not_timed": found.why_not}


def _claims(table: Table, own: Experiment, block: Block, timed: Sequence[Timing]) -> list[dict[str, Any]]:
    """The table's claims with the method in the place of the row that each is about."""
    joined = join(with_method(table, own.method, [block]), [block], timed)
    rows = {row.id for row in joined.table.rows if is_new(row.id) and row.experiment == own}
    return [
        {"table": table.id, **_claim(result.claim, table), **_judgement(judged.judgement, judged.setting)}
        for result in joined.claims
        if result.claim.row in rows
        for judged in result.latest
    ]


def _claim(claim: Claim, table: Table) -> dict[str, Any]:
    run = table.row(claim.against).experiment if claim.against else None
    against = described(run.method, run.options) if run else None
    margin = {"relation": claim.relation, "margin": claim.margin}
    return {"text": claim.text, "statistic": claim.statistic, "against": against, **margin}


def _judgement(found: Judgement, setting: Setting | None) -> dict[str, Any]:
    timed = {"timed": setting.text} if setting else {}
    verdict = {"verdict": found.verdict, "reason": found.reason, "seeds": found.seeds}
    return {**(_interval(found.interval) or {}), **verdict, **timed}


def _timed(one: Timed) -> dict[str, Any]:
    return {**(_interval(one.found) or {}), "ratio": _interval(one.ratio), "timed": one.setting.text}


def _interval(found: Interval | None) -> dict[str, float | None] | None:
    return None if found is None else {key: _number(value) for key, value in found._asdict().items()}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def print_compare(found: Mapping[str, Any]) -> None:
    """A line for each other method, then one for each claim of the table; the notes that verdicts point to."""
    for form in found["forms"]:
        title = f"{found['method']}, {form['frames']} frames, {form['dataset']}"
        if "reason" in form:
            print(f"{title}: {form['reason']}")
            continue
        figures = [f"{name} {found['value']:.1f} %" for name, found in form["accuracies"].items()]
        figures.append(f"{form['gflops']['average']:.4g} GFLOPs")
        print(f"{title}, seeds {', '.join(map(str, form['seeds']))}: {', '.join(figures)}")
        shown = [one for other in form["beside"] for one in _three(other)] + form["controls"] + form["claims"]
        notes = {why: n for n, why in enumerate(dict.fromkeys(one["reason"] for one in shown if one["reason"]), 1)}
        if form["beside"]:
            heads = [
                f"{one['question']} ({UNITS.get(one['statistic'], 'points')})" for one in _three(form["beside"][0])
            ]
            print_table(
                ["beside", *heads], [[_who(one), *(_told(it, notes) for it in _three(one))] for one in form["beside"]]
            )
        if form["controls"]:
            heads = ["control", "learned decisions are more accurate (points)", "its cost over theirs"]
            print_table(heads, [[one["control"], _gain(one, notes), _cost(one["cost"])] for one in form["controls"]])
        if form["claims"]:
            print_table(["claim", "verdict"], [[one["text"], _told(one, notes)] for one in form["claims"]])
        for why, number in notes.items():
            print(f"[{number}] {why}")
    print(found["report"])


def _three(other: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One verdict a question: of speeds the first machine's."""
    return list({one["question"]: one for one in reversed(other["verdicts"])}.values())[::-1]


def _who(other: Mapping[str, Any]) -> str:
    return described(other["against"], other["options"])


def _gain(control: Mapping[str, Any], notes: Mapping[str, int]) -> str:
    return _told({**(control["gain"] or {}), "verdict": control["verdict"], "reason": control["reason"]}, notes)


def _cost(ratio: float | None) -> str:
    """Nothing is known of what a control that was not run would cost."""
    return "\u2013" if ratio is None else f"{ratio:.3f}"


def _told(verdict: Mapping[str, Any], notes: Mapping[str, int]) -> str:
    """A verdict with the number of the note that says why, and the figure behind it."""
    why = f" [{notes[verdict['reason']]}]" if verdict["reason"] else ""
    if "value" not in verdict:
        return f"{verdict['verdict']}{why}"
    span = "" if verdict["low"] is None else f" ({verdict['low']:.3g} to {verdict['high']:.3g})"
    return f"{verdict['verdict']}{why}: {verdict['value']:.3g}{span}"
