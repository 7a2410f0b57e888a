"""Many short texts beside the engine's steady rate: in this process and through one call."""

import statistics
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement, count, cycle, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
from cyclopts import Parameter

from benchmarks.bulk.record import (
    ALONE,
    ROWS,
    STEADY,
    BulkRecord,
    BulkSample,
    bulk_rows,
    file_name,
    targets,
)
from benchmarks.bulk.stopwatch import Stopwatch
from benchmarks.harness.models import exported, random_checkpoint
from benchmarks.harness.process import ServerProcess, running
from benchmarks.harness.settings import check_settings
from benchmarks.harness.tables import console, target_rows, terminal
from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.local.aio import AsyncLocal
from serving.local.model import LocalModel
from serving.local.threads import Local
from serving.runtime.decoder import Decoder
from serving.runtime.kernels import Kernels, open_decoder
from serving.sessions.capsule import CapsuleKeys
from unroll.bundle.folder import Bundle, load_bundle
from unroll.cli import run
from unroll.client.client import Client
from unroll.client.faces.face import Face
from unroll.machine import describe
from unroll.options import GenerateOptions
from unroll.ranges import Range
from unroll.record import settings_of, write
from unroll.results import Answer

PACKAGES = ("onnxruntime", "numpy", "grpcio")
LINES, LINE_SYMBOLS = 4096, (10, 71)  # 40 on average
# Engines choose the length of their runs by how long steps take. Where other work holds them up,
# that of the engine alone would come out far too short: here the processor's time counts.
PROCESSOR_TIME = SimpleNamespace(perf_counter=time.thread_time, monotonic=time.monotonic)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """Measure many short texts beside the engine's steady rate, in turn."""

    model: str = "gru-512x1"
    """Model as CELL-HIDDENxLAYERS; its weights are random, in int8."""

    bundle: Path | None = None
    """Bundle to measure in place of random weights, whose export in int8 takes a minute."""

    kernels: Kernels = Kernels.ONNX
    """What computes, for all ways; the engine alone gets faster by native ones, too."""

    text_symbols: Annotated[int, Range(2)] = 35
    """Length of the generated texts, on average, by the choice of their stop strings."""

    seconds: Annotated[float, Range(0.5)] = 3.0
    """How long each measurement takes."""

    warm_up: Annotated[float, Range(0)] = 1.0
    """Seconds of the same work before each measurement."""

    repeats: Annotated[int, Range(1)] = 7
    """Measurements of each kind, in turn; the median of the ratios counts."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample."""


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    run(BulkSettings, measure, name="python -m benchmarks.bulk", tokens=tokens)


def measure(settings: BulkSettings) -> None:
    """Measure, print and, if asked for, write the figures.

    Raises:
        SettingsError: a setting is out of its range.
        ServerError: the server did not start.
    """
    check_settings(settings)
    screen = console()
    with (
        screen.status(f"measuring {settings.model}"),
        _bundle(settings) as bundle,
        patch("serving.engine.workers.worker.time", PROCESSOR_TIME),
    ):
        record = _measure(bundle, settings)
    title = f"{record.model}, int8, kernels {settings.kernels.value}: short texts"
    screen.print(terminal(bulk_rows(record), title))
    screen.print(terminal(target_rows(targets(record)), "targets"))
    if settings.json is not None:
        settings.json.mkdir(exist_ok=True)
        write(record, settings.json / file_name(record.model, settings.kernels.value))


def _bundle(settings: BulkSettings) -> AbstractContextManager[Bundle]:
    if settings.bundle is not None:
        return nullcontext(load_bundle(settings.bundle))
    return exported(random_checkpoint(settings.model, 66), "int8")


