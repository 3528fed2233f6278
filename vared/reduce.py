"""`reduce`: any network of 2D or 3D convolutions to its VA-RED² form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from vared.cheap import TAPS, Kind, channel_form, frame_form
from vared.dynamic_conv import DynamicUnit, Geometry, Session, points
from vared.gate import Gate, Pool

Dimensions = Literal["both", "temporal", "channel"]
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU)
Choose = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Chain:
    """A convolution by name, with the normalisation and activation that alone consume its output."""

    conv: str
    norm: str | None
    act: str | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Uses(TorchDispatchMode):
    """Counts how often each tensor is an argument; keeps all of them, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[int, int] = {}
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(argument, Tensor):
                self.counts[id(argument)] = self.counts.get(id(argument), 0) + 1
                self.kept.append(argument)
        return func(*args, **(kwargs or {}))


@dataclass
class _Call:
    name: str
    module: nn.Module
    source: Tensor
    result: Tensor
    uses_before: int


def _calls(network: nn.Module, shape: Sequence[int]) -> tuple[list[_Call], dict[int, int]]:
    """Calls of convolutions, norms and activations in a pass over meta tensors, and how often each tensor was used."""
    meta, calls, uses = copy.deepcopy(network).to("meta").eval(), [], _Uses()
    before: dict[str, int] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            before[name] = uses.counts.get(id(args[0]), 0)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            uses.kept.extend((args[0], result))
            calls.append(_Call(name, module, args[0], result, before[name]))

        return hook

    for name, module in meta.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, _BatchNorm, *ACTIVATIONS)):
            module.register_forward_pre_hook(enter(name))
            module.register_forward_hook(leave(name))
    with torch.no_grad(), uses:
        meta(torch.empty(tuple(shape), device="meta"))
    return calls, uses.counts


def find_chains(network: nn.Module, shape: Sequence[int]) -> list[Chain]:
    """Every convolution called once, with the norm and activation that follow it and nothing else in between."""
    calls, uses = _calls(network, shape)
    names = [call.name for call in calls]
    consumers = {id(call.source): call for call in reversed(calls) if call.uses_before == 0}

    def follower(result: Tensor, kinds: Any) -> _Call | None:
        call = consumers.get(id(result))
        if call is None or not isinstance(call.module, kinds) or names.count(call.name) > 1:
            return None
        return call if call.result is call.source or uses.get(id(result)) == 1 else None

    chains = []
    for call in calls:
        if not isinstance(call.module, nn.Conv2d | nn.Conv3d) or names.count(call.name) > 1:
            continue
        norm = follower(call.result, _BatchNorm)
        norm = norm if norm and norm.module.running_mean is not None else None  # else it needs the channels left out
        act = follower(norm.result if norm else call.result, ACTIVATIONS)
        labels = (norm.name if norm else None, act.name if act else None)
        chains.append(Chain(call.name, *labels, tuple(call.source.shape), tuple(call.result.shape)))
    return chains


def spatial(name: str, module: nn.Module) -> bool:
    """Convolutions that look at more than one place: what is reduced where nothing else is said."""
    return isinstance(module, nn.Conv2d | nn.Conv3d) and max(module.kernel_size[-2:]) > 1


def _geometry(conv: nn.Conv2d | nn.Conv3d, outputs: tuple[int, ...]) -> Geometry:
    frames = outputs[2] if len(outputs) == 5 else 1
    return Geometry(outputs[1], frames, outputs[-1] * outputs[-2], conv.weight[0].numel())


