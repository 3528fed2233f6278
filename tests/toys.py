"""What several tests share: a tiny labelled video set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor


class ToySplit:
    """Videos of noise (T = 12, 10×12, grey) whose brightness tells the label."""

    classes = ("dark", "middle", "bright")
    flip = True

    def __init__(self, videos: int = 24) -> None:
        self.targets = np.arange(videos, dtype=np.int64) % 3
        self.groups = np.array([str(row // 2) for row in range(videos)])
        self.attributes = pd.DataFrame({"motion": np.linspace(0, 1, videos)})

    def __len__(self) -> int:
        return len(self.targets)

    def video(self, index: int) -> Tensor:
        noise = np.random.default_rng(index).integers(0, 60, (12, 10, 12, 1))
        return torch.from_numpy((noise + 60 * int(self.targets[index])).astype(np.uint8))
