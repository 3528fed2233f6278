"""Decodes video files with PyAV: `whole` videos, or a `clip` without the rest; `reader` chooses, and keeps them.

Nothing here knows a dataset or a list; pictures are (H, W, 3), upright, with a shorter side that is asked for.
"""
