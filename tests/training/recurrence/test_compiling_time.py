"""Time spent compiling is counted, and finding what was compiled before is not."""

import time

import numba

from training.recurrence.compiling_time import seconds_compiling


def test_only_what_is_compiled_now_counts() -> None:
    function = numba.njit(lambda x: x + 1)
    before, begun = seconds_compiling(), time.perf_counter()
    assert function(1) == 2
    compiled, took = seconds_compiling(), time.perf_counter() - begun
    assert 0 < compiled - before <= took
    assert function(2) == 3
    assert seconds_compiling() == compiled
