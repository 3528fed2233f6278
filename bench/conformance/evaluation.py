"""A method in evaluation, run every way it may be run."""

from __future__ import annotations

import copy
import io
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from bench.cost import Counter
from bench.cost.formulas import FORMULAS
from bench.flow import to_device
from bench.method import Batch, Method, Prediction, Recipe, Trace
from bench.policy import Forced, Learned, Policy, everything, fixed

_COMPUTE = {str(operation).replace(".", "::", 1) for operation in FORMULAS}  # as the profiler names them
_MODE = "PythonDispatchMode"  # what it calls a dispatch mode at work
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler tells of itself on standard error


class Broken(Exception):
    """A broken promise after which the rest of a check has no meaning."""


def check(
    method: Method,
    sample: Tensor,
    *,
    rebuild: Callable[[], Method] | None = None,
    dense: int | None = None,
    device: str = "",
) -> list[str]:
    """Runs a method in evaluation on `sample` (B ≥ 2, of its InputSpec) every way it may be run; lists what is wrong.

    - the answer and its trace have their documented form; costs are positive integers;
    - the accounted cost of every sample is what the dispatcher saw executed for it, and nothing runs out of its sight;
      a method that is not `exact` executes no less, and no more than when it computes everything;
    - answers depend on the sample alone: not on its place in the batch, its neighbours, what ran before, random numbers
      or the layout in memory; and they do depend on the weights;
    - running changes neither the input nor the method;
    - every decision is honoured, replayed ones and any combination from `decisions()` alike, at the cost that `account`
      gives, which is never below that of the cheapest options nor above that of everything;
    - the stages' epochs add up to the recipe's.

    In twice the precision (`method.double()`) no rounding between one batch and another can turn a decision.

    rebuild: builds the same method afresh, to see that `state_dict` holds all there is to it. dense: multiply-adds of
    one sample computed in full, the bound for a method that is not `exact` and takes no decisions. device: a second
    one, on which the same decisions must give the same answer at the same cost; by default CUDA, where there is one.
    """
    method.eval()
    problems = [f"{_named(name)} stays in training mode" for name, m in method.named_modules() if m.training]
    before, random = _state(method), torch.get_rng_state()
    with torch.no_grad():
        try:
            first = _run(method, sample)
        except Broken as broken:
            return [*problems, str(broken)]
        except Exception as error:  # a method of others may fail in any way
            return [*problems, f"forward fails: {said(error)}"]
        wrong = list(lines("answer", _form(method, first, len(sample))))
        if wrong:
            return problems + wrong
        parts: list[tuple[str, Iterable[str]]] = [
            ("other batches", _batches(method, sample, first)),
            ("counting", _counted(method, sample, first, dense)),
            ("another memory layout", _inside(method, sample, first)),
            ("new input", _unseen(method, sample, first)),
            ("accounting", _accounted(method, first)),
            ("a replayed trace", _replayed(method, sample, first)),
            ("forced decisions", _forced(method, sample)),
            ("running", _changed(method, before, random)),
            ("other weights", _weights(method, sample)),
            ("save and load", _reloaded(method, rebuild, sample, first)),
            ("another device", _elsewhere(method, sample, first, device)),
        ]
        problems += [line for name, part in parts for line in lines(name, part)]
    epochs = sum(stage.epochs for stage in method.stages(Recipe(epochs=7)))
    if epochs != 7:
        problems.append(f"stages of a recipe of 7 epochs take {epochs}")
    return list(dict.fromkeys(problems))


def lines(name: str, part: Iterable[str]) -> Iterator[str]:
    """The lines of one part; an error ends it, as a line of its own."""
    try:
        yield from part
    except Broken as broken:
        yield str(broken)
    except Exception as error:  # a method of others may fail in any way
        yield f"{name}: {said(error)}"


def said(error: Exception) -> str:
    """An error in one line, with the last place in it that is in none of Python's or torch's own files."""
    places = [place for place in traceback.extract_tb(error.__traceback__) if "site-packages" not in place.filename]
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _run(method: Method, sample: Tensor, policy: Policy | None = None) -> Prediction:
    """One pass over a copy of `sample`."""
    given = sample.clone()
    prediction: Prediction = method(given, policy)
    if not torch.equal(given, sample):
        raise Broken("forward changes its input")
    return prediction


