"""Where in time to look (Uni-AdaFocus): a policy that weighs the glance frames, and frames sampled by those weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.adafocus.precision import at_least_single


class TemporalPolicy(nn.Module):
    """Glance features (N, T, channels) to the logarithms of T weights (N, T), which add up to 1.

    Three convolutions along time without biases, kernels 3, 3 and 1; 4.13 M multiply-adds for 16 frames of 1280
    channels at the published `hidden` of 64.
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv1d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv1d(hidden, 1, 1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logarithms of the weights."""
        scores: Tensor = self.layers(features.transpose(1, 2)).squeeze(1)
        return at_least_single(scores).log_softmax(1)


def segments(frames: int, parts: int) -> tuple[Tensor, Tensor]:
    """The first frame of each of `parts` equal parts of `frames`, and how many it has: int64 (parts,) each."""
    edges = torch.arange(parts + 1, device="cpu") * frames // parts
    return edges[:-1], edges.diff()


def weighted_frames(weights: Tensor, frames: int, count: int, offset: Tensor) -> Tensor:
    """`count` of `frames` frames, drawn where the weights are: int64 (N, count), strictly increasing.

    weights: (N, T), each spread evenly over its part of the frames, so that they make a density. offset: in 0..1,
    broadcast over (N, count): frame i stands where the distribution function reaches (i + offset) / count; 0.5 gives
    the centres, uniform noise a stratified draw. What falls on one frame twice moves on to the next.

    Raises:
        ValueError: more frames are wanted than there are.
    """
    if count > frames:
        raise ValueError(f"cannot draw {count} different frames of {frames}")
    weights = at_least_single(weights)
    number = torch.arange(count, device=weights.device)
    reached = weights.cumsum(1)
    wanted = ((number + offset) / count).to(weights).expand(len(weights), count).contiguous()
    part = torch.searchsorted(reached, wanted).clamp(max=weights.shape[1] - 1)
    own = weights.gather(1, part)
    within = (wanted - reached.gather(1, part) + own) / own.clamp_min(torch.finfo(own.dtype).tiny)
    frame = ((part + within.clamp(0, 1)) * (frames / weights.shape[1])).long()
    increasing = (frame - number).cummax(1).values + number
    return increasing.minimum(frames - count + number)


ORDERS = 128
"""Random orders of drawing that an expectation is averaged over."""


def expected_logits(logits: Tensor, log_weights: Tensor, steps: int) -> Tensor:
    """What the next frame drawn would say, (N, classes), on average over the first `steps` draws.

    Frames are drawn without replacement by their weights; before each draw the expectation of `logits` (N, T, classes)
    under the weights of the frames that are left, `log_weights` (N, T), is taken exactly. Which frames are left is
    averaged over `ORDERS` random orders. The gradient reaches the weights through the expectations alone.
    """
    noise = -torch.empty(len(logits), ORDERS, logits.shape[1], device=logits.device).exponential_().log()
    order = (log_weights.detach().unsqueeze(1) + noise).argsort(-1, descending=True)  # the Gumbel way to draw by weight
    turn = order.argsort(-1).unsqueeze(-1)
    left = turn >= torch.arange(steps, device=logits.device)  # (N, ORDERS, T, steps)
    shares = log_weights[:, None, :, None].masked_fill(~left, -torch.inf).softmax(2).mean((1, 3))
    return (shares.unsqueeze(-1) * logits).sum(1)
