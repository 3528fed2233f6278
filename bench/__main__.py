"""Runs the command line from a checkout: `python -m bench`."""

from bench.cli import main

main()
