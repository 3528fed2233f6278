"""A recurrent cell run over frames, as policies and classifiers here do."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def unrolled(cell: nn.GRUCell, inputs: Tensor, state: Tensor | None = None) -> Tensor:
    """The state (N, T, hidden) after each of the inputs (N, T, C), which follow on `state` (N, hidden), or on nothing.

    A cell, not a layer: it runs frame by frame as well, and its products are seen by every counter.
    """
    states: list[Tensor] = []
    for step in inputs.unbind(1):
        state = cell(step, state)
        states.append(state)
    return torch.stack(states, 1)
