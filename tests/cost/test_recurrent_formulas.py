"""Recurrent layers and attention against closed forms, in every form in which torch runs them.

Operations that run on a GPU only get arguments by the names of their own schema, so that a formula that looks at the
wrong place is found; those that have a meta kernel go through the counter as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import FORMULAS, ZERO_COST, Count, Counter, count, count_meta

aten = torch.ops.aten
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUSED_LSTM = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no fused LSTM without oneDNN")


def layer_macs(kind: str, inputs: int, hidden: int, layers: int = 1, directions: int = 1, projection: int = 0) -> int:
    """One step of one sequence, written out layer by layer."""
    state = projection or hidden
    total = 0
    for layer in range(layers):
        width = inputs if layer == 0 else directions * state
        total += directions * (GATES[kind] * hidden * (width + state) + projection * hidden)
    return total


def counted(call: Callable[[], Any], batch: int = 1) -> Count:
    with Counter(nn.Identity(), batch=batch) as counter:
        call()
    return counter.result()


@contextmanager
def gradients(mode: str) -> Iterator[None]:
    with torch.inference_mode() if mode == "inference" else torch.set_grad_enabled(mode == "gradient"):
        yield


MODES = ["gradient", "no gradient", "inference"]


# Recurrent layers and cells on the CPU


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(GATES)))
    hidden = draw(st.integers(2, 5))
    return {
        "kind": kind,
        "inputs": draw(st.integers(1, 5)),
        "hidden": hidden,
        "layers": draw(st.integers(1, 3)),
        "directions": draw(st.integers(1, 2)),
        "projection": draw(st.integers(0, hidden - 1)) if kind == "LSTM" else 0,
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }


def build(case: dict[str, Any], **where: Any) -> nn.Module:
    projection = {"proj_size": case["projection"]} if case["projection"] else {}
    return getattr(nn, case["kind"])(
        case["inputs"],
        case["hidden"],
        case["layers"],
        bias=case["bias"],
        batch_first=case["batch_first"],
        bidirectional=case["directions"] == 2,
        **projection,
        **where,
    )


def expected_layer(case: dict[str, Any]) -> int:
    shape = (case["inputs"], case["hidden"], case["layers"], case["directions"], case["projection"])
    return layer_macs(case["kind"], *shape)


@settings(max_examples=60, deadline=None)
@given(
    case=layers(),
    batch=st.integers(1, 3),
    steps=st.integers(1, 4),
    mode=st.sampled_from(MODES),
    where=st.sampled_from([{"dtype": torch.float32}, {"dtype": torch.float64}, {"device": "meta"}]),
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_layer_takes_its_products_at_every_step(
    case: dict[str, Any], batch: int, steps: int, mode: str, where: dict[str, Any]
) -> None:
    """In single precision an LSTM is one operation a layer and direction; elsewhere all are matrix products."""
    network = build(case, **where)
    shape = (batch, steps) if case["batch_first"] else (steps, batch)
    x = torch.zeros(*shape, case["inputs"], **where)
    with gradients(mode):
        found = counted(lambda: network(x), batch)
    assert found.uncounted == {}
    assert found.per_sample == (steps * expected_layer(case),) * batch


@FUSED_LSTM
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("mode", MODES)
def test_both_forms_of_an_lstm_were_seen(mode: str) -> None:
    network, x = nn.LSTM(4, 6, 2, bidirectional=True), torch.zeros(5, 3, 4)
    with gradients(mode):
        whole = counted(lambda: network(x), 3)
        with torch.backends.mkldnn.flags(enabled=False):
            apart = counted(lambda: network(x), 3)
    assert set(whole.by_operation) == {"aten.mkldnn_rnn_layer"}
    assert set(apart.by_operation) <= {"aten.mm", "aten.addmm", "aten.linear"}
    assert whole.per_sample == apart.per_sample == (5 * 2 * 4 * 6 * ((4 + 6) + (12 + 6)),) * 3


@pytest.mark.parametrize("kind", GATES)
def test_a_packed_batch_takes_the_steps_that_exist(kind: str) -> None:
    lengths = [5, 2, 1]
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(3, 5, 4), lengths, batch_first=True)
    found = counted(lambda: getattr(nn, kind)(4, 6, 2, bidirectional=True)(packed))
    assert found.uncounted == {} and found.macs == sum(lengths) * layer_macs(kind, 4, 6, 2, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", GATES)
def test_a_cell_is_one_step_of_a_layer(kind: str, device: str, mode: str) -> None:
    cell, x = getattr(nn, kind + "Cell")(4, 6, device=device), torch.zeros(3, 4, device=device)
    with gradients(mode):
        assert counted(lambda: cell(x), 3).per_sample == (layer_macs(kind, 4, 6),) * 3


def test_a_published_size_is_counted_on_meta_tensors() -> None:
    """AR-Net's policy: an LSTM of 512 on 1280 features, 3,670,016 multiply-adds a frame, 16 frames."""
    assert count_meta(nn.LSTM(1280, 512, batch_first=True), (1, 16, 1280)).macs == 16 * 3_670_016