def _measure(bundle: Bundle, settings: BulkSettings) -> BulkRecord:
    decoder = open_decoder(bundle, settings.kernels)
    local = Local(
        partial(
            AsyncLocal,
            bundle.folder,
            EngineOptions(queue_limit=2**31, kernels=settings.kernels),
            CapsuleKeys([b"k" * 32]),
        )
    )
    kernels = ("--kernels", settings.kernels.value)
    arguments = ("--model", str(bundle.folder), "--metrics-port", "0", *kernels)
    with (
        LocalModel(local) as model,
        running("serving", *arguments) as server,
        Client(server.target) as client,
    ):
        short = GenerateOptions(
            seed=1, max_new_symbols=10 * settings.text_symbols, stop=_stops(model, settings)
        )
        counts = local.aio.model.engine.counts.registry
        ways: dict[str, Callable[[], BulkSample]] = {
            ALONE: lambda: _alone(bundle, decoder, settings),
            "here, generate": lambda: _many(_generate(model, short), settings, counts=counts),
            "here, score": lambda: _many(_score(model), settings, counts=counts),
            "call, generate": lambda: _many(_generate(client, short), settings, server=server),
            "call, score": lambda: _many(_score(client), settings, server=server),
        }
        samples: dict[str, list[BulkSample]] = {name: [] for name in ways}
        for _ in range(settings.repeats):
            for name, way in ways.items():
                samples[name].append(way())
    generated = [sample for name in samples if "generate" in name for sample in samples[name]]
    return BulkRecord(
        model=settings.model,
        machine=describe(*PACKAGES),
        settings=settings_of(settings),
        mean_symbols=statistics.mean(
            sample.symbols_per_second / sample.texts_per_second for sample in generated
        ),
        ways=samples,
    )


def _alone(bundle: Bundle, decoder: Decoder, settings: BulkSettings) -> BulkSample:
    """Measure an engine without readers that writes rows of long texts."""
    engine = Engine(bundle, decoder, EngineOptions(slots=ROWS))
    written, seeds, is_over = 0, count(), threading.Event()

    def listen(chunk: Chunk) -> None:
        nonlocal written
        written += len(chunk.text)
        if chunk.is_last and not is_over.is_set():
            begin()

    def begin() -> None:
        asked = SequenceRequest(
            prompt=np.zeros(0, np.int64), max_new_symbols=STEADY, seed=next(seeds)
        )
        engine.submit(asked, listen)

    for _ in range(ROWS):
        begin()
    engine.start()
    time.sleep(settings.warm_up)
    watch, before = Stopwatch(None), written
    time.sleep(settings.seconds)
    symbols = written - before
    sample = watch.sample(symbols, symbols / STEADY)
    is_over.set()
    engine.close()
    return sample


def _stops(model: Face, settings: BulkSettings) -> tuple[str, ...]:
    """Return the one or two symbols of which one comes about as soon as texts are to end."""
    options = GenerateOptions(seed=0, max_new_symbols=10 * settings.text_symbols, sample_count=64)
    first = model.generate("", options)
    texts = [each.text for each in (first, *first.further_samples)]
    symbols = model.get_model().vocabulary
    ends = np.array([[(text + each).index(each) + 1 for text in texts] for each in symbols])

    def distance(pair: tuple[int, int]) -> float:
        mean = np.minimum(ends[pair[0]], ends[pair[1]]).mean()
        return abs(float(mean) - settings.text_symbols)

    pair = min(combinations_with_replacement(range(len(symbols)), 2), key=distance)
    return tuple(sorted({symbols[each] for each in pair}))


def _generate(model: Face, options: GenerateOptions) -> Generator[tuple[Answer[Any], int]]:
    with closing(model.generate_many(repeat(""), options)) as answers:
        for answer in answers:
            yield answer, answer.result.completion.usage.generated_symbols


def _score(model: Face) -> Generator[tuple[Answer[Any], int]]:
    symbols = list(model.get_model().vocabulary)
    draw = np.random.default_rng(25)
    lines = ["".join(draw.choice(symbols, draw.integers(*LINE_SYMBOLS))) for _ in range(LINES)]
    with closing(model.score_many(cycle(lines))) as answers:
        for answer in answers:
            yield answer, answer.result.usage.prompt_symbols


def _many(
    answers: Generator[tuple[Answer[Any], int]],
    settings: BulkSettings,
    *,
    server: ServerProcess | None = None,
    counts: Any = None,
) -> BulkSample:
    """Take answers for a while, warmed up, and look at the clocks before and after."""

    def steps() -> tuple[float, ...]:
        if counts is None:
            return ()
        names = ("unroll_row_steps_wasted_total", "unroll_row_steps_total")
        return tuple(counts.get_sample_value(name) for name in names)

    began = time.perf_counter()
    for _ in answers:
        if time.perf_counter() > began + settings.warm_up:
            break
    before, watch = steps(), Stopwatch(server)
    symbols = texts = 0
    while watch.seconds < settings.seconds:
        symbols, texts = symbols + next(answers)[1], texts + 1
    after = steps()
    wasted = (after[0] - before[0]) / (after[1] - before[1]) if counts else None
    sample = watch.sample(symbols, texts, wasted)
    answers.close()
    return sample


if __name__ == "__main__":
    main()
