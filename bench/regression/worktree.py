"""Another commit of the checkout, in a folder of its own, for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NoBaseError(Exception):
    """There is no base to compare with; one line says why."""


CODE = ("bench", "baselines", "vared")
"""The folders that decide how fast anything is."""

_FOREIGN = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # set inside hooks, and then about another tree


def git(folder: Path, *words: str) -> str:
    """What a git command prints.

    Raises:
        NoBaseError: there is no git, or it refuses.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    command = ["git", "-c", f"core.hooksPath={os.devnull}", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoBaseError(f"git cannot be run: {error}") from None
    if done.returncode:
        raise NoBaseError(" ".join(done.stderr.split()) or f"git {words[0]} refuses")
    return done.stdout.strip()


def resolve(root: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        NoBaseError: `root` is no checkout, or it does not hold that commit.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    if Path(top).resolve() != root.resolve():
        raise NoBaseError(f"{root} is no checkout of its own")
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except NoBaseError:
        shallow = git(root, "rev-parse", "--is-shallow-repository") == "true"
        clone = "this shallow clone" if shallow else "the checkout"
        raise NoBaseError(f"{clone} has no commit {revision!r}") from None


def same_code(root: Path, commit: str) -> bool:
    """Whether the checkout, with what is not committed in it, has the code of that commit."""
    return not git(root, "diff", "--name-only", commit, "--", *CODE)


@contextmanager
def worktree(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """`commit` checked out in `folder`, which must not exist yet; it is removed whatever happens.

    Raises:
        NoBaseError: git refuses.
    """
    try:
        git(root, "worktree", "add", "--quiet", "--detach", str(folder), commit)
        yield folder
    finally:
        with suppress(NoBaseError):  # it was never made
            git(root, "worktree", "remove", "--force", str(folder))
        shutil.rmtree(folder, ignore_errors=True)
