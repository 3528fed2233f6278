"""What 2:4 sparsity is worth on this device, found out by trying."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch.utils.benchmark import Timer

SIZE = 2048
"""Rows, inputs and outputs of the layer that is timed."""


def semi_structured() -> float | str:
    """Times a half-precision linear layer of `SIZE`, dense and 2:4 sparse.

    Returns dense time over 2:4 time (above 1: sparsity pays), or the reason why there is no such figure, one line. Only
    linear layers have such kernels in torch, on devices of compute capability 8.0 and more, and some builds lack them.
    """
    if not torch.cuda.is_available():
        return "no CUDA device: torch has 2:4 kernels for no other"
    try:
        return _measured()
    except Exception as error:  # whatever a device or a build without the kernels provokes
        reason = next(iter(str(error).splitlines()), "")
        return f"2:4 kernels do not run here: {type(error).__name__}: {reason[:200]}"


@torch.no_grad()
def _measured() -> float | str:
    x, dense = torch.randn(2, SIZE, SIZE, device="cuda", dtype=torch.half)
    dense *= torch.tensor([1, 0, 0, 1], device="cuda").repeat(SIZE // 4) / SIZE**0.5
    sparse = torch.sparse.to_sparse_semi_structured(dense)
    if not torch.allclose(F.linear(x, sparse), F.linear(x, dense), rtol=1e-2, atol=1e-2):
        return "2:4 kernels give other results than dense ones here"
    times = [
        Timer("linear(x, weight)", globals={"linear": F.linear, "x": x, "weight": weight}).blocked_autorange().median
        for weight in (dense, sparse)
    ]
    return times[0] / times[1]
