"""The served benchmark's figures as tables, and its targets."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.harness.tables import Row, Target, at_least, at_most, target_rows
from benchmarks.served.record import ServedPoint, ServedRecord
from unroll.client.load.settings import Mode

STREAMED_RATIOS = {1: 0.85, 64: 0.9}  # by clients: served over alone
CALL_TIMES_COMPUTE = 2.0
FIRST_SECONDS = {64: 0.015}  # by clients: from a request to its first character, median
FAIR_PART = 0.5  # of the median client's rate
CROWD = 256  # clients
WORKERS_FACTOR = 1.8
FLAT_GROWTH = 1.05  # of the memory, from the first repeat's end to the last's
LOAD = (
    *("clients", "mode", "alone", "served", "served / alone"),
    *("first character, ms", "gap, ms", "request, ms"),
    *("engine, us", "other, us", "clients, us", "slowest / median"),
)


def load_rows(record: ServedRecord) -> list[Row]:
    """Lay a model's points out: the header, then a row for each mode of each."""
    return [[*LOAD], *(_load_row(point, mode) for point in record.points for mode in Mode)]


def _load_row(point: ServedPoint, mode: Mode) -> Row:
    served = point.served(mode)
    return [
        str(point.clients),
        mode.value,
        f"{statistics.median(point.alone):,.0f}",
        f"{served.median('symbols_per_second'):,.0f}",
        f"{point.ratio(mode):.3f}",
        *(str(found or "-") for found in (served.first, served.gaps, served.requests)),
        *(f"{served.median(f'{part}_microseconds'):.1f}" for part in ("engine", "other", "client")),
        f"{served.median('least_over_median'):.2f}",
    ]


def call_rows(records: Sequence[ServedRecord]) -> list[Row]:
    """Lay out what one character costs: the header, then a row a model; microseconds."""
    rows = [["model", "echo", "Generate", "compute", "(Generate - echo) / compute"]]
    for record in records:
        call = record.one_character
        medians = map(statistics.median, (call.echo, call.generate, call.compute))
        times = [f"{seconds * 1e6:,.0f}" for seconds in medians]
        rows.append([record.model, *times, f"{call.times_compute:.2f}"])
    return rows


def worker_rows(records: Sequence[ServedRecord]) -> list[Row]:
    """Lay out two workers beside one: the header, then a row a model; symbols a second."""
    rows = [["model", "one worker", "two workers", "two / one"]]
    for record in records:
        rates = map(statistics.median, (record.workers.one, record.workers.two))
        found = [f"{rate:,.0f}" for rate in rates]
        rows.append([record.model, *found, f"{record.workers.factor:.2f}"])
    return rows


def targets(record: ServedRecord) -> Iterator[Target]:
    """Compare a model with what was aimed at; a target that was not measured is left out."""
    by_clients = {point.clients: point for point in record.points}
    for clients, aim in STREAMED_RATIOS.items():
        if clients in by_clients:
            ratio = by_clients[clients].ratio(Mode.STREAM)
            yield at_least(f"{clients} streaming, served / alone", aim, ratio, f"{ratio:.3f}")
    for clients, limit in FIRST_SECONDS.items():
        first = by_clients[clients].stream.first if clients in by_clients else None
        if first is not None:
            found = f"{first.p50 * 1e3:.1f} ms"
            yield at_most(f"{clients} streaming, first character, s", limit, first.p50, found)
    times = record.one_character.times_compute
    name = "one character, (Generate - echo) / compute"
    yield at_most(name, CALL_TIMES_COMPUTE, times, f"{times:.3f}")
    if crowd := by_clients.get(CROWD):
        part = crowd.stream.median("least_over_median")
        name = f"{CROWD} streaming, slowest client / median"
        yield at_least(name, FAIR_PART, part, f"{part:.3f}")
        if len(crowd.unary.samples) > 1:
            growth, name = crowd.memory_growth, f"{CROWD} clients, memory, last repeat / first"
            yield at_most(name, FLAT_GROWTH, growth, f"{growth:.3f}")
    factor = record.workers.factor
    yield at_least("two workers / one", WORKERS_FACTOR, factor, f"{factor:.3f}")


def model_target_rows(records: Sequence[ServedRecord]) -> list[Row]:
    """Lay the targets out: the header, then a row for each of each model."""
    rows = [["model", *target_rows(())[0]]]
    for record in records:
        rows += [[record.model, *row] for row in target_rows(targets(record))[1:]]
    return rows
