"""The strict counter: multiply-adds of what the dispatcher runs, by module, by operation and by sample.

It sits below autograd and sees what really runs, whatever called it: modules, functional calls, custom autograd
functions, scripted and vmapped code, tensor subclasses. While it is on, torch runs compiled functions eagerly, so their
operations are seen as well. A registered custom operation is one operation to it, and needs a formula.

What it cannot see is work that does not pass the dispatcher of its own thread: NumPy, a kernel launched directly
(outside a registered operation), a replayed CUDA graph, other threads, and code that switches dispatch modes off. What
it counts as nothing by convention: element-wise products and sums, also where together they are a matrix product
(`linalg.vecdot` of broadcast tensors).
"""

from __future__ import annotations

import collections
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.cost.formulas import FORMULAS, ZERO_COST


class CountError(Exception):
    """The cost cannot be stated; the message says why."""


class UncountedError(CountError):
    """Operations ran that have no formula and are not known to cost nothing; names all of them."""

    def __init__(self, uncounted: Mapping[str, int]) -> None:
        calls = ", ".join(f"{name} ({n} call{'s' * (n > 1)})" for name, n in sorted(uncounted.items()))
        super().__init__(f"no multiply-add formula for {calls}; see bench.cost.register_formula")
        self.uncounted = dict(uncounted)

    def __reduce__(self) -> tuple[type[UncountedError], tuple[dict[str, int]]]:
        """So that it passes between processes whole."""
        return type(self), (self.uncounted,)


@dataclass(frozen=True)
class Count:
    """What ran, in multiply-adds.

    by_module: qualified name of the innermost module running ("" the root) -> its own work; sums to macs.
    by_operation: every operation with a formula that ran; sums to macs.
    uncounted: operation -> calls; empty, or macs is too low.
    per_sample: (B,), sums to macs.
    """

    macs: int
    by_module: dict[str, int]
    by_operation: dict[str, int]
    uncounted: dict[str, int]
    per_sample: tuple[int, ...]


class _Group:
    """Samples for which work runs together, and the equal share of each so far.

    rows: which of the samples `around` them; index: their numbers in the whole batch, none if a row does not exist.
    """

    def __init__(self, rows: Sequence[int], around: Sequence[int]) -> None:
        self.rows, self.size, self.share = rows, len(around), 0
        exist = all(0 <= row < len(around) for row in rows)
        self.index = [around[row] for row in rows] if exist else []


