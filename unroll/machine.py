"""The machine that something is measured on."""

import importlib.metadata
import platform
from pathlib import Path


def describe(*packages: str) -> dict[str, str]:
    """Name the processor and the versions of Python and of those packages that are installed."""
    machine = {"processor": processor(), "python": platform.python_version()}
    for package in packages:
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


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return how many bytes of memory are free for a new process; None where Linux does not say."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kibibytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(kibibytes[0]) if kibibytes else None
