"""The front door: `python -m nox -s reproduce`, `tests`, `lint`, `faults`, `regress`, `report`.

What follows `--` goes along.
"""

import nox

# pip, not uv: only pip reads the machine's pip configuration, and with it the pinned torch resolves to
# whichever build (CPU or CUDA) that machine's index offers.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint"]


def install(session: nox.Session, extra: str = "") -> None:
    """Installs this checkout, editable, at the pinned versions."""
    session.install("-q", "-c", "constraints.txt", "-e", f".[{extra}]" if extra else ".")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Trains, measures and renders what is not in runs/ yet (the quick profile, unless `-- --profile ...`)."""
    install(session)
    session.run("python", "-m", "bench", "reproduce", *session.posargs)


@nox.session
def report(session: nox.Session) -> None:
    """Renders the report from what is stored."""
    install(session)
    session.run("python", "-m", "bench", "report", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs the test suite, in two processes of one thread each; or what follows `--`, as it says."""
    install(session, "test")
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
    else:
        session.run("python", "-m", "pytest", "-n", "2", env={"OMP_NUM_THREADS": "1"})


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, full disks, broken files and bad input, many times over; prints how many, and what was lost."""
    install(session, "test")
    chosen = session.posargs or ["-m", "faults or bad_input"]
    session.run("python", "-m", "pytest", "-q", *chosen, env={"OMP_NUM_THREADS": "1", "VARED_FAULTS": "100"})


@nox.session
def regress(session: nox.Session) -> None:
    """Holds costs and speeds against their measures; what could not be measured (exit 2) is printed, and no failure."""
    install(session)
    session.run("python", "-m", "bench", "regress", *session.posargs, success_codes=[0, 2])


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style, types, the direction of imports and spelling."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    session.run("codespell")
