"""A method in evaluation, run every way it may be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from bench.conformance.answers import form, run
from bench.conformance.counting import counted, new_input
from bench.conformance.decisions import accounted, alike, forced, replayed
from bench.conformance.lines import Broken, in_double, lines, said
from bench.conformance.state import changed, detailed, named, other_weights, reloaded, state_of
from bench.conformance.surroundings import another_layout, batches, elsewhere, many
from bench.method import Method, Recipe


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
    - answers depend on the sample alone: not on its place in the batch, its neighbours, their number, what ran before,
      random numbers or the layout in memory; and they do depend on the weights;
    - running changes neither the input nor the method;
    - every decision is honoured, replayed ones and any combination from `decisions()` alike, at the cost that `account`
      gives, which is never below that of the cheapest options nor above that of everything;
    - what it says of itself is what JSON can hold;
    - the stages' epochs add up to the recipe's.

    In twice the precision (`method.double()`) no rounding between one batch and another can turn a decision.

    rebuild: builds the same method afresh, to see that `state_dict` holds all there is to it. dense: multiply-adds of
    one sample computed in full, the bound for a method that is not `exact` and takes no decisions. device: a second
    one, on which the same decisions must give the same answer at the same cost; by default CUDA, where there is one.
    """
    method.eval()
    problems = [f"{named(name)} stays in training mode" for name, m in method.named_modules() if m.training]
    before, random = state_of(method), torch.get_rng_state()
    with torch.no_grad():
        try:
            first = run(method, sample)
        except Broken as broken:
            return [*problems, str(broken)]
        except (Exception, SystemExit) as error:  # a method of others may fail in any way
            why = in_double(error) if sample.dtype == torch.float64 else ""
            return [*problems, f"forward fails: {said(error)}{why}"]
        wrong = list(lines("answer", form(method, first, len(sample))))
        if wrong:
            return problems + wrong
        parts: list[tuple[str, Iterable[str]]] = [
            ("other batches", batches(method, sample, first)),
            ("a large batch", many(method, sample, first)),
            ("counting", counted(method, sample, first, dense)),
            ("another memory layout", another_layout(method, sample, first)),
            ("new input", new_input(method, sample, first)),
            ("accounting", accounted(method, first)),
            ("a replayed trace", replayed(method, sample, first)),
            ("forced decisions", forced(method, sample)),
            ("the same decisions for all", alike(method, sample)),
            ("running", changed(method, before, random)),
            ("other weights", other_weights(method, sample)),
            ("save and load", reloaded(method, rebuild, sample, first)),
            ("details", detailed(method)),
            ("another device", elsewhere(method, sample, first, device)),
        ]
        problems += [line for name, part in parts for line in lines(name, part)]
    epochs = sum(stage.epochs for stage in method.stages(Recipe(epochs=7)))
    if epochs != 7:
        problems.append(f"stages of a recipe of 7 epochs take {epochs}")
    return list(dict.fromkeys(problems))
