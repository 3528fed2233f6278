"""What holds for every registered network, plain and in its VA-RED² form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import registry
from bench.method import Batch
from bench.policy import Forced
from bench.task import task_loss, task_of
from bench.weights import spec_of

SHAPE = {"frames": 5, "size": 35, "classes": 4}  # odd on purpose
SMALL = {"width": 8, "head_width": 16, "blocks": (1, 1, 1, 1), "last": 64, "dropout": 0.0}
EVERY = pytest.mark.parametrize("name", registry.networks())


TARGETS: dict[str, Any] = {
    "classes": torch.arange(4),
    "boxes": [torch.tensor([[4.0, 6, 20, 30, label]]) for label in range(4)],
    "masks": torch.arange(4)[:, None, None].expand(4, 35, 35),
}


def sample_of(network: torch.nn.Module, batch: int) -> torch.Tensor:
    return torch.randn(spec_of(network, SHAPE["size"], SHAPE["frames"]).shape(batch))


def options(name: str) -> dict[str, Any]:
    return registry.split_options(name, SMALL)[0]


@EVERY
def test_odd_sizes_run_and_training_steps_lower_the_loss(name: str) -> None:
    torch.manual_seed(0)
    network = registry.build_network(name, **SHAPE, **options(name))
    batch = Batch(sample_of(network, 4), TARGETS[task_of(network).kind], torch.arange(4))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        loss, _ = task_loss(network, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@EVERY
def test_weights_round_trip_through_safetensors(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = registry.build_network(name, **SHAPE, **options(name)).eval()
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "weights.safetensors"
    )
    torch.manual_seed(1)
    other = registry.build_network(name, **SHAPE, **options(name)).eval()
    sample = sample_of(network, 2)
    with torch.no_grad():
        expected = network(sample)
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(other(sample), expected)


@EVERY
def test_reduced_networks_skip_what_their_sum_leaves_out(name: str) -> None:
    """Under random decisions, some closed, what runs in evaluation is the dense weighted sum of training."""
    torch.manual_seed(0)
    method = registry.build(f"vared/{name}", **SHAPE, network_options=options(name)).double().eval()
    for parameter in method.parameters():
        if parameter.requires_grad and parameter.dim() == 1 and not parameter.any():
            parameter.data.normal_(0, 0.2)  # branches and shifts that start at nothing
    trace = {}
    for point, kinds in method.decisions().items():
        weights = torch.rand(3, len(kinds), dtype=torch.float64) + 0.1
        trace[point] = weights * (torch.rand_like(weights) < 0.6)
    sample = torch.randn(method.spec.shape(3), dtype=torch.float64)
    with torch.no_grad():
        skipped = method(sample, Forced(trace))
        with method.dense():
            summed = method(sample, Forced(trace))
    for kind in ("logits", "boxes", "masks"):
        torch.testing.assert_close(getattr(skipped, kind), getattr(summed, kind), rtol=1e-8, atol=1e-8)
    assert torch.equal(skipped.cost, summed.cost) and skipped.cost.unique().numel() > 1