class Counter:
    """Counts while it is entered; attributes to the submodules of `module` and to `batch` samples.

    Work is split evenly over all samples, or over those that `samples` names. Backward passes are counted as well.
    Nested counters all count what runs; work on meta tensors, where nothing runs, is for the innermost one only, so
    that a method may ask for a static cost while its own is being counted.

    Raises:
        UncountedError: on leaving, when `strict` and anything was uncounted.
        CountError: an operation's work does not divide evenly by its samples, or names samples that do not exist: where
            it runs, and again on leaving if that was caught. On leaving, too: `samples` was not left.
    """

    def __init__(self, module: nn.Module, batch: int = 1, strict: bool = True) -> None:
        self._module, self._batch, self._strict = module, batch, strict
        self._interceptor = _Interceptor(self)
        self._entered = ExitStack()
        self._running = [""]
        self._by_module: collections.Counter[str] = collections.Counter()
        self._by_operation: collections.Counter[str] = collections.Counter()
        self._uncounted: collections.Counter[str] = collections.Counter()
        self._groups = [_Group(range(batch), range(batch))]
        self._per_sample = [0] * batch  # of closed groups
        self._fault: CountError | None = None

    def __enter__(self) -> Counter:
        with ExitStack() as entering:  # which undoes what was done, should a module refuse its hooks
            for name, module in self._module.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # takes no hooks: its work lands on its caller
                entering.callback(
                    module.register_forward_pre_hook(partial(self._begin_module, name), prepend=True).remove
                )
                entering.callback(module.register_forward_hook(self._end_module, always_call=True).remove)
            self._entered = entering.pop_all()
        _ACTIVE.append(self)
        self._entered.callback(_ACTIVE.remove, self)
        self._entered.enter_context(self._interceptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()
        if kind is not None:
            return
        if self._fault:
            raise self._fault
        if len(self._groups) > 1:
            raise CountError(f"samples({list(self._groups[-1].rows)}) was entered and not left")
        if self._strict and self._uncounted:
            raise UncountedError(self._uncounted)

    def __deepcopy__(self, memo: dict[int, Any]) -> Counter:
        return self  # a module that is copied while it is counted carries our hooks along

    def result(self) -> Count:
        """The count so far."""
        everywhere = self._groups[0].share
        return Count(
            macs=self._by_operation.total(),
            by_module=dict(self._by_module),
            by_operation=dict(self._by_operation),
            uncounted=dict(self._uncounted),
            per_sample=tuple(everywhere + macs for macs in self._per_sample),
        )

    def _begin_module(self, name: str, *_: Any) -> None:
        self._running.append(name)

    def _end_module(self, *_: Any) -> None:
        self._running.pop()

    def _begin_group(self, rows: Sequence[int]) -> None:
        self._groups.append(_Group(rows, self._groups[-1].index))

    def _end_group(self) -> None:
        group = self._groups.pop()
        if group.share:
            for sample in group.index:
                self._per_sample[sample] += group.share

    def _add(self, operation: str, macs: int | Sequence[int]) -> None:
        """Books `macs` on the running module, the operation and the samples named: evenly, or to each its own."""
        total = macs if isinstance(macs, int) else sum(macs)
        self._by_operation[operation] += total
        if not total:
            return
        self._by_module[self._running[-1]] += total
        group = self._groups[-1]
        if not group.index:
            self._fail(f"{operation} runs for samples {list(group.rows)} of a batch of {group.size}")
        if not isinstance(macs, int):
            self._add_to_each(operation, macs)
            return
        share, rest = divmod(macs, len(group.index))
        if rest:
            self._fail(
                f"{macs} multiply-adds of {operation} do not divide evenly by {len(group.index)} samples: work on no "
                "sample, as on weights alone, is to be done once, where the method is switched to evaluation"
            )
        group.share += share

    def _fail(self, line: str) -> NoReturn:
        """Raises, and remembers it, as the module may catch it."""
        self._fault = self._fault or CountError(line)
        raise CountError(line)

    def _add_to_each(self, operation: str, macs: Sequence[int]) -> None:
        index = self._groups[-1].index
        if len(macs) != len(index):
            self._fail(f"{operation} states the work of {len(macs)} samples, and runs for {len(index)}")
        for sample, own in zip(index, macs, strict=True):
            self._per_sample[sample] += own

    def _record(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        tensors = [value for value in tree_leaves((args, kwargs, output)) if isinstance(value, Tensor)]
        if _ACTIVE[-1] is not self and tensors and all(tensor.is_meta for tensor in tensors):
            return
        if any(tensor.is_nested for tensor in tensors):
            self._fail(f"{operation} works on nested tensors (nn.TransformerEncoder: enable_nested_tensor=False)")
        formula = FORMULAS.get(operation)
        if formula is None:
            self._uncounted[str(operation)] += 1
        else:
            self._add(str(operation), formula(args, kwargs, output))


_ACTIVE: list[Counter] = []


def counting() -> bool:
    """Whether operations are counted now, so that none may run where the counter cannot see it."""
    return bool(_ACTIVE)


_PLAIN = Tensor.__torch_dispatch__


class _Interceptor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows every operation that is not free to its counter, composite ones part by part.

    Operators that take functions, as torch.cond does, are shown as one operation, which has no formula.
    """

    supports_higher_order_operators = True

    def __init__(self, counter: Counter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counter = counter

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type[Tensor]], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(kind.__torch_dispatch__ is not _PLAIN for kind in types):
            return NotImplemented  # a tensor subclass runs what it makes of the call, and that comes back here
        kwargs = kwargs or {}
        operation = getattr(func, "overloadpacket", func)
        if operation in ZERO_COST or func.namespace == "profiler":
            return func(*args, **kwargs)
        if operation is not func and operation not in FORMULAS:
            with self:  # under inference_mode composite operations arrive whole
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        self._counter._record(operation, args, kwargs, output)
        return output


class samples:
    """Names the samples for which the enclosed work runs, each as often as it has an equal part in it.

    `index`: their numbers in the batch, a sequence or an integer tensor (n,). Inside another `samples` the batch is
    what that one names: its first sample is 0. Without an active counter this does nothing at all.

    Raises:
        CountError: `index` is a mask rather than numbers.
    """

    __slots__ = ("_counters", "_index")

    def __init__(self, index: Sequence[int] | Tensor) -> None:
        self._index = index

    def __enter__(self) -> None:
        self._counters = tuple(_ACTIVE)
        if self._counters:
            index = _numbers(self._index)
            for counter in self._counters:
                counter._begin_group(index)

    def __exit__(self, *_: object) -> None:
        for counter in self._counters:
            counter._end_group()


def _numbers(index: Sequence[int] | Tensor) -> tuple[int, ...]:
    """Sample numbers as integers; reading them from a tensor is no work of the module's."""
    numbers = index.tolist() if isinstance(index, Tensor) else list(index)
    if any(isinstance(number, bool) for number in numbers):
        raise CountError("samples() takes the numbers of samples, not a mask")
    return tuple(int(number) for number in numbers)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule has its own mode back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def count(module: nn.Module, *inputs: Tensor, strict: bool = True) -> Count:
    """Runs `module(*inputs)` once, in evaluation mode without gradients, and counts it; inputs are (B, ...).

    Raises:
        UncountedError: `strict`, and an operation has no formula.
        CountError: see `Counter`.
    """
    with _evaluating(module), Counter(module, batch=len(inputs[0]), strict=strict) as counter:
        module(*inputs)
    return counter.result()


def count_meta(module: nn.Module, shape: Sequence[int], strict: bool = True) -> Count:
    """Counts `module` on one input of `shape` (B, ...) without computing anything: exact where no decision is taken.

    Raises:
        UncountedError: `strict`, and an operation has no formula.
        CountError: the module needs real values to run (its shapes depend on them); use `count`. Also as `Counter`.
    """
    shadow = _shadow(module)
    floating = (weight.dtype for weight in module.parameters() if weight.is_floating_point())
    sample = torch.empty(tuple(shape), device="meta", dtype=next(floating, torch.get_default_dtype()))
    try:
        return count(shadow, sample, strict=strict)
    except RuntimeError as error:  # NotImplementedError is one
        reason = str(error).partition("\n")[0]
        name = type(module).__name__
        raise CountError(f"{name} does not run on meta tensors of shape {tuple(shape)}: {reason}") from error


def _shadow(module: nn.Module) -> nn.Module:
    """A copy on the meta device; the weights themselves are never copied."""
    memo: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    for weight in module.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
    return copy.deepcopy(module, memo)
