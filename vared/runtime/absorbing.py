"""Convolutions that take compact input as it is.

Over channels that are others times a scale, filters add up: W[:, c mod C'] += a_c · W[:, c]. Over frames that are
copies, the taps that fall on one computed frame add up. Both are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from torch import Tensor, nn

from bench.cost import samples
from bench.inference.convolution import Convolution, Fastest, Form, has_library, pointwise
from bench.inference.products import Taps, frame_products
from vared.runtime.compact import Compact, Mixed, empty, gathered
from vared.runtime.device import DecidedConvolution, Stored
from vared.runtime.folding import fold_channels, fold_frames


@dataclass(frozen=True)
class _Plan:
    """How one form of input is taken: what is read of it, what runs, and the frames and copies of the output."""

    read: Callable[[Any], Tensor]
    run: Fastest
    frames: int
    copies: int


class Absorbing(nn.Module):
    """A convolution as `Convolution`, of a tensor or of what is compact."""

    def __init__(self, convolution: Convolution) -> None:
        super().__init__()
        self.convolution = convolution
        self._forget()

    def _forget(self) -> None:
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self.decided = DecidedConvolution(self.convolution)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_plans", "decided")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()  # a copy makes its own

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._forget()
        return self

    def forward(self, x: Tensor | Compact | Mixed | Stored) -> Tensor | Compact | Mixed | Stored:
        """The whole output; compact where its frames are copies too."""
        if isinstance(x, Stored):
            stored: Tensor | Stored = self.decided(x)
            return stored
        if isinstance(x, Mixed):
            return self._mixed(x)
        if isinstance(x, Tensor):
            out: Tensor = self.convolution(x)
            return out
        found = self.part(x, len(self.convolution.weight), 1)
        return found.computed if found.copies == 1 else found

    def _mixed(self, x: Mixed) -> Tensor | Mixed:
        parts = []
        for rows, part in x.parts:
            with samples(rows):
                parts.append((rows, self.part(part, len(self.convolution.weight), 1)))
        if all(part.copies == 1 for _, part in parts):
            return gathered([(rows, part.computed) for rows, part in parts], x.batch)
        return Mixed(parts, x.batch)

    def part(self, x: Tensor | Compact, count: int, step: int) -> Compact:
        """The first `count` filters at every `step`-th output frame; images have one frame."""
        if isinstance(x, Tensor) and (count, step) == (len(self.convolution.weight), 1):
            out = self.convolution(x)
            return Compact(out, None, out.shape[2] if out.dim() == 5 else 1, 1)
        key: tuple[int, ...]
        if isinstance(x, Compact):  # scales live as long as the network, and so do their ids
            key = (count, step, x.frames, x.copies, x.computed.shape[1], 0 if x.scale is None else id(x.scale))
        else:
            key = (count, step, x.shape[2])
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(x, count, step)
        return Compact(plan.run(plan.read(x)), None, plan.frames, plan.copies)

    def _plan(self, x: Tensor | Compact, count: int, step: int) -> _Plan:
        conv = self.convolution
        read, repeat = self._reader(x, count)
        y = read(x)
        weight = conv.weight
        if isinstance(x, Compact) and x.scale is not None and conv.groups == 1 and y.shape[1] < weight.shape[1]:
            weight = fold_channels(weight, x.scale)
        if len(conv.stride) == 2:
            return _Plan(read, self._fastest(y, weight, count, 1, 1), 1, 1)
        reach = conv.dilation[0] * (conv.weight.shape[2] - 1) + 1
        outputs = (x.shape[2] + 2 * conv.padding[0] - reach) // conv.stride[0] + 1
        stride = conv.stride[0] * step
        copied = repeat // stride if self._copies(stride, repeat) else 1
        return _Plan(read, self._fastest(y, weight, count, step, repeat), outputs, step * copied)

    def _fastest(self, y: Tensor, weight: Tensor, count: int, step: int, repeat: int) -> Fastest:
        """What is asked of the convolution, or, where that is no slower, all of it, of which the rest is left."""
        stride = self.convolution.stride[0]
        forms = self._forms(y, weight[:count], stride * step, repeat)
        if (count, step) != (len(weight), 1) and repeat == 1 and not self._depthwise:
            forms += [_Left(form, count, step) for form in self._forms(y, weight, stride, 1)]
        return Fastest(forms)

    @property
    def dense(self) -> bool:
        """Whether, of any input so far, more was computed than was asked for, since that was the faster."""
        runs = [plan.run for plan in self._plans.values()]
        return any(isinstance(form, _Left) for run in runs for form in run.chosen.values())

    def _copies(self, stride: int, repeat: int) -> bool:
        """Whether frames that are copies give frames that are copies, so that each is computed once."""
        conv = self.convolution
        return repeat > stride and conv.weight.shape[2] == 1 and not conv.padding[0] and repeat % stride == 0

    def _reader(self, x: Tensor | Compact, count: int) -> tuple[Callable[[Any], Tensor], int]:
        """What is taken of such input, and how many frames each of it stands for."""
        conv = self.convolution
        first = _first(count if self._depthwise else x.shape[1])  # depthwise, as many channels go in as come out
        if isinstance(x, Tensor):
            return first, 1
        if x.frames % x.copies or (x.copies > 1 and conv.dilation[0] > 1):
            return lambda x: first(x.whole()), 1
        if conv.groups == 1 or (self._depthwise and x.computed.shape[1] >= count):
            return lambda x: first(x.computed), x.copies
        return lambda x: first(x.all_channels()), x.copies

    @property
    def _depthwise(self) -> bool:
        weight = self.convolution.weight
        return self.convolution.groups == len(weight) > 1 and weight.shape[1] == 1

    def _forms(self, y: Tensor, weight: Tensor, stride: int, repeat: int) -> list[Form]:
        conv, count = self.convolution, len(weight)
        bias, groups = conv.bias[:count], count if self._depthwise else conv.groups
        if repeat == 1 or y.dim() == 4:
            strides = [stride, *conv.stride[1:]] if y.dim() == 5 else conv.stride
            return Convolution(weight, bias, strides, conv.padding, conv.dilation, groups, conv.relu).forms(y)
        if self._copies(stride, repeat):
            strides = [1, *conv.stride[1:]]
            return Convolution(weight, bias, strides, conv.padding, conv.dilation, groups, conv.relu).forms(y)
        forms: list[Form] = [_Phased(conv, weight, bias, groups, stride, repeat)]
        if stride == repeat and conv.padding[0]:
            forms.append(_Padded(conv, weight, bias, groups, repeat))
        if has_library(y) and groups == 1 and pointwise(weight, conv.stride, conv.padding, conv.dilation):
            taps = _taps(weight, y.shape[2], stride, conv.padding[0], repeat)
            forms.append(lambda y: frame_products(y, taps, bias, conv.relu))
        return forms


class _Left:
    """Of what `form` computes, the first `count` channels of every `step`-th frame."""

    def __init__(self, form: Form, count: int, step: int) -> None:
        self.form, self.count, self.step = form, count, step

    def __call__(self, y: Tensor) -> Tensor:
        """The same as if nothing else had been computed."""
        out = self.form(y)[:, : self.count]
        return out[:, :, :: self.step] if self.step > 1 else out


def _first(count: int) -> Callable[[Tensor], Tensor]:
    """The first `count` channels, where there are more."""
    return lambda y: y if y.shape[1] <= count else y[:, :count]


class _Phased:
    """A convolution over frames that stand for `repeat` each: one convolution for each place of outputs among them.

    Output o needs computed frames ⌊(o · stride - padding + k) / repeat⌋; outputs `period` apart need the same ones,
    `pace` further on.
    """

    def __init__(self, conv: Convolution, weight: Tensor, bias: Tensor, groups: int, stride: int, repeat: int) -> None:
        self.period = repeat // gcd(repeat, stride)
        self.pace = stride * self.period // repeat
        self.conv, self.stride, self.copies = conv, stride, repeat
        self.parts = []
        for phase in range(self.period):
            folded, offset = fold_frames(weight, phase * stride - conv.padding[0], repeat)
            geometry = ([self.pace, *conv.stride[1:]], [0, *conv.padding[1:]], conv.dilation, groups)
            self.parts.append((offset, Convolution(folded, bias, *geometry, conv.relu)))

    def __call__(self, y: Tensor) -> Tensor:
        """(B, C, T, H, W) of computed frames to the whole output."""
        total = (y.shape[2] * self.copies + 2 * self.conv.padding[0] - self.conv.weight.shape[2]) // self.stride + 1
        found: list[Tensor] = []
        for phase, (offset, conv) in enumerate(self.parts[:total]):
            outputs = -(-(total - phase) // self.period)
            end = offset + (outputs - 1) * self.pace + conv.weight.shape[2]
            found.append(conv(_frames(y, offset, end)))
        if self.period == 1:
            return found[0]
        shape = list(found[0].shape)
        shape[2] = total
        out = empty(found[0], shape)
        for phase, part in enumerate(found):
            out[:, :, phase :: self.period].copy_(part)
        return out


class _Padded:
    """As `_Phased` for a stride of as many frames as each stands for: one convolution that pads time itself, on both
    sides alike, since to compute what that gives too much of can take less than to copy everything between zeros.
    """

    def __init__(self, conv: Convolution, weight: Tensor, bias: Tensor, groups: int, repeat: int) -> None:
        folded, offset = fold_frames(weight, -conv.padding[0], repeat)
        self.conv, self.repeat = conv, repeat
        geometry = ([1, *conv.stride[1:]], [-offset, *conv.padding[1:]], conv.dilation, groups)
        self.padded = Convolution(folded, bias, *geometry, conv.relu)

    def __call__(self, y: Tensor) -> Tensor:
        """(B, C, T, H, W) of computed frames to the whole output."""
        conv = self.conv
        total = (y.shape[2] * self.repeat + 2 * conv.padding[0] - conv.weight.shape[2]) // self.repeat + 1
        out: Tensor = self.padded(y)
        return out[:, :, :total]


def _taps(weight: Tensor, frames: int, stride: int, padding: int, repeat: int) -> Taps:
    """Of a convolution over time alone, what each output frame needs of `frames` computed ones."""
    outputs = (frames * repeat + 2 * padding - weight.shape[2]) // stride + 1
    made: dict[tuple[int, ...], Tensor] = {}
    found = []
    for output in range(outputs):
        needed: dict[int, list[int]] = defaultdict(list)
        for tap in range(weight.shape[2]):
            frame = (output * stride - padding + tap) // repeat
            if 0 <= frame < frames:
                needed[frame].append(tap)
        for which in map(tuple, needed.values()):
            if which not in made:
                made[which] = weight[:, :, list(which), 0, 0].sum(2).t().contiguous()
        found.append([(frame, made[tuple(which)]) for frame, which in needed.items()])
    return found


def _frames(y: Tensor, start: int, end: int) -> Tensor:
    """Frames start..end of y, zeros where there are none."""
    total = y.shape[2]
    if start >= 0 and end <= total:
        return y[:, :, start:end]
    shape: Sequence[int] = [*y.shape[:2], end - start, *y.shape[3:]]
    out = empty(y, shape)
    low, high = max(start, 0), min(end, total)
    out[:, :, : low - start].zero_()
    out[:, :, low - start : high - start].copy_(y[:, :, low:high])
    out[:, :, high - start :].zero_()
    return out
