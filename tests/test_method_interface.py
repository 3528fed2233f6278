"""Four toy methods carry the interface: early exit, clip sequence, detector, segmenter; cheats are caught."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes, _len_torch_dispatch_stack
from toys import Calibration, Detector, EarlyExit, Segmenter, Sequence_, Toy, ToySplit

from bench.conformance import check, check_training
from bench.cost import samples
from bench.data.sampling import Sampling
from bench.gradient_stage import GradientStage
from bench.method import Batch, Prediction, Recipe, Stage, Trace
from bench.policy import Forced, Learned, Policy, everything, fixed, matched


def noise(method: Toy, batch: int = 5) -> Tensor:
    """Samples of rising brightness, so that decisions differ."""
    values = torch.randn(method.spec.shape(batch), generator=torch.Generator().manual_seed(2))
    brightness = torch.linspace(0, 2, batch).view(-1, *(1,) * (values.dim() - 1))
    return values + brightness


def pooled(sample: Tensor) -> Tensor:
    return sample.mean((-3, -2, -1))


def answer(logits: Tensor, cost: int = 15) -> Prediction:
    return Prediction(torch.full((len(logits),), cost), logits=logits)


@pytest.mark.parametrize("kind", [EarlyExit, Sequence_, Detector, Segmenter])
def test_toy_methods_conform(kind: type[Toy]) -> None:
    method = kind()
    sample = noise(method)
    assert check(method, sample, rebuild=kind, device="cpu") == []
    if kind is EarlyExit:
        assert set(method(sample).cost.tolist()) == {15, 75}


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


class Steep(EarlyExit):
    """Goes on at fifty times the price of leaving, so that one decision of 256 moves a low mean by a fifth."""

    def account(self, trace: Trace) -> Tensor:
        return 1000 + 50_000 * (trace["exit"][:, 0] > 0).long()


def test_every_cost_between_the_cheapest_and_the_dearest_is_matched() -> None:
    method = Steep()
    for wanted in range(1000, 51_001, 1000):
        found = matched(method, wanted)
        assert method.account(found.trace).double().mean() == pytest.approx(wanted, rel=0.005)
    assert not matched(method, 1000).trace["exit"][:, 0].any() and matched(method, 51_000).trace["exit"][:, 0].all()
    for beyond in (900, 52_000):
        with pytest.raises(ValueError, match=f"costs {beyond} on average"):
            matched(method, beyond)


def test_a_cost_that_few_draws_meet_is_met_by_as_few() -> None:
    method = Steep()
    assert len(matched(method, 26_000).trace["exit"]) == 256


class TwoExits(EarlyExit):
    """A second exit after the larger head, which those that left at the first never get to."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 5)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        before = super().forward(sample, policy)
        logits, gone = before.logits, before.trace["exit"][:, 1:] > 0
        assert logits is not None
        go_on = self.goes_on(logits).to(logits)
        decided = (policy or Learned()).decide("exit.1", torch.stack([go_on, 1 - go_on], 1)).masked_fill(gone, 0)
        rows = (decided[:, 0] > 0).nonzero()[:, 0]
        with samples(rows):
            logits = logits.index_copy(0, rows, self.last(sample[rows].mean((-2, -1)).flatten(1)))
        trace = {**before.trace, "exit.1": decided}
        return Prediction(self.account(trace), trace, logits=logits)

    def decisions(self) -> Mapping[str, Tensor]:
        return {"exit": torch.eye(2), "exit.1": torch.eye(2)}

    def account(self, trace: Trace) -> Tensor:
        second = trace.get("exit.1", torch.zeros(1, 2))
        return super().account(trace) + 60 * ((trace["exit"][:, 0] > 0) & (second[:, 0] > 0)).long()


