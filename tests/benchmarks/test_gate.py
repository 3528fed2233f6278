"""The speed gate end to end, on copies of this checkout: a planted slow-down of 10 %, and none.

On a busy machine the answer may be that it is unclear, never the wrong one.
Run by `nox -s tests -- tests/benchmarks/test_gate.py -s`, for minutes: every measurement is a process of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.regression.gate import against_commit
from bench.regression.timing import Setting, gated_policies, run_speed
from bench.regression.worktree import CODE

ROOT = Path(__file__).parents[2]
METHOD = "vared/r2plus1d_18"
PLANTED = """

def _slower(self: VaRed) -> Method:
    import time

    method = _optimised(self)
    forward = method.forward

    def slow(*given: Any) -> Prediction:
        start = time.perf_counter()
        answer = forward(*given)
        end = start + (time.perf_counter() - start) / 0.9
        while time.perf_counter() < end:
            pass
        return answer

    method.forward = slow
    return method


_optimised = VaRed.optimised
VaRed.optimised = _slower
"""


@pytest.mark.parametrize(("planted", "wrong"), [("", "regressed"), (PLANTED, "fine")], ids=["equal", "slower"])
def test_the_gate_on_real_trees(planted: str, wrong: str, tmp_path: Path) -> None:
    base, change = tmp_path / "base", tmp_path / "change"
    for tree in (base, change):
        for folder in (*CODE, "results/published"):
            shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (change / "vared" / "method.py").open("a") as file:
        file.write(planted)
    timed = run_speed(Setting(), gated_policies(Setting()), tmp_path)
    (result,) = against_commit(timed, [METHOD], change, base, print)
    print([[round(value, 3) for pair in pairs for value in pair] for pairs in (result.base, result.change)])
    assert result.status != wrong and not result.reason
