"""Evaluation: accuracy under the stated views, and the cost and decisions of every sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.accuracy.intervals import Interval
from bench.cost import Counter, CountError
from bench.data.sampling import Sampling, chosen_rows, test_batches
from bench.data.split import DataError, Split, annotated
from bench.distributed import agree_on_left_out, in_turns
from bench.flow import to_device
from bench.memory import Halving
from bench.method import Batch, Method, Trace
from bench.policy import Learned, Policy
from bench.profiles import Views
from bench.scoring import SCORINGS, Scoring
from bench.scoring.base import Pass

COUNTED = 64
"""Samples whose work is counted, at least."""

ALONE = 8
"""Samples that are also scored each on its own."""


@dataclass(frozen=True)
class Scored:
    """One row a test sample, figures as shares of 1, and multiply-adds that ran beside those accounted: see `score`.

    together: of the centre samples, those that were computed at once in the end, fewer than asked for where memory did
    not suffice.
    """

    samples: pd.DataFrame
    figures: Mapping[str, Interval]
    executed: dict[str, int]
    together: int


def scoring_of(split: Split) -> Scoring:
    """How answers are scored on a split: as classes, boxes or masks."""
    found = annotated(split)
    return SCORINGS[found.task if found else "classes"]


@torch.no_grad()
def score(
    method: Method,
    split: Split,
    sampling: Sampling,
    views: Views,
    *,
    batch: int | None = None,
) -> Scored:
    """Accuracy, cost and decisions of a trained method on a split; `batch` samples together, by default as scored.

    samples: index, group, target, the columns of `bench.scoring`, cost (multiply-adds of the centre sample),
    attribute.*, decision.* . figures: clip-1, mAP, mIoU, ...
    executed: multiply-adds that ran, and that were accounted, on rows from all over the split, together as evaluated.

    Raises:
        CountError: an operation has no formula, a method accounts something else than what runs, or answers and costs
            depend on the size of the batch or on being counted.
        TrainingError: the logits are not finite.
        MemoryShortError: memory does not suffice for a single sample.
        DataError: none of the videos asked for can be read, or too many cannot, in all processes together.
    """
    method.eval()
    scoring = scoring_of(split)
    rows = chosen_rows(split, views.clip_videos)
    found = follow(method, split, sampling, rows, Learned(), batch)
    cost, rows = found.cost, found.rows
    about = {"index": rows, "group": split.groups[rows].astype(str), "target": split.targets[rows]}
    table = pd.DataFrame({**about, **found.columns})
    further = scoring.further(method, Pass(split, sampling, views, batch or scoring.together))
    if further:
        table = table.merge(further[0], on="index", how="left")
    figures = {**scoring.figures(table), **(further[1] if further else {})}  # the main one of its task is the first
    table["cost"] = cost
    ran = _counted(method, split, sampling, found)
    _alone(method, split, sampling, found)
    return Scored(pd.concat([table, _beside(split, found)], axis=1), figures, ran, found.together)


def _counted(method: Method, split: Split, sampling: Sampling, found: Followed) -> dict[str, int]:
    """What ran on samples from all over `found`, in batches as large as its own: see `executed`.

    Another batch rounds differently, which can turn a decision or an answer or two.

    Raises:
        CountError: see `executed`; or their costs or answers are others while they are counted.
    """
    places = np.linspace(0, len(found.rows) - 1, min(max(COUNTED, found.together), len(found.rows))).astype(int)
    ran, right = executed(method, split, sampling, found.rows[places], found.together)
    places = places[np.isin(found.rows[places], list(right))]  # a video that is unreadable by now is left out
    told = int(found.cost[places].sum())
    other = np.abs([right[row] for row in found.rows[places].tolist()] - found.right[places]) > 0.01
    if abs(ran["accounted"] - told) > 0.01 * told:
        raise CountError(f"the method accounts {ran['accounted']:,} multiply-adds while it is counted, else {told:,}")
    if 10 * other.sum() > len(places):
        raise CountError(f"{other.sum()} of {len(places)} samples get another answer while they are counted")
    return ran


def _alone(method: Method, split: Split, sampling: Sampling, found: Followed) -> None:
    """Holds samples from all over what was followed, each on its own, against their answer and cost in batches.

    A batch of another size rounds differently, which turns a decision or an answer of some, in bf16 of several; and
    where every feature has a gate of its own, as in CGNet, the cost of all a little.

    Raises:
        CountError: most of them get another answer, or a cost that is further away than 1 %.
    """
    places = np.linspace(0, len(found.rows) - 1, min(ALONE, len(found.rows))).astype(int)
    alone = follow(method, split, sampling, found.rows[places], Learned(), 1)
    places = places[np.isin(found.rows[places], alone.rows)]  # a video that is unreadable by now is left out
    cost = found.cost[places]
    other = (np.abs(alone.cost - cost) > 0.01 * cost) | (np.abs(alone.right - found.right[places]) > 0.01)
    if 2 * other.sum() > len(places):
        raise CountError(f"{other.sum()} of {len(places)} samples get another answer or cost alone than in a batch")


def _beside(split: Split, found: Followed) -> pd.DataFrame:
    """The columns attribute.* and decision.*."""
    decided = pd.DataFrame({f"decision.{point}": stored(decided) for point, decided in found.trace.items()})
    return pd.concat([attributes(split, found.rows), decided], axis=1)


def attributes(split: Split, rows: NDArray[np.int64]) -> pd.DataFrame:
    """The columns attribute.*: what the data set says of samples, in small numbers, as they ship."""
    told = split.attributes.iloc[rows].reset_index(drop=True).add_prefix("attribute.")
    return told.astype(dict.fromkeys(told.select_dtypes("float"), np.float32))


@dataclass(frozen=True)
class Followed:
    """Centre samples under a policy: their columns (`bench.scoring`), the cost of each, and the decisions followed.

    rows: of the split, those whose videos could be read. right: the column that says how right each is, 0..1.
    together: samples computed at once in the end.
    """

    rows: NDArray[np.int64]
    columns: Mapping[str, Any]
    right: NDArray[np.float32]
    cost: NDArray[np.int64]
    trace: Trace
    together: int


@torch.no_grad()
def follow(
    method: Method, split: Split, sampling: Sampling, rows: NDArray[np.int64], policy: Policy, batch: int | None = None
) -> Followed:
    """The centre samples of `rows` under a policy; of gates as masks only the share that is open is kept, (B, 1).

    Raises:
        DataError: none of them can be read, or too many of the set cannot.
    """
    method.eval()
    scoring, columns, whole = scoring_of(split), dict[str, list[Any]](), dict[str, Tensor]()
    cost = np.zeros(len(rows), np.int64)

    def answer(item: Batch) -> tuple[list[int], dict[str, list[Any]], NDArray[np.int64], Trace]:
        item = to_device(item, method.device)
        prediction = method(item.sample, policy.rows(item.index))
        trace = {point: kept(decided).cpu() for point, decided in prediction.trace.items()}
        return item.index.tolist(), scoring.centre(prediction, item.target), prediction.cost.cpu().numpy(), trace

    batch = batch or scoring.together
    batches = _centres(method, split, sampling, rows, batch)
    read, answers = list[int](), Halving("evaluation", answer)
    for index, found, macs, trace in chain.from_iterable(in_turns(batches, answers)):
        span = slice(len(read), len(read) + len(index))
        read += index
        for name, values in found.items():
            columns.setdefault(name, []).extend(values)
        cost[span] = macs
        _put(whole, span, trace, len(rows))
    agree_on_left_out(split)
    if not read:
        raise DataError(f"none of the {len(rows)} videos asked for can be read")
    order = np.argsort(read, kind="stable")  # of several processes' batches one may have been unreadable as a whole
    columns = {name: [values[place] for place in order] for name, values in columns.items()}
    trace = {point: decided[: len(read)][order] for point, decided in whole.items()}
    right = np.asarray(columns[scoring.main], np.float32)
    about: dict[str, Any] = {**columns, scoring.main: right}
    return Followed(np.asarray(read)[order], about, right, cost[: len(read)][order], trace, answers.most(batch))


def _centres(
    method: Method, split: Split, sampling: Sampling, rows: NDArray[np.int64], batch: int
) -> Callable[[int, int], Iterator[Batch]]:
    """The centre samples of `rows`, for one process of several: given (rank, size)."""
    return lambda rank, size: test_batches(
        split, method.spec, sampling, 1, 1, batch, rows, turn=(rank, size), leave_out=True
    )


def _put(whole: dict[str, Tensor], span: slice, trace: Trace, rows: int) -> None:
    """Puts a batch's decisions in their place among those of all rows.

    They are not collected batch by batch: small blocks that stay, between large ones that go, keep the allocator from
    using these again, and a process grows by a clip a clip.
    """
    for point, decided in trace.items():
        if point not in whole:
            whole[point] = decided.new_empty(rows, *decided.shape[1:])
        whole[point][span] = decided


def kept(decided: Tensor) -> Tensor:
    """Decisions (B, ...) as they are kept: of a mask the share that is open, (B, 1)."""
    return decided.flatten(1).float().mean(1, keepdim=True) if decided.dim() > 2 else decided


def stored(decided: Tensor) -> np.ndarray:
    """Decisions (B, options ≤ 8) as a bitmask of what is open (weight > 0), uint8 (B,), bit 0 the dearest.

    Shares of a mask that are open, (B, 1), stay shares, float32 (B,).

    Raises:
        CountError: the decisions have another form.
    """
    if decided.dim() != 2 or decided.shape[1] > 8:
        raise CountError(f"decisions of shape {tuple(decided.shape)} cannot be stored: (B, options) with at most 8 can")
    if decided.shape[1] == 1:
        return np.asarray(decided[:, 0].cpu().numpy(), np.float32)
    bits = (decided > 0).cpu().numpy().astype(np.uint8)
    return np.asarray(np.packbits(bits, axis=1, bitorder="little")[:, 0])


@torch.no_grad()
def executed(
    method: Method, split: Split, sampling: Sampling, rows: NDArray[np.int64], batch: int
) -> tuple[dict[str, int], dict[int, float]]:
    """What ran on the centre clips of `rows`, by the dispatcher, beside what was accounted; how right each row was.

    Raises:
        CountError: an operation has no formula, or a sample's accounted cost is not what ran for it (if the method is
            not exact: is more).
    """
    method.eval()
    scoring = scoring_of(split)

    def counted(item: Batch) -> tuple[int, int, dict[int, float]]:
        item = to_device(item, method.device)
        with Counter(method, batch=len(item.index)) as counter:
            prediction = method(item.sample, Learned().rows(item.index))
        for row, real, told in zip(
            item.index.tolist(), counter.result().per_sample, prediction.cost.tolist(), strict=True
        ):
            if real != told if method.exact else real < told:
                raise CountError(f"video {row}: the method accounts {told:,} multiply-adds, and {real:,} run")
        right = scoring.centre(prediction, item.target)[scoring.main]
        return counter.result().macs, int(prediction.cost.sum()), dict(zip(item.index.tolist(), right, strict=True))

    batches = _centres(method, split, sampling, rows, batch)
    parts = list(chain.from_iterable(in_turns(batches, Halving("counting", counted))))
    found = {
        "samples": len(rows),
        "executed": sum(ran for ran, *_ in parts),
        "accounted": sum(told for _, told, _ in parts),
    }
    return found, dict(chain.from_iterable(right.items() for *_, right in parts))
