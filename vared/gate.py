"""The soft modulation gate: how open each option of a dynamic convolution is, decided from its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pool = Literal["space", "motion"]


class _LeakyFloor(torch.autograd.Function):
    """max(x, 0) whose gradient also passes below zero, times `leak`, so that a closed option can reopen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, leak: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.leak = leak
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * torch.where(x > 0, 1.0, ctx.leak), None


class _SpaceMean(torch.autograd.Function):
    """The mean over the pixels of (B, C, ..., H, W); its gradient is one value a map, not written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.movedim(1, -1).flatten(-3, -2).mean(-2).movedim(-1, 1)  # quick where channels lie last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        each = gradients[0] / (ctx.shape[-2] * ctx.shape[-1])
        out: Tensor = each[..., None, None].expand(ctx.shape)
        return out


def space_mean(x: Tensor) -> Tensor:
    """(B, C, ..., H, W) to (B, C, ...)."""
    mean: Tensor = _SpaceMean.apply(x)  # type: ignore[no-untyped-call]
    return mean


class Gate(nn.Module):
    """V = max(tanh(FC₂(tanh(BN(FC₁(G(X))))) + β), 0) (VA-RED², soft modulation gate).

    Input (B, C, H, W) or (B, C, T, H, W), of `channels` and `frames` (1 for images). G pools over space, keeping time
    ("space", C·T values), or gives the mean and the mean absolute change between frames ("motion", 2C values).
    Returns z and V, both (B, options). β starts at `start`, above zero, and ω₂ small, so that every option starts open:
    max(·, 0) has no gradient by which an option that starts closed could open.
    """

    def __init__(
        self, channels: int, frames: int, start: Sequence[float], *, hidden: int, pool: Pool, leak: float
    ) -> None:
        super().__init__()
        self.pool, self.leak = pool, leak
        inputs = channels * (frames if pool == "space" else min(frames, 2))
        self.fc1 = nn.Linear(inputs, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, len(start))
        nn.init.normal_(self.fc2.weight, 0, 0.05)
        self.fc2.bias.data = torch.tensor(start, dtype=torch.float32)

    @property
    def macs(self) -> int:
        """Multiply-adds a sample."""
        return self.fc1.weight.numel() + self.fc2.weight.numel()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-activation z and openness V in [0, 1)."""
        z = self.fc2(torch.tanh(self._normalised(self.fc1(self.pooled(space_mean(x))))))
        openness: Tensor = _LeakyFloor.apply(torch.tanh(z), self.leak)  # type: ignore[no-untyped-call]
        return z, openness

    def _normalised(self, hidden: Tensor) -> Tensor:
        """A single sample has no statistics: also in training it is normalised by the running ones, and not among them.

        Not where processes normalise together (`bench.whole_batch`): others have samples too, and wait for this one.
        """
        norm = self.norm
        if self.training and len(hidden) == 1 and type(norm) is nn.BatchNorm1d:
            return F.batch_norm(hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(hidden)  # type: ignore[no-any-return]

    def pooled(self, space: Tensor) -> Tensor:
        """What the layers see (B, values) of means over space (B, C) or (B, C, T)."""
        if self.pool == "space" or space.dim() == 2 or space.shape[2] == 1:
            return space.flatten(1)
        change = (space[:, :, 1:] - space[:, :, :-1]).abs().mean(2)
        return torch.cat([space.mean(2), change], 1)