@FUSED_LSTM
@pytest.mark.parametrize("bias", [False, True])
def test_the_backward_pass_of_a_fused_layer_takes_two_products_for_each(bias: bool) -> None:
    network, x = nn.LSTM(4, 6, 2, bias=bias), torch.zeros(5, 3, 4, requires_grad=True)
    output = network(x)[0].sum()
    found = counted(output.backward)
    assert found.by_operation == {"aten.mkldnn_rnn_layer_backward": 2 * 5 * 3 * layer_macs("LSTM", 4, 6, 2)}


# Attention on the CPU


def projections(width: int, length: int) -> int:
    return 4 * width * width * length


def attending(width: int, queries: int, keys: int) -> int:
    return 2 * width * queries * keys


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [False, True])
def test_scaled_dot_product_attention_is_two_products_whatever_the_mask(causal: bool, mode: str) -> None:
    query, key, value = torch.randn(3, 2, 5, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8)
    with gradients(mode):
        fused = counted(lambda: F.scaled_dot_product_attention(query, key, value, is_causal=causal), 3)
        mathematical = counted(lambda: aten._scaled_dot_product_attention_math(query, key, value, is_causal=causal), 3)
    assert set(fused.by_operation) == {"aten._scaled_dot_product_flash_attention_for_cpu"}
    assert set(mathematical.by_operation) == {"aten.bmm"}
    assert fused.per_sample == mathematical.per_sample == (2 * 5 * 7 * (8 + 8),) * 3


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 6),
    shared=st.booleans(),
    device=st.sampled_from(["cpu", "meta"]),
)
def test_attention_of_any_shape(sizes: tuple[int, ...], shared: bool, device: str) -> None:
    """Values of another width than the queries', and several queries' heads to one of the keys."""
    batch, heads, queries, keys, width, value_width = sizes
    few = 1 if shared else heads
    query = torch.randn(batch, heads, queries, width, device=device)
    key = torch.randn(batch, few, keys, width, device=device)
    value = torch.randn(batch, few, keys, value_width, device=device)
    found = counted(lambda: F.scaled_dot_product_attention(query, key, value, enable_gqa=True), batch)
    assert found.uncounted == {}
    assert found.per_sample == (heads * queries * keys * (width + value_width),) * batch


def test_the_backward_pass_of_fused_attention_computes_the_scores_again() -> None:
    query, key = (torch.randn(3, 2, length, 8, requires_grad=True) for length in (5, 7))
    output = F.scaled_dot_product_attention(query, key, key).sum()
    found = counted(output.backward)
    name = "aten._scaled_dot_product_flash_attention_for_cpu_backward"
    assert found.by_operation == {name: 3 * 2 * 5 * 7 * 5 * 8}


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_multi_head_self_attention(mode: str, weights: bool) -> None:
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8)
    with gradients(mode):
        found = counted(lambda: attention(x, x, x, need_weights=weights), 3)
    assert ("aten._native_multi_head_attention" in found.by_operation) == (mode != "gradient")
    assert found.uncounted == {} and found.per_sample == (projections(8, 5) + attending(8, 5, 5),) * 3


