"""What the engines and the calls did, as families for Prometheus."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from serving.engine.counts import Tally, WorkerCounts, merged
from serving.engine.models import ServedModel
from serving.rpc.call import CallCounts

LABELS = ("model", "fingerprint")
FINGERPRINT_SHOWN = 12  # hex digits

_TALLIES = {
    "rows": ("unroll_batch_rows", "Rows of each run of the compiled loop: how full batches are."),
    "steps": ("unroll_loop_steps", "Steps of each run of the compiled loop."),
    "run_seconds": ("unroll_loop_seconds", "Time of each run of the compiled loop."),
    "queue_seconds": ("unroll_queue_seconds", "From a request's arrival to its slot."),
    "prefill_seconds": (
        "unroll_prefill_seconds",
        "From a request's slot to its first symbol, or to a score's end.",
    ),
    "first_seconds": (
        "unroll_first_symbol_seconds",
        "From a request's arrival to its first symbol, without the network.",
    ),
    "decode_seconds": ("unroll_decode_seconds", "From a text's first symbol to its good end."),
    "gap_seconds": (
        "unroll_chunk_gap_seconds",
        "Between two chunks of a stream; waiting for slow readers included.",
    ),
}
_LOAD = {
    "queued": ("unroll_queue_length", "Requests that wait for a slot."),
    "running": ("unroll_slots_taken", "Requests in slots."),
    "stalled": ("unroll_requests_stalled", "Requests that wait for their readers."),
    "slots": ("unroll_slots", "Slots of all workers."),
}


def engine_metrics(models: Iterable[ServedModel]) -> Iterator[Metric]:
    """Yield what each model's engine did and has to do; retired models are models of their own."""
    served = [(labels_of(model), model) for model in models]
    counts = [(labels, model.engine.counts) for labels, model in served]
    yield _symbols(counts)
    for field, (name, text) in _TALLIES.items():
        family = HistogramMetricFamily(name, text, labels=LABELS)
        for labels, workers in counts:
            add_tally(family, labels, merged(getattr(worker, field) for worker in workers))
        yield family
    loads = [(labels, model.engine.load()) for labels, model in served]
    for field, (name, text) in _LOAD.items():
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for labels, load in loads:
            gauge.add_metric(labels, getattr(load, field))
        yield gauge
    workers_gauge = GaugeMetricFamily("unroll_workers", "Workers.", labels=LABELS)
    for labels, workers in counts:
        workers_gauge.add_metric(labels, len(workers))
    yield workers_gauge


def call_metrics(counts: CallCounts) -> Iterator[Metric]:
    """Yield what became of the calls."""
    ended = CounterMetricFamily(
        "unroll_requests", "Calls that ended, by method and code.", labels=("method", "code")
    )
    for key, number in list(counts.ended.items()):
        ended.add_metric(key, number)
    yield ended
    running = GaugeMetricFamily("unroll_requests_running", "Calls under way.", labels=("method",))
    for method, number in list(counts.running.items()):
        running.add_metric([method], number)
    yield running
    seconds = HistogramMetricFamily(
        "unroll_request_seconds", "From a call's arrival to its end.", labels=("method",)
    )
    for method, tally in list(counts.seconds.items()):
        add_tally(seconds, [method], tally)
    yield seconds


def add_tally(family: HistogramMetricFamily, labels: Iterable[str], tally: Tally) -> None:
    """Add a tally to a family."""
    buckets, total = [], 0
    bounds = [*map(str, map(float, tally.bounds)), "+Inf"]
    for bound, count in zip(bounds, tally.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(list(labels), buckets, tally.total)


def _symbols(counts: list[tuple[tuple[str, str], list[WorkerCounts]]]) -> Metric:
    family = CounterMetricFamily(
        "unroll_symbols", "Symbols that went through the model.", labels=(*LABELS, "kind")
    )
    for labels, workers in counts:
        family.add_metric([*labels, "read"], sum(worker.symbols_read for worker in workers))
        family.add_metric([*labels, "written"], sum(worker.symbols_written for worker in workers))
    return family


def labels_of(model: ServedModel) -> tuple[str, str]:
    """Return a model's values of LABELS."""
    return model.name, model.fingerprint[:FINGERPRINT_SHOWN]
