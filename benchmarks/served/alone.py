"""The engine without gRPC, with the same requests."""

import os
import threading
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.load.clients import SEEDS_A_CLIENT
from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.request import Chunk, SequenceRequest
from serving.runtime.decoder import Decoder
from unroll.bundle.folder import Bundle
from unroll.terms import Capsules


def symbols_per_second(
    bundle: Bundle,
    decoder: Decoder,
    *,
    rows: int,
    new_symbols: int,
    slots: int,
    seconds: float,
    warm_up: float,
    cores: list[int],
) -> float:
    """Let an engine write for always the same number of rows.

    Args:
        bundle: of the model.
        decoder: likewise.
        rows: texts that are written side by side; when one ends, the next begins.
        new_symbols: of each text.
        slots: of a worker.
        seconds: how long to measure.
        warm_up: seconds of the same before that.
        cores: one worker's thread runs on each.
    """
    engine = Engine(
        bundle, decoder, EngineOptions(slots=slots, workers=len(cores), queue_limit=rows + 1)
    )
    written = [0] * rows  # by row: two workers may count at the same time
    stopping = threading.Event()
    for row in range(rows):
        _write_on(engine, _requests(row, new_symbols), row, written, stopping)
    engine.start()
    _pin_workers(cores)
    time.sleep(warm_up)
    started, before = time.perf_counter(), sum(written)
    time.sleep(seconds)
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


def _pin_workers(cores: list[int]) -> None:
    threads = [t for t in threading.enumerate() if t.name.startswith("engine-")]
    for thread, core in zip(threads, cores, strict=True):
        assert thread.native_id is not None
        os.sched_setaffinity(thread.native_id, {core})
