"""What a learned policy is worth: the same trained network under decisions that do not look at the clip.

all: everything is computed. random: decisions drawn for each clip, at the same average cost. fixed: one choice for all
clips, the learned policy's habits on validation data, moved as little as brings its cost nearest. shuffled: the learned
decisions, each dealt to another clip: the same decisions as often, at exactly the same average cost.

Where several options are open side by side, each with a weight (VA-RED²), the network knows no other weights than the
learned ones. There "all" opens whatever any clip opens, "fixed" what most clips open, both at the mean weight of the
clips that open it, and "random" deals the learned weights of each decision point to the clips on their own. So the
weights, which are worth something by themselves, are dealt too. opened: only which options are open is another clip's;
they keep the weight that the clip at hand gives them, those that it closes itself the mean weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data import Dataset
from bench.data.sampling import Sampling, chosen_rows
from bench.evaluation import Followed, follow, kept, scoring_of
from bench.method import Method, Trace
from bench.policy import Forced, Learned, everything, matched, unheeded

CLIPS = 2000  # of the test set that controls are scored on: an interval of about a point for each seed
HABITS = 512  # validation clips that the habits of a policy are taken from
MOVES = 801  # degrees by which the habits are moved on trial
SHARES = 401  # of clips, on trial, that must open what is opened for all


class Opened(Forced):
    """Which options are open is forced, where several are side by side; what they weigh is each sample's own.

    mean: at each point the weight of each option (options,), for samples that would close it.
    """

    def __init__(self, trace: Trace, mean: Mapping[str, Tensor]) -> None:
        super().__init__({point: (rows > 0).to(rows) for point, rows in trace.items()})
        self.mean = mean

    def decide(self, point: str, learned: Tensor) -> Tensor:
        """The weights `learned`, of the options that are open in the stored rows."""
        own = torch.where(learned > 0, learned, self.mean[point].to(learned))
        return own * super().decide(point, learned)

    def rows(self, index: Tensor) -> Opened:
        """The rows of the samples `index`."""
        return Opened(super().rows(index).trace, self.mean)


def steps(weights: Tensor) -> Tensor:
    """How far a sample goes down from the dearest option: (B, options), or open shares (B, 1), to (B,); NaN: nowhere.

    The dearest open option counts, since it is the one that costs.
    """
    if weights.shape[1] == 1:
        return 1 - weights[:, 0]
    opened = weights > 0
    return torch.where(opened.any(1), opened.float().argmax(1).float(), torch.nan)


def habits(method: Method, trace: Trace, macs: float) -> Forced:
    """One choice for all samples: each point's mean step in `trace`, all moved by as little as the cost allows."""
    decisions = method.decisions()
    means = {point: float(torch.nan_to_num(steps(trace[point]).nanmean(), nan=0.0)) for point in decisions}
    furthest = max(len(options) for options in decisions.values())
    moves = torch.linspace(-furthest, furthest, MOVES)
    moves = moves[moves.abs().argsort(stable=True)]  # of equal costs the smallest move is taken
    moved = {
        point: options[(means[point] + moves).round().clamp(0, len(options) - 1).long()]
        for point, options in decisions.items()
    }
    nearest = int((method.account(moved).double() - macs).abs().argmin())
    return Forced({point: choices[[nearest]] for point, choices in moved.items()})


def side_by_side(trace: Trace) -> bool:
    """Whether options have weights of their own, so that a sample may open several at once."""
    chosen = [weights for weights in trace.values() if weights.shape[1] > 1]  # the others are shares of masks
    return any(bool(((weights != 0) & (weights != 1)).any() | (weights.sum(1) > 1).any()) for weights in chosen)


def mean_weights(weights: Tensor) -> Tensor:
    """Of decisions (B, options): each option's mean weight where it is open, 0 where it never is."""
    return weights.sum(0) / (weights > 0).sum(0).clamp(min=1)


