"""What serving costs: the real server beside the engine alone (`make bench-served`)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.machine import describe
from benchmarks.models import exported, random_checkpoint
from benchmarks.process import running
from benchmarks.record import settings_of, write
from benchmarks.served.calls import measure_one_character
from benchmarks.served.points import Plan, measure_point, measure_scaling
from benchmarks.served.record import ServedRecord, file_name
from benchmarks.served.tables import call_rows, load_rows, model_target_rows, worker_rows
from benchmarks.settings import check_settings
from benchmarks.tables import console, terminal
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.cli import run
from unroll.errors import SettingsError
from unroll.ranges import Range

# What takes part.
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "grpcio")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServedSettings:
    """Measure the real server beside its engine alone, in turn, on two cores.

    The engine's thread has one core; the server's other threads and the clients share the other.
    `make bench-served ARGS="--json docs/figures"` measures all that docs/notes/performance.md
    shows, in about twelve minutes; `ARGS="--model gru-512x1 --json docs/figures"` measures one of
    the models, in about five.
    """

    model: tuple[str, ...] = ("gru-512x1", "gru-512x3")
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    clients: Annotated[tuple[int, ...], Range(1)] = (1, 8, 64, 256)
    """Numbers of clients."""

    vocabulary: Annotated[int, Range(2)] = 66
    """Symbols V."""

    new_symbols: Annotated[int, Range(1)] = 1000
    """Symbols a request."""

    slots: Annotated[int, Range(1)] = 256
    """Sequences that the engine computes side by side, served and alone."""

    seconds: Annotated[float, Range(1)] = 4.0
    """How long each measurement takes."""

    warm_up: Annotated[float, Range(0)] = 2.0
    """Seconds of the same work before each measurement."""

    repeats: Annotated[int, Range(1)] = 3
    """Measurements of each kind; the median counts."""

    calls: Annotated[int, Range(1)] = 400
    """Calls for one character, and echoes."""

    worker_core: int = 0
    """Core of the engine's thread."""

    loop_core: int = 1
    """Core of everything else."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample, a file a model."""


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    run(ServedSettings, measure, name="python -m benchmarks.served", tokens=tokens)


def measure(settings: ServedSettings) -> None:
    """Measure, print and, if asked for, write the figures.

    Raises:
        SettingsError: a setting is out of its range.
        ServerError: a server did not start, or a request failed.
    """
    check_settings(settings)
    usable = os.sched_getaffinity(0)
    if not usable >= {settings.worker_core, settings.loop_core}:
        raise SettingsError(
            f"worker_core = {settings.worker_core}, loop_core = {settings.loop_core}: this process "
            f"may use the cores {sorted(usable)}; change --worker-core or --loop-core"
        )
    os.sched_setaffinity(0, {settings.loop_core})  # and of all processes that it starts
    screen = console()
    try:
        for name in settings.model:
            checkpoint = random_checkpoint(name, settings.vocabulary)
            with screen.status(f"measuring {name}"), exported(checkpoint, "fp32") as bundle:
                record = _measure_model(name, bundle, settings)
            for rows, title in (
                (load_rows(record), "symbols/s; p50 / p90 / p99 in ms; us of processor a symbol"),
                (call_rows([record]), "one character, us"),
                (worker_rows([record]), "symbols/s by workers"),
                (model_target_rows([record]), "targets"),
            ):
                screen.print(terminal(rows, f"{name}: {title}"))
            if settings.json is not None:
                settings.json.mkdir(exist_ok=True)
                write(record, settings.json / file_name(name))
    finally:
        os.sched_setaffinity(0, usable)


def _measure_model(name: str, bundle: Bundle, settings: ServedSettings) -> ServedRecord:
    cores = settings.worker_core, settings.loop_core
    plan = Plan(
        **{key: getattr(settings, key) for key in ("new_symbols", "slots", "repeats")},
        **{key: getattr(settings, key) for key in ("seconds", "warm_up")},
        bundle=bundle,
        decoder=Decoder(bundle, Device.CPU),
        cores=cores,
    )
    served = ("--model", f"{name}={bundle.folder}", "--slots", str(settings.slots))
    with (
        running("serving", *served, core=settings.loop_core) as server,
        running("benchmarks.served.echo", core=settings.loop_core) as echo,
    ):
        server.pin_engine(settings.worker_core)
        one_character = measure_one_character(
            server.target, echo.target, plan.decoder, settings.calls, settings.worker_core
        )
        points = [measure_point(server, clients, plan) for clients in settings.clients]
    return ServedRecord(
        model=name,
        machine=describe(*PACKAGES),
        settings=settings_of(settings),
        points=points,
        one_character=one_character,
        workers=measure_scaling(plan),
    )


if __name__ == "__main__":
    main()
