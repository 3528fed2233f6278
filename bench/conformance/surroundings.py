"""The same answer wherever a sample is run: in other batches, another memory layout, on another device."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.conformance.answers import differing, form, parts_of, run, same
from bench.conformance.counting import run_counted, unlike
from bench.conformance.lines import Broken
from bench.flow import to_device
from bench.method import Batch, Method, Prediction
from bench.policy import Forced

BATCH = 256
"""Samples of a batch as large as evaluation has them."""

WORK = 2_000_000_000
"""Multiply-adds that it may take, a second or so."""


def batches(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """Every sample must get its own answer again, whatever stands beside it or stood in its memory before."""
    given, last = sample.clone(), len(sample) - 1
    if differing(first, method(given)):
        raise Broken("two runs give different answers or costs")
    given.copy_(sample.flip(0))
    reverse, alone = method(given), [run_counted(method, one, None) for one in torch.split(sample, 1)]
    found = {
        "in reversed order": [same(first, row, reverse, last - row) for row in range(len(sample))],
        "alone": [same(first, row, one, 0) for row, (one, _) in enumerate(alone)],
    }
    for name, right in found.items():
        if not all(right):
            yield f"sample {right.index(False)} gets another answer or cost {name}"
    for one, executed in alone:
        yield from (f"alone, {line}" for line in unlike(method, one, executed, None))


def many(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """The same samples over and over in a batch as large as evaluation's, or as large as takes little time."""
    size = min(BATCH, WORK // int(first.cost.max()))
    if size <= len(sample):
        return
    rows = torch.arange(size) % len(sample)
    prediction, executed = run_counted(method, sample[rows], None)
    yield from form(method, prediction, size)
    yield from unlike(method, prediction, executed, None)
    wrong = [row for row in range(size) if not same(first, int(rows[row]), prediction, row)]
    if wrong:
        yield f"{len(wrong)} samples get another answer or cost in a batch of {size} than in one of {len(sample)}"


def another_layout(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """In the memory layout that the harness gives clips, the same; and all inside torch."""
    with _Leaving():
        prediction = run(method, to_device(Batch(sample, None, torch.empty(0)), sample.device).sample)
    if differing(first, prediction):
        yield "gets another answer or cost in another memory layout"


class _Leaving(TorchFunctionMode):
    """Within it no floating-point tensor may be handed to what no dispatcher sees: NumPy, Python or a bare pointer."""

    DOORS = ("numpy", "tolist", "apply_", "map_", "__array__", "__dlpack__", "data_ptr", "untyped_storage", "storage")

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in self.DOORS and args[0].is_floating_point() and (name != "tolist" or args[0].numel() > 1):
            raise Broken(
                f"forward hands floating-point values out of torch ({name}), where nothing counts what is done"
            )
        return func(*args, **(kwargs or {}))


def elsewhere(method: Method, sample: Tensor, first: Prediction, device: str) -> Iterator[str]:
    """The decisions of `first` give its answer and cost on another device, and that is what runs there."""
    device = device or ("cuda" if torch.cuda.is_available() else "")
    if not device:
        return
    there, policy = copy.deepcopy(method).to(device), Forced(first.trace) if first.trace else None
    found, executed = run_counted(there, sample.to(device), policy)
    yield from form(there, found, len(sample))
    yield from (f"on {device} {line}" for line in unlike(there, found, executed, None))
    if not torch.equal(found.cost, first.cost):
        yield f"costs {found.cost.tolist()} on {device}, {first.cost.tolist()} on {sample.device}"
    tolerance = 1e-4 if sample.dtype == torch.float64 else 1e-2  # single precision may be TF32 there
    for row in range(len(sample)):
        for one, other in zip(parts_of(first, row), parts_of(found, row), strict=True):
            largest = float(one.abs().amax()) if one.numel() else 0.0
            if one.shape != other.shape or not torch.allclose(one, other.to(one), tolerance, tolerance * largest):
                yield f"gives another answer on {device}"
