"""The metrics of several processes on one page."""

from collections.abc import Callable, Iterable, Iterator

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
        pages: returns the page of each process, by the process's id.
    """

    def __init__(self, pages: Callable[[], dict[int, str]]) -> None:
        self._pages = pages
        self._last: dict[int, str] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        running = self._pages()
        self._last.update(running)
        families: dict[str, Metric] = {}
        values: dict[Key, float] = {}
        for process, page in list(self._last.items()):  # other readers add some
            for family in text_string_to_metric_families(page):
                if process in running or family.type in _COUNTED:
                    families.setdefault(family.name, family)
                    _add(family, values)
        for family in families.values():
            merged = Metric(family.name, family.documentation, family.type)
            for name, labels in _of(family, values):
                merged.add_sample(name, dict(labels), values[name, labels])
            yield merged


def _add(family: Metric, values: dict[Key, float]) -> None:
    merge = max if family.name in _LARGEST else min if family.name in _SMALLEST else _sum
    for sample in family.samples:
        key = sample.name, tuple(sample.labels.items())
        values[key] = merge(values[key], sample.value) if key in values else sample.value


def _sum(left: float, right: float) -> float:
    return left + right


def _of(family: Metric, values: Iterable[Key]) -> Iterator[Key]:
    names = {family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "sum", "count"))}
    return (key for key in values if key[0] in names)
