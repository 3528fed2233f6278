"""Other people's counters beside ours, on one and the same pass, and what each of them did not know."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.cost.counter import count, count_meta
from bench.cost.formulas import ZERO_COST
from bench.method import Prediction

# What fvcore calls the operations that our convention counts; its total adds normalisation, pooling and resampling.
_FVCORE_COMPUTE = ("conv", "linear", "addmm", "mm", "matmul", "bmm", "einsum")
_PTFLOPS_WARNING = re.compile(r"Warning: (\S+) operation is treated as a zero-op")


@dataclass(frozen=True)
class Agreement:
    """Multiply-adds of one network by every counter.

    counters: "dispatch" (ours), "fvcore" (its default total: adds 2 per element of a batch normalisation, and others)
        and "ptflops" (its dispatch backend: adds biases); None where the tool failed.
    fvcore_conv_linear: its convolutions, linear layers and matrix products alone: equal to ours on static networks.
    uncounted: what our counter does not know: operation -> calls.
    missed: by tool, the compute operations that it passed over as nothing, or the one reason why it failed.
    """

    counters: dict[str, int | None]
    fvcore_conv_linear: int | None
    uncounted: dict[str, int]
    missed: dict[str, list[str]]


def agreement(module: nn.Module, shape: Sequence[int]) -> Agreement:
    """Runs `module` on one random input of `shape` (B, ...) under each counter, in evaluation mode, on the CPU.

    The random input is the same for all, so that a dynamic network decides the same. `module` is left as it was; one
    on the meta device is given memory, since the others need real tensors.
    """
    network = _Tensors(_on_cpu(module)).eval().requires_grad_(False)
    dtype = next((weight.dtype for weight in network.parameters()), torch.get_default_dtype())
    sample = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = count(network, sample, strict=False)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        fvcore, conv_linear, fvcore_missed = _fvcore(network, sample)
        ptflops, ptflops_missed = _ptflops(network, sample)
    return Agreement(
        counters={"dispatch": ours.macs, "fvcore": fvcore, "ptflops": ptflops},
        fvcore_conv_linear=conv_linear,
        uncounted=ours.uncounted,
        missed={"fvcore": fvcore_missed, "ptflops": ptflops_missed},
    )


def both_conventions(module: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Our multiply-adds, and what fvcore's default total is of convolutions, matrix products and batch normalisations.

    That adds two for every value that a batch normalisation gives, and leaves out operations that are not torch's own.
    The four that it adds for every value that is resized bilinearly are not among ours here.
    fvcore itself needs real tensors, so minutes and gigabytes at the published sizes; a test holds this against it.
    """
    normalised: list[int] = []
    handles = [
        layer.register_forward_hook(lambda _module, _inputs, output: normalised.append(output.numel()))
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
    ]
    try:
        found = count_meta(module, shape)
    finally:
        for handle in handles:
            handle.remove()
    own = sum(macs for operation, macs in found.by_operation.items() if not operation.startswith("aten."))
    return found.macs, found.macs - own + 2 * sum(normalised)


class _Tensors(nn.Module):
    """The network with its answer as plain tensors, which is what tracing takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor) -> Any:
        answer = self.network(sample)
        if not isinstance(answer, Prediction):
            return answer
        parts = (answer.logits, answer.masks, *(answer.boxes or ()))
        return tuple(part for part in parts if part is not None)


def _on_cpu(module: nn.Module) -> nn.Module:
    network = copy.deepcopy(module)
    if not any(weight.is_meta for weight in network.parameters()):
        return network.cpu()
    network = network.to_empty(device="cpu")
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.detach().zero_()
    return network


def _fvcore(network: nn.Module, sample: Tensor) -> tuple[int | None, int | None, list[str]]:
    """fvcore's total, its convolutions and matrix products alone, and what it missed."""
    try:
        tool: Any = importlib.import_module("fvcore.nn")
        analysis = tool.FlopCountAnalysis(network, sample)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_operation = analysis.by_operator()
        missed = _compute(name.replace("::", ".") for name in analysis.unsupported_ops())
    except Exception as error:
        return None, None, [_reason(error)]
    total = int(sum(by_operation.values()))
    return total, int(sum(by_operation[name] for name in _FVCORE_COMPUTE)), missed


def _ptflops(network: nn.Module, sample: Tensor) -> tuple[int | None, list[str]]:
    """ptflops' total and what it missed, which it only prints; it leaves hooks behind, so it gets a copy."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            # Its import fails in more ways than ImportError where a torchvision of another build is installed.
            tool: Any = importlib.import_module("ptflops")
            macs, _ = tool.get_model_complexity_info(
                copy.deepcopy(network),
                tuple(sample.shape[1:]),
                print_per_layer_stat=False,
                as_strings=False,
                input_constructor=lambda _: {"sample": sample},
                ost=said,
                verbose=True,
                backend="aten",
            )
    except Exception as error:
        return None, [_reason(error)]
    if macs is None:
        return None, [said.getvalue().strip().rpartition("\n")[2] or "failed without a reason"]
    return int(macs), _compute(_PTFLOPS_WARNING.findall(said.getvalue()))


def _compute(names: Iterable[str]) -> list[str]:
    """Those of `names` ("aten.lstm") that are no known zero."""
    free = {str(packet) for packet in ZERO_COST}
    return sorted({name for name in names if name not in free})


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
