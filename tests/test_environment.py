"""What a record says of where it was made."""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from bench import environment as module
from bench.environment import environment


def test_a_record_names_the_libraries_that_its_figures_hang_on() -> None:
    found = environment()
    assert (found["torch"], found["numpy"]) == (torch.__version__, version("numpy"))
    assert found["scikit-learn"] == version("scikit-learn") and "driver" in found


def test_the_driver_is_that_of_the_gpu_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("no library")

    calls: list[str] = []
    told = {"nvmlInit": lambda: calls.append("init"), "nvmlShutdown": lambda: calls.append("shutdown")}
    nvml = SimpleNamespace(**told, nvmlSystemGetDriverVersion=lambda: "580.1")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert module._driver() == "580.1" and calls == ["init", "shutdown"]
    nvml.nvmlInit = refuse
    assert module._driver() == "unknown"
