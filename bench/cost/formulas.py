"""Multiply-adds of every operation: one table of tiny pure functions, and the explicit set of what costs nothing.

One multiply-add is 1; additions of a bias are not counted; taps that fall on padding are, as in every published
figure. What stands in neither table (Fourier transforms, decompositions, distances, ...) is *uncounted*, which the
counter turns into an error. Composite operations (`linear`, `matmul`, `einsum`, `conv3d`, `lstm`, `gru_cell`,
`scaled_dot_product_attention`, ...) need no formula: the counter takes them apart into those that stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch._ops import OpOverloadPacket

from bench.cost import attention_formulas as attention
from bench.cost import recurrent_formulas as recurrent

Formula = Callable[[tuple[Any, ...], dict[str, Any], Any], int | Sequence[int]]
"""(args, kwargs, output) of a call, as the dispatcher sees it -> multiply-adds, or those of each sample (B,) that it
runs for, where they differ.

Reads shapes only, the lengths of sequences where several stand in one row, and decisions that a fused kernel follows.
"""

Shape = Sequence[int]


def convolution_macs(x: Shape, weight: Shape, output: Shape, transposed: bool = False) -> int:
    """Convolution of any rank, with groups, stride and dilation, from its shapes.

    Every output element gathers weight[1:] products (C_in/groups × kernel); transposed, every input element spreads
    over as many (C_out/groups × kernel).
    """
    return prod(x if transposed else output) * prod(weight[1:])


def product_macs(left: Shape, right: Shape) -> int:
    """Matrix product (..., n, k) × (..., k, m), batched or not; a right-hand vector (k,) has m = 1."""
    return prod(left) * (right[-1] if len(right) > 1 else 1)


def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    return convolution_macs(args[0].shape, args[1].shape, output.shape, transposed=args[6])


def _plain_convolution(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    return convolution_macs(args[0].shape, args[1].shape, output.shape)


def _transposed_convolution(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    return convolution_macs(args[0].shape, args[1].shape, output.shape, transposed=True)


def _convolution_backward(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The gradients of input and of weight each take every product of the forward pass once."""
    gradient, x, weight, transposed, (with_input, with_weight, _) = *args[:3], args[7], args[10]
    forward = convolution_macs(x.shape, weight.shape, gradient.shape, transposed)
    return forward * (int(with_input) + int(with_weight))


