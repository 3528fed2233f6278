"""The counter: attribution, strictness, and that work cannot hide from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bench.cost import (
    Count,
    Counter,
    CountError,
    UncountedError,
    count,
    count_meta,
    register_formula,
    samples,
)
from bench.inference.products import frame_products, plain_taps
from bench.method import Prediction


@torch.library.custom_op("costtest::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    return x @ x


@torch.library.custom_op("costtest::known", mutates_args=())
def known(x: Tensor, taps: int) -> Tensor:
    return x * taps


@torch.library.custom_op("costtest::copies", mutates_args=())
def copies(x: Tensor) -> Tensor:
    return x.clone()


@torch.library.custom_op("costtest::decided", mutates_args=())
def decided(x: Tensor) -> Tensor:
    return x.clone()


@known.register_fake
def _(x: Tensor, taps: int) -> Tensor:
    return torch.empty_like(x)


register_formula(torch.ops.costtest.known, lambda args, kwargs, output: args[1] * output.numel())
register_formula(torch.ops.costtest.copies, lambda args, kwargs, output: 0)
register_formula(torch.ops.costtest.decided, lambda args, kwargs, output: [int(row.sum()) for row in args[0]])


class Block(nn.Module):
    """Its convolution runs as a module, its second one as a functional call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(4)
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        return F.conv3d(x, self.weight, padding=(1, 0, 0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean((2, 3, 4)))


SHAPE = (2, 2, 4, 5, 5)
PIXELS = 2 * 4 * 5 * 5
CONV, FUNCTIONAL, HEAD = PIXELS * 4 * 2 * 9, PIXELS * 4 * 4 * 3, 2 * 4 * 3


class Calls(nn.Module):
    """A module that runs `call` on its input."""

    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(x)


def test_work_lands_on_the_innermost_module_and_functional_work_on_its_caller() -> None:
    assert count(Net(), torch.randn(SHAPE)) == Count(
        macs=CONV + FUNCTIONAL + HEAD,
        by_module={"block.conv": CONV, "block": FUNCTIONAL, "head": HEAD},
        by_operation={"aten.convolution": CONV + FUNCTIONAL, "aten.addmm": HEAD},
        uncounted={},
        per_sample=((CONV + FUNCTIONAL + HEAD) // 2,) * 2,
    )


def test_work_outside_every_module_lands_on_the_root() -> None:
    with Counter(Net()) as counter:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert counter.result().by_module == {"": 24}


def test_meta_tensors_give_the_same_count_and_copy_no_weights() -> None:
    net = Net()
    weights = copy.deepcopy(net.state_dict())
    assert count_meta(net, SHAPE) == count(net, torch.randn(SHAPE))
    assert count_meta(net.half(), SHAPE) == count_meta(net.to("meta"), SHAPE)
    assert weights.keys() == net.state_dict().keys()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(3, 8))
def test_cost_is_linear_in_the_batch_and_meta_is_exact(batch: int, frames: int, size: int) -> None:
    one = count_meta(Net(), (1, 2, frames, size, size)).macs
    many = count(Net(), torch.randn(batch, 2, frames, size, size))
    assert many.per_sample == (one,) * batch
    assert many.macs == sum(many.by_module.values()) == sum(many.by_operation.values()) == one * batch


def test_inference_mode_hides_nothing() -> None:
    net, x = Net().eval(), torch.randn(SHAPE)
    with torch.inference_mode(), Counter(net, batch=2) as counter:
        net(x)
    assert counter.result().macs == count(net, x).macs
    with torch.inference_mode(), Counter(net) as counter:
        torch.einsum("bi,bj->ij", torch.ones(4, 3), torch.ones(4, 5))
    assert counter.result().macs == 4 * 3 * 5


def test_modes_hooks_and_random_state_are_left_alone() -> None:
    net = Net()
    net.block.norm.eval()
    mean = net.block.norm.running_mean.clone()
    count(net, torch.randn(SHAPE))
    assert net.training and net.head.training and not net.block.norm.training
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in net.modules())
    assert torch.equal(mean, net.block.norm.running_mean)


def test_an_error_inside_leaves_no_counter_behind() -> None:
    net = Net()
    with pytest.raises(RuntimeError, match="channels"):
        count(net, torch.randn(1, 3, 4, 5, 5))
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in net.modules())
    with samples([99]):  # no counter is active: not even looked at
        assert count(net, torch.randn(SHAPE)).macs == CONV + FUNCTIONAL + HEAD


class Refuses(nn.Module):
    """Takes no hooks."""

    def register_forward_pre_hook(self, *args: Any, **named: Any) -> Any:
        raise RuntimeError("no hooks here")


