"""What every test of a benchmark leaves as it was."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    """Give the process its cores back: benchmarks stay on one."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