def _options(
    conv: nn.Conv2d | nn.Conv3d, shape: Geometry, search_space: int, dimensions: Dimensions, kind: Kind
) -> tuple[list[int], list[int]]:
    """Channel counts and temporal strides; a dimension whose cheapest option saves nothing has one entry.

    The other dimension is taken at its cheapest, where the convolution saves least for what Φ costs.
    """
    counts, strides = [shape.channels], [1]
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    if dimensions != "temporal" and (conv.groups == 1 or depthwise):
        counts = [-(-shape.channels // 2**i) for i in range(search_space)]
    if dimensions != "channel":
        strides = [2**j for j in range(search_space) if 2**j < 2 * shape.frames]
    made = shape.channels - counts[-1]
    if TAPS[channel_form(kind)] * made >= made * shape.macs_per_value:
        counts = counts[:1]
    left_out = shape.frames - shape.computed(strides[-1])
    if TAPS[frame_form(kind)] * shape.channels * left_out >= counts[-1] * shape.macs_per_value * left_out:
        strides = strides[:1]
    return counts, strides


@dataclass(frozen=True)
class _Plan:
    """A convolution that becomes dynamic: its options, and whose decisions it follows."""

    chain: Chain
    policy: str
    geometry: Geometry
    counts: list[int]
    strides: list[int]

    @property
    def points(self) -> dict[str, int]:
        return points(self.policy, self.counts, self.strides)


def _plans(
    network: nn.Module,
    shape: Sequence[int],
    choose: Choose,
    policy: Callable[[str], str],
    search_space: int,
    dimensions: Dimensions,
    kind: Kind,
) -> list[_Plan]:
    plans = []
    for chain in find_chains(network, shape):
        conv = network.get_submodule(chain.conv)
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        if not choose(chain.conv, conv) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        if type(conv).forward not in (nn.Conv2d.forward, nn.Conv3d.forward):
            continue  # a convolution of another kind, which does something else with its weights
        if chain.inputs[0] != shape[0]:
            continue  # frames or crops as a batch: a decision would not be about a sample
        geometry = _geometry(conv, chain.outputs)
        plan = _Plan(chain, policy(chain.conv), geometry, *_options(conv, geometry, search_space, dimensions, kind))
        plans += [plan] if plan.points else []
    return plans


def reduce(
    network: nn.Module,
    shape: Sequence[int],
    *,
    choose: Choose = spatial,
    policy: Callable[[str], str] = str,
    search_space: int = 2,
    dimensions: Dimensions = "both",
    kind: Kind = "absorbable",
    hidden: int = 16,
    pool: Pool = "space",
    leak: float = 0.5,
    start: tuple[float, float] = (1.0, 1.0),
    session: Session | None = None,
) -> list[DynamicUnit]:
    """Replaces, in place, the chosen convolutions of `network` by dynamic units; gives them in order of execution.

    shape: of one batch of input, whose frames and size the units then expect. choose: by name and module. policy: of a
    convolution's name the name of what it follows; those with the same share one gate, that of the first.
    search_space: options a dimension (r, 1/R in 1, 1/2, 1/4, ...). start: β at which the gates of the dearest option
    and of the others begin. Convolutions that run twice in a pass, that have nothing to save, or that see something
    else than samples as their batch, stay as they are.

    Raises:
        ValueError: an option that cannot be, no convolution that could be made dynamic, or convolutions of one policy
            with different numbers of options.
    """
    _check(search_space, dimensions, kind, hidden, pool, leak, start)
    session, units = session or Session(), []
    plans = _plans(network, shape, choose, policy, search_space, dimensions, kind)
    undecided = _points(plans)
    for plan in plans:
        gate, decides = None, undecided.pop(plan.policy, {})  # the first unit of a policy decides
        if decides:
            beta = [start[min(option, 1)] for size in decides.values() for option in range(size)]
            frames = plan.chain.inputs[2] if len(plan.chain.inputs) == 5 else 1
            gate = Gate(plan.chain.inputs[1], frames, beta, hidden=hidden, pool=pool, leak=leak)
        units.append(_install(network, plan, gate, decides, kind, session))
    if not units:
        raise ValueError(f"{type(network).__name__}: no convolution can be made dynamic with dimensions={dimensions!r}")
    return units


def _check(
    search_space: int,
    dimensions: Dimensions,
    kind: Kind,
    hidden: int,
    pool: Pool,
    leak: float,
    start: tuple[float, float],
) -> None:
    for value, form in ((kind, Kind), (dimensions, Dimensions), (pool, Pool)):
        if value not in get_args(form):
            raise ValueError(f"no {value!r}; there are {', '.join(get_args(form))}")
    if search_space < 1 or hidden < 1 or len(start) != 2 or not 0 <= leak <= 1:
        raise ValueError("search_space and hidden must be 1 or more, start two numbers, leak in 0..1")


def _points(plans: Sequence[_Plan]) -> dict[str, dict[str, int]]:
    """Of every policy the decision points of all who follow it, channel before temporal."""
    found: dict[str, dict[str, int]] = {}
    for plan in plans:
        known = found.setdefault(plan.policy, {})
        for point, size in plan.points.items():
            if known.setdefault(point, size) != size:
                raise ValueError(f"{point}: {plan.chain.conv} has {size} options, others {known[point]}")
    return {policy: dict(sorted(known.items())) for policy, known in found.items()}


def _install(
    network: nn.Module, plan: _Plan, gate: Gate | None, decides: dict[str, int], kind: Kind, session: Session
) -> DynamicUnit:
    """Puts a unit in the place of its chain."""
    names = (plan.chain.conv, plan.chain.norm, plan.chain.act)
    conv, norm, act = (network.get_submodule(name) if name else None for name in names)
    assert conv is not None
    unit = DynamicUnit(
        plan.chain.conv,
        (conv, norm, act),
        plan.geometry,
        plan.counts,
        plan.strides,
        kind,
        session,
        policy=plan.policy,
        gate=gate,
        decides=decides,
    )
    unit.to(conv.weight.device, conv.weight.dtype)  # type: ignore[arg-type]
    for name, module in zip(names, (unit, nn.Identity(), nn.Identity()), strict=True):
        if name:
            _replace(network, name, module)
    return unit


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
