"""A network without its pruned channels: what really runs after structured pruning."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.pruning.chains import Chain, depthwise


class Restore(nn.Module):
    """Puts zeros in the place of channels that were left out: (B, n, ...) to (B, channels, ...).

    kept: int64 (n,), which of the channels there are.
    """

    def __init__(self, channels: int, kept: Tensor) -> None:
        super().__init__()
        self.channels, self.kept = channels, nn.Buffer(kept)

    def forward(self, x: Tensor) -> Tensor:
        """All channels, in the memory format of `x`."""
        last = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
        form = last if x.is_contiguous(memory_format=last) else torch.contiguous_format
        shape = (len(x), self.channels, *x.shape[2:])
        full = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=form).zero_()
        return full.index_copy_(1, self.kept, x)


def compact(network: nn.Module, chains: Sequence[Chain]) -> nn.Module:
    """A copy of `network` that computes, in evaluation, only the channels that the masks of its chains leave open.

    Along a chain a closed channel does not exist. Where a chain has a consumer, this takes only what there is; where it
    has none, zeros are put in the place of what is missing. The answer is that of `network`, whose closed channels are
    zero.
    """
    small = copy.deepcopy(network).eval().requires_grad_(False)
    cut = [(chain, small.get_submodule(chain.conv).get_buffer("mask")) for chain in chains]
    cut = [(chain, mask) for chain, mask in cut if not bool(mask.all())]
    for chain, mask in cut:
        kept = mask.nonzero()[:, 0]
        for name in (chain.conv, *chain.links):
            _shrink(small.get_submodule(name), kept)
        if chain.consumer:
            _shrink_inputs(small.get_submodule(chain.consumer), kept)
    for chain, mask in cut:  # last, since it moves layers to other names
        if not chain.consumer:
            name, restore = (chain.conv, *chain.links)[-1], Restore(len(mask), mask.nonzero()[:, 0])
            small.set_submodule(name, nn.Sequential(small.get_submodule(name), restore))
    return small


def _shrink(layer: nn.Module, kept: Tensor) -> None:
    """Leaves `layer` the output channels `kept`; what treats each channel on its own, of its inputs as well."""
    each = depthwise(layer)
    for name in ("weight", "bias"):
        weight = getattr(layer, name, None)
        if weight is not None:
            setattr(layer, name, nn.Parameter(weight[kept], requires_grad=False))
    if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean, layer.running_var = layer.running_mean[kept], layer.running_var[kept]
        layer.num_features = len(kept)
    elif isinstance(layer, nn.Conv2d | nn.Conv3d):
        layer.out_channels = len(kept)
        if each:
            layer.in_channels = layer.groups = len(kept)


def _shrink_inputs(layer: nn.Module, kept: Tensor) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    layer.weight = nn.Parameter(layer.weight[:, kept], requires_grad=False)
    layer.in_channels = len(kept)
