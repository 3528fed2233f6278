"""Torch's global settings that convolutions on a GPU hang on, set for a while and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIED = 4
"""Algorithms that are timed, the likeliest first: ten, as torch would, take long for all the shapes of a batch."""


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within it products and convolutions of float32 on CUDA may be computed in tf32, or may not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def algorithms_tried(wanted: bool) -> Iterator[None]:
    """Within it, if wanted, cuDNN times `TRIED` algorithms when a shape first comes, and does not guess the fastest."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.benchmark_limit
    cudnn.benchmark, cudnn.benchmark_limit = wanted, TRIED
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.benchmark_limit = before
