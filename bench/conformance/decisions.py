"""Decisions: how they are accounted, and that they are followed, replayed ones and any combination."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bench.conformance.answers import differing, form, run, same
from bench.conformance.counting import run_counted, unlike
from bench.conformance.lines import Broken
from bench.cost import Counter
from bench.method import Method, Prediction, Trace
from bench.policy import Forced, everything, fixed, unheeded, zeros_decide


def _cheapest(method: Method) -> Forced:
    return fixed(method, {point: len(options) - 1 for point, options in method.decisions().items()})


def _bounds(method: Method, trace: Trace) -> tuple[int, int]:
    """Least and most that decisions can cost; where options are open side by side, all of them are the most."""
    decisions = method.decisions()
    low, high = (int(method.account(policy(method).trace)) for policy in (_cheapest, everything))
    if not all(_chosen(rows, decisions[point]) for point, rows in trace.items()):
        high = max(high, int(method.account({p: o.amax(0, keepdim=True) for p, o in decisions.items()})))
    return low, high


def _chosen(rows: Tensor, options: Tensor) -> bool:
    """Whether each row is one of the options, or zeros: not reached."""
    rows = rows.to(options).unsqueeze(1)
    return bool(((rows == options).flatten(2).all(2).any(1) | (rows == 0).flatten(1).all(1)).all())


def accounted(method: Method, first: Prediction) -> Iterator[str]:
    """`account` alone: its bounds, and the order of the options in it."""
    if not method.decisions():
        return
    with Counter(nn.Module()) as counter:
        cost = method.account(first.trace)
    if counter.result().macs:
        yield f"account runs {counter.result().macs:,} multiply-adds"
    if not torch.equal(cost, first.cost):
        yield "account(trace) differs from the cost of the prediction"
    low, high = _bounds(method, first.trace)
    if bool((cost < low).any() | (cost > high).any()):
        yield f"costs {cost.tolist()} leave the bounds of the cheapest and the dearest options, {low:,} and {high:,}"
    yield from _order(method)


def _order(method: Method) -> Iterator[str]:
    """Where everything else is computed, the first option of a point must cost the most, the last the least."""
    decisions = method.decisions()
    sizes = {point: len(options) for point, options in decisions.items()}
    table = {
        point: torch.cat([options if it == point else options[[0] * size] for it, size in sizes.items()])
        for point, options in decisions.items()
    }
    for point, costs in zip(decisions, torch.split(method.account(table), list(sizes.values())), strict=True):
        if bool((costs > costs[0]).any() | (costs < costs[-1]).any()):
            yield f"options at {point!r} are not listed from dearest to cheapest: {costs.tolist()}"


def replayed(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """The trace as decisions gives the same again, whatever is decided where a sample does not get to."""
    if not first.trace:
        return
    filled = {point: _filled(rows, method.decisions()[point]) for point, rows in first.trace.items()}
    if differing(first, run(method, sample, Forced(first.trace))):
        raise Broken("replaying its own trace gives another answer or cost")
    unreached = any(not torch.equal(rows, first.trace[point]) for point, rows in filled.items())
    if unreached and differing(first, run(method, sample, Forced(filled))):
        yield "decisions at points that the trace calls not reached change the answer, the cost or the trace"


def _filled(rows: Tensor, options: Tensor) -> Tensor:
    """The dearest option in place of rows of zeros, unless zeros are themselves an option."""
    nothing = (rows == 0).flatten(1).all(1).view(-1, *(1,) * (rows.dim() - 1))
    return rows if zeros_decide(options) else torch.where(nothing, options[:1].to(rows), rows)


def _mixture(method: Method, batch: int) -> Forced:
    """Everything for sample 0, the cheapest options for sample 1, for each other sample options drawn at random."""
    generator, trace = torch.Generator().manual_seed(0), {}
    for point, options in method.decisions().items():
        choice = torch.randint(len(options), (batch,), generator=generator)
        choice[:2] = torch.tensor([0, len(options) - 1])
        trace[point] = options[choice]
    return Forced(trace)


def forced(method: Method, sample: Tensor) -> Iterator[str]:
    """Different decisions in one batch: honoured, paid for, and the same for each sample in a smaller batch."""
    if not method.decisions():
        return
    rows = torch.arange(max(4, len(sample)))
    sample, policy = sample[rows % len(sample)], _mixture(method, len(rows))
    prediction, executed = run_counted(method, sample, policy)
    yield from form(method, prediction, len(sample))
    for line in unlike(method, prediction, executed, None if method.exact else executed[0]):
        yield f"under forced decisions {line}"
    if not torch.equal(method.account(prediction.trace), prediction.cost):
        yield "under forced decisions account(trace) differs from the cost of the prediction"
    yield from _followed(method, policy, prediction)
    others = run(method, sample[1:], policy.rows(rows[1:]))
    if not all(same(prediction, row + 1, others, row) for row in range(len(sample) - 1)):
        yield "under forced decisions a sample gets another answer or cost in another batch"


def _followed(method: Method, policy: Forced, prediction: Prediction) -> Iterator[str]:
    """Whether an answer follows what is forced, at the cost that `account` gives of what is forced."""
    wanted = policy.rows(torch.arange(len(prediction.cost))).trace
    for point in unheeded(method, wanted, prediction.trace):
        yield f"does not follow the decisions forced at {point!r}"
    if not torch.equal(method.account(wanted), prediction.cost):
        yield "account(decisions) of the decisions that are forced differs from the cost of the prediction"


def alike(method: Method, sample: Tensor) -> Iterator[str]:
    """The same decisions for all samples, as one row and as a row for each: everything, and the cheapest options."""
    if not method.decisions():
        return
    for policy in (everything(method), _cheapest(method)):
        prediction, each = (run(method, sample, one) for one in (policy, policy.rows(torch.arange(len(sample)))))
        yield from _followed(method, policy, prediction)
        if differing(prediction, each):
            yield "decisions forced as one row for all give another answer or cost than as a row for each"
