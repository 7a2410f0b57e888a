"""The server under load and the engine alone, in turn, with the same requests."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress

import numpy as np

from benchmarks.harness.process import ServerProcess, Usage
from benchmarks.served.record import Scaling, Served, ServedPoint, ServedSample
from benchmarks.served.settings import ServedSettings
from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.runtime.decoder import Decoder
from unroll.bundle.folder import Bundle
from unroll.client.load.clients import SEEDS_A_CLIENT
from unroll.client.load.processes import run_load
from unroll.client.load.settings import LoadSettings, Mode
from unroll.client.load.tally import Durations, Tally
from unroll.errors import ClosedError, ServerError
from unroll.terms import Capsules

ROWS_OF_WORKERS = 64  # in all
LOOK_SECONDS = 0.25


class Engines:
    """The engine of a bundle without gRPC, made anew for each measurement."""

    def __init__(self, bundle: Bundle, decoder: Decoder, settings: ServedSettings) -> None:
        self._bundle, self._decoder, self._settings = bundle, decoder, settings

    def symbols_per_second(self, rows: int, *cores: int) -> float:
        """Write so many texts side by side, with a worker's thread on each core."""
        settings, stopping = self._settings, threading.Event()
        options = EngineOptions(slots=settings.slots, workers=len(cores), queue_limit=rows + 1)
        engine = Engine(self._bundle, self._decoder, options)
        written = [0] * rows  # by row: two workers may count at the same time

        def write_on(row: int, requests: Iterator[SequenceRequest]) -> None:
            """Submit a row's next request whenever one has ended."""

            def listen(chunk: Chunk) -> None:
                written[row] += len(chunk.text)
                if chunk.is_last and not stopping.is_set():
                    with suppress(ClosedError):  # it may close just now
                        engine.submit(next(requests), listen)

            engine.submit(next(requests), listen)

        for row in range(rows):
            write_on(row, _requests(row, settings.new_symbols))
        engine.start()
        names = {f"engine-{number}" for number in range(len(cores))}  # its workers
        threads = [t for t in threading.enumerate() if t.name in names]
        for thread, core in zip(threads, cores, strict=True):
            assert thread.native_id is not None
            os.sched_setaffinity(thread.native_id, {core})
        time.sleep(settings.warm_up)
        started, before = time.perf_counter(), sum(written)
        time.sleep(settings.seconds)
        rate = (sum(written) - before) / (time.perf_counter() - started)
        stopping.set()
        engine.close()
        return rate


def measure_point(
    server: ServerProcess, engines: Engines, clients: int, settings: ServedSettings
) -> ServedPoint:
    """Measure the engine alone, then the server streaming, then unary; and again.

    Raises:
        ServerError: a request failed.
    """
    rates: list[float] = []
    found: dict[Mode, list[tuple[ServedSample, Tally]]] = {mode: [] for mode in Mode}
    for _ in range(settings.repeats):
        rates.append(engines.symbols_per_second(clients, settings.worker_core))
        for mode in Mode:
            found[mode].append(_measure_served(server, clients, mode, settings))
    return ServedPoint(
        clients=clients,
        alone=rates,
        stream=_together(found[Mode.STREAM]),
        unary=_together(found[Mode.UNARY]),
    )


def measure_scaling(engines: Engines, settings: ServedSettings) -> Scaling:
    """Measure one worker on one core and two workers on two, in turn."""
    first, second = settings.worker_core, settings.loop_core
    scaling = Scaling(one=[], two=[])
    for _ in range(settings.repeats):
        scaling.one.append(engines.symbols_per_second(ROWS_OF_WORKERS, first))
        scaling.two.append(engines.symbols_per_second(ROWS_OF_WORKERS, first, second))
    return scaling


def _together(found: list[tuple[ServedSample, Tally]]) -> Served:
    return Served(
        samples=[sample for sample, _ in found],
        first=Durations.of(*(tally.first for _, tally in found)),
        gaps=Durations.of(*(tally.gaps for _, tally in found)),
        requests=Durations.of(*(tally.whole for _, tally in found)),
    )


def _measure_served(
    server: ServerProcess, clients: int, mode: Mode, settings: ServedSettings
) -> tuple[ServedSample, Tally]:
    """Load a server and look at its process meanwhile."""
    asked = {name: getattr(settings, name) for name in ("seconds", "warm_up", "new_symbols")}
    load_settings = LoadSettings(target=server.target, clients=clients, mode=mode, **asked)
    seen: list[tuple[float, Usage]] = []  # at which second
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run_load, load_settings)
        while not load.done():
            seen.append((time.perf_counter(), server.usage()))
            wait_for([load], LOOK_SECONDS)
    tally = load.result()
    if tally.errors:
        raise ServerError(f"{clients} clients, {mode.value}: requests failed: {dict(tally.errors)}")
    return _sample(tally, [look for look in seen if tally.opens < look[0] < tally.closes]), tally


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


def _requests(row: int, new_symbols: int) -> Iterator[SequenceRequest]:
    """Yield what the load generator's clients ask for, as the server would translate it."""
    for seed in range(1 + row * SEEDS_A_CLIENT, 2**63):
        yield SequenceRequest(
            prompt=np.zeros(0, np.int64), max_new_symbols=new_symbols, seed=seed,
            snapshots=Capsules.FINAL,
        )  # fmt: skip
