"""The efficiency loss L_e = (μ₀ Σ_l C(f_l)/ΣC(f_k) · r_l/R_l)² (VA-RED², "Losses")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _StepShare(torch.autograd.Function):
    """The share of the dearest active option; its gradient goes to that option's z alone.

    The step function has no useful derivative. Backwards, the dearest active option gets the share that closing it
    would save (from it to the next active one, or to the cheapest, which stands in), as a constant slope on z: past the
    saturated tanh, so that gates reach exact zeros. The cheapest option gets none.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
        values = shares * (weights > 0)
        top = values.topk(2, 1).values.clamp(min=shares[-1])  # all closed: the cheapest stands in
        largest, following = top[:, :1], top[:, 1:]
        ctx.save_for_backward(((values == largest) * (largest - following)).to(z.dtype))
        return largest[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradients[0].unsqueeze(1) * slope).to(slope.dtype), None, None


def step_share(z: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """r (or 1/R) of the dearest active option, (B,), from z and weights (B, options) and shares (options,), falling."""
    out: Tensor = _StepShare.apply(z, weights.detach(), shares)  # type: ignore[no-untyped-call]
    return out


def efficiency_loss(ratio: Tensor, correct: Tensor) -> Tensor:
    """Mean over samples of (μ₀ · ratio)²: `ratio` (B,) is the cost-weighted sum of r/R, μ₀ = 1 where `correct` (B,)."""
    return (ratio * correct.to(ratio)).square().mean()
