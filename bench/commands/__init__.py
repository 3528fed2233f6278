"""The commands of `vared-bench`, a file each or for what goes together; `bench.cli` puts them together.

They read arguments and call the part that does the work; what is printed is in `bench.answers`. Whatever is heavy is
imported inside the command that needs it, so that `--help` answers at once.
"""
