"""Memory that is asked for again and again is kept, so that page faults of large buffers are in no arm's time."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h


def keep_buffers() -> str:
    """Makes glibc keep freed memory, for the whole process and for good; says what was done.

    glibc maps each buffer above 32 MB anew and gives it back when it is freed, which can cost as much as a convolution.
    Other C libraries stay as they are.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: no handle of the process itself on this system
        return "as it is: no mallopt"
    accepted = set_option(_MMAP_MAX, 0) and set_option(_TRIM_THRESHOLD, -1)
    return "glibc, freed memory is kept" if accepted else "as it is: mallopt refused"
