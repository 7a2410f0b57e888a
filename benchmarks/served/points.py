"""The server under load and the engine alone, in turn, with the same requests."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass

import numpy as np

from benchmarks.load.clients import SEEDS_A_CLIENT
from benchmarks.load.processes import run_load
from benchmarks.load.settings import LoadSettings, Mode
from benchmarks.load.tally import Durations, Tally
from benchmarks.process import ServerProcess, Usage
from benchmarks.served.record import Scaling, Served, ServedPoint, ServedSample
from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.request import Chunk, SequenceRequest
from serving.runtime.decoder import Decoder
from unroll.bundle.folder import Bundle
from unroll.errors import ServerError
from unroll.terms import Capsules

ROWS_OF_WORKERS = 64  # in all
LOOK_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to measure one model.

    Attributes:
        bundle: of the model.
        decoder: of the same.
        new_symbols: of each text.
        slots: of a worker.
        seconds: how long to measure.
        warm_up: seconds of the same before that.
        repeats: measurements of each kind.
        cores: the engine's, and that of everything else.
    """

    bundle: Bundle
    decoder: Decoder
    new_symbols: int
    slots: int
    seconds: float
    warm_up: float
    repeats: int
    cores: tuple[int, int]


def measure_point(server: ServerProcess, clients: int, plan: Plan) -> ServedPoint:
    """Measure the engine alone, then the server streaming, then unary; and again.

    Raises:
        ServerError: a request failed.
    """
    rates: list[float] = []
    found: dict[Mode, list[tuple[ServedSample, Tally]]] = {mode: [] for mode in Mode}
    for _ in range(plan.repeats):
        rates.append(alone(plan, rows=clients, cores=plan.cores[:1]))
        for mode in Mode:
            found[mode].append(_measure_served(server, clients, mode, plan))
    return ServedPoint(
        clients=clients,
        alone=rates,
        stream=_together(found[Mode.STREAM]),
        unary=_together(found[Mode.UNARY]),
    )


def measure_scaling(plan: Plan) -> Scaling:
    """Measure one worker on one core and two workers on two, in turn."""
    scaling = Scaling(one=[], two=[])
    for _ in range(plan.repeats):
        for samples, cores in ((scaling.one, plan.cores[:1]), (scaling.two, plan.cores)):
            samples.append(alone(plan, rows=ROWS_OF_WORKERS, cores=cores))
    return scaling


def _together(found: list[tuple[ServedSample, Tally]]) -> Served:
    return Served(
        samples=[sample for sample, _ in found],
        first=Durations.of(*(tally.first for _, tally in found)),
        gaps=Durations.of(*(tally.gaps for _, tally in found)),
        requests=Durations.of(*(tally.whole for _, tally in found)),
    )


def _measure_served(
    server: ServerProcess, clients: int, mode: Mode, plan: Plan
) -> tuple[ServedSample, Tally]:
    """Load a server and look at its process meanwhile."""
    settings = LoadSettings(
        target=server.target,
        clients=clients,
        mode=mode,
        seconds=plan.seconds,
        warm_up=plan.warm_up,
        new_symbols=plan.new_symbols,
    )
    seen: list[tuple[float, Usage]] = []  # at which second
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run_load, settings)
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


def alone(plan: Plan, *, rows: int, cores: tuple[int, ...]) -> float:
    """Let an engine without gRPC write; return its symbols a second.

    Args:
        plan: how to measure.
        rows: texts that are written side by side; when one ends, the next begins.
        cores: one worker's thread runs on each.
    """
    engine = Engine(
        plan.bundle,
        plan.decoder,
        EngineOptions(slots=plan.slots, workers=len(cores), queue_limit=rows + 1),
    )
    written = [0] * rows  # by row: two workers may count at the same time
    stopping = threading.Event()
    for row in range(rows):
        _write_on(engine, _requests(row, plan.new_symbols), row, written, stopping)
    engine.start()
    threads = [t for t in threading.enumerate() if t.name.startswith("engine-")]
    for thread, core in zip(threads, cores, strict=True):
        assert thread.native_id is not None
        os.sched_setaffinity(thread.native_id, {core})
    time.sleep(plan.warm_up)
    started, before = time.perf_counter(), sum(written)
    time.sleep(plan.seconds)
    rate = (sum(written) - before) / (time.perf_counter() - started)
    stopping.set()
    engine.close()
    return rate


def _write_on(
    engine: Engine,
    requests: Iterator[SequenceRequest],
    row: int,
    written: list[int],
    stopping: threading.Event,
) -> None:
    """Submit a row's next request whenever one has ended."""

    def listen(chunk: Chunk) -> None:
        written[row] += len(chunk.text)
        if chunk.is_last and not stopping.is_set():
            engine.submit(next(requests), listen)

    engine.submit(next(requests), listen)


def _requests(row: int, new_symbols: int) -> Iterator[SequenceRequest]:
    """Yield what the load generator's clients ask for, as the server would translate it."""
    for seed in range(1 + row * SEEDS_A_CLIENT, 2**63):
        yield SequenceRequest(
            prompt=np.zeros(0, np.int64),
            max_new_symbols=new_symbols,
            seed=seed,
            snapshots=Capsules.FINAL,
        )
