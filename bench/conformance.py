"""What every method must keep to, the ones of others included: each broken promise as one line."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.cost import Counter, CountError
from bench.method import Method, Prediction, Recipe
from bench.policy import Forced


def check(method: Method, sample: Tensor) -> list[str]:
    """Runs a method in evaluation on `sample` (B ≥ 2, of its InputSpec) every way it may be run; lists what is wrong.

    - the answer has its documented form; costs are positive integers;
    - the accounted cost of every sample is what the dispatcher saw executed for it;
    - answers depend on the sample alone: not on its place in the batch, its neighbours, or what ran before;
    - the input is not changed; a replayed trace gives the same answer, and `account` its cost;
    - the stages' epochs add up to the recipe's.
    """
    method.eval()
    with torch.no_grad():
        given = sample.clone()
        first = method(given)
        problems = _form(first, len(sample))
        if problems:
            return problems
        if not torch.equal(given, sample):
            problems.append("forward changes its input")
        problems += _cost(method, sample, first)
        problems += _neighbours(method, sample, first)
        problems += _replay(method, sample, first)
    epochs = sum(stage.epochs for stage in method.stages(Recipe(epochs=7)))
    if epochs != 7:
        problems.append(f"stages of a recipe of 7 epochs take {epochs}")
    return problems


def _form(prediction: Prediction, batch: int) -> list[str]:
    if not isinstance(prediction, Prediction):
        return [f"forward gives {type(prediction).__name__}, not a Prediction"]
    problems = []
    cost = prediction.cost
    if cost.shape != (batch,) or cost.dtype != torch.int64 or bool((cost <= 0).any()):
        problems.append(f"cost must be {batch} positive int64, got {cost.dtype} of shape {tuple(cost.shape)}")
    kinds = [prediction.logits, prediction.boxes, prediction.masks]
    if sum(kind is not None for kind in kinds) != 1:
        problems.append("a prediction needs exactly one of logits, boxes and masks")
    elif any(kind is not None and len(kind) != batch for kind in kinds):
        problems.append(f"the answer must have one entry for each of {batch} samples")
    problems += [
        f"trace {point!r} has {len(rows)} rows" for point, rows in prediction.trace.items() if len(rows) != batch
    ]
    return problems


def _cost(method: Method, sample: Tensor, first: Prediction) -> list[str]:
    """Accounted against executed, sample by sample; and the same answer whether it is counted or not."""
    try:
        with Counter(method, batch=len(sample)) as counter:
            prediction = method(sample.clone())
        executed = counter.result().per_sample
    except CountError as error:
        return [str(error)]
    if not all(_close(_rows(first, row), _rows(prediction, row)) for row in range(len(sample))):
        return ["gives another answer or cost while it is counted"]
    pairs = list(zip(prediction.cost.tolist(), executed, strict=True))
    wrong = [f"sample {row}: accounts {a:,}, executes {e:,}" for row, (a, e) in enumerate(pairs) if a != e]
    return (
        [f"cost is not what runs: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")] if wrong else []
    )


def _neighbours(method: Method, sample: Tensor, first: Prediction) -> list[str]:
    """Reversed and one by one, every sample must get its own answer again."""
    reverse = method(sample.flip(0).clone())
    alone = [method(sample[row : row + 1].clone()) for row in range(len(sample))]
    problems = []
    for row in range(len(sample)):
        wanted = _rows(first, row)
        for name, found in (
            ("in reversed order", _rows(reverse, len(sample) - 1 - row)),
            ("alone", _rows(alone[row], 0)),
        ):
            if not _close(wanted, found):
                problems.append(f"sample {row} gets another answer or cost {name}")
    return problems[:1]


def _rows(prediction: Prediction, row: int) -> list[Tensor]:
    parts = [part[row] for part in (prediction.logits, prediction.masks, prediction.boxes) if part is not None]
    return [*parts, prediction.cost[row]]


def _close(one: list[Tensor], other: list[Tensor]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def _replay(method: Method, sample: Tensor, first: Prediction) -> list[str]:
    if not first.trace:
        return ["decisions() names points, but the trace is empty"] if method.decisions() else []
    again = method(sample.clone(), Forced(first.trace))
    problems = []
    if not all(_close(_rows(first, row), _rows(again, row)) for row in range(len(sample))):
        problems.append("replaying its own trace gives another answer or cost")
    if not torch.equal(method.account(first.trace), first.cost):
        problems.append("account(trace) differs from the cost of the prediction")
    return problems
