"""Networks for images on clips, as TSN does (Wang et al., ECCV 2016): every frame on its own, logits averaged."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Frames(nn.Module):
    """A network for images on clips (B, 3, T, H, W): logits (B, classes), averaged over frames.

    network: maps images to logits and takes (B, C, T, H, W) as it takes (B, C, H, W), once its layers do. These are
    replaced, in place, by their 1×k×k forms with the same weights, whose time stays a dimension of its own: with frames
    folded into the batch, what looks at a clip (a temporal shift, the gate of a dynamic convolution) could not see it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, framewise(module))
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.network(clips).mean(1)
        return logits


def framewise(layer: nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d) -> nn.Module:
    """The layer that does to each frame of (B, C, T, H, W) what `layer` does to (B, C, H, W), with its weights."""
    if isinstance(layer, nn.MaxPool2d):
        shape = _sizes(1, layer.kernel_size), _sizes(1, layer.stride), _sizes(0, layer.padding)
        return nn.MaxPool3d(*shape, _sizes(1, layer.dilation), ceil_mode=layer.ceil_mode)
    twin: nn.Module
    with torch.device("meta"):  # the weights are `layer`'s: none are made here, and no random number is drawn
        if isinstance(layer, nn.BatchNorm2d):
            twin = nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum)
        else:
            channels = layer.in_channels, layer.out_channels
            shape = _sizes(1, layer.kernel_size), _sizes(1, layer.stride), _sizes(0, layer.padding)
            dilation, biased = _sizes(1, layer.dilation), layer.bias is not None
            twin = nn.Conv3d(*channels, *shape, dilation, layer.groups, biased, layer.padding_mode)
    state = {name: value.unsqueeze(2) if value.dim() == 4 else value for name, value in layer.state_dict().items()}
    twin.load_state_dict(state, assign=True)
    return twin.train(layer.training)


def _sizes(time: int, space: int | str | tuple[int, ...]) -> tuple[int, int, int]:
    """(time, height, width) from what a 2D layer says of height and width."""
    if isinstance(space, str):
        raise ValueError(f"padding {space!r} has no form for clips: give it in pixels")
    height, width = (space, space) if isinstance(space, int) else space
    return time, height, width
