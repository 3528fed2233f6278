"""Controls: decisions that look at no clip, at the learned policy's cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import ToySplit

from bench.controls import Opened, controls, dealt, habits, side_by_side, steps, usual
from bench.data import Dataset
from bench.data.sampling import Sampling
from bench.method import InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Forced, Learned, Policy

CHEAP, DEAR = 10, 100


class Bright(Method):
    """Two points; knows the class only where it paid at the first, which it does for bright clips."""

    spec = InputSpec("clip", 8, 4)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        level = sample.mean((1, 2, 3, 4))
        bright = torch.stack([level > 0.2, level <= 0.2], 1).float()
        policy = policy or Learned()
        trace = {"first": policy.decide("first", bright), "second": policy.decide("second", bright.flip(1))}
        label = (level > -1.2).long() + (level > 0.2).long()
        wrong = (label + 1) % 3
        logits = nn.functional.one_hot(torch.where(trace["first"][:, 0] > 0, label, wrong), 3).float()
        return Prediction(self.account(trace), trace, logits=logits)

    def decisions(self) -> Mapping[str, Tensor]:
        return {"first": torch.eye(2), "second": torch.eye(2)}

    def account(self, trace: Trace) -> Tensor:
        return sum((torch.where(t[:, 0] > 0, DEAR, CHEAP) for t in trace.values()), torch.tensor(0)).long()

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        return []


def test_each_control_has_the_learned_cost_or_says_why_not() -> None:
    split = ToySplit(120)
    data = Dataset("toy", 1, "f", split, split, split)
    table, missing = controls(Bright(), data, Sampling(), 60)
    assert not missing and len(table) == 60
    rows = table["index"].to_numpy()
    bright = split.targets[rows] == 2
    assert (table["control.all.cost"] == 2 * DEAR).all()
    assert table["control.all.clip_1"].mean() > bright.mean()
    learned = DEAR + CHEAP  # at one point or the other, whatever the clip
    for name in ("random", "fixed", "shuffled"):
        assert table[f"control.{name}.cost"].mean() == pytest.approx(learned, rel=0.1)
    assert table["control.fixed.cost"].nunique() == 1


def test_shuffled_deals_every_decision_once_and_none_to_its_own_clip() -> None:
    rows = np.array([1, 3, 4, 7, 8])
    trace = {"p": torch.eye(5)}
    forced = dealt(trace, rows, 10)
    got = forced.rows(torch.from_numpy(rows)).decide("p", torch.eye(5))
    assert torch.equal(got.sum(0), torch.ones(5)) and not got.diagonal().any()
    with pytest.raises(ValueError, match="element-wise"):
        dealt({"p": torch.ones(5, 1)}, rows, 10)


def test_steps_are_those_of_the_dearest_open_option() -> None:
    weights = torch.tensor([[0.5, 0.2, 0.0], [0.0, 0.1, 0.9], [0.0, 0.0, 0.0]])
    found = steps(weights)
    assert found[:2].tolist() == [0, 1] and bool(found[2].isnan())
    assert steps(torch.tensor([[0.25]])).item() == 0.75


def test_habits_keep_what_is_mostly_done_and_meet_the_cost() -> None:
    mostly = {"first": torch.eye(2)[[0, 0, 0, 1]], "second": torch.eye(2)[[1, 1, 1, 0]]}
    forced = habits(Bright(), mostly, DEAR + CHEAP)
    assert forced.trace["first"].tolist() == [[1, 0]] and forced.trace["second"].tolist() == [[0, 1]]
    assert Bright().account(habits(Bright(), mostly, 2 * CHEAP).trace).tolist() == [2 * CHEAP]


def test_options_open_side_by_side_keep_their_learned_weights() -> None:
    first = torch.tensor([[0.5, 0.2], [0.7, 0.0], [0.0, 0.4], [0.6, 0.0]])  # opened by 3/4 and 1/2 of the clips
    second = torch.tensor([[0.0, 0.3], [0.0, 0.5], [0.9, 0.4], [0.0, 0.4]])  # by 1/4 and all
    trace = {"first": first, "second": second}
    assert side_by_side(trace) and not side_by_side({"p": torch.eye(3)})
    everything = usual(Bright(), trace, None).trace
    assert torch.allclose(everything["first"], torch.tensor([[0.6, 0.3]]))
    assert torch.allclose(everything["second"], torch.tensor([[0.9, 0.4]]))
    dear_once = usual(Bright(), trace, DEAR + CHEAP).trace
    assert bool(dear_once["first"][0, 0] > 0) and not bool(dear_once["second"][0, 0] > 0)


def test_what_others_open_keeps_the_weights_of_the_clip_at_hand() -> None:
    policy = Opened({"p": torch.tensor([[0.9, 0.0], [0.9, 0.8], [0.0, 0.8]])}, {"p": torch.tensor([0.5, 0.25])})
    learned = torch.tensor([[0.7, 0.1], [0.0, 0.2], [0.3, 0.0]])
    assert policy.decide("p", learned).tolist() == torch.tensor([[0.7, 0.0], [0.5, 0.2], [0.0, 0.25]]).tolist()
    assert policy.rows(torch.tensor([2])).decide("p", learned[:1]).tolist() == torch.tensor([[0.0, 0.1]]).tolist()


class Weighing(Bright):
    """Its options have weights, which name the class; which of them are open tells the class to nobody."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        level = sample.mean((1, 2, 3, 4))
        label = (level > -1.2).long() + (level > 0.2).long()
        weight = 0.25 * (1 + label)[:, None]
        odd = (sample[:, 0, 0, 0, 0] * 1e4).long() % 2
        first = weight * torch.where(odd[:, None] == 0, torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]))
        policy = policy or Learned()
        trace = {"first": policy.decide("first", first), "second": policy.decide("second", weight * torch.ones(1, 2))}
        said = (4 * trace["first"][:, 1]).round().long() - 1
        return Prediction(self.account(trace), trace, logits=nn.functional.one_hot(said.clamp(0, 2), 3).float())


