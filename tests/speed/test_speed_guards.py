"""The harness under attack: every way of looking fast without the work is caught by name; honest methods pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from speed.fake_clock import FakeClock
from torch import Tensor
from toys import Detector, EarlyExit, Segmenter, Toy

from bench.method import InputSpec, Method, Prediction
from bench.policy import Forced, Learned, Policy, everything
from bench.speed import guards
from bench.speed.guards import BusyError, CheatError
from bench.speed.inputs import Given
from bench.speed.pairing import interleave

ROUNDS = 8


LATER: list[Callable[[], Any]] = []
"""What threads still have to do."""


class Unfinished(Toy):
    """Answers at once; a thread would fill the answer in later."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        assert prediction.logits is not None
        logits = prediction.logits
        promised = logits * torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
        LATER.append(lambda: promised.copy_(logits))
        return Prediction(prediction.cost, logits=promised)


class Promise(Tensor):
    """A tensor whose values are computed when somebody looks."""


class Lazy(Toy):
    """Answers with a promise."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        assert prediction.logits is not None
        return Prediction(prediction.cost, logits=prediction.logits.as_subclass(Promise))


class Cached(Toy):
    """Keeps its first answer, by shape."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if not hasattr(self, "kept"):
            self.kept = super().forward(sample, policy)
        return self.kept


class Shared(Toy):
    """Keeps its first answer where every copy of it finds it."""

    kept: Prediction | None = None

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        Shared.kept = Shared.kept or super().forward(sample, policy)
        return Shared.kept


class ByAddress(Toy):
    """Keeps answers by where their input was."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Prediction] = {}

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return self.kept.setdefault(sample.data_ptr() % 2, super().forward(sample, policy))


class WarmedUp(Toy):
    """Computes as long as it takes to warm up, and then answers as it usually did."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Tensor] = []

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if len(self.answers) < 6:
            prediction = super().forward(sample, policy)
            assert prediction.logits is not None
            self.answers.append(prediction.logits)
            return prediction
        return Prediction(torch.full((len(sample),), 15), logits=torch.stack(self.answers).mean(0))


class Late(Toy):
    """Answers with what it found for the input before."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Prediction | None = None

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        found = super().forward(sample, policy)
        before, self.last = self.last, found
        return before or found


class Mutating(Toy):
    """Scales its input in place."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        sample.mul_(0.5)
        return prediction


class Hasty(Toy):
    """Is fast by leaving out what is small."""

    def optimised(self) -> Method:
        return Rough()


class Rough(Toy):
    """Leaves out what is small."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return super().forward(sample * (sample.abs() > 0.5), policy)


class Selfish(Toy):
    """Slows down whoever comes next."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        torch.set_num_threads(7)
        return super().forward(sample, policy)


class Infinite(Toy):
    """Answers with what compares with nothing."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return Prediction(torch.full((len(sample),), 15), logits=torch.full((len(sample), 5), torch.nan))


class Disobedient(EarlyExit):
    """Exits whatever it is told."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return super().forward(sample, Forced({"exit": torch.tensor([[0.0, 1.0]])}))


class TimedExit(EarlyExit):
    """Exits after the first passes, when it supposes that it is timed, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold.fill_(1.0)  # all go on
        self.passes = 0

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        self.passes += 1
        return super().forward(sample, Forced({"exit": torch.tensor([[0.0, 1.0]])}) if self.passes > 6 else policy)


class Cheap(EarlyExit):
    """Accounts less than it decides."""

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        prediction = super().forward(sample, policy)
        return Prediction(prediction.cost - 1, prediction.trace, logits=prediction.logits)


class Skipping(Toy):
    """Looks at nothing, and answers with its bias; so does the form that it is timed in, to rounding."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.bias, self.factor = torch.nn.Parameter(torch.arange(5.0)), factor

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = (self.factor * self.bias).expand(len(sample), -1)
        return Prediction(torch.full((len(sample),), 15), logits=logits)

    def optimised(self) -> Method:
        return Skipping(self.factor * (1 + 1e-6))


class Kept(Skipping):
    """Keeps one sample's answer for all, where every copy of it finds it."""

    row: Tensor | None = None

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        if Kept.row is None:
            Kept.row = Toy.forward(self, sample, policy).logits[:1]  # type: ignore[index]
        return Prediction(torch.full((len(sample),), 15), logits=Kept.row.expand(len(sample), -1))

    def optimised(self) -> Method:
        return self


def batch(number: int, spec: InputSpec, warm: bool = False) -> Tensor:
    return torch.randn(spec.shape(4), generator=torch.Generator().manual_seed(2 * number + warm))


