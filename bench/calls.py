"""What a network's layers take and give in one pass, found by running it on nothing (the meta device)."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Call:
    """One layer, by name. source: its first argument, None where that was given by name. first: whether nobody had
    used that before.
    """

    name: str
    module: nn.Module
    source: Any
    result: Any
    first: bool

    @property
    def in_place(self) -> bool:
        """Whether it overwrote what it took."""
        return self.result is self.source


@dataclass(frozen=True)
class Pass:
    """The calls, in order, of layers that were called once. uses: how often each tensor was an argument of an
    operation, by id, the answer once more. sample: what the network was run on. kept: so that no id comes twice.
    """

    calls: Sequence[Call]
    uses: collections.Counter[int]
    sample: Tensor
    kept: Sequence[Any]


class _Uses(TorchDispatchMode):
    """Counts how often each tensor is an argument."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: collections.Counter[int] = collections.Counter()
        self.kept: list[Any] = []

    def note(self, values: Any) -> None:
        """One more use of every tensor in `values`."""
        tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
        self.kept += tensors
        self.counts.update(map(id, tensors))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note((args, kwargs))
        return func(*args, **(kwargs or {}))


def one_pass(network: nn.Module, shape: Sequence[int], watched: Callable[[nn.Module], bool]) -> Pass:
    """A pass over an input of `shape` in evaluation mode, with the calls of the layers that are `watched`.

    Layers that have several names are left out: in the place of which of them should something else stand?
    """
    meta, calls, uses = copy.deepcopy(network).to("meta").eval(), list[Call](), _Uses()
    unused: dict[str, bool] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            unused[name] = bool(args) and not uses.counts[id(args[0])]

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            source = args[0] if args else None
            uses.kept += source, result
            calls.append(Call(name, module, source, result, unused[name]))

        return hook

    everything = list(meta.named_modules(remove_duplicate=False))
    names = collections.Counter(id(module) for _, module in everything)
    for name, module in everything:
        if names[id(module)] == 1 and watched(module):
            module.register_forward_pre_hook(enter(name))
            module.register_forward_hook(leave(name))
    sample = torch.empty(tuple(shape), device="meta", dtype=_precision(meta))
    with torch.no_grad(), uses:
        uses.note(meta(sample))
    times = collections.Counter(call.name for call in calls)
    return Pass([call for call in calls if times[call.name] == 1], uses.counts, sample, uses.kept)


def _precision(network: nn.Module) -> torch.dtype:
    floating = (weight.dtype for weight in network.parameters() if weight.is_floating_point())
    return next(floating, torch.get_default_dtype())
