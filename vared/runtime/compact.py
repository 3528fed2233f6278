"""A unit's output of which only what was computed is stored.

With the absorbable Φ the channels left out are computed ones times a positive scale, and the frames left out are copies
(`vared.cheap`). A convolution that knows this (`vared.runtime.absorbing`) needs neither; everything else gets the whole
tensor, rebuilt when torch first asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Standing:
    """Stands for a tensor, which torch gets, rebuilt, whenever it asks for more than a subclass can answer."""

    __slots__ = ()

    def whole(self) -> Tensor:
        """The tensor."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("_"):
            raise TypeError(f"{name} would change a copy: what it stands for is not kept as a whole")
        return getattr(self.whole(), name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*_whole(args), **{key: _whole(value) for key, value in (kwargs or {}).items()})


def _of_whole(name: str) -> Any:
    return lambda self, *args: getattr(self.whole(), name)(*_whole(args))


# Python looks operators up on the class, where __getattr__ is not asked.
_OPERATORS = """__add__ __radd__ __mul__ __rmul__ __getitem__ __len__ __iter__ __neg__ __sub__ __rsub__ __truediv__
    __rtruediv__ __pow__ __matmul__ __gt__ __ge__ __lt__ __le__"""
for _name in _OPERATORS.split():
    setattr(Standing, _name, _of_whole(_name))


class Compact(Standing):
    """(B, C, T, H, W), or (B, C, H, W) of images, as its computed part.

    computed: (B, C', ⌈T/copies⌉, H, W); frame t is a copy of computed frame t // copies.
    scale: (C - C',), None if all channels are there: channel c ≥ C' is channel c mod C' times scale[c - C'].
    """

    __slots__ = ("computed", "copies", "frames", "scale")

    def __init__(self, computed: Tensor, scale: Tensor | None, frames: int, copies: int) -> None:
        self.computed, self.scale, self.frames, self.copies = computed, scale, frames, copies

    @property
    def shape(self) -> torch.Size:
        """Of the whole."""
        shape = list(self.computed.shape)
        shape[1] += 0 if self.scale is None else len(self.scale)
        if len(shape) == 5:
            shape[2] = self.frames
        return torch.Size(shape)

    @property
    def complete(self) -> bool:
        """Whether everything was computed, so that `computed` is the whole."""
        return self.copies == 1 and self.scale is None

    def all_channels(self) -> Tensor:
        """(B, C, ⌈T/copies⌉, H, W); made once."""
        if self.scale is not None:
            shape = list(self.computed.shape)
            shape[1] += len(self.scale)
            out = empty(self.computed, shape)
            self._write(out)
            self.computed, self.scale = out, None
        return self.computed

    def whole(self) -> Tensor:
        """The tensor (B, C, T, H, W), rebuilt."""
        if self.copies == 1:
            return self.all_channels()
        out = empty(self.computed, self.shape)
        self.write(out)
        return out

    def write(self, out: Tensor) -> None:
        """The whole into `out`, of the same shape."""
        for phase in range(self.copies):
            self._write(out[:, :, phase :: self.copies] if self.copies > 1 else out)

    def _write(self, out: Tensor, factor: Tensor | None = None) -> None:
        """All channels of computed frames, as many as `out` has; times a factor (B, C, 1, 1, 1)."""
        for place, y, scale in self._pieces(out):
            if factor is not None:
                scale = factor[:, place] if scale is None else scale * factor[:, place]
            if scale is None:
                out[:, place].copy_(y)
            else:
                torch.mul(y, scale, out=out[:, place])

    def _pieces(self, out: Tensor) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Channels of `out`, what was computed that they are made of, in as many frames, and their scales if made."""
        y = self.computed if out.dim() == 4 else self.computed[:, :, : out.shape[2]]
        count = y.shape[1]
        yield slice(0, count), y, None
        for start in range(count, out.shape[1], count):
            assert self.scale is not None
            end = min(start + count, out.shape[1])
            scale = self.scale[start - count : end - count].view(-1, *(1,) * (y.dim() - 2))
            yield slice(start, end), y[:, : end - start], scale

    def plus(self, other: Tensor) -> Tensor:
        """The whole plus a tensor of its shape, written in one pass."""
        if self.complete:
            return self.computed + other
        out = torch.empty_like(other)
        for phase in range(self.copies):
            frames = (slice(None), slice(None), slice(phase, None, self.copies)) if self.copies > 1 else ()
            part, own = out[frames], other[frames]
            for place, y, scale in self._pieces(part):
                if scale is None:
                    torch.add(own[:, place], y, out=part[:, place])
                else:
                    torch.addcmul(own[:, place], y, scale, out=part[:, place])
        return out

    def max_pool(self, pool: Any) -> Compact:
        """Maxima of places, and of frames if `pool` looks at several: scales are positive, and so change no order."""
        time = [
            size if isinstance(size, int) else size[0]
            for size in (pool["kernel_size"], pool.get("stride") or pool["kernel_size"])
        ]
        if self.copies == 1 or time == [1, 1]:
            pooled, repeat = F.max_pool3d(self.computed, **pool), self.copies
        else:
            frames = Compact(self.computed, None, self.frames, self.copies).whole()
            pooled, repeat = F.max_pool3d(frames, **pool), 1
        return Compact(pooled, self.scale, pooled.shape[2] if repeat == 1 else self.frames, repeat)

    def each(self, function: Any) -> Compact:
        """An element-wise function of the whole, whose frames stay copies."""
        return Compact(function(self.all_channels()), None, self.frames, self.copies)

    def mean(self, *dimensions: Any, **options: Any) -> Tensor:
        """As of the whole; over places from what was computed."""
        if dimensions != ((-2, -1),) or options:
            return self.whole().mean(*dimensions, **options)
        mean = place_means(self.computed).movedim(-1, 1)
        return Compact(mean[..., None, None], self.scale, self.frames, self.copies).whole()[..., 0, 0]

    def clip_mean(self) -> Tensor:
        """Mean over frames and places, (B, C, 1, 1, 1); every computed frame must stand for as many."""
        mean = place_means(self.computed).mean(1)
        return Compact(mean[..., None, None, None], self.scale, 1, 1).whole()

    def __add__(self, other: Any) -> Any:
        return _sum(self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        if not _per_channel(other) or other.shape[:2] != self.shape[:2] or other.dtype != self.computed.dtype:
            return self.whole() * other
        shape = list(self.shape)
        shape[2] = self.computed.shape[2]
        out = empty(self.computed, shape)
        self._write(out, other)
        return Compact(out, None, self.frames, self.copies)

    __rmul__ = __mul__

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _SUMS and len(args) == 2 and not kwargs:
            return _sum(*args)
        if func is torch.cat and args and _by_channel(args, kwargs):
            return _cat(args[0])
        if func is F.adaptive_avg_pool3d and args[1] in (1, (1, 1, 1)) and args[0].frames % args[0].copies == 0:
            return args[0].clip_mean()
        if getattr(func, "__name__", "") == "max_pool3d" and len(args) == 2 and not kwargs.get("return_indices"):
            return args[0].max_pool({"kernel_size": args[1], **kwargs})
        if func in _ELEMENTWISE:
            return args[0].each(lambda y: func(y, *args[1:], **kwargs))
        return super().__torch_function__(func, types, args, kwargs)


class Mixed(Standing):
    """A unit's output for `batch` samples that decided differently: which rows, and what was computed for them."""

    def __init__(self, parts: Sequence[tuple[Tensor, Compact]], batch: int) -> None:
        self.parts, self.batch = parts, batch

    def whole(self) -> Tensor:
        """The tensor (B, C, T, H, W), rebuilt."""
        return gathered([(rows, part.whole()) for rows, part in self.parts], self.batch)