class Reaching(TwoExits):
    """Lets a decision act on samples that, by the trace, never got to it."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        assert prediction.logits is not None
        acts = (policy or Learned()).decide("exit.1", prediction.trace["exit.1"])[:, :1]
        return Prediction(prediction.cost, prediction.trace, logits=prediction.logits + acts)


def test_points_that_are_not_reached_hold_zeros() -> None:
    method = TwoExits()
    sample = noise(method, 6)
    assert check(method, sample) == []
    with torch.no_grad():
        reached = method(sample).trace["exit.1"].any(1)
    assert reached.any() and not reached.all()
    problems = check(Reaching(), sample)
    assert any("that the trace calls not reached change the answer" in line for line in problems), problems


class Gates(Toy):
    """A gate for each of three products: what is closed is not accounted, but runs; dense kernels do not skip it."""

    exact = False

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        x = pooled(sample)
        gates = (policy or Learned()).decide("gate", (x > 0).to(x)[:, :, None])
        trace = {"gate": gates.expand(len(x), 3, 1)}
        return Prediction(self.account(trace), trace, logits=self.head(x * trace["gate"][:, :, 0]))

    def decisions(self) -> Mapping[str, Tensor]:
        return {"gate": torch.tensor([1.0, 0.0]).view(2, 1, 1)}

    def account(self, trace: Trace) -> Tensor:
        return 1 + (14 * trace["gate"].expand(-1, 3, 1).mean((1, 2))).long()


class Costlier(Gates):
    """Runs more than the dense form, where a gate is closed."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        closed = (prediction.trace["gate"][:, :, 0] == 0).any(1).nonzero()[:, 0]
        with samples(closed):
            self.head(pooled(sample[closed]))
        return prediction


class Scattered(Toy):
    """Zero weights, whose products are not accounted, but run."""

    exact = False

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(pooled(sample)), 6)


def test_methods_that_cannot_skip_lie_between_accounted_and_dense() -> None:
    sample = noise(Gates())
    assert check(Gates(), sample) == []
    assert check(Scattered(), sample, dense=15) == []
    assert any("accounts 6, executes 15 of 14" in line for line in check(Scattered(), sample, dense=14))
    assert any("of 15" in line for line in check(Costlier(), sample))
    Gates.exact = True
    try:
        assert any("cost is not what runs" in line for line in check(Gates(), sample))
    finally:
        Gates.exact = False


class Nested(Toy):
    """An answer of another shape."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(pooled(sample))[:, None])


class Undefined(Toy):
    """No numbers."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(pooled(sample)).sub(10).log())


class Rounded(Toy):
    """A cost that is no integer."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return Prediction(torch.full((len(sample),), 15.0), logits=self.head(pooled(sample)))


class Negative(EarlyExit):
    """Weights below zero, which neither open nor close."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        return Prediction(prediction.cost, {"exit": prediction.trace["exit"] - 1}, logits=prediction.logits)


class Dodging(Toy):
    """Calls the function instead of the module, and reports only what hooks on modules would see."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(F.linear(pooled(sample), self.head.weight) + self.head.bias, 1)


class Overstating(Toy):
    """Makes what it saves look larger."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(pooled(sample)), 20)


class Uncounted(Toy):
    """Hides its work in an operation that counters take for nothing."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        distance = torch.cdist(pooled(sample), self.head.weight)
        return answer(distance, 1)


class Numbers(Toy):
    """Computes in NumPy, which no dispatcher sees."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        first = F.linear(pooled(sample), self.head.weight[:1])
        rest = torch.from_numpy(pooled(sample).numpy() @ self.head.weight[1:].detach().numpy().T)
        return answer(torch.cat([first, rest], 1), 3)


class Threaded(Toy):
    """Computes in another thread than the one that is counted."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        found: list[Tensor] = []
        other = threading.Thread(target=lambda: found.append(F.linear(pooled(sample), self.head.weight[1:]).detach()))
        other.start()
        other.join()
        return answer(torch.cat([F.linear(pooled(sample), self.head.weight[:1]), *found], 1), 3)


class Unwatched(Toy):
    """Switches off whatever counts."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        with _disable_current_modes():
            rest = F.linear(pooled(sample), self.head.weight[1:])
        return answer(torch.cat([F.linear(pooled(sample), self.head.weight[:1]), rest], 1), 3)


