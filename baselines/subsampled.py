"""The plainest way to spend less: the static network on fewer frames of the same clip, evenly spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bench import registry
from bench.method import Batch, InputSpec, Prediction
from bench.policy import Policy
from bench.static import Static
from bench.weights import spec_of


class Subsampled(Static):
    """A classifier that sees `keep` of the frames of its clips (B, C, T, H, W): the middles of as many equal parts."""

    def __init__(self, network: nn.Module, spec: InputSpec, keep: int) -> None:
        super().__init__(network, spec)
        self.rows = [(2 * part + 1) * spec.frames // (2 * keep) for part in range(keep)]

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of one sample as the network gets it."""
        return replace(self.spec, frames=len(self.rows)).shape(1)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits, at the same cost for every sample."""
        return super().forward(sample[:, :, self.rows])

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return super()._loss(replace(batch, sample=batch.sample[:, :, self.rows]))


def subsampled(
    network: str, *, frames: int, size: int, classes: int, network_options: Mapping[str, Any], share: float = 0.75
) -> Subsampled:
    """The registered network `network` on about `share` of the clip's frames; its cost falls by somewhat less, where
    the network rounds frames up.

    Raises:
        ValueError: the share is not above 0 and at most 1, or the network takes images.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    keep = max(1, round(share * frames))
    module = registry.build_network(network, frames=keep, size=size, classes=classes, **network_options)
    spec = spec_of(module, size, frames)
    if spec.kind != "clip":
        raise ValueError(f"{network} takes a single {spec.kind}: there are no frames to leave out")
    return Subsampled(module, spec, keep)