def _product(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    return product_macs(args[0].shape, args[1].shape)


def _added_product(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The first argument is what the product is added to."""
    return product_macs(args[1].shape, args[2].shape)


def _linear(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """The weight is (out, in), or (in,) for one output."""
    return product_macs(args[0].shape, args[1].shape[::-1])


def _packets(names: str) -> list[OpOverloadPacket]:
    """The ATen operations called `names`; releases of torch differ in a few."""
    return [getattr(torch.ops.aten, name) for name in names.split() if hasattr(torch.ops.aten, name)]


def _table(rows: dict[str, Formula]) -> dict[OpOverloadPacket, Formula]:
    return {packet: formula for names, formula in rows.items() for packet in _packets(names)}


FORMULAS: dict[OpOverloadPacket, Formula] = _table(
    {
        "convolution _convolution convolution_overrideable": _convolution,
        # What a backend's own convolution is called when it is called by name.
        """cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu miopen_convolution
        miopen_convolution_relu miopen_convolution_add_relu miopen_depthwise_convolution mkldnn_convolution
        _conv_depthwise2d conv_depthwise3d _slow_conv2d_forward slow_conv3d_forward slow_conv_dilated2d
        slow_conv_dilated3d""": _plain_convolution,
        """cudnn_convolution_transpose miopen_convolution_transpose slow_conv_transpose2d
        slow_conv_transpose3d""": _transposed_convolution,
        "convolution_backward": _convolution_backward,
        "mm bmm mv dot vdot _int_mm _scaled_mm": _product,
        "addmm addmm_ baddbmm baddbmm_ addbmm addbmm_ addmv addmv_ _addmm_activation": _added_product,
        "linear": _linear,  # composite, but some backends have a kernel for it
        "mkldnn_rnn_layer": recurrent.one_layer,
        "mkldnn_rnn_layer_backward": recurrent.one_layer_backward,
        "_cudnn_rnn miopen_rnn": recurrent.all_layers,
        "_cudnn_rnn_backward miopen_rnn_backward": recurrent.all_layers_backward,
        """_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
        _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
        _scaled_dot_product_fused_attention_overrideable""": attention.fused_attention,
        """_scaled_dot_product_flash_attention_backward _scaled_dot_product_flash_attention_for_cpu_backward
        _scaled_dot_product_efficient_attention_backward _scaled_dot_product_cudnn_attention_backward
        _scaled_dot_product_fused_attention_overrideable_backward""": attention.fused_attention_backward,
        "_flash_attention_forward": attention.flash_attention,
        "_efficient_attention_forward": attention.efficient_attention,
        "_flash_attention_backward _efficient_attention_backward": attention.flash_attention_backward,
        "_native_multi_head_attention": attention.multi_head_attention,
        "_transformer_encoder_layer_fwd": attention.encoder_layer,
    }
)


MOVED: dict[OpOverloadPacket, Callable[[tuple[Any, ...], dict[str, Any], Any], int]] = {}
"""Bytes that a call reads and writes at the least, of operations that do not touch all of their arguments."""


def register_formula(
    op: OpOverloadPacket,
    formula: Formula,
    moved: Callable[[tuple[Any, ...], dict[str, Any], Any], int] | None = None,
) -> None:
    """Tells the counter what a registered operation (`torch.ops.<library>.<name>`) costs.

    `formula` gets (args, kwargs, output) as the call had them and returns an integer of multiply-adds, or a sequence of
    them, one a sample. `moved` gets the same and returns bytes; only for what leaves some of its arguments untouched.

    Raises:
        TypeError: `op` is not an operation (one overload of it, or the Python function, is not enough).
        ValueError: `op` has a formula already, or is one of those that cost nothing.
    """
    if not isinstance(op, OpOverloadPacket):
        raise TypeError(f"a formula is for an operation torch.ops.<library>.<name>, got {op!r}")
    if op in FORMULAS or op in ZERO_COST:
        raise ValueError(f"{op} has a formula already")
    FORMULAS[op] = formula
    if moved is not None:
        MOVED[op] = moved


def _family(names: Iterable[str]) -> str:
    """Each name with its in-place, list-wise, copying and backward forms, which do the same kind of work."""
    forms = ("{}", "{}_", "_foreach_{}", "_foreach_{}_", "{}_copy", "{}_backward", "{}_backward_data")
    return " ".join(form.format(name) for name in names for form in forms)


# One operation or none per element: the convention counts no element-wise work.
_ELEMENTWISE = """
    abs absolute acos acosh add _add_relu addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and
    bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor __and__ __or__ __xor__ __lshift__
    __rshift__ __iand__ __ior__ __ixor__ __ilshift__ __irshift__ ceil celu clamp clamp_max clamp_min clip _conj_physical
    conj_physical copysign cos cosh deg2rad div divide elu erf erfc erfinv exp exp2 expm1 fix float_power floor
    floor_divide fmax fmin fmod frac frexp gelu glu hardshrink hardsigmoid hardswish hardtanh heaviside hypot leaky_relu
    lerp lgamma log log10 log1p log2 log_sigmoid log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not
    logical_or logical_xor logit maximum minimum mish mul multiply nan_to_num neg negative nextafter polar positive pow
    prelu _prelu_kernel rad2deg reciprocal relu relu6 remainder round rrelu rrelu_with_noise rsqrt rsub selu sgn sigmoid
    sign signbit silu sin sinc sinh softplus softshrink sqrt square sub subtract tan tanh threshold trunc true_divide
    where xlogy complex
"""

# The gates of a recurrent cell in one operation: element-wise, since their products ran before it, as products.
_RECURRENT_GATES = """
    _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl _thnn_fused_gru_cell
"""

# Statistics and a scale: they fold into the neighbouring convolution, or are small against it.
_NORMALISATION = """
    batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_with_update_functional
    _batch_norm_no_update _batch_norm_impl_index cudnn_batch_norm miopen_batch_norm batch_norm_stats batch_norm_elemt
    batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_update_stats batch_norm_backward_reduce
    batch_norm_backward_elemt group_norm native_group_norm instance_norm layer_norm native_layer_norm rms_norm
    _fused_rms_norm renorm embedding_renorm _weight_norm _weight_norm_interface
    _weight_norm_interface_backward norm_except_dim softmax _softmax _safe_softmax _masked_softmax log_softmax
    _log_softmax
"""

# Sums, extrema and searches over elements: additions and comparisons, no products of two activations.
_REDUCTION = """
    all amax amin aminmax _aminmax any argmax argmin argsort bincount bucketize count_nonzero cummax cummin
    _cummax_helper _cummin_helper cumprod cumsum histc isin kthvalue linalg_vector_norm logcumsumexp
    _logcumsumexp logsumexp max mean median min mode msort nanmean nanmedian nansum nonzero nonzero_static norm prod
    quantile nanquantile searchsorted sort std std_mean sum sum_to_size topk trace unique_consecutive unique_dim
    _unique _unique2 var var_mean
"""

# Pooling is a reduction over windows; resampling moves and blends elements at fixed weights.
_POOLING_AND_RESAMPLING = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d
    max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices mkldnn_max_pool2d
    mkldnn_max_pool3d mkldnn_adaptive_avg_pool2d fractional_max_pool2d fractional_max_pool3d max_unpool2d max_unpool3d
    affine_grid_generator grid_sampler grid_sampler_2d grid_sampler_3d cudnn_grid_sampler upsample_bicubic2d
    _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    upsample_trilinear3d
"""

# The same storage under another shape.
_VIEWS = """
    _reshape_alias _unsafe_view adjoint alias as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to
    chunk conj _conj contiguous data detach diagonal expand expand_as flatten imag lift lift_fresh mH mT moveaxis
    movedim narrow numpy_T permute ravel real reshape reshape_as resolve_conj resolve_neg select set slice split
    split_with_sizes squeeze swapaxes swapdims t tensor_split transpose unbind unflatten unfold unsafe_chunk
    unsafe_split unsafe_split_with_sizes unsqueeze view view_as view_as_complex view_as_real _neg_view
"""

# Elements move, unchanged or summed where they meet.
_MOVEMENT = """
    cat channel_shuffle native_channel_shuffle clone col2im column_stack concat concatenate constant_pad_nd copy diag
    diag_embed diagonal_scatter dstack embedding embedding_dense embedding_sparse flip fliplr flipud gather hstack
    im2col index index_add index_copy index_fill index_put _index_put_impl index_reduce index_select masked_fill
    masked_scatter masked_select one_hot pad _pad_circular _pad_enum pixel_shuffle pixel_unshuffle pin_memory
    _pin_memory put reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
    replication_pad2d replication_pad3d resize roll rot90 scatter scatter_add scatter_reduce segment_reduce
    select_scatter slice_scatter stack _stack take take_along_dim tile to _to_copy tril triu type_as _unsafe_index
    _unsafe_index_put vstack as_strided_scatter slice_inverse value_selecting_reduction _pack_padded_sequence
    _pad_packed_sequence pad_sequence to_dense _cudnn_rnn_flatten_weight
"""

# Fresh tensors and random numbers.
_CREATION = """
    arange bernoulli cauchy empty empty_like empty_permuted empty_strided exponential eye fill fill_diagonal full
    full_like geometric linspace log_normal logspace meshgrid multinomial new_empty new_empty_strided new_full new_ones
    new_zeros normal normal_functional ones ones_like poisson rand rand_like randint randint_like randn randn_like
    random randperm scalar_tensor tril_indices triu_indices uniform zero zeros zeros_like
    dropout native_dropout _fused_dropout alpha_dropout feature_dropout feature_alpha_dropout _masked_scale
"""

# Comparisons, and questions about a tensor.
_QUESTIONS = """
    allclose eq equal ge greater greater_equal gt is_nonzero isclose isfinite isinf isnan isneginf isposinf isreal item
    le less less_equal lt ne not_equal _assert_async _assert_scalar _assert_tensor_metadata _functional_assert_async
    _is_all_true _is_any_true _local_scalar_dense is_contiguous is_floating_point is_complex is_same_size is_pinned
    numel size dim stride storage_offset result_type sym_size sym_stride sym_numel sym_storage_offset
    _shape_as_tensor requires_grad _version
"""

# Element-wise distances and their mean.
_LOSSES = """
    binary_cross_entropy binary_cross_entropy_with_logits cosine_similarity cross_entropy_loss cosine_embedding_loss
    hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss nll_loss nll_loss_nd nll_loss_forward
    nll_loss2d nll_loss2d_forward pairwise_distance smooth_l1_loss soft_margin_loss triplet_margin_loss
"""

# An optimiser's step is element-wise over the weights.
_OPTIMISERS = """
    _fused_adagrad _fused_adam _fused_adamw _fused_sgd _amp_foreach_non_finite_check_and_unscale _amp_update_scale
    record_stream
"""

ZERO_COST: frozenset[OpOverloadPacket] = frozenset(
    _packets(
        _family(
            (
                _ELEMENTWISE
                + _RECURRENT_GATES
                + _NORMALISATION
                + _REDUCTION
                + _POOLING_AND_RESAMPLING
                + _VIEWS
                + _MOVEMENT
                + _CREATION
                + _QUESTIONS
                + _LOSSES
                + _OPTIMISERS
            ).split()
        )
    )
)
"""Operations that are no compute under the convention: they count nothing, by name, never by default."""
