"""Formulas against closed forms, and against the arithmetic itself.

With inputs and weights of ones and no bias every output element is the number of products it sums, so that the sum of
the output *is* the multiply-add count, whatever the operation, its groups, stride or dilation.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import FORMULAS, ZERO_COST, Count, Counter, count_meta, register_formula

aten = torch.ops.aten


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def counted(call: Callable[[], Tensor], inference: bool = False) -> tuple[Count, Tensor]:
    with torch.no_grad(), torch.inference_mode(inference), Counter(nn.Identity()) as counter:
        output = call()
    return counter.result(), output


PRODUCTS: dict[str, Callable[[], Tensor]] = {
    "mm": lambda: ones(3, 4) @ ones(4, 5),
    "bmm": lambda: torch.bmm(ones(2, 3, 4), ones(2, 4, 5)),
    "mv": lambda: ones(3, 4) @ ones(4),
    "vector by matrix": lambda: ones(4) @ ones(4, 5),
    "dot": lambda: ones(7) @ ones(7),
    "vdot": lambda: torch.vdot(ones(7), ones(7)),
    "addmm": lambda: torch.addmm(ones(5) * 0, ones(3, 4), ones(4, 5)),
    "addmm_": lambda: (ones(3, 5) * 0).addmm_(ones(3, 4), ones(4, 5)),
    "mm out": lambda: torch.mm(ones(3, 4), ones(4, 5), out=ones(3, 5)),
    "addmv": lambda: torch.addmv(ones(3) * 0, ones(3, 4), ones(4)),
    "baddbmm": lambda: torch.baddbmm(ones(2, 3, 5) * 0, ones(2, 3, 4), ones(2, 4, 5)),
    "addbmm": lambda: torch.addbmm(ones(3, 5) * 0, ones(2, 3, 4), ones(2, 4, 5)),
    "broadcast matmul": lambda: ones(6, 1, 3, 4) @ ones(2, 4, 5),
    "linear": lambda: F.linear(ones(2, 6, 4), ones(5, 4)),
    "linear with bias": lambda: F.linear(ones(2, 6, 4), ones(5, 4), ones(5) * 0),
    "linear of a vector": lambda: F.linear(ones(4), ones(5, 4)),
    "linear to a scalar": lambda: F.linear(ones(2, 4), ones(4)),
    "attention scores": lambda: torch.einsum("bthd,bshd->bhts", ones(2, 3, 2, 4), ones(2, 5, 2, 4)),
    "tensordot": lambda: torch.tensordot(ones(2, 3, 4), ones(4, 3, 5), dims=([1, 2], [1, 0])),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_product_counts_are_the_sum_of_a_product_of_ones(name: str, inference: bool) -> None:
    count, output = counted(PRODUCTS[name], inference)
    assert count.uncounted == {}
    assert count.macs == output.sum().item()


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, object]:
    rank = draw(st.integers(1, 3))
    some = st.tuples(*[st.integers(1, 3)] * rank)
    kernel, stride, dilation = draw(some), draw(some), draw(some)
    groups = draw(st.integers(1, 3))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(r + draw(st.integers(0, 3)) for r in reach)
    return {
        "rank": rank,
        "transposed": draw(st.booleans()),
        "x": (draw(st.integers(1, 3)), groups * draw(st.integers(1, 2)), *size),
        "kernel": kernel,
        "out": draw(st.integers(1, 2)),  # per group
        "options": {"stride": stride, "dilation": dilation, "groups": groups},
        "padding": draw(st.tuples(*[st.integers(0, 2)] * rank)),
        "inference": draw(st.booleans()),
    }


def convolve(case: dict[str, object], padding: object = 0) -> Callable[[], Tensor]:
    x, kernel, out, options = case["x"], case["kernel"], case["out"], case["options"]
    groups = options["groups"]
    weight = (x[1], out, *kernel) if case["transposed"] else (groups * out, x[1] // groups, *kernel)
    name = f"conv{'_transpose' if case['transposed'] else ''}{case['rank']}d"
    return lambda: getattr(F, name)(ones(*x), ones(*weight), padding=padding, **options)


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_convolution_counts_are_the_sum_of_a_convolution_of_ones(case: dict[str, object]) -> None:
    count, output = counted(convolve(case), case["inference"])
    assert count.by_operation == {"aten.convolution": int(output.sum().item())}


@settings(max_examples=100, deadline=None)
@given(convolutions())
def test_convolution_counts_taps_on_padding(case: dict[str, object]) -> None:
    kernel, options, padding = case["kernel"], case["options"], case["padding"]
    axes = list(zip(case["x"][2:], kernel, options["stride"], options["dilation"], padding, strict=True))
    if case["transposed"]:
        assume(all((n - 1) * s - 2 * p + d * (k - 1) >= 0 for n, k, s, d, p in axes))  # something is left
        positions = prod(case["x"][2:])
    else:
        positions = prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, d, p in axes)
    batch, channels = case["x"][:2]
    expected = batch * positions * channels * case["out"] * prod(kernel)
    assert counted(convolve(case, padding))[0].macs == expected


def test_a_chained_einsum_counts_every_product() -> None:
    count, _ = counted(lambda: torch.einsum("bi,ij,bj->b", ones(3, 4), ones(4, 5), ones(3, 5)))
    assert count.macs == 3 * 4 * 5 + 3 * 5


def test_an_outer_product_is_element_wise() -> None:
    assert counted(lambda: torch.outer(ones(3), ones(4)))[0] == counted(lambda: ones(3, 1) * ones(4))[0]


def test_depthwise_and_unbatched_convolutions() -> None:
    depthwise = counted(lambda: F.conv3d(ones(2, 6, 4, 5, 5), ones(6, 1, 1, 3, 3), padding=(0, 1, 1), groups=6))[0]
    assert depthwise.macs == 2 * 6 * 4 * 5 * 5 * 9
    assert counted(lambda: F.conv2d(ones(3, 5, 5), ones(4, 3, 1, 1)))[0].macs == 3 * 4 * 25


BACKEND_CONVOLUTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "_convolution": lambda x, w: aten._convolution(
        x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, False, False
    ),
    "_slow_conv2d_forward": lambda x, w: aten._slow_conv2d_forward(x, w, [3, 3], None, [1, 1], [0, 0]),
    "slow_conv_dilated2d": lambda x, w: aten.slow_conv_dilated2d(x, w, [3, 3]),
    "slow_conv_transpose2d": lambda x, w: aten.slow_conv_transpose2d(x, w.transpose(0, 1).contiguous(), [3, 3]),
}


@pytest.mark.parametrize("name", BACKEND_CONVOLUTIONS)
def test_a_backends_own_convolution_counts_like_any(name: str) -> None:
    count, output = counted(lambda: BACKEND_CONVOLUTIONS[name](ones(2, 3, 6, 6), ones(4, 3, 3, 3)))
    assert count.by_operation == {f"aten.{name}": int(output.sum().item())}


@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_backward_counts_each_wanted_gradient_once(transposed: bool) -> None:
    x, weight = ones(2, 4, 6, 6).requires_grad_(), ones(4, 4, 3, 3).requires_grad_()
    convolve = F.conv_transpose2d if transposed else F.conv2d
    for of in ((x,), (weight,), (x, weight)):
        output = convolve(x, weight)
        with Counter(nn.Identity()) as counter:
            torch.autograd.grad(output.sum(), of)
        forward = int(output.sum().item())
        assert counter.result().by_operation == {"aten.convolution_backward": forward * len(of)}


def test_vgg16_has_its_published_cost() -> None:
    """15.47 G multiply-adds and 138,357,544 parameters at 224² (Simonyan and Zisserman, configuration D)."""
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    with torch.device("meta"):
        vgg = nn.Sequential(*layers, nn.Flatten(), *head).to("meta")
    assert sum(weight.numel() for weight in vgg.parameters()) == 138_357_544
    assert count_meta(vgg, (1, 3, 224, 224)).macs == 15_470_264_320


def test_nothing_is_both_free_and_counted() -> None:
    assert not ZERO_COST & FORMULAS.keys()


COMPUTE = """
    addr bilinear _trilinear cdist _cdist_forward _euclidean_dist conv_tbc convolution mm
    _scaled_dot_product_attention_math _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention scaled_dot_product_attention
    _native_multi_head_attention _transformer_encoder_layer_fwd mkldnn_rnn_layer _cudnn_rnn miopen_rnn lstm gru
    rnn_tanh rnn_relu lstm_cell gru_cell _fft_r2c _fft_c2c _fft_c2r
    linalg_svd _linalg_svd linalg_inv_ex _linalg_solve_ex matrix_exp linalg_matrix_exp matmul linear einsum kron
    embedding_bag _foreach_mm _grouped_mm _sparse_mm _sparse_addmm mkldnn_linear fbgemm_linear_int8_weight
    _weight_int8pack_mm linear_backward mkldnn_rnn_layer_backward _scaled_dot_product_flash_attention_backward
    convolution_backward
""".split()


@pytest.mark.parametrize("name", COMPUTE)
def test_compute_is_never_free(name: str) -> None:
    assert getattr(aten, name) not in ZERO_COST


def test_a_formula_is_registered_once_for_a_whole_operation() -> None:
    with pytest.raises(ValueError, match=r"aten\.convolution has a formula already"):
        register_formula(aten.convolution, lambda args, kwargs, output: 0)
    with pytest.raises(ValueError, match=r"aten\.relu has a formula already"):
        register_formula(aten.relu, lambda args, kwargs, output: 1)
    with pytest.raises(TypeError, match="got"):
        register_formula(aten._fft_r2c.default, lambda args, kwargs, output: 0)
    assert aten._fft_r2c not in FORMULAS
