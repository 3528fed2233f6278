"""Four toy methods carry the interface: early exit, clip sequence, detector, segmenter; cheats are caught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.conformance import check
from bench.cost import samples
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy, everything, fixed, matched
from bench.training import GradientStage


class Toy(Method):
    """Mean-pooled pixels into a linear layer; subclasses say what they make of it."""

    spec = InputSpec("clip", 8, 4)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 5)

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
        self.register_buffer("threshold", torch.tensor(0.25))

    def confidence(self, sample: Tensor) -> Tensor:
        return self.head(sample[:, :, 0].mean((-2, -1))).softmax(1).amax(1)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(sample[:, :, 0].mean((-2, -1)))
        go_on = (logits.softmax(1).amax(1) < self.threshold).float()
        decided = (policy or Learned()).decide("exit", torch.stack([go_on, 1 - go_on], 1))
        rows = (decided[:, 0] > 0).nonzero()[:, 0]
        if len(rows):
            with samples(rows):
                late = self.late(sample[rows].mean((-2, -1)).flatten(1))
            logits = logits.index_copy(0, rows, late)
        trace = {"exit": decided}
        return Prediction(self.account(trace), trace, logits=logits)

    def decisions(self) -> Mapping[str, Tensor]:
        return {"exit": torch.eye(2)}

    def account(self, trace: Trace) -> Tensor:
        return 15 + 60 * (trace["exit"][:, 0] > 0).long()

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
        boxes = [torch.tensor([[0, 0, 8, 8, float(s), float(k)]]) for s, k in zip(score, label, strict=True)]
        return Prediction(torch.full((len(sample),), 15), boxes=boxes)


class Segmenter(Toy):
    """A 1×1 convolution over an image."""

    spec = InputSpec("image", 8, unit="image")

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        masks = F.conv2d(sample, self.head.weight[:, :, None, None], self.head.bias)
        return Prediction(torch.full((len(sample),), 15 * 64), masks=masks)


@pytest.mark.parametrize("kind", [EarlyExit, Sequence_, Detector, Segmenter])
def test_toy_methods_conform(kind: type[Toy]) -> None:
    method = kind()
    sample = torch.randn(method.spec.shape(6), generator=torch.Generator().manual_seed(1)) * 3
    assert check(method, sample) == []


def test_forced_exits_follow_the_policy() -> None:
    method = EarlyExit().eval()
    sample = torch.randn(method.spec.shape(4))
    assert method(sample, everything(method)).cost.tolist() == [75] * 4
    assert method(sample, fixed(method, {"exit": 1})).cost.tolist() == [15] * 4
    half = matched(method, 45, draws=64, tolerance=0.05)
    assert method.account(half.trace).float().mean() == pytest.approx(45, rel=0.05)
    with pytest.raises(ValueError, match="no draw"):
        matched(method, 90)
    with pytest.raises(ValueError, match="no option 2 at 'exit'"):
        fixed(method, {"exit": 2})


class Dodging(Toy):
    """Calls the function instead of the module, and reports only what hooks on modules would see."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        hidden = F.linear(sample.mean((-3, -2, -1)), self.head.weight)
        return Prediction(torch.full((len(sample),), 1), logits=hidden + self.head.bias)


class Caching(Toy):
    """Answers with what it computed the first time."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if not hasattr(self, "kept") or len(self.kept) < len(sample):
            self.kept = self.head(sample.mean((-3, -2, -1)))
        return Prediction(torch.full((len(sample),), 15), logits=self.kept[: len(sample)])


class Peeking(Toy):
    """Looks at the other samples of the batch."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(sample.mean((-3, -2, -1)))
        return Prediction(torch.full((len(sample),), 15), logits=logits - logits.mean(0))


class Mutating(Toy):
    """Writes into its input."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        sample.mul_(0.5)
        return Prediction(torch.full((len(sample),), 15), logits=self.head(sample.mean((-3, -2, -1))))


class Recurrent(Toy):
    """Hides its work in an operation that counters take for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(3, 5, batch_first=True)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        frames = sample.mean((-2, -1)).movedim(1, 2)
        return Prediction(torch.full((len(sample),), 1), logits=self.memory(frames)[0][:, -1])


class Watching(Toy):
    """Is honest only while it is counted."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        counted = bool(torch.utils._python_dispatch._len_torch_dispatch_stack())
        cost = 15 if counted else 1
        return Prediction(torch.full((len(sample),), cost), logits=self.head(sample.mean((-3, -2, -1))))


class Greedy(Toy):
    """Trains longer than it was granted."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return Prediction(torch.full((len(sample),), 15), logits=self.head(sample.mean((-3, -2, -1))))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        return [*super().stages(recipe), *super().stages(recipe)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Dodging, "accounts 1, executes 15"),
        (Caching, "another answer"),
        (Peeking, "another answer"),
        (Mutating, "changes its input"),
        (Recurrent, "no multiply-add formula"),
        (Watching, "while it is counted"),
        (Greedy, "take 14"),
    ],
)
def test_cheats_are_caught(kind: type[Toy], words: str) -> None:
    method = kind()
    sample = torch.randn(method.spec.shape(5), generator=torch.Generator().manual_seed(2)) * 3
    assert any(words in problem for problem in check(method, sample)), check(method, sample)
