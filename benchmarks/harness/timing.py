"""Timing that compares: everything in turn, several times, in one process."""

import gc
import time
from collections.abc import Callable, Mapping

Way = Callable[[], object]
Clock = Callable[[], float]
"""In seconds."""

# A way that takes longer than this is not run untimed before each sample: reading its weights
# into the caches again costs it little.
LONG = 100_000  # microseconds


def interleave(
    ways: Mapping[str, Way], repeats: int, steps: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Time every way in turn, again and again, so that what slows the machine slows all of them.

    Each sample follows an untimed run of the same way, which brings its weights back into the
    caches, as in steady use: without it, all ways were 10 to 15 % slower at batch 1.

    Args:
        ways: what to time; each makes `steps` steps.
        repeats: how often each is timed.
        steps: what the times are divided by.
        clock: what measures; a thread's processor time where other work shares the core.

    Returns:
        The samples of each way, in microseconds per step.
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    long = {way for way in ways.values() if timed(way) > LONG}
    gc.collect()
    gc.disable()  # a collection in one way's time would count against that way
    try:
        for _ in range(repeats):
            for name, way in ways.items():
                if way not in long:
                    way()
                samples[name].append(timed(way, clock) / steps)
    finally:
        gc.enable()
    return samples


def timed(way: Way, clock: Clock = time.perf_counter) -> float:
    """Return the microseconds that one call takes."""
    started = clock()
    way()
    return (clock() - started) * 1e6


def quickest(way: Way) -> float:
    """Return the microseconds of the fastest of three calls, or of one if it is long."""
    first = timed(way)
    return first if first > LONG else min(first, timed(way), timed(way))
