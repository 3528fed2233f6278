"""NewMethod: looks at every frame of a clip, or only at every fourth one, as it decides clip by clip."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import count_meta, samples
from bench.gradient_stage import GradientStage
from bench.method import Batch, InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy

STEPS = (1, 4)  # the options, the dearest first: every frame, every fourth frame


class NewMethod(Method):
    """A small 3D network behind a gate that sees how much moves.

    price: what computing everything costs, in units of the loss; the higher, the more clips get by with fewer frames.
    width: channels of the first convolution.
    """

    revision = 1  # raise it when what you change here changes results: records of another revision are never mixed

    # Built with these three, by keyword; anything else is an option with a default (--option price=0.2).
    def __init__(self, *, frames: int, size: int, classes: int, price: float = 0.2, width: int = 8) -> None:
        super().__init__()
        if frames < 2:
            raise ValueError(f"{frames} frame: there is nothing to leave out")
        self.spec = InputSpec("clip", size, frames)  # what a sample is: (B, 3, frames, size, size), normalised
        self.price, self.classes = price, classes
        self.gate = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, len(STEPS)))
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv3d(inputs, outputs, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(outputs), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4 * width, classes))
        # Multiply-adds of one clip under each option, the gate included. They must be what really runs.
        shapes = [(1, 3, len(range(0, frames, step)), size, size) for step in STEPS]
        self.costs = [count_meta(self.gate, (1, 2)).macs + count_meta(self.network, shape).macs for shape in shapes]

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Answers for samples (B, 3, T, H, W); in eval() only what is decided may run, for each sample on its own."""
        learned = F.one_hot(self.weights(sample).argmax(1), len(STEPS)).to(sample)
        # A policy from outside (a control, a replay) overrides what the gate says; (B, options), one of them 1.
        decided = (policy or Learned()).decide("frames", learned)
        logits = sample.new_zeros(len(sample), self.classes)
        for option, step in enumerate(STEPS):
            rows = (decided[:, option] > 0).nonzero()[:, 0]
            if len(rows):
                with samples(rows):  # tells the counter for which of the samples this runs
                    answer = self.network(sample[rows, :, ::step])
                logits = logits.index_copy(0, rows, answer.to(logits))
        trace = {"frames": decided}
        return Prediction(self.account(trace), trace, logits=logits)

    def weights(self, sample: Tensor) -> Tensor:
        """How much the gate is for each option (B, options), from how much moves and how much there is to see."""
        motion, contrast = sample.diff(dim=2).abs().mean((1, 2, 3, 4)), sample.std((1, 2, 3, 4))
        weights: Tensor = self.gate(torch.stack([motion, contrast], 1)).softmax(1)
        return weights

    # These two get a method its controls: the same network under decisions that do not look at the clip.
    def decisions(self) -> Mapping[str, Tensor]:
        """Each decision point with its options, the dearest first, the cheapest last."""
        return {"frames": torch.eye(len(STEPS))}

    def account(self, trace: Trace) -> Tensor:
        """Multiply-adds (B,) that these decisions cost: whole numbers, on the CPU, and nothing is run for them."""
        return torch.tensor(self.costs)[trace["frames"].argmax(1).cpu()]

    # How it is trained. A profile grants the epochs; the stages share them out (here there is one).
    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One stage of gradient descent; every parameter must be reached by some stage."""
        return [GradientStage("train", self, [{"params": self.parameters()}], self.loss, recipe, recipe.epochs)]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss to expect were options drawn by the gate's weights, and the price of what they cost; what to log."""
        weights = self.weights(batch.sample)
        answers = [self.network(batch.sample[:, :, ::step]) for step in STEPS]
        losses = torch.stack([F.cross_entropy(logits, batch.target, reduction="none") for logits in answers], 1)
        cost = (weights @ weights.new_tensor(self.costs)).mean() / self.costs[0]
        return (weights * losses).sum(1).mean() + self.price * cost, {"cost": cost.item()}