def test_multi_head_attention_to_something_else() -> None:
    attention, query, memory = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    expected = 2 * 64 * 5 + 2 * 64 * 7 + attending(8, 5, 7)
    assert counted(lambda: attention(query, memory, memory), 3).per_sample == (expected,) * 3
    whole = named(aten._native_multi_head_attention.default, **heads(query, memory))
    assert FORMULAS[aten._native_multi_head_attention](*whole, None) == 3 * expected


def heads(query: Tensor, memory: Tensor) -> dict[str, Any]:
    return {
        "query": query,
        "key": memory,
        "value": memory,
        "embed_dim": 8,
        "num_head": 2,
        "qkv_weight": torch.empty(24, 8),
        "proj_weight": torch.empty(8, 8),
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_transformers_layer_fast_and_slow(mode: str) -> None:
    layer, x = nn.TransformerEncoderLayer(8, 2, 24, batch_first=True).eval(), torch.randn(3, 5, 8)
    expected = (projections(8, 5) + attending(8, 5, 5) + 2 * 8 * 24 * 5,) * 3
    with gradients(mode):
        fast = counted(lambda: layer(x), 3)
        with Counter(layer, batch=3) as slow:  # torch keeps apart what has hooks
            layer(x)
    assert ("aten._transformer_encoder_layer_fwd" in fast.by_operation) == (mode != "gradient")
    assert "aten._transformer_encoder_layer_fwd" not in slow.result().by_operation
    assert fast.uncounted == slow.result().uncounted == {}
    assert fast.per_sample == slow.result().per_sample == expected
    assert slow.result().by_module["linear1"] == 3 * 8 * 24 * 5


def test_a_transformer_is_its_layers() -> None:
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 24, batch_first=True), 3)
    expected = 3 * (projections(8, 5) + attending(8, 5, 5) + 2 * 8 * 24 * 5)
    assert count(network, torch.randn(2, 5, 8)).per_sample == (expected,) * 2
    assert count_meta(network, (2, 5, 8)).per_sample == (expected,) * 2


# Operations that only a GPU runs


