"""The speed gate: what it calls slower, what it measures, and that it leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench import profiles
from bench.cli import app
from bench.experiment.build import build_method
from bench.experiment.plan import Experiment
from bench.policy import matched
from bench.regression import check, costs, gate, speed_lock, timing
from bench.regression.costs import Costs, Entry
from bench.regression.gate import Result, Tree, against_commit, against_lock, alternate
from bench.regression.judgement import LEAST, Pair, judge
from bench.regression.speed_lock import SpeedLock, measure_lock
from bench.regression.timing import REFERENCE, DisturbedError, GateError, Setting, Timed, gated_policies, run_speed
from bench.regression.worktree import NoBaseError, resolve, same_code, worktree

SLOWER = math.log(0.9)


def test_judgement_in_closed_form() -> None:
    base: list[Pair] = [(0.30, 0.32), (0.31, 0.29)]
    change: list[Pair] = [(0.20, 0.22), (0.22, 0.20)]
    found = judge(base, change)
    assert found.effect == pytest.approx(0.21 - 0.305)
    assert found.noise == pytest.approx(4.604095 * math.sqrt(0.0002 * (1 / 4 + 1 / 4)), rel=1e-6)  # t of 4, 99 %
    assert found.ratio[0] == pytest.approx(math.exp(-0.095)) and found.status == "regressed"


def test_only_beyond_the_noise_and_beyond_the_least_effect() -> None:
    def status(effect: float, spread: float) -> str:
        half = spread / 2
        return judge([(half, -half)] * 6, [(effect + half, effect - half)] * 6).status

    assert status(LEAST + 1e-6, 0) == "fine" and status(LEAST - 1e-6, 0) == "regressed"
    assert status(SLOWER, 0.02) == "regressed"
    assert status(SLOWER, 0.2) == "unclear" and status(0, 0.2) == "unclear"  # hides 10 %
    assert status(0, 0.05) == "fine" and status(0.3, 0.05) == "fine"
    with pytest.raises(ValueError, match="pairs"):
        judge([], [(0, 0)])


pairs = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=6)


@given(pairs, pairs, st.floats(-2, 2))
def test_only_differences_count(base: list[Pair], change: list[Pair], offset: float) -> None:
    def moved(some: list[Pair]) -> list[Pair]:
        return [(one + offset, other + offset) for one, other in some]

    found, other = judge(base, change), judge(moved(base), moved(change))
    assert (other.effect, other.noise) == pytest.approx((found.effect, found.noise), abs=1e-9)
    assert judge(change, base).effect == pytest.approx(-found.effect, abs=1e-12)


@given(st.integers(1, 6), st.booleans(), st.floats(-1, 1))
def test_one_measurement_that_is_off_is_no_regression(rounds: int, of_base: bool, off: float) -> None:
    still, one_off = [(0.0, 0.0)] * rounds, [(off, 0.0)] + [(0.0, 0.0)] * (rounds - 1)
    found = judge(one_off, still) if of_base else judge(still, one_off)
    assert found.status != "regressed"


def machine(seed: int, slower: float, sigma: float, disturbed: float = 0.0) -> Callable[[Tree], float]:
    """Measurements with noise: a spread, and now and then one that is 10 % off, either way; no tree differs in that."""
    draw = np.random.default_rng(seed)

    def timed(tree: Tree) -> float:
        off = draw.choice([-0.1, 0.1]) if draw.random() < disturbed else 0.0
        return float(0.3 + draw.normal(0, sigma) + off + slower * (tree == "change"))

    return timed


def gated(seeds: int, slower: float, sigma: float, disturbed: float) -> list[str]:
    """What the gate says of so many pairs of trees, each on a machine of its own."""
    machines = {str(seed): machine(seed, slower, sigma, disturbed) for seed in range(seeds)}

    def timed(tree: Path, method: str) -> Timed:
        return Timed("here", machines[method]("change" if tree == Path("change") else "base"))

    results = against_commit(timed, list(machines), Path("change"), Path("base"), lambda line: None)
    return [result.status for result in results]


@pytest.mark.parametrize(("sigma", "disturbed"), [(0.002, 0), (0.01, 0), (0.02, 0), (0.01, 0.05)])
def test_a_planted_slow_down_is_found_every_time(sigma: float, disturbed: float) -> None:
    assert gated(20, SLOWER, sigma, disturbed) == ["regressed"] * 20


@pytest.mark.parametrize(("sigma", "disturbed"), [(0.002, 0), (0.01, 0), (0.02, 0), (0.04, 0), (0.1, 0), (0.02, 0.1)])
def test_hundreds_of_runs_of_equals_raise_no_alarm(sigma: float, disturbed: float) -> None:
    found = gated(400, 0, sigma, disturbed)
    assert "regressed" not in found
    if sigma <= 0.02:
        assert found.count("fine") > 390


def test_an_alarm_stands_only_if_a_second_series_raises_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "ROUNDS", (2, 2))

    def told(series: list[float]) -> tuple[str, list[str]]:
        """series: by how much the change is slower in each."""
        lines, calls = list[str](), itertools.count()

        def timed(tree: Path, method: str) -> Timed:
            return Timed("here", series[next(calls) // 4] if tree == Path("change") else 0.0)

        (result,) = against_commit(timed, ["m"], Path("change"), Path("base"), lines.append)
        return result.status, lines

    assert told([SLOWER, SLOWER])[0] == "regressed"
    status, lines = told([SLOWER, 0.0])
    assert status == "fine" and "regressed" in lines[0] and lines[0].endswith("measured once more")


@pytest.mark.parametrize("drift", [-0.05, 0.05])
def test_a_machine_that_slows_down_steadily_favours_neither_tree(drift: float) -> None:
    clock = itertools.count()
    result = alternate("m", lambda tree: drift * next(clock))
    assert result.judgement is not None and result.judgement.effect == pytest.approx(0, abs=1e-12)


def test_trees_take_turns_until_the_answer_is_clear() -> None:
    called = list[Tree]()

    def still(tree: Tree) -> float:
        called.append(tree)
        return 0.0

    assert alternate("m", still).status == "fine"
    first, second = ["base", "change", "change", "base"], ["change", "base", "base", "change"]
    assert called == [*first, *second]
    doubtful = alternate("m", machine(0, LEAST, 0.02))
    assert (len(doubtful.base), len(doubtful.change)) == (6, 6)


def test_what_fails_is_unclear_and_says_why() -> None:
    def timed(tree: Tree) -> float:
        if tree == "base":
            raise GateError("m: speed ended with 2: no such method")
        return 0.0

    result = alternate("m", timed)
    assert result.status == "unclear" and gate.described(result).endswith("2: no such method")


def busy(lost: set[int]) -> Callable[[Tree], float]:
    """Measurements with noise, of which these, by number, are disturbed."""
    clock, quiet = itertools.count(), machine(0, SLOWER, 0.01)

    def timed(tree: Tree) -> float:
        if next(clock) in lost:
            raise DisturbedError("m: the machine was busy")
        return quiet(tree)

    return timed


def test_a_disturbed_round_is_left_out_and_the_judgement_stands() -> None:
    result = alternate("m", busy({1, 9}))
    assert result.status == "regressed" and not result.reason
    assert len(result.base) == len(result.change) == 4  # of six
    lock = [(0.3, 0.3)] * 4
    assert alternate("m", busy({0}), lock).base == lock


def test_a_machine_disturbed_in_every_round_is_no_verdict() -> None:
    for lost in (set(range(99)), set(range(4, 99))):  # none whole; one, which is too few
        result = alternate("m", busy(lost))
        assert result.status == "unclear" and result.reason == "m: the machine was busy"


def a_lock(device: str = "here", **changes: dict[str, int]) -> SpeedLock:
    setting = {"frames": 8, "batch": 4, "rounds": 24} | changes.get("setting", {})
    return SpeedLock(device=device, setting=setting, methods={"m": [(0.3, 0.31), (0.31, 0.3), (0.3, 0.31)]})


def test_a_lock_counts_on_the_same_device_and_setting_only(tmp_path: Path) -> None:
    def timed(tree: Path, method: str) -> Timed:
        return Timed("here", 0.305 + SLOWER)

    for lock, says in (
        (None, "there is no speed lock"),
        (a_lock("elsewhere"), "measured on elsewhere, and this is here"),
        (a_lock(setting={"batch": 8}), "measured with"),
    ):
        with pytest.raises(GateError, match=says):
            against_lock(timed, ["m"], tmp_path, lock, print)
    known, other = against_lock(timed, ["m", "other"], tmp_path, a_lock(), print)
    assert known.status == "regressed" and other.status == "unclear" and "not in the speed lock" in other.reason
    clock = itertools.count()
    lock = measure_lock(lambda tree, method: Timed("here", float(next(clock))), ["m"], tmp_path, Setting())
    assert lock.methods["m"] == [(float(2 * i), float(2 * i + 1)) for i in range(6)] and lock.device == "here"


SPEED = """
import json, os, pathlib, sys
words = sys.argv[1:]
if words[0] != "speed" or not COMMAND:
    sys.exit(f"No such command {words[0]!r}")
