"""What runs, as the dispatcher sees it, against what is accounted; and that nothing runs out of its sight."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bench.conformance.answers import differing, form, run
from bench.conformance.lines import Broken
from bench.cost import Counter
from bench.cost.formulas import FORMULAS
from bench.method import Method, Prediction
from bench.policy import Learned, Policy, everything

_COMPUTE = {str(operation).replace(".", "::", 1) for operation in FORMULAS}  # as the profiler names them
_MODE = "PythonDispatchMode"  # what it calls a dispatch mode at work
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler tells of itself on standard error


def run_counted(method: Method, sample: Tensor, policy: Policy | None) -> tuple[Prediction, tuple[int, ...]]:
    """One pass, and the multiply-adds that the dispatcher saw for each sample."""
    with Counter(method, batch=len(sample)) as counter:
        prediction = run(method, sample, policy)
    return prediction, counter.result().per_sample


def unlike(method: Method, prediction: Prediction, executed: Sequence[int], dense: int | None) -> Iterator[str]:
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
    return run_counted(method, sample[:1], everything(method))[1][0]


def counted(method: Method, sample: Tensor, first: Prediction, dense: int | None) -> Iterator[str]:
    """What it costs; and the same answer whether it is counted, told to decide itself, or neither."""
    prediction, executed = run_counted(method, sample, Learned())
    if differing(first, prediction):
        raise Broken("gives another answer or cost while it is counted, or told to decide itself")
    yield from unlike(method, prediction, executed, _dense(method, sample, dense))


def new_input(method: Method, sample: Tensor, first: Prediction) -> Iterator[str]:
    """Input that nothing can have been prepared for, counted, and watched by the profiler beside the counter."""
    unseen = 0.7 * sample + 0.2 * sample.flip(-1)
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=every_thread) as profiler:
        prediction, executed = run_counted(method, unseen, None)
    yield from form(method, prediction, len(unseen))
    yield from unlike(method, prediction, executed, None)
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
