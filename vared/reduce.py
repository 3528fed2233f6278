"""`reduce`: any network of 2D or 3D convolutions to its VA-RED² form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from bench.chains import Chain, find_chains
from vared.cheap import TAPS, Kind, channel_form, frame_form
from vared.dynamic_conv import DynamicUnit, Geometry, Session, points
from vared.gate import Gate, Pool

Dimensions = Literal["both", "temporal", "channel"]
Choose = Callable[[str, nn.Module], bool]

MOST_OPTIONS = 8
"""A decision point can have so many: what is open is stored as the bits of one byte."""


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
    search_space: options a dimension (r, 1/R in 1, 1/2, 1/4, ...), 2 to 8. start: β at which gates of the dearest
    option and of the others begin. Convolutions that run twice in a pass, that have nothing to save, or that see
    something else than samples as their batch, stay as they are.

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
    if not 2 <= search_space <= MOST_OPTIONS:
        raise ValueError(f"search_space must be from 2 to {MOST_OPTIONS}, got {search_space}")
    if hidden < 1 or len(start) != 2 or not 0 <= leak <= 1:
        raise ValueError(
            f"hidden must be 1 or more, start two numbers, leak in 0..1; got {hidden}, {list(start)} and {leak}"
        )


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
            network.set_submodule(name, module)
    return unit