def _form(method: Method, prediction: Any, batch: int) -> Iterator[str]:
    """Whether an answer is what `bench.method` says of it."""
    if not isinstance(prediction, Prediction):
        raise Broken(f"forward gives {type(prediction).__name__}, not a Prediction")
    cost = prediction.cost
    if cost.shape != (batch,) or cost.dtype != torch.int64 or bool((cost <= 0).any()) or cost.device.type != "cpu":
        yield f"cost must be {batch} positive int64 on the CPU, got {cost.dtype} of shape {tuple(cost.shape)}"
    kinds = [prediction.logits, prediction.boxes, prediction.masks]
    if sum(kind is not None for kind in kinds) != 1:
        yield "a prediction needs exactly one of logits, boxes and masks"
    elif not _shaped(prediction, batch):
        yield f"logits must be (B, K), masks (B, K, H, W), boxes (n, 7) for each sample, and B is {batch}"
    elif not all(bool(part.isfinite().all()) for row in range(batch) for part in _answer(prediction, row)):
        yield "the answer is not finite"
    decisions = method.decisions()
    if prediction.trace.keys() != decisions.keys():
        yield f"only one of trace and decisions() names {sorted(prediction.trace.keys() ^ decisions.keys())[:3]}"
        return
    for point, rows in prediction.trace.items():
        yield from _trace_form(point, rows, decisions[point], batch)


def _shaped(prediction: Prediction, batch: int) -> bool:
    if prediction.boxes is not None:
        each = all(boxes.dim() == 2 and boxes.shape[1] == 7 for boxes in prediction.boxes)
        return len(prediction.boxes) == batch and each
    dense, dims = (prediction.logits, 2) if prediction.masks is None else (prediction.masks, 4)
    return dense is not None and dense.dim() == dims and len(dense) == batch


def _trace_form(point: str, rows: Tensor, options: Tensor, batch: int) -> Iterator[str]:
    """(B, options), at most 8 of them, or (B, ...) of gates that an option of `decisions()` broadcasts to."""
    if len(rows) != batch:
        yield f"trace {point!r} has {len(rows)} rows for {batch} samples"
    elif rows.dim() != options.dim() or any(
        o not in (1, r) for r, o in zip(rows[0].shape, options[0].shape, strict=True)
    ):
        yield f"trace {point!r} has shape {tuple(rows.shape)}, its options {tuple(options.shape)}"
    elif rows.dim() == 2 and rows.shape[1] > 8:
        yield f"trace {point!r} has {rows.shape[1]} options, more than 8 cannot be stored"
    elif not rows.is_floating_point() or not bool((rows.isfinite() & (rows >= 0)).all()):
        yield f"trace {point!r} must hold finite floats, none below zero"


def _answer(prediction: Prediction, row: int) -> list[Tensor]:
    return [part[row] for part in (prediction.logits, prediction.masks, prediction.boxes) if part is not None]


def _same(one: Prediction, row: int, other: Prediction, its_row: int) -> bool:
    """Whether two answers agree in a row each: to rounding, at the same cost, by the same decisions."""
    pairs = list(zip(_answer(one, row), _answer(other, its_row), strict=True))
    pairs += [(one.trace[point][row], other.trace[point][its_row]) for point in one.trace]
    close = all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
    return close and bool(one.cost[row] == other.cost[its_row])


def _differing(one: Prediction, other: Prediction) -> list[int]:
    return [row for row in range(len(one.cost)) if not _same(one, row, other, row)]


def _executed(method: Method, sample: Tensor, policy: Policy | None) -> tuple[Prediction, tuple[int, ...]]:
    with Counter(method, batch=len(sample)) as counter:
        prediction = _run(method, sample, policy)
    return prediction, counter.result().per_sample


