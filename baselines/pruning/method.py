"""Weight pruning as a method of the harness (Han et al., "Learning both Weights and Connections", NeurIPS 2015)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from baselines.pruning.compact import compact
from baselines.pruning.schemes import LAYERS, Channels, Scheme, Scope, TwoOfFour, Weights
from baselines.pruning.semi_structured import semi_structured
from bench import registry
from bench.cost import count_meta
from bench.gradient_stage import GradientStage
from bench.method import InputSpec, Method, Prediction, Recipe, Stage
from bench.policy import Policy
from bench.static import Static
from bench.task import logged_loss, task_of
from bench.weights import spec_of

Kind = Literal["weights", "channels", "2:4"]


class Pruned(Method):
    """A classifier that is trained, then pruned and retrained in rounds from the weights that survive.

    network: gets masks as buffers, and what they close is exactly zero. static: its multiply-adds, unpruned.

    kind: what is cut, see `baselines.pruning.schemes`. "weights" and "2:4" are accounted by non-zeros × positions, what
    hardware for sparse weights could reach; what runs is dense, `static`. "channels" runs what it accounts. budget:
    share of `static` left after the last round; after round i of n it is budget^(i/n). A 2:4 pattern is cut in one
    round, to what it leaves: `budget`, `rounds` and `scope` play no part. scope: of the threshold, all layers or each.
    retrain: share of all epochs that the rounds get, equally. retrain_lr: their learning rate, relative.

    What evaluation runs is prepared once; after changing weights by hand, call `eval()` again.

    Raises:
        ValueError: an option that cannot be, or a budget that no pruning of this kind reaches.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        *,
        budget: float = 0.72,
        scope: Scope = "global",
        kind: Kind = "weights",
        rounds: int = 3,
        retrain: float = 0.4,
        retrain_lr: float = 0.1,
    ) -> None:
        super().__init__()
        _check(budget, scope, kind, rounds, retrain, retrain_lr)
        count = count_meta(network, spec.shape(1))
        self.network, self.spec, self.static = network, spec, count.macs
        self.task = task_of(network)
        self.kind, self.exact = kind, kind == "channels"
        self.retrain, self.retrain_lr = retrain, retrain_lr
        self.budgets = [1.0] if kind == "2:4" else [budget ** (i / rounds) for i in range(1, rounds + 1)]
        self.scheme: Scheme
        if kind == "channels":
            self.scheme = Channels(network, count, spec.shape(1), scope)
        else:
            self.scheme = Weights(network, count, scope) if kind == "weights" else TwoOfFour(network, count)
        if self.scheme.floor > int(self.budgets[-1] * self.static):
            least = self.scheme.floor / self.static
            raise ValueError(f"a budget of {budget} cannot be reached: pruning {kind} leaves {least:.4f} or more")
        self._ready: tuple[int, nn.Module] | None = None  # multiply-adds and what runs, of weights as they stand
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """The answer of the network's task, at the same cost for every sample."""
        if self._ready is None:
            self._ready = self.scheme.macs, self.network if self.training else self.compact()
        macs, runs = self._ready
        return Prediction(torch.full((len(sample),), macs, dtype=torch.int64), **self.task.answer(runs(sample)))

    def train(self, mode: bool = True) -> Pruned:
        """Training or evaluation; what evaluation runs is made anew."""
        self._ready = None
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Pruned:
        self._ready = None
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def compact(self) -> nn.Module:
        """The network for inference alone, without the channels that were cut; of other kinds, as it is."""
        return compact(self.network, self.scheme.chains) if isinstance(self.scheme, Channels) else self.network

    def optimised(self) -> Static:
        """What evaluation runs, in its fastest form; what it accounts stays what the weights that are left account."""
        fast = Static(self.compact(), self.spec).optimised()
        fast.macs, fast.exact = self.scheme.macs, self.exact
        return fast

    @torch.no_grad()
    def prune(self, budget: float) -> None:
        """Cuts until at most `budget` · `static` multiply-adds are left; where they already are, nothing changes."""
        self.scheme.cut(int(budget * self.static))
        for weight, mask in self.scheme.masked():
            weight.masked_fill_(~mask, 0)
        self._ready = None

    def sparsity(self) -> dict[str, float]:
        """Of every convolution and linear layer the share of its weights that is zero."""
        layers = [(name, layer) for name, layer in self.network.named_modules() if type(layer) in LAYERS]
        return {name: 1 - int(layer.weight.count_nonzero()) / layer.weight.numel() for name, layer in layers}

    def details(self) -> dict[str, Any]:
        """The share of zeros in each layer; for 2:4 also what it is worth on this device, or why that is not known."""
        worth = {"2:4 speed-up of a linear layer": semi_structured()} if self.kind == "2:4" else {}
        return {"sparsity": self.sparsity(), **worth}

    @property
    def parameter_count(self) -> int:
        """Trained parameters that were not cut."""
        kept = {id(weight): torch.ones_like(weight, dtype=torch.bool) for weight in self.parameters()}
        for weight, mask in self.scheme.masked():
            kept[id(weight)] &= mask
        return sum(int(mask.sum()) for mask in kept.values())

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Training, then the rounds; where epochs are few, the last rounds get them."""
        rounds = len(self.budgets)
        *after, first = recipe.divided([self.retrain / rounds] * rounds + [1 - self.retrain])
        slow = replace(recipe, lr=recipe.lr * self.retrain_lr)
        loss = partial(logged_loss, self.network)
        train = GradientStage("train", self, [{"params": self.parameters()}], loss, recipe, first)
        pairs = zip(self.budgets, reversed(after), strict=True)
        return [train, *(Retrain(self, number, *pair, slow) for number, pair in enumerate(pairs, 1))]


class Retrain(GradientStage):
    """One round: prunes to `budget` when it begins, then trains the weights that survived; the others stay zero."""

    def __init__(self, method: Pruned, number: int, budget: float, epochs: int, recipe: Recipe) -> None:
        groups = [{"params": method.parameters()}]
        loss = partial(logged_loss, method.network)
        super().__init__(f"retrain{number}", method, groups, loss, recipe, epochs)
        self.pruned, self.budget = method, budget
        self.hooks: list[Any] = []

    def begin(self, steps: int) -> None:
        """Prunes (a stage that is resumed finds that done, in the weights it was given), and masks gradients.

        A zero without gradient stays zero: weight decay has nothing to shrink, and the momentum begins at nothing.
        """
        self.pruned.prune(self.budget)
        super().begin(steps)
        for weight, mask in self.pruned.scheme.masked():
            hook = weight.register_post_accumulate_grad_hook(_masking(~mask))  # type: ignore[no-untyped-call]
            self.hooks.append(hook)

    def end(self) -> None:
        """Gradients are whole again."""
        for hook in self.hooks:
            hook.remove()


def _forget(method: Pruned, keys: Any) -> None:
    method._ready = None


def _masking(closed: Tensor) -> Callable[[Tensor], None]:
    def hook(weight: Tensor) -> None:
        assert weight.grad is not None
        weight.grad.masked_fill_(closed, 0)

    return hook


def _check(budget: float, scope: str, kind: str, rounds: int, retrain: float, retrain_lr: float) -> None:
    for value, form in ((scope, Scope), (kind, Kind)):
        if value not in get_args(form):
            raise ValueError(f"no {value!r}; there are {', '.join(get_args(form))}")
    if not 0 < budget <= 1 or not 0 <= retrain <= 1 or rounds < 1 or retrain_lr <= 0:
        raise ValueError("budget must be above 0 and at most 1, retrain in 0..1, rounds 1 or more, retrain_lr above 0")


def pruned(
    network: str,
    *,
    frames: int,
    size: int,
    classes: int,
    network_options: Mapping[str, Any],
    budget: float = 0.72,
    scope: Scope = "global",
    kind: Kind = "weights",
    rounds: int = 3,
    retrain: float = 0.4,
    retrain_lr: float = 0.1,
) -> Pruned:
    """The registered network `network`, pruned; options and errors as of `Pruned`.

    The default budget is that of VA-RED² Table 7, whose pruned networks keep 0.718, 0.730 and 0.720 of the cost.
    """
    module = registry.build_network(network, frames=frames, size=size, classes=classes, **network_options)
    return Pruned(
        module,
        spec_of(module, size, frames),
        budget=budget,
        scope=scope,
        kind=kind,
        rounds=rounds,
        retrain=retrain,
        retrain_lr=retrain_lr,
    )