def attacked(method: Method, policy: Policy | None = None) -> dict[str, float]:
    """Warms a method up, times it, and holds its answers against those of a copy that was never run."""
    method.eval()
    follow, spec = policy or Learned(), method.spec
    original = guards.Apart(method, lambda number: (batch(number, spec), follow))
    timed = method.optimised()
    arms: dict[str, Callable[[Any], Any]] = {"arm": lambda given: timed(given.sample, given.policy)}
    watch = guards.Watch(ROUNDS, 0)

    def observe(name: str, number: int, given: Any, prediction: Prediction) -> None:
        watch.see(name, "method", number, prediction)
        guards.unchanged("method", given.sample, batch(number, spec))

    with torch.no_grad():
        for number in range(6):
            timed(batch(number, spec, warm=True), follow)
        interleave(arms, lambda name, number: Given(batch(number, spec), follow), ROUNDS, FakeClock(), 0, observe)
        return guards.hold("method", watch.kept["arm"], original, "fp32")


@pytest.mark.parametrize("method", [Toy, EarlyExit, Detector, Segmenter])
def test_honest_methods_pass(method: type[Method]) -> None:
    found = attacked(method())
    assert found["error"] == 0 < found["spread"]


def test_an_answer_that_does_not_hang_on_the_input_is_no_cheat() -> None:
    found = attacked(Skipping())
    assert 0 < found["error"] < 1e-5


def test_honest_decisions_pass_forced_or_turned_by_rounding() -> None:
    method = EarlyExit()
    assert attacked(method, everything(method))["error"] == 0
    method.threshold.fill_(0.3)
    answers = {number: method(batch(number, method.spec)) for number in range(16)}
    turned = answers[0].trace["exit"].clone()
    turned[0] = turned[0].flip(0)
    answers[0] = method(batch(0, method.spec), Forced({"exit": turned}))
    kept = {number: guards.snapshot("method", answer) for number, answer in answers.items()}
    apart = guards.Apart(method, lambda number: (batch(number, method.spec), Learned()))
    assert guards.hold("method", kept, apart, "fp32")["error"] == 0


@pytest.mark.parametrize(
    ("method", "cheat"),
    [
        (Lazy, "something else than plain tensors"),
        (Cached, "same answer to different inputs"),
        (Shared, "same answer to different inputs"),
        (Kept, "same answer to different inputs"),
        (ByAddress, "same answer to different inputs"),
        (WarmedUp, "same answer to different inputs"),
        (Late, "not those computed apart"),
        (Mutating, "changes its input"),
        (Hasty, "not those computed apart"),
        (Infinite, "not finite"),
        (TimedExit, "decides otherwise than when it is not timed"),
        (Cheap, "another cost than its decisions have"),
    ],
)
def test_a_cheat_is_caught_by_name(method: type[Method], cheat: str) -> None:
    with pytest.raises(CheatError, match=rf"^method: .*{cheat}"):
        attacked(method())


def test_forced_decisions_must_be_followed() -> None:
    method = Disobedient()
    with pytest.raises(CheatError, match=r"method: does not follow the decisions it was given \(round 1\)"):
        attacked(method, everything(method))


def test_the_number_of_threads_stays_as_it_is() -> None:
    before = torch.get_num_threads()
    try:
        with pytest.raises(CheatError, match="leaves torch with 7 threads"):
            attacked(Selfish())
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("precision", "error", "caught"), [("fp32", 2e-3, True), ("bf16", 2e-2, False)])
def test_tolerance_goes_by_precision(precision: Any, error: float, caught: bool) -> None:
    method = Toy()
    answers = {n: guards.snapshot("method", method(batch(n, method.spec))) for n in range(3)}
    apart = guards.Apart(method, lambda number: (batch(number, method.spec), Learned()))
    near = {n: guards.Answer(a.values * (1 + error), a.trace, a.cost) for n, a in answers.items()}
    if caught:
        with pytest.raises(CheatError):
            guards.hold("method", near, apart, precision)
    else:
        assert guards.hold("method", near, apart, precision)["error"] == pytest.approx(error, rel=0.5)


def test_zeros_agree_with_zeros_and_with_nothing_else() -> None:
    """A detector that finds no box, or a network that was told to skip every frame."""
    zeros = {number: torch.zeros(4, 6) for number in range(3)}
    assert guards._compare("method", zeros, zeros, "fp32") == {"error": 0, "spread": 0}
    with pytest.raises(CheatError, match=r"answers in round 2 are not those computed apart.*\(not zeros\)"):
        guards._compare("method", {**zeros, 1: torch.full((4, 6), 1e-6)}, zeros, "fp32")