def test_of_weights_that_matter_the_control_that_keeps_them_loses_nothing() -> None:
    split = ToySplit(120)
    data = Dataset("toy", 1, "f", split, split, split)
    table, missing = controls(Weighing(), data, Sampling(), 60)
    assert not missing and table["control.shuffled.clip_1"].mean() < 0.7
    assert (table["control.opened.clip_1"] == 1).all()
    assert table["control.opened.cost"].to_numpy().tolist() == table["control.shuffled.cost"].to_numpy().tolist()
    assert table["control.opened.cost"].nunique() == 2
    of_one_option, _ = controls(Bright(), data, Sampling(), 60)
    assert "control.opened.cost" not in of_one_option


def test_decisions_dealt_apart_keep_each_points_share_and_break_them_up() -> None:
    rows = np.arange(64)
    trace = {"one": torch.arange(64.0)[:, None].repeat(1, 2), "other": torch.arange(64.0)[:, None].repeat(1, 2)}
    index, learned = torch.arange(64), torch.zeros(64, 2)
    for together in (True, False):
        forced = dealt(trace, rows, 64, together).rows(index)
        one, other = (forced.decide(point, learned)[:, 0] for point in trace)
        assert torch.equal(one.sort().values, torch.arange(64.0)) and not bool((one == index).any())
        assert torch.equal(one, other) == together


class Wilful(Bright):
    """Follows its own decisions where the same are forced for all clips."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        same = isinstance(policy, Forced) and all(bool((rows == rows[0]).all()) for rows in policy.trace.values())
        return super().forward(sample, None if same else policy)


class Claiming(Bright):
    """Says of all its decisions that they were followed, and lets everything cost the learned decisions' price."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        own, found = super().forward(sample), super().forward(sample, policy)
        return Prediction(own.cost, found.trace, logits=found.logits)


def test_controls_that_are_not_followed_are_missing_with_the_reason() -> None:
    split = ToySplit(120)
    data = Dataset("toy", 1, "f", split, split, split)
    table, missing = controls(Wilful(), data, Sampling(), 60)
    assert missing.keys() == {"control.all", "control.fixed"}
    assert all("does not follow the decisions forced at 'first'" in reason for reason in missing.values())
    assert {"control.random.cost", "control.shuffled.cost"} < {*table.columns}
    _, missing = controls(Claiming(), data, Sampling(), 60)
    assert "60 of 60 clips cost something else" in missing["control.all"]


class Half(Bright):
    """Pays for the first point only, and has three options at the second."""

    def decisions(self) -> Mapping[str, Tensor]:
        return {"first": torch.eye(2), "second": torch.eye(3)}

    def account(self, trace: Trace) -> Tensor:
        return torch.where(trace["first"][:, 0] > 0, DEAR, CHEAP)


def test_habits_move_no_further_than_the_cost_asks_for() -> None:
    trace = {"first": torch.eye(2)[[0, 0]], "second": torch.eye(3)[[1, 1]]}
    kept = habits(Half(), trace, DEAR)
    assert kept.decide("second", torch.zeros(1, 3)).tolist() == [[0, 1, 0]]
    cheaper = habits(Half(), trace, CHEAP)
    assert cheaper.decide("first", torch.zeros(1, 2)).tolist() == [[0, 1]]
