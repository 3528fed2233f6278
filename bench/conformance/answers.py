"""What an answer must look like, and when two are the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.conformance.lines import Broken
from bench.method import Method, Prediction
from bench.policy import Policy


def run(method: Method, sample: Tensor, policy: Policy | None = None) -> Prediction:
    """One pass over a copy of `sample`."""
    given = sample.clone()
    prediction: Prediction = method(given, policy)
    if not torch.equal(given, sample):
        raise Broken("forward changes its input")
    return prediction


def form(method: Method, prediction: Any, batch: int) -> Iterator[str]:
    """Whether an answer is what `bench.method` says of it."""
    if not isinstance(prediction, Prediction):
        raise Broken(f"forward gives {type(prediction).__name__}, not a Prediction")
    cost = prediction.cost
    if cost.shape != (batch,) or cost.dtype != torch.int64 or bool((cost <= 0).any()) or cost.device.type != "cpu":
        yield f"cost must be {batch} positive int64 on the CPU, got {cost.dtype} of shape {tuple(cost.shape)}"
    kinds = [prediction.logits, prediction.boxes, prediction.masks]
    if sum(kind is not None for kind in kinds) != 1:
        yield "a prediction needs exactly one of logits, boxes and masks"
    elif not _shaped(prediction, batch):
        yield f"logits must be (B, K), masks (B, K, H, W), boxes (n, 7) for each sample, and B is {batch}"
    elif not all(bool(part.isfinite().all()) for row in range(batch) for part in parts_of(prediction, row)):
        yield "the answer is not finite"
    decisions = method.decisions()
    if prediction.trace.keys() != decisions.keys():
        yield f"only one of trace and decisions() names {sorted(prediction.trace.keys() ^ decisions.keys())[:3]}"
        return
    for point, rows in prediction.trace.items():
        yield from _trace_form(point, rows, decisions[point], batch)


def _shaped(prediction: Prediction, batch: int) -> bool:
    if prediction.boxes is not None:
        each = all(boxes.dim() == 2 and boxes.shape[1] == 7 for boxes in prediction.boxes)
        return len(prediction.boxes) == batch and each
    dense, dims = (prediction.logits, 2) if prediction.masks is None else (prediction.masks, 4)
    return dense is not None and dense.dim() == dims and len(dense) == batch


def _trace_form(point: str, rows: Tensor, options: Tensor, batch: int) -> Iterator[str]:
    """(B, options), at most 8 of them, or (B, ...) of gates that an option of `decisions()` broadcasts to."""
    if len(rows) != batch:
        yield f"trace {point!r} has {len(rows)} rows for {batch} samples"
    elif rows.dim() != options.dim() or any(
        o not in (1, r) for r, o in zip(rows[0].shape, options[0].shape, strict=True)
    ):
        yield f"trace {point!r} has shape {tuple(rows.shape)}, its options {tuple(options.shape)}"
    elif rows.dim() == 2 and rows.shape[1] > 8:
        yield f"trace {point!r} has {rows.shape[1]} options, more than 8 cannot be stored"
    elif not rows.is_floating_point() or not bool((rows.isfinite() & (rows >= 0)).all()):
        yield f"trace {point!r} must hold finite floats, none below zero"


def parts_of(prediction: Prediction, row: int) -> list[Tensor]:
    """What is answered for one sample, whichever kind of answer it is."""
    return [part[row] for part in (prediction.logits, prediction.masks, prediction.boxes) if part is not None]


def same(one: Prediction, row: int, other: Prediction, its_row: int) -> bool:
    """Whether two answers agree in a row each: to rounding, at the same cost, by the same decisions."""
    pairs = list(zip(parts_of(one, row), parts_of(other, its_row), strict=True))
    pairs += [(one.trace[point][row], other.trace[point][its_row]) for point in one.trace]
    close = all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
    return close and bool(one.cost[row] == other.cost[its_row])


def differing(one: Prediction, other: Prediction) -> list[int]:
    """The rows in which two predictions for the same samples do not agree."""
    return [row for row in range(len(one.cost)) if not same(one, row, other, row)]