def test_checked_rounds_are_drawn_and_all_of_a_short_timing() -> None:
    assert guards.Watch(8, 0).kept_rounds == list(range(8))
    one, other = (guards.Watch(200, seed).kept_rounds for seed in (0, 1))
    assert len(one) == len(set(one)) == guards.CHECKED and max(one) < 200 and one != other


class Remembering:
    """Takes a tick for what it has seen, and ten for what is new."""

    def __init__(self, clock: FakeClock, remembers: bool) -> None:
        self.clock, self.remembers, self.seen = clock, remembers, list[Tensor]()

    def __call__(self, given: Tensor) -> None:
        known = self.remembers and any(torch.equal(given, other) for other in self.seen)
        self.seen.append(given)
        self.clock.tick(1 if known else 10)


def test_what_is_faster_on_input_it_has_seen_is_caught() -> None:
    clock = FakeClock()

    def fresh(number: int) -> Tensor:
        return torch.full((3,), float(number))

    guards.same_when_seen("method", Remembering(clock, remembers=False), fresh, clock)
    with pytest.raises(CheatError, match="method: is faster on input that it has seen"):
        guards.same_when_seen("method", Remembering(clock, remembers=True), fresh, clock)


@pytest.mark.parametrize(
    ("ticks", "caught"),
    [((10, 1, 10, 1, 10, 1), True), ((10, 1, 10, 1, 10, 10), False), ((10, 1, 1, 1, 10, 1), False)],
)
def test_only_what_is_faster_at_every_second_sight_is_caught(ticks: tuple[int, ...], caught: bool) -> None:
    clock, left = FakeClock(), iter(ticks)
    with pytest.raises(BusyError) if caught else nullcontext():
        guards.same_when_seen("method", lambda given: clock.tick(next(left)), torch.zeros, clock)


@pytest.mark.parametrize(("busy", "caught"), [(0.0, False), (0.05, False), (0.5, True)])
def test_work_after_the_return_is_caught(busy: float, caught: bool) -> None:
    now, method = [0.0], Toy()

    def sleep(seconds: float) -> None:
        now[0] += busy * seconds

    def look() -> None:
        call = lambda: method(batch(0, method.spec))  # noqa: E731
        guards.done_on_return("method", call, sleep=sleep, processor=lambda: now[0])

    if caught:
        with pytest.raises(CheatError, match="method: works on after it has returned: 50% of a core"):
            look()
    else:
        look()


def test_an_answer_that_is_still_to_come_is_caught() -> None:
    method = Unfinished()

    def sleep(seconds: float) -> None:
        while LATER:
            LATER.pop()()

    with torch.no_grad(), pytest.raises(CheatError, match="was not done when it returned: its answer changed"):
        guards.done_on_return("method", lambda: method(batch(0, method.spec)), sleep=sleep, processor=lambda: 0.0)


def test_work_on_another_stream_is_caught() -> None:
    guards.in_sight("method", [0.010] * 5, [0.0105] * 5)
    guards.in_sight("method", [0.0001] * 5, [0.0005] * 5)  # what a synchronisation takes
    with pytest.raises(CheatError, match="method: works out of its stream's sight: 10 ms by events, 20 ms in all"):
        guards.in_sight("method", [0.010] * 5, [0.020] * 4 + [9.0])


def test_the_share_of_a_core_is_that_of_all_calls() -> None:
    assert guards.share([1.0, 1.0, 8.0], [1.0, 1.0, 1.0]) == pytest.approx(0.3)  # one round that was cut into
    assert guards.share([1.0, 1.0], [1.9, 1.9]) == 1.0  # two threads
    steps = [0.01 if number % 3 == 0 else 0.0 for number in range(90)]  # a clock that counts in steps of 10 ms
    assert guards.share([0.02 / 3] * 90, steps) == pytest.approx(0.5)
    assert guards.share([0.001] * 6, [0.0005] * 6) == 1.0  # too short to tell


def test_both_sides_must_get_as_much_of_a_core() -> None:
    guards.undisturbed("method", 0.7, 0.72)  # cut into alike
    for own, other in ((1.0, 0.6), (0.6, 1.0)):
        with pytest.raises(BusyError, match=rf"method: got {own:.0%} of a processor .* its other side {other:.0%}"):
            guards.undisturbed("method", own, other)


@pytest.mark.parametrize(("bound", "fastest", "caught"), [(6.6, 5.8, True), (17.0, 5.8, False), (1.0, 30.0, False)])
def test_a_ratio_must_be_borne_out_by_the_roofline_or_by_the_fastest_calls(
    bound: float, fastest: float, caught: bool
) -> None:
    with pytest.raises(BusyError, match=r"method: 33\.4 times as fast, where") if caught else nullcontext():
        guards.believable("method", 33.4, bound, fastest)
