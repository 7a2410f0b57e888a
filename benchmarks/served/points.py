"""Served and alone, in turn."""

import time
from dataclasses import dataclass, field

from benchmarks.load.histogram import Histogram
from benchmarks.load.processes import run_load
from benchmarks.load.settings import LoadSettings, Mode
from benchmarks.load.tally import Tally
from benchmarks.served.alone import symbols_per_second
from benchmarks.served.process import ServerProcess, Usage
from benchmarks.served.settings import ServedSettings
from serving.runtime.decoder import Decoder
from unroll.bundle.folder import Bundle
from unroll.errors import ServerError


@dataclass(frozen=True, kw_only=True)
class ServedSample:
    """One measurement of the server.

    Attributes:
        symbols_per_second: that the clients received.
        least_over_median: the slowest client's rate over the median client's.
        engine_microseconds: processor time of the engine's thread, a symbol.
        other_microseconds: processor time of the server's other threads, a symbol.
        client_microseconds: processor time of the clients, a symbol.
        resident_bytes: the server's memory, a few times a second.
    """

    symbols_per_second: float
    least_over_median: float
    engine_microseconds: float
    other_microseconds: float
    client_microseconds: float
    resident_bytes: list[int]


@dataclass(kw_only=True)
class Point:
    """The measurements of one model with one number of clients.

    Attributes:
        clients: how many.
        alone: symbols a second of the engine alone, of each repeat.
        served: by mode, of each repeat.
        tallies: by mode, what the clients measured in each repeat.
    """

    clients: int
    alone: list[float] = field(default_factory=list)
    served: dict[Mode, list[ServedSample]] = field(default_factory=lambda: {m: [] for m in Mode})
    tallies: dict[Mode, list[Tally]] = field(default_factory=lambda: {m: [] for m in Mode})

    def histogram(self, mode: Mode, name: str) -> Histogram:
        """The durations of all repeats, by the name that they have in a Tally."""
        return Histogram.merged(getattr(tally, name) for tally in self.tallies[mode])


def measure_point(
    bundle: Bundle, decoder: Decoder, server: ServerProcess, clients: int, settings: ServedSettings
) -> Point:
    """Measure the engine alone, then the server streaming, then unary; and again."""
    point = Point(clients=clients)
    for _ in range(settings.repeats):
        point.alone.append(
            symbols_per_second(
                bundle,
                decoder,
                rows=clients,
                new_symbols=settings.new_symbols,
                slots=settings.slots,
                seconds=settings.seconds,
                warm_up=settings.warm_up,
                cores=[settings.worker_core],
            )
        )
        for mode in Mode:
            sample, tally = measure_served(server, clients, mode, settings)
            point.served[mode].append(sample)
            point.tallies[mode].append(tally)
    return point


def measure_served(
    server: ServerProcess, clients: int, mode: Mode, settings: ServedSettings
) -> tuple[ServedSample, Tally]:
    """Load a server and look at its process meanwhile.

    Raises:
        ServerError: a request failed.
    """
    seen: list[tuple[float, Usage]] = []  # at which second

    def look(tally: Tally) -> None:
        if 0 < tally.seconds < settings.seconds:
            seen.append((time.perf_counter(), server.usage()))

    load = LoadSettings(
        target=server.target,
        clients=clients,
        mode=mode,
        seconds=settings.seconds,
        warm_up=settings.warm_up,
        new_symbols=settings.new_symbols,
    )
    tally = run_load(load, look)
    if tally.errors:
        raise ServerError(f"{clients} clients, {mode.value}: requests failed: {dict(tally.errors)}")
    return _sample(tally, seen), tally


def _sample(tally: Tally, seen: list[tuple[float, Usage]]) -> ServedSample:
    (began, first), (ended, last) = seen[0], seen[-1]
    symbols = tally.symbols_per_second * (ended - began)
    least, middle, _ = tally.client_rates
    return ServedSample(
        symbols_per_second=tally.symbols_per_second,
        least_over_median=least / middle,
        engine_microseconds=(last.engine_seconds - first.engine_seconds) / symbols * 1e6,
        other_microseconds=(last.other_seconds - first.other_seconds) / symbols * 1e6,
        client_microseconds=tally.busy_seconds / sum(tally.symbols) * 1e6,
        resident_bytes=[usage.resident_bytes for _, usage in seen],
    )
