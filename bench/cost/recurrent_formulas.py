"""Multiply-adds of recurrent layers that run as one operation, on CPU (oneDNN) and GPU (cuDNN, MIOpen).

In every step of every sequence a layer multiplies each of its weight matrices by one vector. For I inputs and H hidden
units that is g·H·(I + H), with g = 4 for an LSTM, 3 for a GRU, 1 for a plain layer; an LSTM that projects its state to
P: 4·H·(I + P) + P·H. Every layer and direction has matrices of its own, of those very shapes, so that a step takes as
many products as all matrices together have elements.

A packed batch (rows, I) holds the steps that exist and no others: its rows are the sum of its batch sizes. The counter
divides the work of an operation evenly over its samples, which is what each takes if all sequences are equally long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from torch import Tensor


def recurrent_macs(x: Sequence[int], weights: Iterable[Sequence[int]]) -> int:
    """Layers with `weights` (biases among them) over x, (steps, batch, I) in either order, or packed (rows, I)."""
    return prod(x[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _layers(x: Tensor, weights: Iterable[Tensor]) -> int:
    return recurrent_macs(x.shape, [weight.shape for weight in weights])


def one_layer(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """One layer in one direction, whatever number of layers and directions the call names.

    Its two matrices come first. A layer without biases gets zeros of any shape in their place.
    """
    return _layers(args[0], args[1:3])


def one_layer_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Gradients of data and of weights, always both: each takes every product of the forward pass once."""
    return 2 * _layers(args[0], args[1:3])


def all_layers(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """All layers and directions, whose weights are one list."""
    return _layers(args[0], args[1])


def all_layers_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The gradient of the data is always computed, since it runs back through the steps; that of the weights if wanted.

    What is wanted comes last: input, state, cell, weights.
    """
    return _layers(args[0], args[1]) * (1 + int(args[-1][3]))
