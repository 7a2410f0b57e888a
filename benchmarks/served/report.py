"""The served benchmark's figures: a table, the targets beside what was reached, JSON."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.load.record import plain
from benchmarks.load.settings import Mode
from benchmarks.machine import describe
from benchmarks.served.calls import OneCharacter
from benchmarks.served.points import Point
from benchmarks.served.settings import ServedSettings
from benchmarks.served.workers import Scaling

QUANTILES = (0.5, 0.9, 0.99)
STREAMED_RATIOS = {1: 0.85, 64: 0.9}  # by clients: served over alone
CALL_TIMES_COMPUTE = 1.5
FAIR_PART = 0.5  # of the median client's rate
FAIR_CLIENTS = 256
WORKERS_FACTOR = 1.8
FLAT_GROWTH = 1.05  # of the memory, from the first repeat's end to the last's
DURATIONS = {"first": "first character", "gaps": "gap of chunks", "whole": "request"}


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """All that was measured of one model."""

    model: str
    points: list[Point]
    one_character: OneCharacter
    scaling: Scaling


def print_report(console: Console, report: ModelReport) -> None:
    """Print a model's table and what it says about the targets."""
    rates = _table(
        f"{report.model}: symbols/s, and processor time in us a symbol",
        ("alone", "served", "ratio", "engine", "other", "clients", "slowest"),
        [(point, mode, _rates(point, mode)) for point in report.points for mode in Mode],
    )
    rates.caption = "slowest: the slowest client's rate over the median client's"
    console.print(rates)
    console.print(
        _table(
            f"{report.model}: p50 / p90 / p99 in ms",
            tuple(DURATIONS.values()),
            [
                (point, mode, [_quantiles(point, mode, name) for name in DURATIONS])
                for point in report.points
                for mode in Mode
            ],
        )
    )
    for target in targets(report):
        console.print(target)


def _table(
    title: str, columns: tuple[str, ...], rows: list[tuple[Point, Mode, list[str]]]
) -> Table:
    table = Table(title=title)
    for column in ("", "mode", *columns):
        table.add_column(column, justify="left" if column == "mode" else "right", no_wrap=True)
    for point, mode, values in rows:
        table.add_row(str(point.clients), mode.value, *values)
    return table


def _rates(point: Point, mode: Mode) -> list[str]:
    return [
        f"{statistics.median(point.alone):,.0f}",
        f"{point.median(mode, 'symbols_per_second'):,.0f}",
        f"{point.ratio(mode):.3f}",
        f"{point.median(mode, 'engine_microseconds'):.1f}",
        f"{point.median(mode, 'other_microseconds'):.1f}",
        f"{point.median(mode, 'client_microseconds'):.1f}",
        f"{point.median(mode, 'least_over_median'):.2f}",
    ]


def _quantiles(point: Point, mode: Mode, name: str) -> str:
    values = [point.histogram(mode, name).quantile(part) for part in QUANTILES]
    return " / ".join("-" if value is None else f"{value * 1e3:.1f}" for value in values)


def targets(report: ModelReport) -> Iterator[str]:
    """Yield a line for each target: what was aimed at, what was reached."""
    by_clients = {point.clients: point for point in report.points}
    for clients, aim in STREAMED_RATIOS.items():
        if clients in by_clients:
            ratio = by_clients[clients].ratio(Mode.STREAM)
            yield _line(f"{clients} streaming, served / alone", f">= {aim}", ratio, ratio >= aim)
    times = report.one_character.times_compute
    yield _line(
        "one character: (Generate - echo) / compute",
        f"<= {CALL_TIMES_COMPUTE}", times, times <= CALL_TIMES_COMPUTE,
    )  # fmt: skip
    if FAIR_CLIENTS in by_clients:
        part = by_clients[FAIR_CLIENTS].median(Mode.STREAM, "least_over_median")
        name = f"{FAIR_CLIENTS} streaming, slowest client / median"
        yield _line(name, f">= {FAIR_PART}", part, part >= FAIR_PART)
        growth = memory_growth(by_clients[FAIR_CLIENTS])
        name = f"{FAIR_CLIENTS} clients, memory, last repeat / first"
        yield _line(name, f"<= {FLAT_GROWTH}", growth, growth <= FLAT_GROWTH)
    factor = report.scaling.factor
    yield _line("two workers / one", f">= {WORKERS_FACTOR}", factor, factor >= WORKERS_FACTOR)


def memory_growth(point: Point) -> float:
    """The server's memory at the end of the last repeat over that at the end of the first."""
    ends = [sample.resident_bytes[-1] for sample in point.served[Mode.UNARY]]
    return ends[-1] / ends[0]


def _line(name: str, aim: str, reached: float, is_met: bool) -> str:
    return f"{name:44} {aim:>8} {reached:8.3f}  {'met' if is_met else 'MISSED'}"


def write_json(path: Path, settings: ServedSettings, reports: list[ModelReport]) -> None:
    """Write the machine, the settings and every sample; durations in seconds."""
    record = {
        "machine": describe("cpu") | {"grpcio": grpc.__version__},
        "settings": {name: plain(value) for name, value in asdict(settings).items()},
        "models": [_record(report) for report in reports],
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _record(report: ModelReport) -> dict[str, Any]:
    return {
        "model": report.model,
        "points": [
            {"clients": point.clients, "alone": point.alone}
            | {mode.value: _served(point, mode) for mode in Mode}
            for point in report.points
        ],
        "one_character": asdict(report.one_character),
        "workers": asdict(report.scaling),
        "targets": list(targets(report)),
    }


def _served(point: Point, mode: Mode) -> dict[str, Any]:
    durations = {
        name: {
            f"p{part * 100:.0f}": point.histogram(mode, name).quantile(part) for part in QUANTILES
        }
        for name in DURATIONS
    }
    samples = [asdict(sample) for sample in point.served[mode]]
    return {"ratio": point.ratio(mode), "samples": samples, **durations}
