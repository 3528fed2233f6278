"""Evaluation: accuracy under the stated views, and the cost and decisions of every sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.cost import Counter, CountError
from bench.data.sampling import Sampling, test_batches
from bench.data.split import Split
from bench.method import Method
from bench.policy import Learned, Policy
from bench.profiles import Views
from bench.training import to_device

BATCH = 256  # clips evaluated together: small enough for memory, large enough to group samples by their decisions
SHUFFLE = 20210503  # of the test rows, so that the first k of them are a fair part of the set


@dataclass(frozen=True)
class Scored:
    """One row a test video, and multiply-adds that ran beside those accounted: see `score`."""

    samples: pd.DataFrame
    executed: dict[str, int]


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

    Raises:
        CountError: an operation has no formula, or a method accounts something else than what runs.
    """
    method.eval()
    policy = policy or Learned()
    rows = chosen_rows(split, views.clip_videos)
    right, cost, decisions = _clips(method, split, sampling, rows, batch, policy)
    table = pd.DataFrame(
        {"index": rows, "group": split.groups[rows].astype(str), "target": split.targets[rows], "clip_1": right}
    )
    video = _videos(method, split, sampling, views, batch, policy)
    table = table.merge(video, on="index", how="left")
    table["cost"] = cost
    attributes = split.attributes.iloc[rows].reset_index(drop=True).add_prefix("attribute.")
    attributes = attributes.astype(dict.fromkeys(attributes.select_dtypes("float"), np.float32))  # small when shipped
    decided = pd.DataFrame({f"decision.{point}": values for point, values in decisions.items()})
    places = np.linspace(0, len(rows) - 1, min(executed_samples, len(rows))).astype(int)
    ran = executed(method, split, sampling, rows[places], policy)
    told = int(cost[places].sum())
    if abs(ran["accounted"] - told) > 0.01 * told:  # another batch rounds differently, which can flip a decision or two
        raise CountError(f"the method accounts {ran['accounted']:,} multiply-adds while it is counted, else {told:,}")
    return Scored(pd.concat([table, attributes, decided], axis=1), ran)


def _clips(
    method: Method, split: Split, sampling: Sampling, rows: np.ndarray, batch: int, policy: Policy
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    right, costs, traces = [], [], []
    for item in test_batches(split, method.spec, sampling, 1, 1, batch, rows):
        item = to_device(item, method.device)
        prediction = method(item.sample, policy.rows(item.index))
        right.append((_logits(prediction.logits).argmax(1) == item.target).float().cpu().numpy())
        costs.append(prediction.cost.cpu().numpy())
        traces.append({point: open_options(weights) for point, weights in prediction.trace.items()})
    decisions = {point: np.concatenate([trace[point] for trace in traces]) for point in traces[0]}
    return np.concatenate(right), np.concatenate(costs), decisions


def open_options(weights: Tensor) -> np.ndarray:
    """Which options are open (weight > 0) as a bitmask: (B, options ≤ 8) to uint8 (B,); bit 0 is the dearest.

    Raises:
        CountError: the decisions have another form.
    """
    if weights.dim() != 2 or weights.shape[1] > 8:
        raise CountError(f"decisions of shape {tuple(weights.shape)} cannot be stored: (B, options) with at most 8 can")
    bits = (weights > 0).cpu().numpy().astype(np.uint8)
    return np.asarray(np.packbits(bits, axis=1, bitorder="little")[:, 0])


def _videos(method: Method, split: Split, sampling: Sampling, views: Views, batch: int, policy: Policy) -> pd.DataFrame:
    """video_1 and video_5 of the scored videos: softmax averaged over `clips` × `crops` views."""
    rows = chosen_rows(split, views.video_videos)
    classes = len(split.classes)
    total, position = np.zeros((len(rows), classes)), {row: place for place, row in enumerate(rows.tolist())}
    for item in test_batches(split, method.spec, sampling, views.clips, views.crops, batch, rows):
        item = to_device(item, method.device)
        shares = _logits(method(item.sample, policy.rows(item.index)).logits).float().softmax(1).cpu().numpy()
        np.add.at(total, [position[row] for row in item.index.tolist()], shares)
    ranked, target = np.argsort(-total, axis=1), split.targets[rows][:, None]
    five = (ranked[:, :5] == target).any(1).astype(np.float32) if classes >= 20 else np.nan
    return pd.DataFrame({"index": rows, "video_1": (ranked[:, :1] == target)[:, 0].astype(np.float32), "video_5": five})


@torch.no_grad()
def executed(
    method: Method, split: Split, sampling: Sampling, rows: np.ndarray, policy: Policy | None = None
) -> dict[str, int]:
    """What ran on the centre clips of `rows`, by the dispatcher, beside what was accounted: the same, or it raises.

    Raises:
        CountError: an operation has no formula, or a sample's accounted cost is not what ran for it.
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
            if real != told:
                raise CountError(f"video {row}: the method accounts {told:,} multiply-adds, and {real:,} run")
        ran += counter.result().macs
        accounted += int(prediction.cost.sum())
    return {"samples": len(rows), "executed": ran, "accounted": accounted}


def _logits(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise ValueError("the method gave no class logits, and this data set is one of classes")
    return logits
