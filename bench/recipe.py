"""The training budget that a profile grants a method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LARGEST_SEED = 2**63 - 1
"""From 0: what NumPy, torch, TOML and 64-bit columns of tables all bear."""


@dataclass(frozen=True)
class Recipe:
    """The training budget that a profile grants: total epochs over all stages, and the optimiser's settings."""

    epochs: int
    batch: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1  # share of a stage's steps
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast
    clip_norm: float = 0.0  # 0: gradients are not clipped
    schedule: Literal["cosine", "poly"] = "cosine"  # of the learning rate, down to zero; poly: with the power 0.9
    accumulate: int = 1  # parts of a batch that are computed one after the other, to save memory

    def __post_init__(self) -> None:
        """Checks what a profile gives.

        Raises:
            ValueError: a number that cannot be; names its field.
        """
        right = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch": (self.batch >= 1, "1 or more"),
            "lr": (0 < self.lr < math.inf, "finite and above 0"),
            "momentum": (0 <= self.momentum < 1, "0 or more and below 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "finite and 0 or more"),
            "warmup": (0 <= self.warmup < 1, "0 or more and below 1"),
            "clip_norm": (0 <= self.clip_norm < math.inf, "finite and 0 or more"),
            "accumulate": (self.accumulate >= 1, "1 or more"),
        }  # NaN is in no range
        for field, (fits, words) in right.items():
            if not fits:
                raise ValueError(f"{field} must be {words}, not {getattr(self, field)}")

    def divided(self, shares: Sequence[float]) -> list[int]:
        """Epochs of stages that get `shares` of them all: whole numbers that add up to `epochs`.

        The largest remainders are rounded up, of equal ones the earliest.

        Raises:
            ValueError: a share below 0, or none above it.
        """
        if min(shares, default=0) < 0 or not sum(shares) > 0:
            raise ValueError(f"shares of the epochs must be 0 or more, one of them above 0, got {list(shares)}")
        exact = [self.epochs * share / sum(shares) for share in shares]
        whole = [int(part + 1e-9) for part in exact]
        by_remainder = sorted(range(len(shares)), key=lambda stage: whole[stage] - exact[stage])
        for stage in by_remainder[: self.epochs - sum(whole)]:
            whole[stage] += 1
        return whole
