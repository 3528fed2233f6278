"""The networks of AR-Net: the policy network, and what a ResNet says of images at a resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.networks.mobilenet import LAST, MobileNetV2
from baselines.networks.resnet import ResNet, pooled
from bench.weights import Origin

WIDTH, HIDDEN = 64, 512


class PolicyNetwork(nn.Module):
    """MobileNetV2, an LSTM and two linear layers: what to do with a frame, and what the frames so far say of the class.

    actions: how many there are to choose from. width: 64 as published; all channels scale with it. dropout: before the
    LSTM, where the paper's code has it.
    """

    def __init__(self, classes: int, actions: int, width: int, dropout: float) -> None:
        super().__init__()
        mobile = MobileNetV2(classes, width // 2, LAST * min(width, WIDTH) // WIDTH)
        self.features, self.dropout = mobile.features, nn.Dropout(dropout)
        self.origins = {"features": Origin("mobilenet_v2", "network.features.")}
        self.hidden = HIDDEN * width // WIDTH
        self.lstm = nn.LSTMCell(mobile.channels, self.hidden)
        self.choose, self.classify = nn.Linear(self.hidden, actions), nn.Linear(self.hidden, classes)
        initialise(self.choose)
        initialise(self.classify)

    def describe(self, images: Tensor) -> Tensor:
        """What the LSTM sees of images (n, 3, h, w): (n, C)."""
        described: Tensor = self.dropout(pooled(self.features(images)))
        return described

    def log_chances(self, hidden: Tensor) -> Tensor:
        """Logarithms of the chances of the actions (n, actions), none below 1e-8, for hidden states (n, hidden).

        In single precision at least: what is drawn from them in half precision may not be finite.
        """
        scores: Tensor = self.choose(hidden)
        return scores.softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32)).clamp(min=1e-8).log()

    def forward(self, images: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Log-chances at one frame, and the LSTM's next hidden and cell state (n, hidden); no state: it starts."""
        hidden, cell = self.lstm(self.describe(images), state)
        return self.log_chances(hidden), hidden, cell


class Backbone(nn.Module):
    """A ResNet at its own resolution: logits (n, classes) of images (n, 3, H, W) of any size.

    name: of the registered network that it is. dropout: before the classifier, as TSN has it.
    """

    def __init__(self, name: str, network: ResNet, resolution: int, dropout: float) -> None:
        super().__init__()
        self.origins = {"network": Origin(name, "network.")}
        self.network, self.resolution, self.dropout = network, resolution, nn.Dropout(dropout)
        initialise(network.fc)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        features = self.network.features(resized(images, self.resolution))
        logits: Tensor = self.network.fc(self.dropout(pooled(features)))
        return logits


def resized(images: Tensor, size: int) -> Tensor:
    """Images (n, 3, H, W) at size x size, bilinear and smoothed as image libraries do."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def initialise(linear: nn.Linear) -> None:
    """New linear layers of the authors' code start at N(0, 0.001), their bias at zero."""
    nn.init.normal_(linear.weight, 0, 0.001)
    nn.init.zeros_(linear.bias)
