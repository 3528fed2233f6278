"""What several tests share: a tiny labelled video set, and four toy methods that carry the interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import samples
from bench.gradient_stage import GradientStage
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy


class ToySplit:
    """Grey videos of noise, `shape` (T, H, W), whose brightness tells the label; two of a source, or from `sources`."""

    classes = ("dark", "middle", "bright")
    flip = True

    def __init__(self, videos: int = 24, shape: tuple[int, int, int] = (12, 10, 12), sources: int = 0) -> None:
        self.shape = shape
        self.targets = np.arange(videos, dtype=np.int64) % 3
        self.groups = np.array([str(row % sources if sources else row // 2) for row in range(videos)])
        self.attributes = pd.DataFrame({"motion": np.linspace(0, 1, videos)})

    def __len__(self) -> int:
        return len(self.targets)

    def video(self, index: int) -> Tensor:
        noise = np.random.default_rng(index).integers(0, 60, (*self.shape, 1))
        return torch.from_numpy((noise + 60 * int(self.targets[index])).astype(np.uint8))


class ToyBoxes(ToySplit):
    """Dark clips, `shape` (T, H, W), in which one bright rectangle stands still; brightness tells the class."""

    task: Literal["boxes"] = "boxes"

    def annotation(self, index: int) -> Tensor:
        random, (_, height, width) = np.random.default_rng(index), self.shape
        high, wide = random.integers(3, height // 2 + 1), random.integers(3, width // 2 + 1)
        y, x = random.integers(height - high + 1), random.integers(width - wide + 1)
        return torch.tensor([[x, y, x + wide, y + high, self.targets[index]]], dtype=torch.float32)

    def video(self, index: int) -> Tensor:
        video = torch.zeros(*self.shape, 1, dtype=torch.uint8)
        x1, y1, x2, y2, label = self.annotation(index)[0].int().tolist()
        video[:, y1:y2, x1:x2] = 85 + 85 * label
        return video


class ToyMasks(ToySplit):
    """Pictures (1, H, W), each half dark and half bright, with nothing known of the line between."""

    task: Literal["masks"] = "masks"

    def annotation(self, index: int) -> Tensor:
        edge = 2 + int(np.random.default_rng(index).integers(self.shape[2] - 3))
        mask = torch.zeros(self.shape[1:], dtype=torch.int64)
        mask[:, edge:], mask[:, edge - 1] = 1, -1
        return mask

    def video(self, index: int) -> Tensor:
        return (self.annotation(index) == 1).to(torch.uint8)[None, :, :, None] * 255


class Toy(Method):
    """Mean-pooled pixels into a linear layer; subclasses say what they make of it."""

    spec = InputSpec("clip", 8, 4)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 5)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return Prediction(torch.full((len(sample),), 15), logits=self.head(sample.mean((-3, -2, -1))))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        groups = [{"params": self.parameters()}]
        return [GradientStage("train", self, groups, self.loss, recipe, recipe.epochs)]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        logits = self(batch.sample).logits
        return F.cross_entropy(logits, batch.target), {}


class Calibration(Stage):
    """A stage without gradients: sets the exit threshold to the median confidence it sees."""

    name, epochs = "calibrate", 1

    def __init__(self, method: EarlyExit) -> None:
        self.method, self.seen = method, list[float]()

    @torch.no_grad()
    def step(self, batch: Batch) -> dict[str, float]:
        self.seen += self.method.confidence(batch.sample).tolist()
        return {}

    def end(self) -> None:
        self.method.threshold.fill_(float(torch.tensor(self.seen).median()))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class EarlyExit(Toy):
    """Answers from the first frame where that is sure enough, else from a larger head over all frames."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(12, 5)
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor(0.4))

    def confidence(self, sample: Tensor) -> Tensor:
        return self.head(sample[:, :, 0].mean((-2, -1))).softmax(1).amax(1)

    def goes_on(self, logits: Tensor) -> Tensor:
        """Whether each sample (B,) goes on to the larger head, by its first logits (B, K)."""
        return logits.softmax(1).amax(1) < self.threshold

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(sample[:, :, 0].mean((-2, -1)))
        go_on = self.goes_on(logits).to(logits)
        decided = (policy or Learned()).decide("exit", torch.stack([go_on, 1 - go_on], 1))
        rows = (decided[:, 0] > 0).nonzero()[:, 0]
        if len(rows):
            logits = logits.index_copy(0, rows, self.later(sample, rows))
        trace = {"exit": decided}
        return Prediction(self.account(trace), trace, logits=logits)

    def later(self, sample: Tensor, rows: Tensor) -> Tensor:
        with samples(rows):
            found: Tensor = self.late(sample[rows].mean((-2, -1)).flatten(1))
        return found

    def decisions(self) -> Mapping[str, Tensor]:
        return {"exit": torch.eye(2)}

    def account(self, trace: Trace) -> Tensor:
        return 15 + 60 * (trace["exit"][:, 0] > 0).long().cpu()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        both = self.head(batch.sample[:, :, 0].mean((-2, -1))), self.late(batch.sample.mean((-2, -1)).flatten(1))
        return torch.stack([F.cross_entropy(logits, batch.target) for logits in both]).sum(), {}

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        first = GradientStage("train", self, [{"params": self.parameters()}], self.loss, recipe, recipe.epochs - 1)
        return [first, Calibration(self)]


class Sequence_(Toy):
    """A sequence of clips, answered from the mean over clips; its cost is per video."""

    spec = InputSpec("clips", 8, 4, clips=3, unit="video")

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(sample.mean((-3, -2, -1))).mean(1)
        return Prediction(torch.full((len(sample),), 3 * 15), logits=logits)


class Detector(Toy):
    """One box a sample, its score the largest class share."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        shares = self.head(sample.mean((-3, -2, -1))).softmax(1)
        score, label = shares.max(1)
        boxes = [torch.tensor([[0, 0, 8, 8, 1, float(s), float(k)]]) for s, k in zip(score, label, strict=True)]
        return Prediction(torch.full((len(sample),), 15), boxes=boxes)


class Segmenter(Toy):
    """A 1×1 convolution over an image."""

    spec = InputSpec("image", 8, unit="image")

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        masks = F.conv2d(sample, self.head.weight[:, :, None, None], self.head.bias)
        return Prediction(torch.full((len(sample),), 15 * 64), masks=masks)
