"""Where AdaFocus V2 looks: its recurrent policy, and the rules that its controls go by."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.adafocus.precision import at_least_single
from baselines.adafocus.recurrence import unrolled


class PlacePolicy(nn.Module):
    """The policy network π of AdaFocus V2 (Wang et al., CVPR 2022): glance maps to places, frame after frame.

    A 1×1 convolution to `width` channels and a fully connected layer to 32 · width, both normalised and with tanh, a
    GRU as wide, and a linear layer with a sigmoid. channels, side: of the glance maps.
    """

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        hidden = 32 * width
        self.conv = nn.Conv3d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.fc = nn.Linear(width * side * side, hidden)
        self.norm_fc = nn.BatchNorm1d(hidden)
        self.gru = nn.GRUCell(hidden, hidden)
        self.place = nn.Linear(hidden, 2)

    def forward(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Places (N, T, 2) in 0..1 as (y, x) of T frames that follow on `state`, and the state (N, hidden) after them.

        maps: (N, channels, T, side, side). state: None before the first frame.
        """
        reduced = self.norm(self.conv(maps)).tanh().transpose(1, 2)  # (N, T, width, side, side)
        encoded = self.norm_fc(self.fc(reduced.flatten(2).flatten(0, 1))).tanh()
        states = unrolled(self.gru, encoded.view(len(maps), -1, encoded.shape[1]), state)
        return at_least_single(self.place(states)).sigmoid(), states[:, -1]


def spread(frames: int) -> list[tuple[float, float]]:
    """Places that fill the frame evenly and differ from frame to frame, the same for every video.

    The additive recurrence of the plastic number ρ, the real root of ρ³ = ρ + 1: as random as a fixed rule can be.
    """
    plastic = 1.324717957244746
    return [((0.5 + t / plastic) % 1, (0.5 + t / plastic**2) % 1) for t in range(frames)]
