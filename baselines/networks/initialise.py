"""How every network here starts, where its paper says nothing else."""

from __future__ import annotations

from torch import nn


def initialise(module: nn.Module) -> None:
    """He initialisation of convolutions, small normal for the classifier; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