def usual(method: Method, trace: Trace, macs: float | None) -> Forced:
    """One choice for all samples of a method whose options are open side by side; `macs` None: whatever is ever open.

    At each point the options that at least a share of the clips open, and always the most usual one, at the mean weight
    of those clips; the share is the one that brings the cost nearest to `macs`.
    """
    shares = torch.linspace(0, 1, SHARES).unsqueeze(1)
    choices = {}
    for point, weights in trace.items():
        often = (weights > 0).float().mean(0)
        mean = mean_weights(weights)
        opened = (often >= shares.clamp(max=float(often.max()))) & (often > 0)
        choices[point] = opened * mean
    nearest = 0 if macs is None else int((method.account(choices).double() - macs).abs().argmin())
    return Forced({point: rows[[nearest]] for point, rows in choices.items()})


def dealt(trace: Trace, rows: NDArray[np.int64], videos: int, together: bool = True) -> Forced:
    """The decisions of the test rows `rows` of `videos`, each row's given to the next of a fixed shuffle.

    together: all decisions of a clip go to the same other clip; else each point has a shuffle of its own.

    Raises:
        ValueError: the decisions are masks, of which only shares were kept.
    """
    if any(decided.shape[1] == 1 for decided in trace.values()):
        raise ValueError("element-wise decisions are not dealt to other clips")
    given = {}
    for number, (point, decided) in enumerate(trace.items()):
        order = np.random.default_rng(0 if together else number).permutation(len(rows))
        giver = np.zeros(videos, np.int64)
        giver[rows[order]] = np.roll(order, 1)
        given[point] = decided[torch.from_numpy(giver)]
    return Forced(given)


def controls(method: Method, dataset: Dataset, sampling: Sampling, clips: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every control on the first `clips` of the test set's fixed shuffle, beside the learned policy on the same.

    The table has one row a clip: index, and for each control control.NAME.cost and control.NAME.RIGHT, where RIGHT is
    clip_1 or what else says how right an answer is (`bench.scoring`); the controls that could not be had are given with
    the reason.
    """
    rows = chosen_rows(dataset.test, clips)
    learned = follow(method, dataset.test, sampling, rows, Learned())
    rows = learned.rows
    seen = follow(method, dataset.validation, sampling, chosen_rows(dataset.validation, HABITS), Learned())
    mean, videos = float(learned.cost.mean()), len(dataset.test)
    makers: dict[str, Callable[[], Forced]] = {
        "all": lambda: everything(method),
        "random": lambda: matched(method, round(mean)),
        "fixed": lambda: habits(method, seen.trace, mean),
        "shuffled": lambda: dealt(learned.trace, rows, videos),
    }
    if side_by_side(seen.trace):
        makers["all"] = lambda: usual(method, seen.trace, None)
        makers["random"] = lambda: dealt(learned.trace, rows, videos, together=False)
        makers["fixed"] = lambda: usual(method, seen.trace, mean)
        makers["opened"] = lambda: Opened(
            dealt(learned.trace, rows, videos).trace, {point: mean_weights(own) for point, own in learned.trace.items()}
        )
    table, missing, right = pd.DataFrame({"index": rows}), {}, scoring_of(dataset.test).main
    for name, make in makers.items():
        try:
            policy = make()
            found = follow(method, dataset.test, sampling, rows, policy)
            _hold(method, found, policy)
        except ValueError as error:
            missing[f"control.{name}"] = str(error)
            continue
        table[f"control.{name}.{right}"], table[f"control.{name}.cost"] = found.right, found.cost
    return table, missing


def _hold(method: Method, found: Followed, policy: Forced) -> None:
    """Holds what was followed, and what it cost, against what was forced.

    Raises:
        ValueError: it is something else: no control.
    """
    forced, followed = policy.rows(torch.from_numpy(found.rows)).trace, found.trace
    if isinstance(policy, Opened):
        followed = {point: (rows > 0).to(rows) for point, rows in followed.items()}
    if points := unheeded(method, {point: kept(rows) for point, rows in forced.items()}, followed):
        raise ValueError(f"the method does not follow the decisions forced at {points[0]!r}")
    wrong = int((method.account(forced) != torch.from_numpy(found.cost)).sum())
    if wrong:
        raise ValueError(f"the forced decisions of {wrong} of {len(found.rows)} clips cost something else")