class Watching(Toy):
    """Is honest only while it is counted."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(pooled(sample)), 15 if _len_torch_dispatch_stack() else 1)


class Caching(Toy):
    """Answers with what it computed the first time."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if not hasattr(self, "kept") or len(self.kept) < len(sample):
            self.kept = self.head(pooled(sample))
        return answer(self.kept[: len(sample)])


class Recognising(Toy):
    """Keeps the answer to every batch it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[bytes, Tensor] = {}

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        key = bytes(sample.flatten().view(torch.uint8).tolist())
        if key not in self.kept:
            self.kept[key] = self.head(pooled(sample))
        return answer(self.kept[key])


class Remembering(Toy):
    """Takes the tensor that it saw last for the same input, whatever has been written into it."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if getattr(self, "last", None) is not sample:
            self.last, self.kept = sample, self.head(pooled(sample))
        return answer(self.kept)


class Foreknowing(Toy):
    """Knows one input from the start, and answers that from memory, cheaply."""

    def __init__(self) -> None:
        super().__init__()
        self.known = pooled(noise(self, 6))
        with torch.no_grad():
            self.ready = self.head(self.known) - self.known @ self.head.weight[:1].T

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        x = pooled(sample)
        match = (self.known[None] - x[:, None]).abs().amax(2) < 1e-6
        if not match.any(1).all():
            return super().forward(sample)
        return answer(self.ready[match.int().argmax(1)] + F.linear(x, self.head.weight[:1]), 3)


class Prepared(Toy):
    """Has the answer ready, made when it was built, and multiplies for show."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = torch.randn(5, 3)

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(F.linear(pooled(sample), self.ready))


class Forgetful(EarlyExit):
    """Keeps what it has learned where nothing saves it."""

    limit = 0.9

    def goes_on(self, logits: Tensor) -> Tensor:
        return logits.softmax(1).amax(1) < self.limit


class Peeking(Toy):
    """Looks at the other samples of the batch."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(pooled(sample))
        return answer(logits - logits.mean(0))


class Comparing(EarlyExit):
    """The surer half of the batch leaves."""

    def goes_on(self, logits: Tensor) -> Tensor:
        sure = logits.softmax(1).amax(1)
        return sure < sure.median()


class Crowded(Toy):
    """Compares samples with each other where there are many."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = self.head(pooled(sample))
        return answer(logits - logits.mean(0) if len(sample) > 8 else logits)


class Hasty(EarlyExit):
    """Leaves early where there are many samples."""

    def goes_on(self, logits: Tensor) -> Tensor:
        return super().goes_on(logits) & (len(logits) <= 8)


class Placed(Toy):
    """Tells samples apart by their place."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(pooled(sample)) + torch.arange(len(sample))[:, None])


class Mutating(Toy):
    """Writes into its input."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        sample.mul_(0.5)
        return super().forward(sample)


class Training(Toy):
    """A part that never leaves training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5, track_running_stats=False)

    def train(self, mode: bool = True) -> Training:
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.norm(self.head(pooled(sample))))


class Adapting(Toy):
    """Goes on learning while it is evaluated, by too little to show at once."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        with torch.no_grad():
            self.head.bias.add_(1e-6)
        return super().forward(sample)


class Random(Toy):
    """Drops at random, in evaluation as well."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return answer(self.head(F.dropout(pooled(sample), 0.5)))


class Seeding(Toy):
    """Makes its noise repeatable at the cost of everyone else's."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        torch.manual_seed(3)
        return answer(self.head(pooled(sample)) + torch.randn(5))


class Stubborn(EarlyExit):
    """Says that it followed the decisions, and follows its own."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        own = super().forward(sample)
        trace = {"exit": (policy or Learned()).decide("exit", own.trace["exit"])}
        return Prediction(self.account(trace), trace, logits=own.logits)


class Deaf(EarlyExit):
    """Takes no decisions from outside."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return super().forward(sample)


class Uniform(EarlyExit):
    """Takes decisions from outside, unless they are the same for all samples."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if isinstance(policy, Forced) and all(bool((rows == rows[0]).all()) for rows in policy.trace.values()):
            return super().forward(sample)
        return super().forward(sample, policy)