if "--help" in words:
    sys.exit()
with open(pathlib.Path(words[words.index("--results") + 1]).parent / "calls", "a") as file:
    file.write(json.dumps([os.getcwd(), os.environ["OMP_NUM_THREADS"], words]) + "\\n")
exec(BODY)
"""
ANSWER = """
rounds = {"a": [1.0, 2.0, 9.0], "b": [RATIO, 2.0 * RATIO, 1.0]}  # the last of a was cut into
print(json.dumps({"device": "toy", **{name: {"samples": found} for name, found in rounds.items()}}))
"""


def toy(folder: Path, ratio: float = 2.0, body: str = ANSWER, command: bool = True) -> Path:
    """A tree whose `python -m bench speed` answers at once."""
    (folder / "bench").mkdir(parents=True, exist_ok=True)
    (folder / "bench" / "__init__.py").touch()
    main = f"RATIO, COMMAND, BODY = {ratio}, {command}, {body!r}\n{SPEED}"
    (folder / "bench" / "__main__.py").write_text(main)
    return folder


def test_no_measurement_meets_what_the_version_of_another_tree_stored(tmp_path: Path) -> None:
    stores = (
        'folder = pathlib.Path(words[words.index("--results") + 1]); assert not any(folder.iterdir())\n'
        '(folder / "record").write_text("of this version")\n'
    )
    timed = run_speed(Setting(), {"m": "learned"}, tmp_path)
    for name in ("base", "change", "base"):
        assert timed(toy(tmp_path / name, body=stores + ANSWER), "m").device == "toy"


def test_a_measurement_runs_the_code_of_its_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    timed = run_speed(Setting(frames=4, batch=2, rounds=5), {"m/n": "random:0.5"}, tmp_path)
    for ratio in (0.5, 2.0):
        tree = toy(tmp_path / f"tree{ratio}", ratio)
        assert timed(tree, "m/n") == Timed("toy", math.log(ratio))
    folder, threads, words = json.loads((tmp_path / "calls").read_text().splitlines()[-1])
    assert Path(folder) == (tmp_path / "tree2.0").resolve() and threads == "1"
    assert words[:3] == ["speed", "m/n", REFERENCE] and {"--json", "--untrained", "--again"} <= set(words)
    flags = dict(itertools.pairwise(words))
    assert flags["--frames"] == "4" and flags["--batch"] == "2" and flags["--rounds"] == "5"
    assert flags["--policy"] == "random:0.5" and flags["--profile"] == str(timing.PROFILE)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('error: no method m')", "m: speed ended with 1: error: no method m"),
        ("print(json.dumps({'doubtful': True})); sys.exit('error: busy')", "m: speed ended with 1: error: busy"),
        ("print('hello')", "m: speed gave no ratio: JSONDecodeError"),
        ("print(json.dumps({'device': 'toy', 'a': None}))", "m: speed gave no ratio: TypeError"),
        (
            "print(json.dumps({'device': 'toy', 'a': {'samples': [1]}, 'b': {'samples': [0]}}))",
            "m: speed gave no ratio: V",
        ),
        (
            "print(json.dumps({'device': 'toy', 'a': {'samples': [0]}, 'b': {'samples': [1]}}))",
            "m: speed gave no ratio: Z",
        ),
        ("import time; time.sleep(600)", "m: took more than"),
    ],
)
def test_a_measurement_that_fails_is_one_line(
    body: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in body:
        monkeypatch.setattr(timing, "TIMEOUT", 0.5)
    with pytest.raises(GateError) as error:
        run_speed(Setting(), {"m": "learned"}, tmp_path)(toy(tmp_path / "tree", body=body), "m")
    assert str(error.value).startswith(says) and "\n" not in str(error.value)
    assert isinstance(error.value, DisturbedError) == ("doubtful" in body)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """Two commits: speed 2, then the same with another text beside the code."""
    tree = toy(tmp_path / "checkout")
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "first")
    (tree / "notes").write_text("more")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "second")
    yield tree
    assert len(git(tree, "worktree", "list").splitlines()) == 1  # nothing is left, whatever the test did


def test_a_worktree_is_the_commit_and_goes_whatever_happens(checkout: Path, tmp_path: Path) -> None:
    main = checkout / "bench" / "__main__.py"
    main.write_text("changed")
    folder = tmp_path / "base"
    with pytest.raises(KeyboardInterrupt), worktree(checkout, resolve(checkout, "HEAD~1"), folder) as tree:
        assert (tree / "bench" / "__main__.py").read_text().startswith("RATIO")
        assert not (tree / "notes").exists()
        (tree / "left behind").write_text("by what ran there")
        raise KeyboardInterrupt
    assert not folder.exists() and main.read_text() == "changed"


def test_code_is_the_same_or_not(checkout: Path) -> None:
    first = resolve(checkout, "HEAD~1")
    assert same_code(checkout, first)
    toy(checkout, ratio=1.0)
    assert not same_code(checkout, first)


def test_no_base_says_why(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoBaseError, match="the checkout has no commit 'nosuch'"):
        resolve(checkout, "nosuch")
    with pytest.raises(NoBaseError, match="has no commit '--help'"):
        resolve(checkout, "--help")
    with pytest.raises(NoBaseError, match="no checkout of its own"):
        resolve(checkout / "bench", "HEAD")
    with pytest.raises(NoBaseError, match="not a git repository"):
        resolve(tmp_path, "HEAD")
    git(tmp_path, "clone", "-q", "--depth", "1", checkout.as_uri(), "shallow")
    with pytest.raises(NoBaseError, match="this shallow clone has no commit 'HEAD~1'"):
        resolve(tmp_path / "shallow", "HEAD~1")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))  # as inside a hook of another repository
    assert len(resolve(checkout, "HEAD")) == 40
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        with pytest.raises(NoBaseError, match="git cannot be run"):
            resolve(checkout, "HEAD")
    monkeypatch.delenv("GIT_DIR")


@pytest.fixture
def regress(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command on the toy checkout, where costs are as locked, with one gated method."""
    reference = tmp_path / "reference"
    reference.mkdir()
    (reference / "costs.json").write_text("{}")
    monkeypatch.setattr(check, "ROOT", checkout)
    monkeypatch.setattr(check, "locks", lambda: (reference / "costs.json", reference / "speed.json"))
    monkeypatch.setattr(check, "entries", lambda tables: [])
    monkeypatch.setattr(check, "PROCESSES", 1)
    monkeypatch.setattr(speed_lock, "PAIRS", 3)
    monkeypatch.setattr(check, "gated_policies", lambda setting: {"m": "learned"})
    monkeypatch.setattr(check.signal, "signal", lambda *_: None)

    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["regress", *words])
        return done.exit_code, done.stdout, done.stderr

    return run


