"""The training budget that a profile grants a method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The training budget that a profile grants: total epochs over all stages, and the optimiser's settings."""

    epochs: int
    batch: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1  # share of a stage's steps
    precision: str = "fp32"  # or "bf16": autocast
    clip_norm: float = 0.0  # 0: gradients are not clipped
