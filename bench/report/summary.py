"""What a reader should know first: the claims that were judged, under the few questions that they answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report import text
from bench.report.content import Content
from bench.report.views.printed import anchor, claim_key, compared, label
from bench.tables.beside import Beside
from bench.tables.block import Block
from bench.tables.claims import ClaimResult, Judged
from bench.tables.comparison import CONTROLS, TOLERANCE, described
from bench.tables.newcomer import is_new
from bench.tables.schema import Claim, Table
from bench.tables.timings import Timing, learned
from bench.tables.verdicts import Judgement, Verdict

QUESTIONS = {
    "saves": "Does it compute less than the static network?",
    "loss": "At no loss?",
    "faster": "Is it faster on the clock?",
    "input": "Does the cost follow the input?",
    "pays": "Does deciding pay?",
    "controls": "Are the decisions about the clip?",
    "others": "Against other methods",
    "parts": "Its parts, options and losses",
    "starts": "Does starting from stored weights help?",
    "longer": "Does longer training help?",
    "analysis": "Redundancy of features",
}
"""The questions in the order of the page."""

_NOTES = {
    "pays": "Our own question, not the paper's: beside static networks of about its cost, seed by seed.",
    "starts": "Our own question: beside the same networks from weights as drawn, seed by seed, all else the same.",
    "longer": "Our own question: beside the same networks after fewer epochs, seed by seed, all else the same.",
    "controls": "Controls of VA-RED² deal the weights of open options along with the decisions, and a network may fail"
    " by these alone; where “own weights” stands, only which options are open is dealt. A network can fail under"
    " decisions of a kind it never met in training, even if its own do not depend on the clip. Gains over such a"
    " control say little; where they are of single elements and the control's of whole layers, they count as open.",
}
"""What is to be known of a question's findings."""

_ASKED = {
    "speed_ratio": "faster",
    "cost_spread": "input",
    "motion": "input",
    "difficulty": "input",
    "class_spread": "input",
    "layer_spread": "input",
    "class_range": "input",
    "reduction": "saves",
    "RP": "analysis",
    "redundancy_motion": "analysis",
    "redundancy_object": "analysis",
}
"""The question that a statistic answers, whatever is compared."""


@dataclass(frozen=True)
class Finding:
    """One judged statement, in words.

    subject: the method it is about, for people; method: its name in records. figure, interval: as shown; margin: what
    was stated beforehand. on: data set and seeds, or machine. block, machine: by which the page filters, "" for any.
    link: where it stands in the page, and `place` what that is called. superseded: by a later revision.
    """

    text: str
    subject: str
    method: str
    verdict: Verdict
    figure: str
    interval: str
    margin: str
    on: str
    link: str
    place: str
    reason: str = ""
    seeds: int = 0
    block: str = ""
    machine: str = ""
    superseded: bool = False


@dataclass(frozen=True)
class Question:
    """A question with what answers it, most telling first."""

    id: str
    title: str
    findings: Sequence[Finding]

    @property
    def note(self) -> str:
        """What is to be known of the findings, "" where that is nothing."""
        return _NOTES.get(self.id, "")

    @property
    def tally(self) -> Counter[str]:
        """How many of the findings that nothing supersedes have which verdict."""
        return Counter(finding.verdict for finding in self.findings if not finding.superseded)


def summary(content: Content) -> list[Question]:
    """The questions that something answers: every claim once for each block of records, and each machine.

    Tables may share a claim. Most telling is what was seen at full size, then what has most seeds; what a later
    revision under the same profile supersedes comes last.
    """
    found: dict[str, dict[tuple[object, ...], Finding]] = {id: {} for id in QUESTIONS}
    for joined in content.joined:
        for result in joined.claims:
            lines = [_in_block(joined.table, result.claim, item, content.timed) for item in _with_interval(result)]
            for finding in [*_at_points(joined.table, result), *lines]:
                key = (*claim_key(joined.table, result.claim), finding.figure, finding.interval, finding.on)
                found[_question(joined.table, result.claim)].setdefault(key, finding)
    for id, finding in [*_own_claims(content), *_controlled(content)]:
        found[id][finding.text, finding.subject, finding.on] = finding
    told = {id: sorted(findings.values(), key=_rank) for id, findings in found.items()}
    return [Question(id, title, told[id]) for id, title in QUESTIONS.items() if told[id]]


def counts(questions: Sequence[Question], block: str) -> Counter[str]:
    """How many of what is counted in all, under the questions, is from a block; "": from published operating points."""
    found = [one for question in questions for one in question.findings if one.block == block and not one.superseded]
    return Counter(one.verdict for one in found)


def superseded(questions: Sequence[Question], block: str) -> int:
    """How many findings from a block a later revision supersedes: listed, not counted."""
    return sum(one.superseded for question in questions for one in question.findings if one.block == block)


def _rank(finding: Finding) -> tuple[bool, bool, int]:
    return finding.superseded, not finding.machine, -finding.seeds


def _at_points(table: Table, result: ClaimResult) -> Iterator[Finding]:
    for setting, judgement in result.points:
        if judgement.interval is not None and setting:
            on = f"full size, not trained, decisions drawn to the published cost; {setting.text}"
            yield _finding(table, result.claim, judgement, on, machine=setting.where)


def _with_interval(result: ClaimResult) -> list[Judged]:
    return [item for item in result.latest if item.judgement.interval is not None]


