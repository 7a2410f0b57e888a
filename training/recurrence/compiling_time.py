"""How long the loops of kernels/ were compiled, which the first training on a machine waits for."""

from numba.core.event import TimingListener, register

_timer = TimingListener()  # type: ignore[no-untyped-call]
# A function that is found beside its file is no such event.
register("numba:compile", _timer)  # type: ignore[no-untyped-call]


def seconds_compiling() -> float:
    """Return how long this process has compiled since this module was imported, in seconds."""
    return float(_timer.duration) if _timer.done else 0.0