def test_the_command_compares_with_a_commit(regress: Callable[..., tuple[int, str, str]], checkout: Path) -> None:
    code, out, _ = regress()
    assert code == 0 and out == "fine; speed against commit HEAD~1, whose code is the same\n"
    toy(checkout, ratio=1.99)
    code, out, _ = regress("--base", "HEAD", "--json")
    answer = json.loads(out)
    assert code == answer["code"] == 0 and answer["speed"]["methods"]["m"]["ratio"]["value"] == pytest.approx(0.995)
    assert len(answer["speed"]["methods"]["m"]["log_ratios"]["base"]) == 2
    toy(checkout, ratio=1.8)
    code, out, err = regress()
    assert code == 1 and "m: regressed, 0.900 of the base's speed" in out and "[1/1] m: regressed" in err
    assert regress("--costs-only")[0] == 0


def ended(entry: Entry) -> Costs:
    """Of a process that counts: killed, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_count_is_no_regression(
    regress: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(check, "PROCESSES", 2)
    monkeypatch.setattr(check, "entries", lambda tables: [Entry("r2plus1d_18", 2, 16, 2)])
    monkeypatch.setattr(costs, "_costs_or_reason", ended)
    code, out, _ = regress("--costs-only", "--json")
    answer = json.loads(out)
    assert code == answer["code"] == 2 and answer["costs"] == []
    assert answer["unmeasured"] == ["costs: a process that counts was killed"]
    code, out, err = regress("--costs-only", "--update")
    assert code == 2 and out == "" and err == "error: costs: a process that counts was killed\n"
    assert (tmp_path / "reference" / "costs.json").read_text() == "{}"


def test_the_command_without_a_base(regress: Callable[..., tuple[int, str, str]], checkout: Path) -> None:
    code, out, _ = regress("--base", "nosuch")
    assert code == 2 and "the checkout has no commit 'nosuch'; there is no speed lock" in out
    code, out, _ = regress("--update")
    assert code == 0 and out.splitlines() == [
        "device: locked nothing, found toy",
        f"m: speed over {REFERENCE}: locked nothing, found 2.000",
    ]
    code, out, _ = regress("--base", "nosuch")
    assert code == 0 and "fine; speed against the speed lock, since the checkout has no commit" in out
    toy(checkout, ratio=1.8)
    assert regress("--base", "nosuch")[0] == 1
    toy(checkout, command=False)
    git(checkout, "commit", "-qam", "no speed")
    toy(checkout, ratio=1.8)
    code, out, _ = regress("--base", "HEAD")
    assert code == 1 and "HEAD has no command speed" in out


def test_a_broken_speed_lock_is_one_line_and_stays(
    regress: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "reference" / "costs.json").write_text('{"old": {"params": 1, "minimum": 1, "maximum": 1}}')
    path = tmp_path / "reference" / "speed.json"
    for text, says in (("{", "Expecting"), ('{"device": "here"}', "setting: is missing")):
        path.write_text(text)
        for words in ((), ("--update",)):
            code, _, err = regress(*words)
            assert code == 2 and says in err and str(path) in err and len(err.splitlines()) == 1
            assert path.read_text() == text and "old" in (path.parent / "costs.json").read_text()
    assert regress("--costs-only", "--update")[0] == 0


def test_locks_are_rewritten_all_or_none(
    regress: Callable[..., tuple[int, str, str]], checkout: Path, tmp_path: Path
) -> None:
    text = '{"old": {"params": 1, "minimum": 1, "maximum": 1}}'
    (tmp_path / "reference" / "costs.json").write_text(text)
    toy(checkout, body="sys.exit('no')")
    code, _, err = regress("--update")
    assert code == 2 and err.splitlines()[-1] == "error: m: speed ended with 1: no"
    assert [path.read_text() for path in (tmp_path / "reference").iterdir()] == [text]


def test_a_regression_weighs_more_than_what_is_unclear() -> None:
    found = {"fine": [(0.0, 0.0)], "regressed": [(SLOWER, SLOWER)]}
    results = {name: Result(name, [(0.0, 0.0)], pairs) for name, pairs in found.items()}
    unclear = Result("unclear", reason="no")
    assert check.Answer(results=[results["fine"]]).code == 0
    assert check.Answer(results=[results["fine"], unclear]).code == 2
    assert check.Answer(results=[*results.values(), unclear], unmeasured=["speed"]).code == 1


def test_gated_methods_are_timed_half_way_through_what_they_can_skip() -> None:
    profile, policies = profiles.load(str(timing.PROFILE)), gated_policies(Setting())
    assert list(policies) == profile.methods and all(text.startswith("random:") for text in policies.values())
    method = build_method(Experiment("arnet", (), Setting().frames, 0), profile, classes=24)
    macs = round(float(policies["arnet"].removeprefix("random:")) * 1e9)
    assert len(matched(method, macs, draws=96).trace["frame.0"]) == 96


def test_ci_takes_a_regression_for_a_failure_and_an_unclear_answer_not() -> None:
    root = Path(__file__).parent.parent
    assert "nox -s regress" in (root / ".ci" / "run").read_text()
    assert '"regress", *session.posargs, success_codes=[0, 2]' in (root / "noxfile.py").read_text()
