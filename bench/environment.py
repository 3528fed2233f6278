"""Where and with what something was measured: machine, versions, commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench.data.loading import loading


def environment() -> dict[str, Any]:
    """Machine, versions and the checkout's commit."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "scikit-learn": version("scikit-learn"),
        "machine": platform.machine(),
        "processor": torch.cuda.get_device_name() if cuda else _processor(),
        "cuda": torch.version.cuda if cuda else None,
        "driver": _driver() if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cudnn.allow_tf32 if cuda else None,
        "decoder": loading().opened_decoder.version,
        "commit": COMMIT,
    }


def _driver() -> str:
    """The version of the GPU's driver."""
    try:
        pynvml = import_module("pynvml")
        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # whatever the library, the driver or the system refuses with
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    """The commit of the checkout, with "+" where files differ from it; "unknown" outside of one."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


COMMIT = _commit()  # of the code that is loaded, not of what the checkout holds when a run of hours ends
