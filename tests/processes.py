"""What a process has started, as the kernel tells it."""

from pathlib import Path


def spawned_by(parent: int) -> list[int]:
    """Return the processes that multiprocessing has spawned; its tracker of resources is none."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += map(int, (task / "children").read_text(encoding="ascii").split())
    return sorted(pid for pid in found if is_spawned(pid))


def is_spawned(pid: int) -> bool:
    """Tell whether a process is there and multiprocessing has spawned it."""
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return False


def imports(pid: int) -> bool:
    """Tell whether a spawned process is about to import what it runs: NumPy, for one, is there."""
    try:
        return "_multiarray_umath" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False