def gathered(parts: Sequence[tuple[Tensor, Tensor]], batch: int) -> Tensor:
    """One batch of the rows of several; a row that comes twice is the same both times."""
    first = parts[0][1]
    out = empty(first, [batch, *first.shape[1:]])
    for rows, part in parts:
        out.index_copy_(0, rows, part)
    return out


_SUMS = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
_ELEMENTWISE = {F.relu, F.silu, F.relu6, F.hardswish, F.leaky_relu}


def _per_channel(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 5 and set(value.shape[2:]) == {1}


def _sum(one: Any, other: Any) -> Any:
    """Their sum; of two compact ones the second is rebuilt."""
    if not isinstance(one, Compact):
        one, other = other, one
    if isinstance(other, Compact):
        other = other.whole()
    if isinstance(other, Tensor) and other.shape == one.shape and other.dtype == one.computed.dtype:
        return one.plus(other)
    return one.whole() + other


def _by_channel(args: Any, kwargs: Any) -> bool:
    dimension = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    return bool(dimension == 1 and len(args[0][0].shape) >= 4)


def _cat(parts: Sequence[Tensor | Compact]) -> Tensor:
    """Side by side in channels, each written where it belongs."""
    first = parts[0]
    shape = [*first.shape]
    shape[1] = sum(part.shape[1] for part in parts)
    out = empty(first.computed if isinstance(first, Compact) else first, shape)
    start = 0
    for part in parts:
        place = out[:, start : start + part.shape[1]]
        if isinstance(part, Compact):
            part.write(place)
        else:
            place.copy_(part)
        start += part.shape[1]
    return out


def place_means(y: Tensor) -> Tensor:
    """(B, C, ..., H, W) to (B, ..., C), the mean over pixels: quick where channels lie last."""
    return y.permute(0, 2, 3, 4, 1).mean((2, 3)) if y.dim() == 5 else y.permute(0, 2, 3, 1).mean((1, 2))


def empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised, in the memory layout of `like`."""
    last = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    layout = last if like.is_contiguous(memory_format=last) else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _whole(value: Any) -> Any:
    """Arguments with everything compact rebuilt."""
    if isinstance(value, Standing):
        return value.whole()
    if isinstance(value, list | tuple):
        return type(value)(_whole(item) for item in value)
    return value
