"""Places, extents and weights of frames in single precision: half precision tells neither pixels nor frames apart."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(values: Tensor) -> Tensor:
    """The same in float32, or in double precision where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
