"""The metrics of several processes on one page."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

# What all processes tell alike, or what only one of them stands for; everything else is a sum.
_LARGEST = {"unroll_sessions_stored", "unroll_sessions_failing", "process_max_fds"}
_SMALLEST = {"process_start_time_seconds"}
_COUNTED = ("counter", "histogram")
Key = tuple[str, tuple[tuple[str, str], ...]]


class MergedMetrics:
    """Adds up the pages of processes, those that have ended included.

    Args:
        pages: returns the page of each process that answers, by a number that no other ever has.
        living: returns the numbers of the processes that have not ended.
    """

    def __init__(
        self, pages: Callable[[], dict[int, str]], living: Callable[[], Collection[int]]
    ) -> None:
        self._pages = pages
        self._living = living
        self._lock = Lock()  # guards the rest: the page has several readers at once
        self._last: dict[int, str] = {}
        self._ended = _Sums({}, {})
        self._counted: set[int] = set()  # the processes whose counts are in `_ended`

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        running = self._pages()
        with self._lock:
            self._last.update(running)
            self._count_ended()
            sums, last = self._ended.copy(), dict(self._last)
        for process, page in last.items():
            sums.add(page, counts_only=process not in running)
        yield from sums.metrics()

    def _count_ended(self) -> None:
        """Add up what ended processes counted once and for all, and forget their pages."""
        for process in self._last.keys() - set(self._living()):
            page = self._last.pop(process)
            if process not in self._counted:  # a slow reader may bring it again
                self._counted.add(process)
                self._ended.add(page, counts_only=True)


@dataclass(frozen=True)
class _Sums:
    families: dict[str, Metric]
    values: dict[Key, float]

    def copy(self) -> "_Sums":
        return _Sums(dict(self.families), dict(self.values))

    def add(self, page: str, *, counts_only: bool) -> None:
        for family in text_string_to_metric_families(page):
            if family.type in _COUNTED or not counts_only:
                self.families.setdefault(family.name, family)
                self._add(family)

    def _add(self, family: Metric) -> None:
        merge = max if family.name in _LARGEST else min if family.name in _SMALLEST else _sum
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.items())
            there = key in self.values
            self.values[key] = merge(self.values[key], sample.value) if there else sample.value

    def metrics(self) -> Iterator[Metric]:
        for family in self.families.values():
            merged = Metric(family.name, family.documentation, family.type)
            for name, labels in _of(family, self.values):
                merged.add_sample(name, dict(labels), self.values[name, labels])
            yield merged


def _sum(left: float, right: float) -> float:
    return left + right


def _of(family: Metric, values: Iterable[Key]) -> Iterator[Key]:
    names = {family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "sum", "count"))}
    return (key for key in values if key[0] in names)
