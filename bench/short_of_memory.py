"""What torch says where memory does not suffice; known without torch."""

from __future__ import annotations

TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "_ALLOCATION_FAILED",  # as cuDNN 9 has it, of the device and of the host
    "unable to find an engine to execute this computation",  # cuDNN: none that fits the memory, or none at all
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its workspace did not fit
)
"""In errors that have no class of their own: of the processor's allocator, the driver, and libraries beside torch."""


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)
