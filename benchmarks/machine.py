"""The machine that a benchmark runs on: what it is, one core of it, how fast that core reads."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from unroll.errors import SettingsError

VERSIONS = ("torch", "onnxruntime", "onnxruntime-gpu", "numpy", "jax", "jaxlib", "openvino")


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
    usable = sorted(os.sched_getaffinity(0))
    chosen = usable[-1] if core is None else core
    if chosen not in usable:
        raise SettingsError(f"core = {core}: this process may use the cores {usable}; name one")
    os.sched_setaffinity(0, {chosen})
    torch.set_num_threads(1)
    return chosen


def describe(device: str) -> dict[str, str]:
    """Name the processor, the GPU if it is the device, and the versions of what computes."""
    machine = {"processor": processor(), "python": platform.python_version()}
    if device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    for package in VERSIONS:
        try:
            machine[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return machine


def processor() -> str:
    """Return number and name of the processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.processor()


class Reader:
    """Reads a block of memory as fast as one thread can.

    No way of reading was the fastest for every size (Zen 4: the greatest of integers 72 GB/s from
    a block of 3 MB and 40 of 16 MB, a sum 56 and 43), so the faster of two is taken.

    Args:
        size: in bytes, 8 or more; a block that fits the caches is read from there.
    """

    def __init__(self, size: int) -> None:
        floats = torch.zeros(max(1, size // 8) * 2)
        integers = floats.numpy().view(np.int64)
        self.size = integers.nbytes
        ways: list[Callable[[], object]] = [integers.max, floats.sum]
        self.read: Callable[[], object] = min(ways, key=_best_seconds)

    def gigabytes_per_second(self) -> float:
        """Measure the rate: the best of some repeats."""
        return self.size / _best_seconds(self.read) / 1e9


def _best_seconds(way: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
