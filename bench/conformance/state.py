"""What a method is made of: left as it was by running, all of it saved, and what its answers come from."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.conformance.answers import differing, parts_of, run
from bench.details import DetailsError, details_of
from bench.method import Method, Prediction
from bench.policy import everything


def state_of(method: Method) -> dict[str, Tensor]:
    """Copies of weights and buffers, those that are not saved as well."""
    return {name: value.detach().clone() for name, value in (*method.named_parameters(), *method.named_buffers())}


def changed(method: Method, before: dict[str, Tensor], random: Tensor) -> Iterator[str]:
    """What running left behind, in the method and in the random numbers that all share."""
    after = state_of(method)
    names = [name for name, value in before.items() if name not in after or not identical(after[name], value)]
    if names:
        yield f"running changes {names[0]}" + (f" and {len(names) - 1} more weights or buffers" if names[1:] else "")
    yield from (f"running puts {named(name)} in training mode" for name, m in method.named_modules() if m.training)
    if not torch.equal(random, torch.get_rng_state()):
        yield "running draws from, or seeds, torch's global random numbers"


def named(name: str) -> str:
    """A module by its name; the outermost one has none."""
    return name or "the method"


def identical(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same bit for bit, NaN where the other is NaN."""
    return one.shape == other.shape and bool(torch.all((one == other) | ((one != one) & (other != other))))


def other_weights(method: Method, sample: Tensor) -> Iterator[str]:
    """With other weights the answer must be another, where everything is computed: it was not made beforehand."""
    policy = everything(method) if method.decisions() else None
    first, saved = run(method, sample, policy), [weight.detach().clone() for weight in method.parameters()]
    generator = torch.Generator().manual_seed(0)
    for weight in method.parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
        weight.add_(noise * (0.1 + weight.abs().mean()))
    try:
        other = run(method.train().eval(), sample, policy)  # what is made of weights for evaluation is made anew
    finally:
        for weight, value in zip(method.parameters(), saved, strict=True):
            weight.copy_(value)
        method.train().eval()
    pairs = [pair for r in range(len(sample)) for pair in zip(parts_of(first, r), parts_of(other, r), strict=True)]
    if all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs):
        yield "the answer does not depend on the weights"


def detailed(method: Method) -> Iterator[str]:
    """What it says of itself, as a record stores it."""
    try:
        details_of(method)
    except DetailsError as error:
        yield str(error)


def reloaded(method: Method, rebuild: Callable[[], Method] | None, sample: Tensor, first: Prediction) -> Iterator[str]:
    """The weights, saved and loaded into a fresh method, are all that the answer needs."""
    if rebuild is None:
        return
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    twin = rebuild().to(next(method.parameters())).eval()
    twin.load_state_dict(torch.load(file, weights_only=True))
    if differing(first, run(twin, sample)):
        yield "its saved weights, loaded into a fresh method, give another answer or cost"
