"""What is timed in one round: forms of both methods, each with inputs and decisions of its own copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.data.sampling import Sampling
from bench.inference.settings import algorithms_tried
from bench.method import Method, Prediction
from bench.policy import Policy
from bench.speed.forms import DTYPES, PLAIN, built, channels_last
from bench.speed.inputs import Given, Inputs, Stream, choose, laid_out
from bench.speed.pair import Key, Pair, Side
from bench.speed.record import Form


@dataclass
class TimedArm:
    """A form of one side. label: for messages."""

    key: Key
    label: str
    side: Side
    form: Form
    method: Method

    def __call__(self, given: Given) -> Prediction:
        """The answer for a batch."""
        sample = given.sample if isinstance(given.sample, Tensor) else given.sample()
        with algorithms_tried(self.method.steady):
            prediction: Prediction = self.method(sample, given.policy)
        return prediction


class Arms:
    """ "a", "b", "b again" (an identical second copy of b), and the plain forms of b that run, by these names.

    missing: the other forms that were asked for, and why they do not run.
    """

    def __init__(self, pair: Pair) -> None:
        setting, specs = pair.setting, {side.method.spec for side in pair.sides.values()}
        self.pair, self.setting, self.dtype = pair, setting, DTYPES[setting.precision]
        sampling = Sampling(setting.profile.sampling, setting.profile.stride)
        self.videos = choose(pair.dataset.validation, specs, setting.batch * pair.most_rounds, setting.seed)
        self._inputs = {spec: Inputs(self.videos, spec, sampling, setting.batch, pair.device) for spec in specs}
        self.missing: dict[str, str] = {}
        self.all = {"a": self._arm("a", "optimised"), "b": self._arm("b", "optimised")}
        self.all["b again"] = self._arm("b", "optimised")
        for arm in self.all.values():
            if arm.method.steady:  # before all others: cuDNN keeps what first ran on a shape, whether tried or guessed
                arm(self.given(arm, 0, "warm"))
        for form in PLAIN if setting.plain else ():
            self._add(form)

    def _arm(self, key: Key, form: Form) -> TimedArm:
        side = self.pair.sides[key]
        policy = self.pair.b_policy if key == "b" else ""
        said = [form] * (form != "optimised") + [f"policy {policy}"] * bool(policy)
        label = f"{side.name} ({', '.join(said)})" if said else side.name
        return TimedArm(key, label, side, form, built(side.method, form, self.setting.precision))

    def _add(self, form: Form) -> None:
        try:
            arm = self._arm("b", form)
            arm(self.given(arm, 0, "warm"))
            self.all[form] = arm
        except Exception as error:  # compilers fail in many ways, and a form that does not run is no failure
            self.missing[form] = " ".join(f"{type(error).__name__}: {error}".split())[:300]

    def given(self, arm: TimedArm, number: int, stream: Stream = "timed") -> Given:
        """Batch `number` for one arm alone: a fresh copy, or what reads it, if that is to be timed as well."""
        if stream == "timed" and self.setting.decode:
            return Given(lambda: self.sample(arm, number), self.policy(arm.side, number))
        sample = self._of(arm.side).dealt(number, stream)
        return Given(laid_out(sample, self.dtype, channels_last(arm.form)), self.policy(arm.side, number))

    def sample(self, arm: TimedArm, number: int) -> Tensor:
        """Batch `number` of the timed stream as an arm takes it."""
        return laid_out(self._clips(arm.side, number), self.dtype, channels_last(arm.form))

    def policy(self, side: Side, number: int) -> Policy:
        """The decisions that go with batch `number`."""
        return side.policy.rows(self._of(side).positions(number))

    def apart(self, side: Side) -> Callable[[int], tuple[Tensor, Policy]]:
        """What gives the batches of a side in float32, with their decisions."""
        return lambda number: (laid_out(self._clips(side, number), torch.float32, True), self.policy(side, number))

    def _clips(self, side: Side, number: int) -> Tensor:
        return self._of(side).decoded(number) if self.setting.decode else self._of(side).dealt(number, "timed")

    def _of(self, side: Side) -> Inputs:
        return self._inputs[side.method.spec]
