"""A GPU that refuses all work: after a fault a process can do nothing on it any more; known without torch."""

from __future__ import annotations

import sys


def gpu_lost() -> bool:
    """Whether the GPU that this process works on is lost to it; False where it works on none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:  # by any name: of the driver, a library or a kernel
        return True
    return False