def test_a_module_that_takes_no_hooks_leaves_none_on_the_others() -> None:
    net = nn.Sequential(nn.Linear(1, 1), Refuses())
    with pytest.raises(RuntimeError, match="no hooks here"):
        count(net, torch.ones(1, 1))
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in net.modules())


def test_names_given_to_the_profiler_are_no_work() -> None:
    weight = torch.ones(1, 1, requires_grad=True)
    optimiser = torch.optim.SGD([weight])
    with Counter(nn.Identity()) as counter, torch.profiler.record_function("a name"):
        (weight @ weight).backward()  # forward, and the gradients of both
        optimiser.step()
    assert counter.result().macs == 3


def test_an_operator_that_takes_functions_is_named_as_uncounted() -> None:
    def branches(x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda y: y @ y, lambda y: y - 1, (x,))

    with pytest.raises(UncountedError, match="cond"), torch.no_grad(), Counter(nn.Identity()):
        branches(torch.ones(2, 2))
    with torch.no_grad(), Counter(nn.Identity(), strict=False) as counter:
        branches(torch.ones(2, 2))
    assert counter.result().uncounted == {"cond": 1}


def test_nested_tensors_are_an_error_that_says_how_to_do_without() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    x, padding = torch.ones(2, 3, 4), torch.tensor([[False, False, True], [False, False, False]])
    for nested in (True, False):
        encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=nested).eval()
        with (
            torch.no_grad(),
            pytest.raises(CountError, match="enable_nested_tensor=False") if nested else nullcontext(),
        ):
            with Counter(encoder, batch=2) as counter:
                encoder(x, src_key_padding_mask=padding)
    products = 3 * (3 * 4 * 4 + 4 * 4 + 2 * 4 * 8) + 3 * 3 * (4 + 4)  # projections in and out, both layers; attention
    assert counter.result().per_sample == (products, products)


# Samples


def grouped(groups: Sequence[tuple[Any, int]], batch: int, ungrouped: int = 0) -> Count:
    """Counts products of (rows, 1) by (1, 1), one multiply-add a row, for each (index, rows)."""
    with Counter(nn.Identity(), batch=batch) as counter:
        if ungrouped:
            torch.ones(ungrouped, 1) @ torch.ones(1, 1)
        for index, rows in groups:
            with samples(index):
                torch.ones(rows, 1) @ torch.ones(1, 1)
    return counter.result()


def test_grouped_work_goes_to_its_samples_only() -> None:
    assert grouped([([0, 3], 10), (torch.tensor([1]), 7)], batch=4, ungrouped=8).per_sample == (7, 9, 2, 7)


def test_a_sample_named_twice_has_two_parts() -> None:
    assert grouped([([0, 0, 1], 9)], batch=2).per_sample == (6, 3)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_samples_sum_to_the_whole(data: st.DataObject, batch: int) -> None:
    index = st.lists(st.integers(0, batch - 1), min_size=1, max_size=6)
    groups = [(drawn, len(drawn) * data.draw(st.integers(0, 4))) for drawn in data.draw(st.lists(index, max_size=4))]
    expected = [batch] * batch
    for drawn, rows in groups:
        for sample in drawn:
            expected[sample] += rows // len(drawn)
    result = grouped(groups, batch, ungrouped=batch * batch)
    assert result.per_sample == tuple(expected)
    assert sum(result.per_sample) == result.macs


def test_the_inner_group_holds_and_then_the_outer_again() -> None:
    def product() -> Tensor:
        return torch.ones(2, 1) @ torch.ones(1, 1)

    with Counter(nn.Identity(), batch=4) as counter:
        with samples([1, 3]):
            product()
            with samples([1]):  # the second of them
                product()
            product()
    assert counter.result().per_sample == (0, 2, 0, 4)
    with samples([0]), Counter(nn.Identity(), batch=2) as counter:  # named before this counter began
        product()
    assert counter.result().per_sample == (1, 1)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 5))
def test_rows_of_rows_are_the_samples_that_indexing_gives(data: st.DataObject, batch: int) -> None:
    """As `x[outer][inner][innermost]` does, also where samples come several times over."""
    numbers, outer = torch.arange(batch), data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=5))
    inner = data.draw(st.lists(st.integers(0, len(outer) - 1), min_size=1, max_size=5))
    innermost = data.draw(st.lists(st.integers(0, len(inner) - 1), min_size=1, max_size=5))
    with Counter(nn.Identity(), batch=batch) as counter, samples(outer), samples(torch.tensor(inner)):
        with samples(innermost):
            torch.ones(len(innermost), 1) @ torch.ones(1, 1)
    wanted = torch.bincount(numbers[outer][inner][innermost], minlength=batch)
    assert counter.result().per_sample == tuple(wanted.tolist())


