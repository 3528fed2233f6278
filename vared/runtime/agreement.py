"""Whether kernels answer as the other ways do: within the rounding that these show among themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bench.policy import Forced
from vared.runtime.compact import Standing


def every_option(decisions: Mapping[str, Tensor], rows: int) -> Iterator[Forced]:
    """Decisions for batches of `rows` samples that together follow, at each point, each option alone and all at once.

    No two points that follow each other are at the same place of this cycle. decisions: point -> (options, options).
    """
    cycles = [torch.cat([own, torch.linspace(1, 0.5, len(own)).unsqueeze(0)]) for own in decisions.values()]
    for first in range(0, max(map(len, cycles)), rows):
        places = torch.arange(first, first + rows)
        chosen = [own[(places + number) % len(own)] for number, own in enumerate(cycles)]
        yield Forced(dict(zip(decisions, chosen, strict=True)))


class Agreement(NamedTuple):
    """How far answers are from the truth, how far those of the other ways are, and how far they may be; each relative
    to a sample's largest value, the largest of all samples.
    """

    error: float
    own: float
    allowed: float

    @property
    def doubt(self) -> str:
        """The error, if it is more than rounding explains, or the others' is endless; else ""."""
        if self.error <= self.allowed < math.inf:
            return ""
        return f"answers differ by {self.error:.2g} of the largest, {self.allowed:.2g} allowed"


def agreement(found: Any, truth: Any, others: Sequence[Any], dtype: torch.dtype) -> Agreement:
    """Of `found` with `truth`: outputs of a network, tensors or collections of them with a sample a row.

    others: outputs as right as those judged; four times their largest error is allowed, and what single roundings make
    of values and sums.
    """
    own = max(_error(other, truth) for other in others)
    return Agreement(_error(found, truth), own, 4 * own + _rounding(dtype))


def _rounding(dtype: torch.dtype) -> float:
    """Of values as they are kept, or multiplied in tf32 (10 bits); of sums in float32, through all layers."""
    if dtype == torch.float32:
        return 4 * 2**-10 if torch.backends.cudnn.allow_tf32 else 1024 * torch.finfo(dtype).eps
    return 4 * torch.finfo(dtype).eps


def _error(found: Any, expected: Any) -> float:
    """The largest relative error of any sample; infinite where the two are not alike, or are no numbers."""
    ones, twos = tree_leaves(found), tree_leaves(expected)
    if len(ones) != len(twos):
        return math.inf
    return max(_leaf_error(_plain(one), _plain(two)) for one, two in zip(ones, twos, strict=True))


def _plain(leaf: Any) -> Any:
    return leaf.whole() if isinstance(leaf, Standing) else leaf


def _leaf_error(found: Any, expected: Any) -> float:
    if not (isinstance(found, Tensor) and isinstance(expected, Tensor)):
        return 0.0 if found is expected or (type(found) is type(expected) and found == expected) else math.inf
    if found.shape != expected.shape:
        return math.inf
    if not found.numel():
        return 0.0
    rows, truth = (each.double().reshape(len(each) if each.dim() else 1, -1) for each in (found, expected))
    largest = truth.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny)
    error = ((rows - truth).abs().amax(1) / largest).max()
    return math.inf if error.isnan() else float(error)