def _in_block(table: Table, claim: Claim, item: Judged, timed: Sequence[Timing]) -> Finding:
    on = _on(item.block, item.judgement.seeds)
    if item.setting:
        stated = [one.record.protocol.get("dataset_options", {}) for one in learned(timed, item.block)]
        folds = sorted({str(options["fold"]) for options in stated if "fold" in options})
        on += f"; {item.setting.text}" + (f", timed in fold {' and '.join(folds)}" if folds else "")
    return _finding(table, claim, item.judgement, on, block=item.block.name, superseded=item.superseded)


def _on(block: Block, seeds: int) -> str:
    return f"{block.dataset}{block.part}, profile {block.name}, {text.seeds(seeds)}"


def _question(table: Table, claim: Claim) -> str:
    """Which question a claim answers: against its static network, itself with other options, or another method.

    What a table claims of a new method is of it beside a plain network, which need not be under it.
    """
    if claim.statistic in _ASKED:
        return _ASKED[claim.statistic]
    if is_new(claim.row):
        return "saves" if claim.statistic == "cost_ratio" else "loss"
    own, other = (table.row(id).experiment if id else None for id in (claim.row, claim.against))
    if own is None or other is None:
        return "others"
    if own.method == other.method:
        return "parts"
    if own.method.partition("/")[2] != other.method:
        return "others"
    return "saves" if claim.statistic == "cost_ratio" else "loss"


def _finding(
    table: Table,
    claim: Claim,
    judgement: Judgement,
    on: str,
    *,
    block: str = "",
    machine: str = "",
    superseded: bool = False,
) -> Finding:
    assert judgement.interval is not None
    own = table.row(claim.row).experiment
    return Finding(
        text=claim.text,
        subject=described(own.method, own.options) if own else "",
        method=own.method if own else "",
        verdict=judgement.verdict,
        figure=text.with_unit(judgement.interval.value, claim),
        interval=text.bounds(judgement.interval, claim),
        margin=text.margin(claim),
        on=on,
        link=anchor(table.id, claim.id),
        place=label(table),
        reason=judgement.reason,
        seeds=judgement.seeds,
        block=block,
        machine=machine,
        superseded=superseded,
    )


def _own_claims(content: Content) -> Iterator[tuple[str, Finding]]:
    """What no table claims: beside what decides nothing, of a part that is left out, a start, longer training."""
    for one in content.undecided:
        yield "pays", _beside(one, f"at least as accurate as {described(one.other.method, one.other.options)}")
    for one in content.ablated:
        other = described(one.other.method, one.other.options)
        yield "parts", _beside(one, f"no loss of more than one point of {one.claim.statistic} to {other}")
    for one in content.gains:
        yield "starts", _beside(one, f"{text.frames(one.own.frames)}: more accurate than from weights as drawn")
    for one in content.longer:
        now, before = (block.told.recipe.epochs for block in (one.block, one.where) if block.told)
        than = f"more accurate after {now} epochs than after {before}"
        yield "longer", _beside(one, f"{text.frames(one.own.frames)}: {than}")


def _beside(one: Beside, claimed: str) -> Finding:
    found, ratio = one.judgement.interval, one.cost.interval
    assert found is not None and ratio is not None
    cost = f"{text.fixed(ratio.value)} of the cost" + (f" ({told})" if (told := text.between(ratio, 3)) else "")
    return Finding(
        text=claimed,
        subject=described(one.own.method, one.own.options),
        method=one.own.method,
        verdict=one.judgement.verdict,
        figure=text.with_unit(found.value, one.claim),
        interval=text.bounds(found, one.claim),
        margin=f"{text.margin(one.claim)}, at {cost}",
        on=_on(one.block, one.judgement.seeds),
        link="comparison",
        place="Comparison",
        reason=one.judgement.reason,
        seeds=one.judgement.seeds,
        block=one.block.name,
        superseded=one.block.superseded(one.own.method, one.revision),
    )


def _controlled(content: Content) -> Iterator[tuple[str, Finding]]:
    """Whether learned decisions beat those that do not look at the clip; controls of about the same cost first.

    All gates on is no such decision: it tells what the savings cost.
    """
    for number, (block, frames, lines) in enumerate(content.compared):
        for line in (line for line in lines if not block.sharing(line.runs)):  # what another block has counts there
            blind = [control for control in line.controls if control.name != CONTROLS["all"]]
            scored = [control for control in blind if control.gain is not None]
            for control in sorted(scored, key=lambda control: abs(control.cost - 1) > TOLERANCE):
                assert control.gain is not None
                cost = f"the control at {text.fixed(control.cost, 2)} of its cost"
                yield (
                    "controls",
                    Finding(
                        text=f"{text.frames(frames)}: better than {control.name}",
                        subject=line.name,
                        method=line.method,
                        verdict=control.verdict,
                        figure=f"{text.points(control.gain, '+')} points",
                        interval=text.span(control.gain, "+") or "no interval",
                        margin=f"{control.of}, difference > 0 points, {cost}",
                        on=_on(block, control.seeds),
                        link=compared(number),
                        place="Comparison",
                        reason=control.reason,
                        seeds=control.seeds,
                        block=block.name,
                        superseded=block.superseded(line.method, line.runs[0].record.identity.method_revision),
                    ),
                )
