"""Multiply-adds of attention that runs as one operation, on CPU and GPU.

Every query of a head meets every key (D products a pair) and takes its share of every value (D_v products a pair):
B·heads·L_q·L_k·(D + D_v). Masks, causal or other, and windows are not subtracted: a dense kernel computes what it then
masks, and one that passes over wholly masked blocks is counted alike. Heads are those of the query, where several share
a key. Softmax and dropout are element-wise. Widths are those that the kernel gets: some want a multiple of 8 and are
given padding, which counts, as it does for convolutions.

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
    """`pairs` of a query and a key, over all samples and heads: once for the scores, once for the sums of values."""
    return pairs * (width + value_width)


def attention_backward_macs(pairs: int, width: int, value_width: int) -> int:
    """Scores once more, since fused kernels keep none, and the gradients of the shares, of V, of Q and of K."""
    return pairs * (3 * width + 2 * value_width)


def _shapes(args: tuple[Any, ...], *places: int) -> list[Shape]:
    return [args[place].shape for place in places]


def _pairs(query: Shape, key: Shape) -> int:
    """Tensors (..., heads, length, width)."""
    return prod(query[:-1]) * key[-2]


def _pairs_by_position(query: Tensor, key: Tensor, query_ends: Tensor | None, key_ends: Tensor | None) -> int:
    """Tensors (batch, length, heads, width), or (..., rows, heads, width) with sequences of several lengths in a row.

    The lengths are then not in the shapes: `query_ends` and `key_ends` (sequences + 1,) say where each ends, from 0.
    """
    if query_ends is None or key_ends is None:
        return prod(query.shape[:-1]) * key.shape[-3]
    return query.shape[-2] * int((query_ends.diff().long() * key_ends.diff()).sum())


def fused_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value (..., heads, length, width)."""
    query, key, value = _shapes(args, 0, 1, 2)
    return attention_macs(_pairs(query, key), query[-1], value[-1])


def fused_attention_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The gradient of the output comes before query, key, value."""
    query, key, value = _shapes(args, 1, 2, 3)
    return attention_backward_macs(_pairs(query, key), query[-1], value[-1])


def flash_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value, and where the sequences end."""
    query, key, value, *ends = args[:5]
    return attention_macs(_pairs_by_position(query, key, *ends), query.shape[-1], value.shape[-1])


def efficient_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value, a bias, and where the sequences end."""
    return flash_attention((*args[:3], *args[4:6]), kwargs, output)


def flash_attention_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The output's gradient, query, key, value, two more tensors, and where the sequences end."""
    query, key, value = args[1:4]
    return attention_backward_macs(_pairs_by_position(query, key, *args[6:8]), query.shape[-1], value.shape[-1])


def _attention_of_heads(query: Shape, key: Shape) -> int:
    """Tensors (B, length, E): heads of E / heads each take as much as one of E."""
    return attention_macs(_pairs(query, key), query[-1], query[-1])


def multi_head_attention(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Query, key, value (B, length, E), each through its third of a matrix (3·E, E); attention; the projection back."""
    query, key, value, weight, projection = _shapes(args, 0, 1, 2, 5, 7)
    into = (prod(query[:-1]) + prod(key[:-1]) + prod(value[:-1])) * (prod(weight) // 3)
    return into + _attention_of_heads(query, key) + prod(query[:-1]) * prod(projection)


def encoder_layer(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """A transformer's encoder layer on x (B, L, E): self-attention with its projections, and two linear layers."""
    x, *weights = _shapes(args, 0, 3, 5, 14, 16)
    return prod(x[:-1]) * sum(prod(weight) for weight in weights) + _attention_of_heads(x, x)
