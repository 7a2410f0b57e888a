"""What a server counts, on a page for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving.engine.models import Models
from serving.rpc.call import CallCounts
from serving.sessions.disk_store import TieredStore
from serving.sessions.registry import Sessions
from serving.sessions.store import Gone, MemoryStore
from serving.telemetry.engine_metrics import LABELS, call_metrics, engine_metrics, labels_of
from unroll.errors import SettingsError


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
        store: MemoryStore | TieredStore,
        calls: CallCounts,
    ) -> None:
        self._models = models
        self._sessions = sessions
        self._store = store
        self._calls = calls

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        yield from call_metrics(self._calls)
        yield from engine_metrics(self._models.everyone)
        yield from self._prefixes()
        yield from self._session_metrics()

    def _session_metrics(self) -> Iterator[Metric]:
        store = self._store
        gone = CounterMetricFamily(
            "unroll_sessions_gone", "Sessions that are gone, by cause.", labels=["cause"]
        )
        evicted = store.evicted if isinstance(store, MemoryStore) else 0
        counts = {**self._sessions.gone, Gone.EVICTED: evicted}
        for why in (Gone.ENDED, Gone.EXPIRED, Gone.EVICTED):
            gone.add_metric([why.value], counts.get(why, 0))
        yield gone
        yield GaugeMetricFamily(
            "unroll_sessions_in_use", "Sessions that answer a request.", value=self._sessions.in_use
        )
        yield GaugeMetricFamily(
            "unroll_sessions_in_memory", "Idle sessions in memory.", value=len(store)
        )
        if isinstance(store, TieredStore):
            yield GaugeMetricFamily(
                "unroll_sessions_on_disk",
                "Sessions on disk, those in memory too.",
                value=store.kept,
            )
            yield CounterMetricFamily(
                "unroll_sessions_spilled", "Sessions that left the memory.", value=store.spilled
            )
            yield CounterMetricFamily(
                "unroll_sessions_loaded", "Sessions that came back from disk.", value=store.loaded
            )

    def _prefixes(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily(
            "unroll_prefix_lookups",
            "Prompts looked up in the cache of prefixes, by outcome.",
            labels=(*LABELS, "outcome"),
        )
        entries = GaugeMetricFamily(
            "unroll_prefix_entries", "Prefixes in the cache.", labels=LABELS
        )
        for model in self._models.everyone:
            labels, prefixes = labels_of(model), model.engine.prefixes
            lookups.add_metric([*labels, "hit"], prefixes.hits)
            lookups.add_metric([*labels, "miss"], prefixes.misses)
            entries.add_metric(labels, len(prefixes))
        yield lookups
        yield entries


class MetricsPage:
    """Serves the page over HTTP until it is closed.

    Args:
        metrics: what to show.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Raises:
        SettingsError: the port is taken.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(metrics)
        ProcessCollector(registry=registry)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise SettingsError(
                f"metrics_port = {port}: cannot listen on {host}: {error.strerror}; choose another "
                "with --metrics-port, or 0 for a free one"
            ) from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
