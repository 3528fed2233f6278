"""What the gates decide, in the form in which the units follow it: for whom, which options, with what weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vared.dynamic_conv import Session
from vared.gate import Gate
from vared.runtime.compact import Compact


@dataclass(frozen=True)
class Side:
    """Of one dimension the open options, dearest first, their weights (B, open), and the sum of these for each sample.

    total: a number where there is one sample, which saves small operations; else (B,).
    """

    options: tuple[int, ...]
    weights: Tensor
    total: float | Tensor


@dataclass(frozen=True)
class Choice:
    """What samples follow that all have the same options open. rows: which of the batch; None: all of it."""

    rows: Tensor | None
    channel: Side
    temporal: Side


@dataclass
class Followed:
    """What the units of one network share: of every policy what was decided for the batch under way.

    dense: whether all options are computed for all samples, closed ones with weight zero.
    """

    dense: bool = False
    choices: dict[str, list[Choice]] = field(default_factory=dict)


def choices(channel: Tensor, temporal: Tensor, dense: bool) -> list[Choice]:
    """The weights (B, options) of both dimensions, sorted by which options are open, or all as if every one were."""
    active = torch.cat([channel, temporal], 1)
    if dense:
        return [_choice(None, channel, temporal, [1.0] * active.shape[1])]
    if len(active) == 1:
        return [_choice(None, channel, temporal, active[0].tolist())]
    patterns, member = torch.unique(active > 0, dim=0, return_inverse=True)
    if len(patterns) == 1:
        return [_choice(None, channel, temporal, patterns[0].tolist())]
    found = []
    for number, pattern in enumerate(patterns.tolist()):
        rows = (member == number).nonzero()[:, 0]
        found.append(_choice(rows, channel[rows], temporal[rows], pattern))
    return found


def _choice(rows: Tensor | None, channel: Tensor, temporal: Tensor, values: list[float]) -> Choice:
    """values: more than zero where an option is open."""
    split = channel.shape[1]
    return Choice(rows, _side(channel, values[:split]), _side(temporal, values[split:]))


def _side(weights: Tensor, values: list[float]) -> Side:
    options = tuple(option for option, value in enumerate(values) if value > 0)
    total: float | Tensor
    if len(weights) == 1:
        total = sum(weights[0].tolist())
    else:
        total = weights.sum(1)
        total = 1.0 if bool((total == 1).all()) else total
    return Side(options, weights if len(options) == len(values) else weights[:, list(options)], total)


class FastGate(nn.Module):
    """As `Gate` in `eval()`, its normalisation folded in; follows the policy and notes what is followed."""

    def __init__(self, gate: Gate, policy: str, decides: Mapping[str, int]) -> None:
        super().__init__()
        self.decides, self.pooled = dict(decides), gate.pooled
        self.points = (f"{policy}.channel", f"{policy}.temporal")
        norm = gate.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        self.weight1: Tensor
        self.bias1: Tensor
        self.weight2: Tensor
        self.bias2: Tensor
        self.register_buffer("weight1", (gate.fc1.weight * scale.unsqueeze(1)).detach())
        self.register_buffer("bias1", ((gate.fc1.bias - norm.running_mean) * scale + norm.bias).detach())
        self.register_buffer("weight2", gate.fc2.weight.detach())
        self.register_buffer("bias2", gate.fc2.bias.detach())

    def forward(self, x: Tensor | Compact, session: Session, dense: bool) -> list[Choice]:
        """Decides for every sample; if all options of a point are closed, the cheapest stands in."""
        known = Compact(x, None, x.shape[2] if x.dim() == 5 else 1, 1) if isinstance(x, Tensor) else x
        hidden = torch.tanh(F.linear(self.pooled(known.mean((-2, -1))), self.weight1, self.bias1))
        openness = torch.tanh(F.linear(hidden, self.weight2, self.bias2)).clamp_(min=0)
        start, alone = 0, openness.new_ones(len(openness), 1)
        for point, size in self.decides.items():
            followed = session.policy.decide(point, openness[:, start : start + size])
            start += size
            closed = (followed > 0).sum(1) == 0
            if bool(closed.any()):
                followed = followed.clone()
                followed[:, -1] += closed.to(followed)
            session.trace[point] = followed
        channel, temporal = (session.trace[name] if name in self.decides else alone for name in self.points)
        return choices(channel, temporal, dense)
