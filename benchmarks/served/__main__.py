"""Command line of the served benchmark: `python -m benchmarks.served --help`."""

import os
from collections.abc import Sequence
from dataclasses import asdict

import grpc
from rich.console import Console

from benchmarks.machine import describe
from benchmarks.models import exported, random_checkpoint
from benchmarks.served.calls import measure_one_character
from benchmarks.served.points import measure_point
from benchmarks.served.process import running
from benchmarks.served.record import (
    FORMAT_VERSION,
    ServedRecord,
    as_record,
    file_name,
    write,
)
from benchmarks.served.report import print_report
from benchmarks.served.settings import ServedSettings
from benchmarks.served.workers import measure_scaling
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.cli import run

WIDTH = 190  # of the tables; a terminal may be narrower, a pipe has none
MACHINE = ("processor", "python", "onnxruntime", "onnxruntime-gpu", "numpy")  # what takes part


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    run(ServedSettings, measure, name="python -m benchmarks.served", tokens=tokens)


def measure(settings: ServedSettings) -> None:
    """Measure, print and, if asked for, write the figures.

    Raises:
        SettingsError: a setting is out of its range.
        ServerError: a server did not start, or a request failed.
    """
    settings.validate()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {settings.loop_core})  # and of all processes that it starts
    console = Console()
    console.width = max(console.width, WIDTH)
    try:
        for name in settings.model:
            checkpoint = random_checkpoint(name, settings.vocabulary)
            with console.status(f"measuring {name}"), exported(checkpoint, "fp32") as bundle:
                record = _measure_model(name, bundle, settings)
            print_report(console, record)
            if settings.json is not None:
                write(record, settings.json / file_name(name))
    finally:
        os.sched_setaffinity(0, usable)


def _measure_model(name: str, bundle: Bundle, settings: ServedSettings) -> ServedRecord:
    decoder = Decoder(bundle, Device.CPU)
    served = ("--model", f"{name}={bundle.folder}", "--slots", str(settings.slots))
    with (
        running("serving", settings.loop_core, *served) as server,
        running("benchmarks.served.echo", settings.loop_core) as echo,
    ):
        server.pin_engine(settings.worker_core)
        one_character = measure_one_character(
            server.target,
            echo.target,
            decoder,
            calls=settings.calls,
            worker_core=settings.worker_core,
        )
        points = [
            as_record(measure_point(bundle, decoder, server, clients, settings))
            for clients in settings.clients
        ]
    scaling = measure_scaling(bundle, decoder, settings)
    return ServedRecord(
        format_version=FORMAT_VERSION,
        model=name,
        machine=_machine(),
        settings=asdict(settings) | {"json": None},
        points=points,
        one_character=one_character,
        workers=scaling,
    )


def _machine() -> dict[str, str]:
    known = describe("cpu")
    return {name: known[name] for name in MACHINE if name in known} | {"grpcio": grpc.__version__}


if __name__ == "__main__":
    main()
