"""Time, and the processor time of threads in two processes."""

import time

from benchmarks.bulk.record import BulkSample
from benchmarks.harness.process import ServerProcess, thread_seconds


class Stopwatch:
    """Time, and processor time by thread; the engine's is that which worked most.

    Args:
        server: that has the engine; None for this process.
    """

    def __init__(self, server: ServerProcess | None) -> None:
        self._server = server
        self._began, self._before = time.perf_counter(), self._threads()

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.perf_counter() - self._began

    def sample(self, symbols: int, texts: float, wasted: float | None = None) -> BulkSample:
        """Describe what was made since the beginning."""
        seconds, after = self.seconds, self._threads()
        spent = sorted(after[each] - self._before.get(each, 0.0) for each in after)
        return BulkSample(
            symbols_per_second=symbols / seconds,
            texts_per_second=texts / seconds,
            engine_microseconds=spent[-1] / symbols * 1e6,
            other_microseconds=sum(spent[:-1]) / symbols * 1e6,
            wasted=wasted,
        )

    def _threads(self) -> dict[tuple[str, int], float]:
        found = {("here", each): seconds for each, seconds in thread_seconds().items()}
        if self._server is not None:
            threads = self._server.thread_seconds()
            found |= {("server", each): seconds for each, seconds in threads.items()}
        return found
