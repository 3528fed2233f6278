"""Every method as it is timed answers as it does otherwise, by the same decisions, at the same cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_inference import moved
from torch import nn

from bench import registry
from bench.cost import Counter
from bench.inference.convolution import Convolution
from bench.method import Method
from bench.policy import Forced, Policy

BLOCKS = {"blocks": (1, 1, 1, 1)}
FOCUS = {"width": 8, "glance": "resnet18", "focus": "resnet18", "glance_blocks": (1, 1), "focus_blocks": (1, 1, 1)}
UNDER = {"network_options": {"width": 8, **BLOCKS}}
METHODS: dict[str, dict[str, Any]] = {
    "arnet": {"width": 8, **BLOCKS},
    "faster": {"width": 8, "expensive_options": BLOCKS, "cheap_options": BLOCKS},
    "adafocus_v1": FOCUS,
    "adafocus_v2": {**FOCUS, "exits": True},
    "uni_adafocus": {**FOCUS, "exits": True},
    "pruned/r2plus1d_18": {**UNDER, "budget": 0.6, "kind": "channels"},
    "subsampled/r2plus1d_18": UNDER,
    "vared/r2plus1d_18": UNDER,
}


def forced(method: Method, rows: int) -> Policy | None:
    """Options drawn for each sample on its own; the first sample computes everything."""
    random = torch.Generator().manual_seed(3)
    trace = {}
    for point, options in method.decisions().items():
        drawn = torch.randint(len(options), (rows,), generator=random)
        drawn[0] = 0
        trace[point] = options[drawn]
    return Forced(trace) if trace else None


def built(name: str) -> Method:
    torch.manual_seed(0)
    method = registry.build(name, frames=4, size=32, classes=5, **METHODS[name])
    moved(method)
    if name.startswith("pruned"):
        method.prune(0.6)  # type: ignore[operator]
    return method.eval()


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_the_timed_form_answers_as_the_method(name: str) -> None:
    method = built(name)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(5), generator=torch.Generator().manual_seed(1))
    policy = forced(method, len(sample))
    expected, found = method(sample, policy), fast(sample, policy)
    assert torch.equal(found.cost, expected.cost)
    assert {point: decided.tolist() for point, decided in found.trace.items()} == {
        point: decided.tolist() for point, decided in expected.trace.items()
    }
    scale = float(expected.logits.abs().max())
    assert torch.allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"vared/r2plus1d_18"}))  # its first batches try several ways
@torch.no_grad()
def test_the_timed_form_normalises_nowhere_and_runs_no_more_than_the_method(name: str) -> None:
    method = built(name)
    fast, sample = method.optimised(), torch.randn(method.spec.shape(3), generator=torch.Generator().manual_seed(1))
    policy, ran = forced(method, len(sample)), list[type[nn.Module]]()
    fast(sample, policy)  # chooses its forms
    with Counter(fast, batch=len(sample)) as counter:
        cost = fast(sample, policy).cost.tolist()
    for part in fast.modules():
        part.register_forward_hook(lambda module, args, result: ran.append(type(module)))
    fast(sample, policy)
    assert all(real <= told for real, told in zip(counter.result().per_sample, cost, strict=True))
    assert any(issubclass(kind, Convolution) for kind in ran)
    assert not any(issubclass(kind, nn.BatchNorm2d | nn.BatchNorm3d) for kind in ran)
