"""Work shared among threads: rows of a batch, or whole networks."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")

LEAST = 16  # rows for which a thread of its own pays: each reads all of the weights


def share_of(rows: int) -> int:
    """Return how many of the rows each of torch's threads takes; the last one may get fewer."""
    threads = max(1, min(torch.get_num_threads(), rows // LEAST))
    return -(-rows // threads)


def share(rows: int, work: Callable[[int, int], None]) -> None:
    """Have `work(first, last)` done for all rows, by as many threads as torch has.

    A thread goes through all steps of its rows alone. Torch's own way, to divide each operation,
    makes all wait for the slowest at every product, and leaves small operations to one.

    Args:
        rows: N.
        work: is called with ranges of rows that do not overlap; releases Python's lock mostly.
    """
    step = share_of(rows)
    ranges = [(first, min(first + step, rows)) for first in range(0, rows, step)]
    if len(ranges) == 1:
        work(*ranges[0])
        return
    together([functools.partial(work, *each) for each in ranges], len(ranges))


def together(tasks: Sequence[Callable[[], Result]], threads: int) -> list[Result]:
    """Do tasks at the same time, in each thread one, for which torch takes no further threads.

    Args:
        tasks: release Python's lock mostly.
        threads: how many.

    Returns:
        What each returned.
    """
    running = [_threads(threads).submit(task) for task in tasks]
    return [each.result() for each in running]


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "rows", initializer=_stay_alone)


def _stay_alone() -> None:
    torch.set_num_threads(1)  # of this thread; the others keep theirs
    torch.get_num_threads()  # a thread's first look at it takes over what was set last, by anyone