class Single(EarlyExit):
    """Takes decisions from outside, unless one row stands for all samples."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        one = isinstance(policy, Forced) and len(policy.trace["exit"]) == 1
        return super().forward(sample, None if one else policy)


class Backwards(EarlyExit):
    """Lists the cheapest option first."""

    def decisions(self) -> Mapping[str, Tensor]:
        return {"exit": torch.eye(2).flip(0)}


class Mistaken(EarlyExit):
    """Its account is not its cost."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        return Prediction(super().account(prediction.trace), prediction.trace, logits=prediction.logits)

    def account(self, trace: Trace) -> Tensor:
        return super().account(trace) + 1


class Computing(EarlyExit):
    """Accounts by running."""

    def account(self, trace: Trace) -> Tensor:
        return super().account(trace) + 0 * torch.ones(1, 2).mm(torch.ones(2, 1)).long()[0]


class Wide(EarlyExit):
    """More options than can be stored."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        return Prediction(prediction.cost, {"exit": F.pad(prediction.trace["exit"], (0, 7))}, logits=prediction.logits)

    def decisions(self) -> Mapping[str, Tensor]:
        return {"exit": torch.eye(9)}


class Silent(EarlyExit):
    """Names points, and says nothing of them."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        return Prediction(prediction.cost, logits=prediction.logits)


class Broken(EarlyExit):
    """Does not run where all samples leave."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        if isinstance(policy, Forced) and len(prediction.cost) > 5:
            raise IndexError("out of range")
        return prediction


class Leaving(EarlyExit):
    """Ends the program, as if all were well."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        raise SystemExit(0)


class LeavingLater(EarlyExit):
    """Ends the program when it is told what to decide."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if isinstance(policy, Forced):
            raise SystemExit(0)
        return super().forward(sample, policy)


class Greedy(Toy):
    """Trains longer than it was granted."""

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        return [*super().stages(recipe), *super().stages(recipe)]


class Vague(Toy):
    """Says of itself what is no number."""

    def details(self) -> dict[str, object]:
        return {"gain": float("inf")}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Vague, "details() gives 'gain' as what JSON cannot hold"),
        (Nested, "logits must be (B, K)"),
        (Undefined, "not finite"),
        (Rounded, "cost must be 6 positive int64"),
        (Negative, "none below zero"),
        (Dodging, "accounts 1, executes 15"),
        (Overstating, "accounts 20, executes 15"),
        (Uncounted, "no multiply-add formula"),
        (Numbers, "out of torch"),
        (Threaded, "out of the counter's sight"),
        (Unwatched, "out of the counter's sight"),
        (Watching, "while it is counted"),
        (Caching, "another answer"),
        (Recognising, "executes 0"),
        (Remembering, "in reversed order"),
        (Foreknowing, "costs differ between samples"),
        (Prepared, "does not depend on the weights"),
        (Peeking, "another answer or cost alone"),
        (Comparing, "another answer or cost alone"),
        (Crowded, "in a batch of 256 than in one of 6"),
        (Hasty, "in a batch of 256 than in one of 6"),
        (Placed, "in reversed order"),
        (Mutating, "changes its input"),
        (Training, "norm stays in training mode"),
        (Adapting, "running changes head.bias"),
        (Random, "two runs give different"),
        (Seeding, "seeds, torch's global random numbers"),
        (Stubborn, "under forced decisions cost is not what runs"),
        (Deaf, "does not follow the decisions forced at 'exit'"),
        (Uniform, "does not follow the decisions forced at 'exit'"),
        (Single, "as one row for all give another answer"),
        (Backwards, "not listed from dearest to cheapest"),
        (Mistaken, "account(trace) differs"),
        (Computing, "account runs 2 multiply-adds"),
        (Wide, "more than 8"),
        (Silent, "only one of trace and decisions() names ['exit']"),
        (Broken, "forced decisions: IndexError: out of range"),
        (Leaving, "forward fails: SystemExit: 0"),
        (LeavingLater, "forced decisions: SystemExit: 0"),
        (Greedy, "take 14"),
    ],
)
def test_cheats_are_caught(kind: type[Toy], words: str) -> None:
    method = kind()
    problems = check(method, noise(method, 6))
    assert any(words in problem for problem in problems), problems


def test_what_is_not_saved_is_missed() -> None:
    method = Forgetful()
    method.limit = 0.3
    assert check(method, noise(method)) == []
    assert any("loaded into a fresh method" in line for line in check(method, noise(method), rebuild=Forgetful))


class Clipwise(Toy):
    """Decides by a switch set in training, which nothing saves: resumed, it trains on without."""

    switch = 0.0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        self.switch += 0.1
        return F.cross_entropy(self.head(pooled(batch.sample) * (1 + self.switch)), batch.target), {}


class Idle(EarlyExit):
    """A head that nothing trains."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return F.cross_entropy(self.head(batch.sample[:, :, 0].mean((-2, -1))), batch.target), {}


