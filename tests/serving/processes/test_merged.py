"""The metrics of several processes as one page."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from serving.processes.metrics import MergedMetrics


def page(requests: int, running: int, stored: int, seconds: float) -> str:
    registry = CollectorRegistry()
    calls = Counter("calls", "Calls.", ["code"], registry=registry)
    calls.labels("OK").inc(requests)
    calls.labels("FAILED").inc(1)
    Gauge("running", "Running.", registry=registry).set(running)
    Gauge("unroll_sessions_stored", "Stored.", registry=registry).set(stored)
    Gauge("process_start_time_seconds", "Start.", registry=registry).set(1000 * requests)
    Histogram("took", "Took.", buckets=[1, 2], registry=registry).observe(seconds)
    return generate_latest(registry).decode()


def values(merged: MergedMetrics) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(merged)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_counts_add_up_and_what_all_tell_alike_does_not() -> None:
    pages = {1: page(3, 5, 7, 0.5), 2: page(4, 6, 7, 1.5)}
    seen = values(MergedMetrics(lambda: pages, lambda: pages))
    assert seen["calls_total", "OK"] == 7
    assert seen["calls_total", "FAILED"] == 2
    assert seen["running",] == 11
    assert seen["unroll_sessions_stored",] == 7
    assert seen["process_start_time_seconds",] == 3000
    assert [seen["took_bucket", bound] for bound in ("1.0", "2.0", "+Inf")] == [1, 2, 2]
    assert (seen["took_count",], seen["took_sum",]) == (2, 2.0)


def test_counters_of_a_process_that_ended_stay_and_its_gauges_go() -> None:
    pages = {1: page(3, 5, 7, 0.5), 2: page(4, 6, 7, 1.5)}
    merged = MergedMetrics(lambda: pages, lambda: pages)
    values(merged)
    del pages[1]
    pages[3] = page(1, 1, 7, 0.5)
    values(merged)
    seen = values(merged)
    assert seen["calls_total", "OK"] == 8
    assert seen["running",] == 7
    assert seen["took_count",] == 3


def test_ended_processes_are_counted_once_and_their_pages_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = {0: page(1, 1, 7, 0.5)}
    living = [0]
    merged = MergedMetrics(lambda: pages, lambda: living)
    for number in range(20):
        pages, living = {number: page(1, 1, 7, 0.5)}, [number]
        values(merged)
    pages = {18: page(1, 1, 7, 0.5), 19: page(1, 1, 7, 0.5)}  # what a slow reader was told
    assert values(merged)["calls_total", "OK"] == 20
    parsed: list[str] = []

    def counted(text: str) -> Iterable[Metric]:
        parsed.append(text)
        return text_string_to_metric_families(text)

    monkeypatch.setattr("serving.processes.metrics.text_string_to_metric_families", counted)
    values(merged)
    assert len(parsed) == 1


def test_process_that_does_not_answer_keeps_its_counts_until_it_does() -> None:
    pages = {1: page(3, 5, 7, 0.5), 2: page(4, 6, 7, 1.5)}
    merged = MergedMetrics(lambda: pages, lambda: [1, 2])
    values(merged)
    stopped = pages.pop(1)
    assert values(merged)["calls_total", "OK"] == 7
    pages[1] = stopped
    assert values(merged)["calls_total", "OK"] == 7