def test_frame_products_of_a_group_go_to_its_samples() -> None:
    x, weight = torch.randn(5, 2, 3, 4, 4), torch.randn(6, 2, 3, 1, 1)
    taps, rows = plain_taps(weight, 3, 1, 1), torch.tensor([1, 4])
    with Counter(nn.Identity(), batch=5) as counter, samples(rows):
        frame_products(x[rows], taps, torch.zeros(6), relu=False)
    one = (2 + 3 + 2) * 16 * 2 * 6  # taps that see a frame, pixels, channels
    assert counter.result().per_sample == (0, one, 0, 0, one)


def test_a_row_that_the_outer_group_does_not_have_raises() -> None:
    with pytest.raises(CountError, match=r"samples \[2\] of a batch of 2"), Counter(nn.Identity(), batch=4):
        with samples([0, 3]), samples([2]):
            torch.ones(1, 1) @ torch.ones(1, 1)
    with pytest.raises(CountError, match=r"samples \[0\] of a batch of 0"), Counter(nn.Identity(), batch=4):
        with samples([9]), samples([0]):
            torch.ones(1, 1) @ torch.ones(1, 1)


@pytest.mark.parametrize(
    ("index", "rows", "message"),
    [
        ([0, 1], 7, "7 multiply-adds of aten.mm do not divide evenly by 2 samples"),
        ([0, 4], 2, r"samples \[0, 4\] of a batch of 4"),
        ([-1], 2, r"samples \[-1\] of a batch of 4"),
        ([], 2, r"samples \[\] of a batch of 4"),
        (torch.tensor([True, False]), 2, "not a mask"),
    ],
)
def test_impossible_groups_raise(index: Any, rows: int, message: str) -> None:
    with pytest.raises(CountError, match=message):
        grouped([(index, rows)], batch=4)


def test_what_could_not_be_booked_is_an_error_even_where_the_module_caught_it() -> None:
    with pytest.raises(CountError, match=r"samples \[\] of a batch of 4"), Counter(nn.Identity(), batch=4):
        with samples([]), suppress(CountError):
            torch.ones(2, 1) @ torch.ones(1, 1)


def test_a_group_that_is_never_left_is_an_error() -> None:
    with pytest.raises(CountError, match=r"samples\(\[1\]\) was entered and not left"):
        with Counter(nn.Identity(), batch=4):
            samples([1]).__enter__()
            torch.ones(2, 1) @ torch.ones(1, 1)


def test_an_empty_group_that_does_nothing_is_fine() -> None:
    assert grouped([([], 0)], batch=2).per_sample == (0, 0)


# What is not known is an error


def test_a_custom_operation_without_a_formula_is_an_error_and_all_offenders_are_named() -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.fft.rfft(unknown(unknown(x))).real @ torch.ones(2, 1)

    with pytest.raises(UncountedError) as error:
        count(Calls(forward), torch.ones(3, 3))
    assert error.value.uncounted == {"costtest.unknown": 2, "aten._fft_r2c": 1}
    assert "aten._fft_r2c (1 call), costtest.unknown (2 calls)" in str(error.value)
    loose = count(Calls(forward), torch.ones(3, 3), strict=False)
    assert loose.uncounted == error.value.uncounted and loose.macs == 6


def test_a_custom_operation_counts_by_its_formula() -> None:
    result = count(Calls(lambda x: copies(known(x, taps=9))), torch.ones(2, 5))
    assert result.by_operation == {"costtest.known": 90, "costtest.copies": 0}
    assert result.per_sample == (45, 45)
    assert count_meta(Calls(lambda x: known(x, 9)), (2, 5)).macs == 90


def test_a_fused_operation_may_state_the_work_of_each_sample() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    result = count(Calls(decided), x)
    assert result.per_sample == (3, 0, 7) and result.macs == sum(result.by_module.values()) == 10

    def some(x: Tensor) -> Tensor:
        with samples([2, 0]):
            return decided(x[[2, 0]])

    assert count(Calls(some), x).per_sample == (3, 0, 7)

    def others(x: Tensor) -> Tensor:
        with samples([2]):
            return decided(x)

    with pytest.raises(CountError, match=r"states the work of 3 samples, and runs for 1"):
        count(Calls(others), x)


FUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "cdist": (lambda: Calls(lambda x: torch.cdist(x, x)), "_euclidean_dist|_cdist_forward"),
    "Bilinear": (lambda: Calls(lambda x: nn.Bilinear(8, 8, 2)(x, x)), "_trilinear"),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_operations_without_a_formula_are_errors_that_name_them(name: str) -> None:
    build, operation = FUSED[name]
    x = torch.randn(2, 3, 8)
    with pytest.raises(UncountedError, match=operation):
        count(build(), x)
    with torch.inference_mode(), pytest.raises(UncountedError, match=operation), Counter(module := build().eval()):
        module(x)


@pytest.mark.parametrize("inference", [False, True])
def test_a_recurrence_made_of_matrix_products_is_exact(inference: bool) -> None:
    gru, x = nn.GRU(4, 6, batch_first=True).eval(), torch.randn(2, 5, 4)
    with torch.no_grad(), torch.inference_mode(inference), Counter(gru, batch=2) as counter:
        gru(x)
    assert counter.result().per_sample == (5 * 3 * 6 * (4 + 6),) * 2


# Work cannot hide


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] @ x.t() + x.t() @ gradients[0]


class Swallows(TorchDispatchMode):
    """A mode of the method's own, above the counter's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Wrapped(torch.Tensor):
    """A tensor that does a matrix product whenever it is asked for a rectification."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        wrapped = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        wrapped.inner = inner
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].inner @ args[0].inner


def _under_own_mode(x: Tensor) -> Tensor:
    with Swallows():
        return x @ x


def _under_own_counter(x: Tensor) -> Tensor:
    with Counter(nn.Identity()):
        return x @ x


DODGES: dict[str, Callable[[Tensor], Tensor]] = {
    "functional": lambda x: F.linear(x, x),
    "convolution": lambda x: F.conv1d(x[None], x[..., None]),
    "autograd function": Hidden.apply,
    "data": lambda x: x.data @ x.data,
    "out": lambda x: torch.mm(x, x, out=torch.empty(3, 3)),
    "own mode": _under_own_mode,
    "own counter": _under_own_counter,
    "subclass": lambda x: torch.relu(Wrapped(x)),
    "vmap": lambda x: torch.vmap(lambda row: row @ x)(x),
    "forward called directly": lambda x: nn.Linear(3, 3).forward(x),
    "compiled": lambda x: torch.compile(lambda y: y @ y, backend="eager")(x),
}


@pytest.mark.parametrize("name", DODGES)
def test_work_cannot_hide(name: str) -> None:
    assert count(Calls(DODGES[name]), torch.ones(3, 3)).macs == 27


def test_a_function_compiled_before_cannot_hide() -> None:
    compiled = torch.compile(lambda y: y @ y, backend="eager")
    with torch.no_grad():
        compiled(torch.ones(3, 3))
    assert count(Calls(compiled), torch.ones(3, 3)).macs == 27


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_work_lands_on_its_caller() -> None:
    net = nn.Sequential(torch.jit.script(nn.Linear(4, 5)), nn.Linear(5, 6))
    assert count(net, torch.ones(1, 4)).by_module == {"": 20, "1": 30}


def test_backward_passes_count() -> None:
    x = torch.ones(3, 3, requires_grad=True)
    with Counter(nn.Identity()) as counter:
        Hidden.apply(x).sum().backward()
    assert counter.result().by_operation == {"aten.mm": 3 * 27}


# Counting while counting


def test_asking_for_a_static_cost_inside_a_counted_pass_adds_nothing() -> None:
    class Static(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Prediction:
            with samples(range(len(x))):
                macs = count_meta(self, (1, 4)).macs if not x.is_meta else 0
                macs += count_meta(self.network, (1, 4)).macs
                logits = self.network(x)
            return Prediction(torch.full((len(x),), macs), logits=logits)

    assert count(Static(), torch.randn(2, 4)).per_sample == (20, 20)
    assert count_meta(Static(), (2, 4)).macs == 40


def test_nested_counters_both_see_real_work() -> None:
    with Counter(nn.Identity()) as outer:
        torch.ones(2, 2) @ torch.ones(2, 2)
        with Counter(nn.Identity()) as inner:
            torch.ones(3, 3) @ torch.ones(3, 3)
    assert (inner.result().macs, outer.result().macs) == (27, 35)


def test_shapes_that_need_values_cannot_be_counted_on_meta_tensors() -> None:
    net = Calls(lambda x: x[x[:, 0] > 0] @ torch.ones(4, 4))
    with pytest.raises(CountError, match=r"Calls does not run on meta tensors of shape \(3, 4\)") as error:
        count_meta(net, (3, 4))
    assert "\n" not in str(error.value)
    x = torch.tensor([[1.0], [-1.0]]).expand(2, 4)
    assert count(net, x[:1]).macs == 16
