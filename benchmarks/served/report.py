"""The served benchmark's figures as tables, for the terminal and for the page, and its targets."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from rich.console import Console

from benchmarks.decode.tables import Row, Target, markdown, terminal
from benchmarks.load.settings import Mode
from benchmarks.served.record import Durations, ServedPoint, ServedRecord, read_all

TEMPLATE = Path(__file__).with_name("section.md.template")
STREAMED_RATIOS = {1: 0.85, 64: 0.9}  # by clients: served over alone
CALL_TIMES_COMPUTE = 1.5
FAIR_PART = 0.5  # of the median client's rate
FAIR_CLIENTS = 256
WORKERS_FACTOR = 1.8
FLAT_GROWTH = 1.05  # of the memory, from the first repeat's end to the last's


def print_report(console: Console, record: ServedRecord) -> None:
    """Print a model's tables and what they say about the targets."""
    for rows, title in (
        (load_rows(record), "symbols/s; p50 / p90 / p99 in ms; processor time in us a symbol"),
        (call_rows([record]), "one character, us"),
        (worker_rows([record]), "symbols/s by workers"),
        (target_rows([record]), "targets"),
    ):
        console.print(terminal(rows, f"{record.model}: {title}"))


def load_rows(record: ServedRecord) -> list[Row]:
    """Lay out a model's points: the header, then a row for each mode of each."""
    rows = [["clients", "mode", "alone", "served", "served / alone"]]
    rows[0] += ["first character, ms", "gap, ms", "request, ms"]
    rows[0] += ["engine, us", "other, us", "clients, us", "slowest / median"]
    return rows + [_load_row(point, mode) for point in record.points for mode in Mode]


def _load_row(point: ServedPoint, mode: Mode) -> Row:
    served = point.served(mode)
    return [
        str(point.clients),
        mode.value,
        f"{statistics.median(point.alone):,.0f}",
        f"{served.median('symbols_per_second'):,.0f}",
        f"{point.ratio(mode):.3f}",
        *(_quantiles(durations) for durations in (served.first, served.gaps, served.requests)),
        f"{served.median('engine_microseconds'):.1f}",
        f"{served.median('other_microseconds'):.1f}",
        f"{served.median('client_microseconds'):.1f}",
        f"{served.median('least_over_median'):.2f}",
    ]


def _quantiles(found: Durations | None) -> str:
    if found is None:
        return "-"
    return " / ".join(f"{seconds * 1e3:,.1f}" for seconds in (found.p50, found.p90, found.p99))


def call_rows(records: Sequence[ServedRecord]) -> list[Row]:
    """Lay out what one character costs: the header, then a row a model; microseconds."""
    rows = [["model", "echo", "Generate", "compute", "(Generate - echo) / compute"]]
    for record in records:
        call = record.one_character
        medians = (statistics.median(part) for part in (call.echo, call.generate, call.compute))
        times = [f"{seconds * 1e6:,.0f}" for seconds in medians]
        rows.append([record.model, *times, f"{call.times_compute:.2f}"])
    return rows


def worker_rows(records: Sequence[ServedRecord]) -> list[Row]:
    """Lay out two workers beside one: the header, then a row a model; symbols a second."""
    rows = [["model", "one worker", "two workers", "two / one"]]
    for record in records:
        workers = record.workers
        rates = [f"{statistics.median(rates):,.0f}" for rates in (workers.one, workers.two)]
        rows.append([record.model, *rates, f"{workers.factor:.2f}"])
    return rows


def targets(record: ServedRecord) -> Iterator[Target]:
    """Compare a model with what was aimed at; a target that was not measured is left out."""
    by_clients = {point.clients: point for point in record.points}
    for clients, aim in STREAMED_RATIOS.items():
        if clients in by_clients:
            ratio = by_clients[clients].ratio(Mode.STREAM)
            yield _at_least(f"{clients} streaming, served / alone", aim, ratio)
    times = record.one_character.times_compute
    yield _at_most("one character, (Generate - echo) / compute", CALL_TIMES_COMPUTE, times)
    if FAIR_CLIENTS in by_clients:
        crowd = by_clients[FAIR_CLIENTS]
        part = crowd.stream.median("least_over_median")
        yield _at_least(f"{FAIR_CLIENTS} streaming, slowest client / median", FAIR_PART, part)
        if len(crowd.unary.samples) > 1:
            name = f"{FAIR_CLIENTS} clients, memory, last repeat / first"
            yield _at_most(name, FLAT_GROWTH, memory_growth(crowd))
    yield _at_least("two workers / one", WORKERS_FACTOR, record.workers.factor)


def memory_growth(point: ServedPoint) -> float:
    """The server's memory at the end of the last repeat over that at the end of the first.

    It says something from two repeats up.
    """
    ends = [sample.resident_bytes[-1] for sample in point.unary.samples]
    return ends[-1] / ends[0]


def _at_most(name: str, limit: float, value: float) -> Target:
    return Target(name=name, wanted=f"<= {limit:g}", found=f"{value:.3f}", is_met=value <= limit)


def _at_least(name: str, limit: float, value: float) -> Target:
    return Target(name=name, wanted=f">= {limit:g}", found=f"{value:.3f}", is_met=value >= limit)


def target_rows(records: Sequence[ServedRecord]) -> list[Row]:
    """Lay the targets out: the header, then a row for each of each model."""
    rows = [["model", "target", "wanted", "found", "met"]]
    for record in records:
        for target in targets(record):
            met = "yes" if target.is_met else "NO"
            rows.append([record.model, target.name, target.wanted, target.found, met])
    return rows


def section(figures: Path) -> str:
    """Make the page's section; empty if no model was served.

    Args:
        figures: folder with the records.

    Raises:
        SettingsError: they are of several machines, versions or settings.
    """
    records = read_all(figures)
    if not records:
        return ""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        records[0].settings,
        machine=_machine(records[0]),
        load_tables="\n".join(
            f"### {record.model}\n\n{markdown(load_rows(record))}" for record in records
        ).rstrip(),
        call_table=markdown(call_rows(records)).rstrip(),
        worker_table=markdown(worker_rows(records)).rstrip(),
        target_table=markdown(target_rows(records)).rstrip(),
    )


def _machine(record: ServedRecord) -> str:
    versions = [f"{name} {of}" for name, of in record.machine.items() if name != "processor"]
    return f"two cores of {record.machine['processor']}; {', '.join(versions)}"
