"""Multiply-adds of attention that runs as one operation, on CPU and GPU.

Every query of a head meets every key (D products a pair) and takes its share of every value (D_v products a pair):
B·heads·L_q·L_k·(D + D_v). Masks, causal or other, and windows are not subtracted, as in every published figure, although
some kernels pass over blocks that are masked throughout. Heads are those of the query, where several share a key. The
softmax and the dropout are element-wise. Widths are those that the kernel gets: some want a multiple of 8 and are given
padding, which counts, as it does for convolutions.

The counter divides the work of an operation evenly over its samples, which is what each takes if all sequences are
equally long.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

Shape = Sequence[int]


def attention_macs(pairs: int, width: int, value_width: int) -> int:
    """`pairs` of a query and a key, over all samples and heads: one product for the score, one for the sum of values."""
    return pairs * (width + value_width)


def attention_backward_macs(pairs: int, width: int, value_width: int) -> int:
    """Scores once more, since fused kernels keep none, and the gradients of the shares, of V, of Q and of K."""
    return pairs * (3 * width + 2 * value_width)


def _pairs(query: Shape, key: Shape) -> int:
    """Tensors (..., heads, length, width)."""
    return prod(query[:-1]) * key[-2]


def _pairs_by_position(query: Tensor, key: Tensor, query_ends: Tensor | None, key_ends: Tensor | None) -> int:
    """Tensors (batch, length, heads, width), or (..., rows, heads, width) with sequences of several lengths in a row.

    The lengths are then not in the shapes: `query_ends` and `key_ends` (sequences + 1,) are where each one ends, from 0.
    """
    if query_ends is None or key_ends is None:
        return prod(query.shape[:-1]) * key.shape[-3]
    return query.shape[-2] * int((query_ends.diff().long() * key_ends.diff()).sum())


def fused_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value (..., heads, length, width)."""
    query, key, value = (tensor.shape for tensor in args[:3])
    return attention_macs(_pairs(query, key), query[-1], value[-1])


def fused_attention_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The gradient of the output comes before query, key, value."""
    query, key, value = (tensor.shape for tensor in args[1:4])
    return attention_backward_macs(_pairs(query, key), query[-1], value[-1])


def flash_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value, and where the sequences end."""
    query, key, value, *ends = args[:5]
    return attention_macs(_pairs_by_position(query, key, *ends), query.shape[-1], value.shape[-1])


def efficient_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value, a bias, and where the sequences end."""
    return flash_attention((*args[:3], *args[4:6]), kwargs, output)


def flash_attention_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The gradient, query, key, value, output and its logarithm (and a bias among them), and where the sequences end."""
    query, key, value = args[1:4]
    return attention_backward_macs(_pairs_by_position(query, key, *args[6:8]), query.shape[-1], value.shape[-1])


def multi_head_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value (B, length, E), each through its third of a matrix (3·E, E); attention; the projection back."""
    (query, key, value), weight, projection = (tensor.shape for tensor in args[:3]), args[5].shape, args[7].shape
    into = (prod(query[:-1]) + prod(key[:-1]) + prod(value[:-1])) * prod(weight) // 3
    return into + _pairs(query, key) * 2 * args[3] + prod(query[:-1]) * prod(projection)


def encoder_layer(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """A transformer's encoder layer on x (B, L, E): self-attention with its projections, and two linear layers."""
    x, weights = args[0].shape, (args[3], args[5], args[14], args[16])
    return prod(x[:-1]) * sum(weight.numel() for weight in weights) + _pairs(x, x) * 2 * args[1]