def named(operation: Any, **values: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments in the order of the operation's schema; None where nothing is said."""
    arguments = operation._schema.arguments
    assert values.keys() <= {argument.name for argument in arguments}, "the schema has other names"
    order = [argument for argument in arguments if not argument.kwarg_only]
    required = [argument for argument in order if argument.name in values or not argument.has_default_value()]
    return tuple(values.get(argument.name) for argument in required), {}


def macs(name: str, **values: Any) -> int:
    packet = getattr(aten, name)
    return FORMULAS[packet](*named(packet.default, **values), None)


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


CUDNN_CASES = [
    {"kind": "LSTM", "projection": 3, "bias": True, "layers": 2, "directions": 2},
    {"kind": "LSTM", "projection": 0, "bias": False, "layers": 1, "directions": 1},
    {"kind": "GRU", "projection": 0, "bias": True, "layers": 3, "directions": 2},
    {"kind": "RNN", "projection": 0, "bias": True, "layers": 2, "directions": 1},
]
RNNS = ["_cudnn_rnn", "miopen_rnn"]


@pytest.mark.parametrize("case", CUDNN_CASES)
@pytest.mark.parametrize("name", RNNS)
def test_a_gpus_layers_cost_what_the_processors_do(name: str, case: dict[str, Any]) -> None:
    case = {**case, "inputs": 4, "hidden": 6, "batch_first": True}
    weights = list(build(case, device="meta").parameters())
    step = expected_layer(case)
    dense = {"input": empty(3, 5, 4), "weight": weights, "batch_sizes": []}
    packed = {"input": empty(8, 4), "weight": weights, "batch_sizes": [3, 2, 1, 1, 1]}
    assert macs(name, **dense) == 3 * 5 * step
    assert macs(name, **packed) == sum(packed["batch_sizes"]) * step
    for wanted, times in (([True] * 4, 2), ([True, True, True, False], 1)):
        assert macs(f"{name}_backward", **dense, output_mask=wanted) == times * 3 * 5 * step


def test_a_gpus_layers_are_seen_by_the_counter() -> None:
    weights = [weight.detach() for weight in nn.LSTM(4, 6, 2, device="meta").parameters()]
    x, state = empty(5, 3, 4), empty(2, 3, 6)

    def call() -> None:
        aten._cudnn_rnn(x, weights, 4, None, state, state, 2, 6, 0, 2, False, 0.0, False, False, [], None)

    assert counted(call, 3).per_sample == (5 * layer_macs("LSTM", 4, 6, 2),) * 3


GATED = """_thnn_fused_lstm_cell _thnn_fused_gru_cell _thnn_fused_lstm_cell_backward _thnn_fused_gru_cell_backward
    _thnn_fused_lstm_cell_backward_impl""".split()


@pytest.mark.parametrize("name", GATED)
def test_the_gates_of_a_cell_follow_its_products_and_are_free(name: str) -> None:
    """They get the products, not what was multiplied: no argument of theirs is a weight matrix."""
    names = {argument.name for argument in getattr(aten, name).default._schema.arguments}
    assert getattr(aten, name) in ZERO_COST and not names & {"input", "w_ih", "w_hh", "weight", "params"}


HEADS_FIRST = """_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable""".split()


@pytest.mark.parametrize("name", HEADS_FIRST)
def test_fused_attention_by_heads(name: str) -> None:
    shapes = {"query": empty(3, 4, 5, 8), "key": empty(3, 2, 7, 8), "value": empty(3, 2, 7, 16)}
    pairs = 3 * 4 * 5 * 7
    assert macs(name, **shapes) == pairs * (8 + 16)
    assert macs(f"{name}_backward", **shapes) == pairs * (8 + 16 + 16 + 8 + 8)


@pytest.mark.parametrize("kernel", ["_flash_attention", "_efficient_attention"])
def test_fused_attention_by_positions(kernel: str) -> None:
    shapes = {"query": empty(3, 5, 4, 8), "key": empty(3, 7, 2, 8), "value": empty(3, 7, 2, 16)}
    pairs = 3 * 4 * 5 * 7
    assert macs(f"{kernel}_forward", **shapes) == pairs * (8 + 16)
    assert macs(f"{kernel}_backward", **shapes) == pairs * (8 + 16 + 16 + 8 + 8)


@pytest.mark.parametrize(("kernel", "ends"), [("_flash_attention", "cum_seq"), ("_efficient_attention", "cu_seqlens")])
def test_attention_over_several_lengths_in_a_row(kernel: str, ends: str) -> None:
    """Each sequence attends to itself only: 2·3 + 4·1 + 1·5 pairs of 3 heads."""
    row = (1,) if kernel == "_efficient_attention" else ()
    shapes = {"query": empty(*row, 7, 3, 8), "key": empty(*row, 9, 3, 8), "value": empty(*row, 9, 3, 16)}
    lengths = {f"{ends}_q": torch.tensor([0, 2, 6, 7]), f"{ends}_k": torch.tensor([0, 3, 4, 9])}
    assert macs(f"{kernel}_forward", **shapes, **lengths) == 3 * 15 * (8 + 16)
    assert macs(f"{kernel}_backward", **shapes, **lengths) == 3 * 15 * (3 * 8 + 2 * 16)


CALLS: dict[str, Callable[[Tensor], Any]] = {
    "_scaled_dot_product_flash_attention": lambda x: aten._scaled_dot_product_flash_attention(x, x, x),
    "_scaled_dot_product_efficient_attention": lambda x: aten._scaled_dot_product_efficient_attention(
        x, x, x, None, False
    ),
    "_scaled_dot_product_cudnn_attention": lambda x: aten._scaled_dot_product_cudnn_attention(x, x, x, None, False),
    "_flash_attention_forward": lambda x: aten._flash_attention_forward(
        *[x.transpose(1, 2)] * 3, None, None, 5, 5, 0.0, True, False
    ),
    "_efficient_attention_forward": lambda x: aten._efficient_attention_forward(
        *[x.transpose(1, 2)] * 3, None, None, None, None, None, 0.0, 0
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_gpus_attention_is_seen_by_the_counter(name: str) -> None:
    found = counted(lambda: CALLS[name](empty(3, 2, 5, 8)), 3)
    assert found.by_operation == {f"aten.{name}": 3 * 2 * 5 * 5 * 16}
    assert found.per_sample == (2 * 5 * 5 * 16,) * 3
