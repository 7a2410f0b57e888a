"""One core of the machine that a benchmark runs on, and the memory of a process on it."""

import os
from pathlib import Path

from unroll.errors import SettingsError

COMPUTING = ("torch", "onnxruntime", "onnxruntime-gpu", "numpy")


def pin(core: int | None) -> int:
    """Keep this process, and all threads that it starts from now on, on one core.

    Args:
        core: which; by default the last one that the process may use, since the first serves
            most of a machine's interrupts.

    Returns:
        The core.

    Raises:
        SettingsError: the process may not use that core.
    """
    import torch  # a load does without

    usable = sorted(os.sched_getaffinity(0))
    chosen = usable[-1] if core is None else core
    if chosen not in usable:
        raise SettingsError(f"core = {core}: this process may use the cores {usable}; name one")
    os.sched_setaffinity(0, {chosen})
    torch.set_num_threads(1)
    return chosen


def resident_bytes(process: int | str = "self") -> int:
    """Return a process's memory, as Linux counts it."""
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def has_amx() -> bool:
    """Return whether the processor multiplies numbers of 8 bits in tiles."""
    return "amx_int8" in Path("/proc/cpuinfo").read_text(encoding="ascii")
