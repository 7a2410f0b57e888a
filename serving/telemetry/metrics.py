"""The server's metrics, on a page for Prometheus."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving.access.call import CallCounts
from serving.engine.engine import Engine
from serving.engine.models import Models
from serving.engine.served import ServedModel
from serving.sessions.cached_store import CachedStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.store import Gone
from unroll.errors import StoreError

LABELS = ("model", "fingerprint")
FINGERPRINT_SHOWN = 12  # hex digits
_LOAD = {
    "queued": ("unroll_queue_length", "Requests that wait for a slot."),
    "running": ("unroll_slots_taken", "Slots that hold a request."),
    "stalled": ("unroll_requests_stalled", "Streams that wait for a slow reader."),
    "slots": ("unroll_slots", "Slots of all workers."),
    "workers": ("unroll_workers", "Workers."),
}


class Metrics:
    """Collects the counts when the page is asked for; what is counted knows nothing of it.

    Args:
        models: whose engines and prefix caches are counted.
        sessions: whose ends are counted.
        store: where they rest.
        calls: whose ends are counted.
    """

    def __init__(
        self,
        models: Models,
        sessions: Sessions,
        store: MemoryStore | CachedStore,
        calls: CallCounts,
    ) -> None:
        self._models = models
        self._sessions = sessions
        self._store = store
        self._calls = calls

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        served = [(_labels_of(model), model.engine) for model in self._models.everyone]
        yield from _gathered([({}, self._calls.registry)])
        yield from _gathered([(labels, engine.counts.registry) for labels, engine in served])
        yield from _loads(served)
        yield from self._prefixes()
        yield from self._session_metrics()

    def _session_metrics(self) -> Iterator[Metric]:
        store = self._store
        gone = CounterMetricFamily(
            "unroll_sessions_gone",
            "Sessions that were ended, expired or evicted, by cause.",
            labels=["cause"],
        )
        evicted = store.evicted if isinstance(store, MemoryStore) else 0
        counts = {**self._sessions.gone, Gone.EVICTED: evicted}
        for why in (Gone.ENDED, Gone.EXPIRED, Gone.EVICTED):
            gone.add_metric([why.value], counts.get(why, 0))
        yield gone
        yield GaugeMetricFamily(
            "unroll_sessions_in_use",
            "Sessions that are answering a request.",
            value=self._sessions.in_use,
        )
        yield GaugeMetricFamily(
            "unroll_sessions_in_memory", "Idle sessions in memory.", value=len(store)
        )
        if isinstance(store, CachedStore):
            with suppress(StoreError):  # a damaged database leaves this one out
                yield GaugeMetricFamily(
                    "unroll_sessions_stored",
                    "Sessions on disk or in Redis, including those also in memory.",
                    value=store.count() or 0,
                )
            yield GaugeMetricFamily(
                "unroll_sessions_failing",
                "1 while sessions cannot be written down, else 0.",
                value=store.has_failed,
            )
            yield CounterMetricFamily(
                "unroll_sessions_spilled", "Sessions that left the memory.", value=store.spilled
            )
            yield CounterMetricFamily(
                "unroll_sessions_loaded",
                "Sessions that were read from disk or Redis.",
                value=store.loaded,
            )

    def _prefixes(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily(
            "unroll_prefix_lookups",
            "Prompts looked up in the prefix cache, by outcome.",
            labels=(*LABELS, "outcome"),
        )
        entries = GaugeMetricFamily(
            "unroll_prefix_entries", "Prefixes in the prefix cache.", labels=LABELS
        )
        for model in self._models.everyone:
            labels, prefixes = list(_labels_of(model).values()), model.engine.prefixes
            lookups.add_metric([*labels, "hit"], prefixes.hits)
            lookups.add_metric([*labels, "miss"], prefixes.misses)
            entries.add_metric(labels, len(prefixes))
        yield lookups
        yield entries


def _labels_of(model: ServedModel) -> dict[str, str]:
    """Return a model's labels; a retired one is a model of its own."""
    return dict(zip(LABELS, (model.name, model.fingerprint[:FINGERPRINT_SHOWN]), strict=True))


def _gathered(parts: Iterable[tuple[dict[str, str], CollectorRegistry]]) -> Iterator[Metric]:
    """Yield the families of registries that hold the same, each registry's with its own labels."""
    families: dict[str, Metric] = {}
    for labels, registry in parts:
        for found in registry.collect():
            family = families.setdefault(
                found.name, Metric(found.name, found.documentation, found.type)
            )
            for sample in found.samples:
                if not sample.name.endswith("_created"):
                    family.add_sample(sample.name, labels | sample.labels, sample.value)
    yield from families.values()


def _loads(served: list[tuple[dict[str, str], Engine]]) -> Iterator[Metric]:
    loads = [(list(labels.values()), engine.load()) for labels, engine in served]
    for field, (name, text) in _LOAD.items():
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for labels, load in loads:
            gauge.add_metric(labels, getattr(load, field))
        yield gauge
