"""A disk that is full, read-only or refuses once: one line names the file, and the next run ends as if nothing was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.harness import Bench, Ended
from faults.tiny import EVALUATE, REPORT

Count = Callable[[str], None]
NEVER = 10**9


def one_line(ended: Ended, bench: Bench) -> None:
    """The command has failed, and said so in one line that names a file or a folder."""
    assert ended.code == 2 and "Traceback" not in ended.said, ended.said
    (line,) = ended.errors
    assert "'runs" in line or f"'{bench.runs}" in line, line


@pytest.mark.parametrize("words", [EVALUATE, REPORT], ids=["evaluate", "report"])
@pytest.mark.parametrize("action", ["full", "broken"])
def test_a_touch_of_the_disk_that_is_refused(
    action: str, words: tuple[str, ...], bench: Bench, undisturbed: Bench, long: bool, count: Count
) -> None:
    """At each touch in turn: what was stored before is unharmed, since the next run ends as an undisturbed one does."""
    rendering = words == REPORT
    wanted = {name: found for name, found in undisturbed.end().items() if name.startswith("report") == rendering}

    def ended(fault: tuple[str, int] | None) -> Ended:
        return bench.harmed(words, *fault) if fault else bench.run(words)

    tried = struck = 0
    for at in positions(words, bench, undisturbed, long):
        prepare(bench, undisturbed, rendering)
        refused = ended((action, at))
        if refused.code:
            one_line(refused, bench)
            struck += 1
        count(f"disk {action}")
        again = ended(None)
        assert again.code == 0, again.said
        found = {name: one for name, one in bench.end().items() if name.startswith("report") == rendering}
        assert found == wanted and not bench.leftovers(), at
        tried += 1
    assert struck == tried if not long else struck > tried / 2  # what is only removed may stay


def prepare(bench: Bench, undisturbed: Bench, rendering: bool) -> None:
    shutil.rmtree(bench.runs, ignore_errors=True)
    bench.runs.mkdir()
    if rendering:
        shutil.copytree(undisturbed.runs / "records", bench.runs / "records")


def positions(words: tuple[str, ...], bench: Bench, undisturbed: Bench, long: bool) -> list[int]:
    """Touches at which the disk refuses: all, or one in the middle."""
    prepare(bench, undisturbed, words == REPORT)
    touches = bench.harmed(words, "kill", NEVER).touches
    return list(range(1, touches + 1)) if long else [touches // 2]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.9])
def test_a_real_disk_that_fills_up(share: float, bench: Bench, undisturbed: Bench, long: bool, count: Count) -> None:
    if not long and share != 0.7:
        pytest.skip("one is enough here")
    needed = sum(-(-path.stat().st_size // 4096) * 4096 for path in undisturbed.runs.rglob("*") if path.is_file())
    ended = bench.run(EVALUATE, room=int(share * needed) // 4096 * 4096)
    if "no file system of our own here" in ended.said:
        pytest.skip("the kernel lets this user mount nothing")
    if ended.code:
        one_line(ended, bench)
        assert "No space left on device" in ended.said
        count("disk full, a real one")
    shutil.rmtree(bench.runs)
    (bench.folder / "left").rename(bench.runs)
    assert bench.run(EVALUATE).code == 0
    wanted = {name: found for name, found in undisturbed.end().items() if not name.startswith("report")}
    assert bench.end() == wanted and not bench.leftovers()


@pytest.mark.parametrize("words", [EVALUATE, REPORT], ids=["evaluate", "report"])
def test_a_read_only_folder(words: tuple[str, ...], bench: Bench, undisturbed: Bench, count: Count) -> None:
    if words == REPORT:
        shutil.copytree(undisturbed.runs, bench.runs)
    else:
        assert bench.harmed(EVALUATE, "kill", 40).code == -9
    before = {path: path.read_bytes() for path in bench.runs.rglob("*") if path.is_file()}
    one_line(bench.harmed(words, "read-only", 1), bench)
    assert {path: path.read_bytes() for path in bench.runs.rglob("*") if path.is_file()} == before
    count("disk read-only")


def test_what_is_recorded_is_shown_from_a_read_only_folder(bench: Bench, undisturbed: Bench) -> None:
    shutil.copytree(undisturbed.runs, bench.runs)
    assert bench.harmed(EVALUATE, "read-only", 1).code == 0


@pytest.mark.bad_input
def test_a_file_where_a_folder_is_wanted(bench: Bench) -> None:
    bench.runs.write_text("not a folder")
    ended = bench.run(EVALUATE)
    assert ended.code == 2 and "'runs' is a file" in ended.said, ended.said
    assert bench.runs.read_text() == "not a folder"


def test_a_write_is_on_the_disk_before_its_name_and_its_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.files import write_atomically

    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def replaced(old: str, new: Path) -> None:
        done.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_atomically(tmp_path / "deep" / "file", b"a", b"b")
    assert done == ["folder", "file", "name", "folder"]  # the new folder in its own, then the file
    assert (tmp_path / "deep" / "file").read_bytes() == b"ab"
