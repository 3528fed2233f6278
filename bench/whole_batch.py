"""A training batch whose equal parts several processes have: means, and normalisation, of the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.distributed import averaged, place


@contextmanager
def synced_norms(module: nn.Module) -> Iterator[None]:
    """Inside, batch normalisation in training takes the statistics of all processes' samples together."""
    norms = [part for part in module.modules() if type(part) in SYNCED] if place()[1] > 1 else []
    kinds = [type(norm) for norm in norms]
    for norm, kind in zip(norms, kinds, strict=True):
        norm.__class__ = SYNCED[kind]
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind


class _Mean(torch.autograd.Function):
    """The mean over processes, through which gradients flow: each input is in every process's mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Of the same shape."""
        return averaged(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """As forward: the losses of all processes are averaged in the end."""
        return averaged(gradient)


def mean_of_all(x: Tensor) -> Tensor:
    """The mean over processes of equally large parts' means, for a loss that is not a mean of the parts' own.

    Gradients flow through it. Inside a step, where all processes call it as often.
    """
    if place()[1] == 1:
        return x
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean


class _Synced(_BatchNorm):
    """Batch normalisation over equally large parts of a batch, on CPU and GPU (torch's own has no form for CPUs)."""

    def forward(self, x: Tensor) -> Tensor:
        """As without `_Synced` on the whole batch."""
        if not self.training:
            return super().forward(x)
        given, size = x.dtype, place()[1]
        with torch.autocast(x.device.type, enabled=False):
            return self._normalised(x.to(torch.promote_types(given, torch.float32)), size).to(given)

    def _normalised(self, x: Tensor, size: int) -> Tensor:
        """In single precision at least: small differences of large numbers are taken."""
        dims, shape = [dim for dim in range(x.dim()) if dim != 1], [1, -1] + [1] * (x.dim() - 2)
        mean = mean_of_all(x.mean(dims))
        centred = x - mean.view(shape)
        variance = mean_of_all(centred.square().mean(dims))
        self._remember(mean.detach(), variance.detach(), size * x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt()
        scale = scale * self.weight if self.affine else scale
        out: Tensor = centred * scale.view(shape)
        return out + self.bias.view(shape) if self.affine else out

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


class _Synced1d(_Synced, nn.BatchNorm1d):
    pass


class _Synced2d(_Synced, nn.BatchNorm2d):
    pass


class _Synced3d(_Synced, nn.BatchNorm3d):
    pass


SYNCED: dict[type[nn.Module], type[_Synced]] = {
    nn.BatchNorm1d: _Synced1d,
    nn.BatchNorm2d: _Synced2d,
    nn.BatchNorm3d: _Synced3d,
}