def _unlike(method: Method, prediction: Prediction, executed: Sequence[int], dense: int | None) -> Iterator[str]:
    """Accounted against executed, sample by sample."""
    highest = dense or max(executed)
    wrong = [
        f"sample {row}: accounts {told:,}, executes {ran:,}" + (f" of {dense:,}" if dense else "")
        for row, (told, ran) in enumerate(zip(prediction.cost.tolist(), executed, strict=True))
        if not (told == ran if method.exact else told <= ran <= highest)
    ]
    if wrong:
        yield f"cost is not what runs: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")


def _dense(method: Method, sample: Tensor, given: int | None) -> int | None:
    """What one sample executes in full, for a method that is not exact."""
    if method.exact or not method.decisions():
        return given
    return _executed(method, sample[:1], everything(method))[1][0]


def _counted(method: Method, sample: Tensor, first: Prediction, dense: int | None) -> Iterator[str]:
    """What it costs; and the same answer whether it is counted, told to decide itself, or neither."""
    prediction, executed = _executed(method, sample, Learned())
    if _differing(first, prediction):
        raise Broken("gives another answer or cost while it is counted, or told to decide itself")
    yield from _unlike(method, prediction, executed, _dense(method, sample, dense))


def _batches(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """Every sample must get its own answer again, whatever stands beside it or stood in its memory before."""
    given, last = sample.clone(), len(sample) - 1
    if _differing(first, method(given)):
        raise Broken("two runs give different answers or costs")
    given.copy_(sample.flip(0))
    reverse, alone = method(given), [_run(method, one) for one in torch.split(sample, 1)]
    found = {
        "in reversed order": [_same(first, row, reverse, last - row) for row in range(len(sample))],
        "alone": [_same(first, row, one, 0) for row, one in enumerate(alone)],
    }
    for name, same in found.items():
        if not all(same):
            yield f"sample {same.index(False)} gets another answer or cost {name}"


def _inside(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """In the memory layout that the harness gives clips, the same; and all inside torch."""
    with _Leaving():
        prediction = _run(method, to_device(Batch(sample, None, torch.empty(0)), sample.device).sample)
    if _differing(first, prediction):
        yield "gets another answer or cost in another memory layout"


class _Leaving(TorchFunctionMode):
    """Within it no floating-point tensor may be handed to what no dispatcher sees: NumPy or a bare pointer."""

    DOORS = ("numpy", "__array__", "__dlpack__", "data_ptr", "untyped_storage", "storage")

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in self.DOORS and args[0].is_floating_point():
            raise Broken(
                f"forward hands floating-point values out of torch ({name}), where nothing counts what is done"
            )
        return func(*args, **(kwargs or {}))


def _unseen(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """Input that nothing can have been prepared for, counted, and watched by the profiler beside the counter."""
    unseen = 0.7 * sample + 0.2 * sample.flip(-1)
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=every_thread) as profiler:
        prediction, executed = _executed(method, unseen, None)
    yield from _form(method, prediction, len(unseen))
    yield from _unlike(method, prediction, executed, None)
    if not method.decisions() and len(set(torch.cat([first.cost, prediction.cost]).tolist())) > 1:
        yield "costs differ between samples, but decisions() names no points"
    hidden = set(_hidden(profiler.profiler.kineto_results.experimental_event_tree()))
    if hidden:
        yield f"runs {', '.join(sorted(hidden))} out of the counter's sight (another thread, or dispatch switched off)"


def _hidden(events: Iterable[Any]) -> Iterator[str]:
    """Compute operations of which no dispatch mode saw any part, among what ran from the outermost call inwards."""
    for event in events:
        if event.name in _COMPUTE and not _seen(event):
            yield event.name
        elif event.name != _MODE:
            yield from _hidden(event.children)


def _seen(event: Any) -> bool:
    return event.name == _MODE or any(_seen(part) for part in event.children)


def _cheapest(method: Method) -> Forced:
    return fixed(method, {point: len(options) - 1 for point, options in method.decisions().items()})


def _bounds(method: Method, trace: Trace) -> tuple[int, int]:
    """Least and most that decisions can cost; where options are open side by side, all of them are the most."""
    decisions = method.decisions()
    low, high = (int(method.account(policy(method).trace)) for policy in (_cheapest, everything))
    if not all(_chosen(rows, decisions[point]) for point, rows in trace.items()):
        high = max(high, int(method.account({p: o.amax(0, keepdim=True) for p, o in decisions.items()})))
    return low, high


def _chosen(rows: Tensor, options: Tensor) -> bool:
    """Whether each row is one of the options, or zeros: not reached."""
    rows = rows.to(options).unsqueeze(1)
    return bool(((rows == options).flatten(2).all(2).any(1) | (rows == 0).flatten(1).all(1)).all())


def _accounted(method: Method, first: Prediction) -> Iterator[str]:
    """`account` alone: its bounds, and the order of the options in it."""
    if not method.decisions():
        return
    with Counter(nn.Module()) as counter:
        cost = method.account(first.trace)
    if counter.result().macs:
        yield f"account runs {counter.result().macs:,} multiply-adds"
    if not torch.equal(cost, first.cost):
        yield "account(trace) differs from the cost of the prediction"
    low, high = _bounds(method, first.trace)
    if bool((cost < low).any() | (cost > high).any()):
        yield f"costs {cost.tolist()} leave the bounds of the cheapest and the dearest options, {low:,} and {high:,}"
    yield from _order(method)


def _order(method: Method) -> Iterator[str]:
    """Where everything else is computed, the first option of a point must cost the most, the last the least."""
    decisions = method.decisions()
    sizes = {point: len(options) for point, options in decisions.items()}
    table = {
        point: torch.cat([options if it == point else options[[0] * size] for it, size in sizes.items()])
        for point, options in decisions.items()
    }
    for point, costs in zip(decisions, torch.split(method.account(table), list(sizes.values())), strict=True):
        if bool((costs > costs[0]).any() | (costs < costs[-1]).any()):
            yield f"options at {point!r} are not listed from dearest to cheapest: {costs.tolist()}"


def _replayed(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """The trace as decisions gives the same again, whatever is decided where a sample does not get to."""
    if not first.trace:
        return
    filled = {point: _filled(rows, method.decisions()[point]) for point, rows in first.trace.items()}
    if _differing(first, _run(method, sample, Forced(first.trace))):
        raise Broken("replaying its own trace gives another answer or cost")
    unreached = any(not torch.equal(rows, first.trace[point]) for point, rows in filled.items())
    if unreached and _differing(first, _run(method, sample, Forced(filled))):
        yield "decisions at points that the trace calls not reached change the answer, the cost or the trace"


def _filled(rows: Tensor, options: Tensor) -> Tensor:
    """The dearest option in place of rows of zeros, unless zeros are themselves an option."""
    nothing = (rows == 0).flatten(1).all(1).view(-1, *(1,) * (rows.dim() - 1))
    return rows if _zeros_decide(options) else torch.where(nothing, options[:1].to(rows), rows)


def _zeros_decide(options: Tensor) -> bool:
    """Whether zeros are an option, rather than what stands where a sample did not get to."""
    return bool((options == 0).flatten(1).all(1).any())


def _mixture(method: Method, batch: int) -> Forced:
    """Everything for sample 0, the cheapest options for sample 1, for each other sample options drawn at random."""
    generator, trace = torch.Generator().manual_seed(0), {}
    for point, options in method.decisions().items():
        choice = torch.randint(len(options), (batch,), generator=generator)
        choice[:2] = torch.tensor([0, len(options) - 1])
        trace[point] = options[choice]
    return Forced(trace)


def _forced(method: Method, sample: Tensor) -> Iterator[str]:
    """Different decisions in one batch: honoured, paid for, and the same for each sample in a smaller batch."""
    if not method.decisions():
        return
    rows = torch.arange(max(4, len(sample)))
    sample, policy = sample[rows % len(sample)], _mixture(method, len(rows))
    prediction, executed = _executed(method, sample, policy)
    yield from _form(method, prediction, len(sample))
    for line in _unlike(method, prediction, executed, None if method.exact else executed[0]):
        yield f"under forced decisions {line}"
    if not torch.equal(method.account(prediction.trace), prediction.cost):
        yield "under forced decisions account(trace) differs from the cost of the prediction"
    for point, wanted in policy.trace.items():
        found = prediction.trace[point].to(wanted)
        unreached = (found == 0).flatten(1).all(1) & (not _zeros_decide(method.decisions()[point]))
        if not bool(((found == wanted).flatten(1).all(1) | unreached).all()):
            yield f"does not follow the decisions forced at {point!r}"
    others = _run(method, sample[1:], policy.rows(rows[1:]))
    if not all(_same(prediction, row + 1, others, row) for row in range(len(sample) - 1)):
        yield "under forced decisions a sample gets another answer or cost in another batch"


def _state(method: Method) -> dict[str, Tensor]:
    """Copies of weights and buffers, those that are not saved as well."""
    return {name: value.detach().clone() for name, value in (*method.named_parameters(), *method.named_buffers())}


def _changed(method: Method, before: dict[str, Tensor], random: Tensor) -> Iterator[str]:
    """What running left behind, in the method and in the random numbers that all share."""
    after = _state(method)
    names = [name for name, value in before.items() if name not in after or not identical(after[name], value)]
    if names:
        yield f"running changes {names[0]}" + (f" and {len(names) - 1} more weights or buffers" if names[1:] else "")
    yield from (f"running puts {_named(name)} in training mode" for name, m in method.named_modules() if m.training)
    if not torch.equal(random, torch.get_rng_state()):
        yield "running draws from, or seeds, torch's global random numbers"


def _named(name: str) -> str:
    return name or "the method"


def identical(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same bit for bit, NaN where the other is NaN."""
    return one.shape == other.shape and bool(torch.all((one == other) | ((one != one) & (other != other))))


def _weights(method: Method, sample: Tensor) -> Iterator[str]:
    """With other weights the answer must be another, where everything is computed: it was not made beforehand."""
    policy = everything(method) if method.decisions() else None
    first, saved = _run(method, sample, policy), [weight.detach().clone() for weight in method.parameters()]
    generator = torch.Generator().manual_seed(0)
    for weight in method.parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
        weight.add_(noise * (0.1 + weight.abs().mean()))
    try:
        other = _run(method.train().eval(), sample, policy)  # what is made of weights for evaluation is made anew
    finally:
        for weight, value in zip(method.parameters(), saved, strict=True):
            weight.copy_(value)
        method.train().eval()
    pairs = [pair for r in range(len(sample)) for pair in zip(_answer(first, r), _answer(other, r), strict=True)]
    if all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs):
        yield "the answer does not depend on the weights"


def _reloaded(method: Method, rebuild: Callable[[], Method] | None, sample: Tensor, first: Prediction) -> Iterator[str]:
    """The weights, saved and loaded into a fresh method, are all that the answer needs."""
    if rebuild is None:
        return
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    twin = rebuild().to(next(method.parameters())).eval()
    twin.load_state_dict(torch.load(file, weights_only=True))
    if _differing(first, _run(twin, sample)):
        yield "its saved weights, loaded into a fresh method, give another answer or cost"


def _elsewhere(method: Method, sample: Tensor, first: Prediction, device: str) -> Iterator[str]:
    """The decisions of `first` give its answer and cost on another device, and that is what runs there."""
    device = device or ("cuda" if torch.cuda.is_available() else "")
    if not device:
        return
    there, policy = copy.deepcopy(method).to(device), Forced(first.trace) if first.trace else None
    found, executed = _executed(there, sample.to(device), policy)
    yield from _form(there, found, len(sample))
    yield from (f"on {device} {line}" for line in _unlike(there, found, executed, None))
    if not torch.equal(found.cost, first.cost):
        yield f"costs {found.cost.tolist()} on {device}, {first.cost.tolist()} on {sample.device}"
    tolerance = 1e-4 if sample.dtype == torch.float64 else 1e-2  # single precision may be TF32 there
    for row in range(len(sample)):
        for one, other in zip(_answer(first, row), _answer(found, row), strict=True):
            largest = float(one.abs().amax()) if one.numel() else 0.0
            if one.shape != other.shape or not torch.allclose(one, other.to(one), tolerance, tolerance * largest):
                yield f"gives another answer on {device}"
