"""The weights of a trained network, as a file that other networks and methods start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.experiment.build import network_options
from bench.experiment.plan import ExperimentError
from bench.experiment.run import Run
from bench.static import Static
from bench.weights import write


def export(run: Run, out: Path) -> dict[str, Any]:
    """Writes the network that an experiment has trained to `out`, as `weights import` would; says what it is.

    Raises:
        ExperimentError: it is no network's static form, or not trained to its end.
        CheckpointError: its checkpoint cannot be read.
    """
    method, identity = run.method, run.identity
    if type(method) is not Static:
        raise ExperimentError(f"{identity.method}: only a network's static form has weights for others to start from")
    with run.lock() as held:
        if not held:
            raise ExperimentError(f"{run.experiment.label}: another process is training it")
        run.load_trained()
    said = {
        "network": identity.method,
        "options": {**network_options(identity.method, run.profile), **identity.options},
        "classes": len(run.dataset.test.classes),
        "parameters": sum(weight.numel() for weight in method.network.parameters()),
        "normalisation": {"mean": _each(method.spec.mean), "std": _each(method.spec.std)},
        "trained": identity.model_dump(mode="json"),
    }
    state = {key: value.cpu().contiguous() for key, value in method.network.state_dict().items()}
    return write(out, state, said)


def _each(given: float | tuple[float, ...]) -> list[float]:
    """Of red, green and blue."""
    return list(given) if isinstance(given, tuple) else [given] * 3