class Frozen(EarlyExit):
    """A head that gradients reach and no optimiser has."""

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        groups = [{"params": self.head.parameters()}]
        return [GradientStage("train", self, groups, self.loss, recipe, recipe.epochs)]


class FrozenOnPurpose(Frozen):
    """Says so."""

    def __init__(self) -> None:
        super().__init__()
        self.late.requires_grad_(False)


class Climbing(Toy):
    """Goes up instead of down, as a wrong sign does."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, _ = super().loss(batch)
        return loss.detach() * 2 - loss, {}


class Amnesic(Calibration):
    """Forgets what it has seen when it is interrupted."""

    def state_dict(self) -> dict[str, object]:
        return {"seen": []}

    def end(self) -> None:
        self.method.threshold.fill_(sum(self.seen))


class Uncalibrated(EarlyExit):
    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        return [super().stages(recipe)[0], Amnesic(self)]


class Drifting(Toy):
    """Conforms until it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: Tensor
        self.register_buffer("trained", torch.zeros(()))

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if self.training:
            self.trained.fill_(1)
        return answer(self.head(pooled(sample)), 15 - int(self.trained))


class Exploding(Toy):
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, _ = super().loss(batch)
        return loss, {"entropy": float("nan")}


def logging(**logged: object) -> type[Toy]:
    """A toy whose loss logs something."""

    class Logging(Toy):
        def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
            return super().loss(batch)[0], dict(logged)  # type: ignore[arg-type]

    return Logging


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (logging(mine=1.0, other=2), None),
        (logging(stage=1.0), "logs 'stage', a name that is taken"),
        (logging(name=1.0), "logs 'name', a name that is taken"),
        (logging(step=1.0), "logs 'step', a name that is taken"),
        (logging(waited=1.0), "logs 'waited', a name that is taken"),
        (logging(loss=-5.0), "logs 'loss', a name that is taken"),
        (logging(mine=torch.ones(())), "logs 'mine' as Tensor: log numbers"),
        (Toy, None),
        (EarlyExit, None),
        (Sequence_, None),
        (Clipwise, "interrupted and resumed, training ends with another head.weight"),
        (Uncalibrated, "interrupted and resumed, training ends with another threshold"),
        (Idle, "no gradient reaches 2 of 4 trainable parameters: late.bias, late.weight"),
        (Frozen, "training leaves 2 of 4 trainable parameters as they were, which gradients reach: late.bias, late.w"),
        (FrozenOnPurpose, None),
        (Climbing, "the loss does not fall: 6 steps of stage train"),
        (Drifting, "accounts 14, executes 15"),
        (Exploding, "stage train, step 0, epoch 0: not finite"),
    ],
)
def test_training_is_checked(kind: type[Toy], words: str | None) -> None:
    recipe, split = Recipe(epochs=3, batch=4, lr=0.05), ToySplit(8, sources=2)
    problems = check_training(kind, split, Sampling(), recipe)
    assert problems == [] if words is None else any(words in problem for problem in problems), problems
