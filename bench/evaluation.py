"""Evaluation: accuracy under the stated views, and the cost and decisions of every sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.accuracy.average_precision import mean_average_precision_interval, one_hot
from bench.accuracy.intervals import Interval
from bench.cost import Counter, CountError
from bench.data.sampling import Sampling, test_batches
from bench.data.split import Split
from bench.method import Method, Trace
from bench.policy import Learned, Policy
from bench.profiles import Views
from bench.training import TrainingError, to_device

BATCH = 256  # clips evaluated together: small enough for memory, large enough to group samples by their decisions
SHUFFLE = 20210503  # of the test rows, so that the first k of them are a fair part of the set


@dataclass(frozen=True)
class Scored:
    """One row a test video, multiply-adds that ran beside those accounted, and mAP over videos: see `score`."""

    samples: pd.DataFrame
    executed: dict[str, int]
    mean_average_precision: Interval


def chosen_rows(split: Split, count: int) -> np.ndarray:
    """The first `count` rows (0: all) of one fixed shuffle, in rising order."""
    rows = np.random.default_rng(SHUFFLE).permutation(len(split))
    return np.sort(rows[: count or len(rows)])


@torch.no_grad()
def score(
    method: Method,
    split: Split,
    sampling: Sampling,
    views: Views,
    *,
    batch: int = BATCH,
    policy: Policy | None = None,
    executed_samples: int = 64,
) -> Scored:
    """Accuracy, cost and decisions of a trained method on a split.

    samples: index, group, target, clip_1 (1 if the centre clip is right), video_1, video_5 (averaged softmax over
    views; NaN where not scored), cost (multiply-adds of the centre clip), attribute.*, decision.* .
    executed: multiply-adds that ran, and that were accounted, on `executed_samples` rows from all over the split.
    mean_average_precision: of the averaged softmax, over classes, as for ActivityNet and FCVID.

    Raises:
        CountError: an operation has no formula, or a method accounts something else than what runs.
        TrainingError: the logits are not finite.
    """
    method.eval()
    policy = policy or Learned()
    rows = chosen_rows(split, views.clip_videos)
    found = follow(method, split, sampling, rows, policy, batch)
    cost = found.cost
    table = pd.DataFrame(
        {"index": rows, "group": split.groups[rows].astype(str), "target": split.targets[rows], "clip_1": found.right}
    )
    video, precision = _videos(method, split, sampling, views, batch, policy)
    table = table.merge(video, on="index", how="left")
    table["cost"] = cost
    attributes = split.attributes.iloc[rows].reset_index(drop=True).add_prefix("attribute.")
    attributes = attributes.astype(dict.fromkeys(attributes.select_dtypes("float"), np.float32))  # small when shipped
    decided = pd.DataFrame({f"decision.{point}": stored(decided) for point, decided in found.trace.items()})
    places = np.linspace(0, len(rows) - 1, min(executed_samples, len(rows))).astype(int)
    ran = executed(method, split, sampling, rows[places], policy)
    told = int(cost[places].sum())
    if abs(ran["accounted"] - told) > 0.01 * told:  # another batch rounds differently, which can flip a decision or two
        raise CountError(f"the method accounts {ran['accounted']:,} multiply-adds while it is counted, else {told:,}")
    return Scored(pd.concat([table, attributes, decided], axis=1), ran, precision)


@dataclass(frozen=True)
class Followed:
    """Centre clips under a policy: right (1 or 0) and cost of each, and the decisions followed."""

    right: NDArray[np.float32]
    cost: NDArray[np.int64]
    trace: Trace


@torch.no_grad()
def follow(
    method: Method, split: Split, sampling: Sampling, rows: NDArray[np.int64], policy: Policy, batch: int = BATCH
) -> Followed:
    """The centre clips of `rows` under a policy; of masks in the trace only the share that is open is kept, (B, 1)."""
    method.eval()
    right, cost, traces = [], [], []
    for item in test_batches(split, method.spec, sampling, 1, 1, batch, rows):
        item = to_device(item, method.device)
        prediction = method(item.sample, policy.rows(item.index))
        right.append((_logits(prediction.logits).argmax(1) == item.target).float().cpu().numpy())
        cost.append(prediction.cost.cpu().numpy())
        traces.append({point: _kept(decided).cpu() for point, decided in prediction.trace.items()})
    trace = {point: torch.cat([trace[point] for trace in traces]) for point in traces[0]}
    return Followed(np.concatenate(right), np.concatenate(cost), trace)


def _kept(decided: Tensor) -> Tensor:
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


def _videos(
    method: Method, split: Split, sampling: Sampling, views: Views, batch: int, policy: Policy
) -> tuple[pd.DataFrame, Interval]:
    """video_1 and video_5 of the scored videos, and their mAP: softmax averaged over `clips` × `crops` views."""
    rows = chosen_rows(split, views.video_videos)
    classes = len(split.classes)
    total, position = np.zeros((len(rows), classes)), {row: place for place, row in enumerate(rows.tolist())}
    for item in test_batches(split, method.spec, sampling, views.clips, views.crops, batch, rows):
        item = to_device(item, method.device)
        shares = _logits(method(item.sample, policy.rows(item.index)).logits).float().softmax(1).cpu().numpy()
        np.add.at(total, [position[row] for row in item.index.tolist()], shares)
    if not np.isfinite(total).all():
        raise TrainingError("the logits are not finite")
    ranked, target = np.argsort(-total, axis=1), split.targets[rows][:, None]
    five = (ranked[:, :5] == target).any(1).astype(np.float32) if classes >= 20 else np.nan
    first = (ranked[:, :1] == target)[:, 0].astype(np.float32)
    precision = mean_average_precision_interval(total, one_hot(target[:, 0], classes), split.groups[rows])
    return pd.DataFrame({"index": rows, "video_1": first, "video_5": five}), precision


@torch.no_grad()
def executed(
    method: Method, split: Split, sampling: Sampling, rows: np.ndarray, policy: Policy | None = None
) -> dict[str, int]:
    """What ran on the centre clips of `rows`, by the dispatcher, beside what was accounted.

    Raises:
        CountError: an operation has no formula, or a sample's accounted cost is not what ran for it (if the method is
            not exact: is more).
    """
    method.eval()
    ran = accounted = 0
    for item in test_batches(split, method.spec, sampling, 1, 1, BATCH, rows):
        item = to_device(item, method.device)
        with Counter(method, batch=len(item.index)) as counter:
            prediction = method(item.sample, (policy or Learned()).rows(item.index))
        for row, real, told in zip(
            item.index.tolist(), counter.result().per_sample, prediction.cost.tolist(), strict=True
        ):
            if real != told if method.exact else real < told:
                raise CountError(f"video {row}: the method accounts {told:,} multiply-adds, and {real:,} run")
        ran += counter.result().macs
        accounted += int(prediction.cost.sum())
    return {"samples": len(rows), "executed": ran, "accounted": accounted}


def _logits(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise ValueError("the method gave no class logits, and this data set is one of classes")
    return logits
