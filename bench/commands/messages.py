"""What commands say besides their answer, on standard error."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer


def tell(line: str) -> None:
    """How far things are, on standard error."""
    print(line, file=sys.stderr, flush=True)


def stop(message: str, code: int) -> NoReturn:
    """Ends the program with one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(code)
