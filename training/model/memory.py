"""What the C library does with memory that is freed."""

import ctypes
import sys

# Of malloc.h: no blocks of their own from the kernel, no memory given back, one arena.
M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8


def keep_freed_memory() -> None:
    """Let the process keep freed memory and use it again, where the C library is glibc.

    A window's tensors are tens of megabytes, and glibc gives such blocks back to the kernel at
    once: every update of a GRU 512 then waited for about 25,000 page faults, a sixth of its time.
    The process keeps its highest use until it ends. On other systems nothing changes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_ARENA_MAX, 1)
