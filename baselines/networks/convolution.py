"""The convolution of images, with what follows it everywhere."""

from __future__ import annotations

from torch import nn


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, act: type[nn.ReLU | nn.ReLU6] = nn.ReLU
) -> nn.Sequential:
    """(B, inputs, H, W) to (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉): convolution, normalisation and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        act(inplace=True),
    )
