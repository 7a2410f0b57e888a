"""What serving costs: the real server beside the engine alone (`make bench-served`)."""

import os
from collections.abc import Sequence

from benchmarks.harness.models import exported, random_checkpoint
from benchmarks.harness.process import running
from benchmarks.harness.record import save
from benchmarks.harness.settings import check_settings
from benchmarks.harness.tables import console, terminal
from benchmarks.served.calls import measure_one_character
from benchmarks.served.points import Engines, measure_point, measure_scaling
from benchmarks.served.record import ServedRecord, file_name
from benchmarks.served.settings import ServedSettings
from benchmarks.served.tables import call_rows, load_rows, model_target_rows, worker_rows
from serving.runtime.kernels import open_decoder
from unroll.bundle.folder import Bundle
from unroll.cli import run
from unroll.errors import SettingsError
from unroll.machine import describe
from unroll.record import settings_of

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "grpcio")  # what takes part


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
            save(record, settings.json, file_name(name, settings.kernels.value))
    finally:
        os.sched_setaffinity(0, usable)


def _measure_model(name: str, bundle: Bundle, settings: ServedSettings) -> ServedRecord:
    decoder = open_decoder(bundle, settings.kernels)
    engines = Engines(bundle, decoder, settings)
    kernels = ("--kernels", settings.kernels.value)
    served = ("--model", f"{name}={bundle.folder}", "--slots", str(settings.slots), *kernels)
    with (
        running("serving", *served, core=settings.loop_core) as server,
        running("benchmarks.served.calls", core=settings.loop_core) as echo,
    ):
        server.pin_engine(settings.worker_core)
        one_character = measure_one_character(
            server.target, echo.target, decoder, settings.calls, settings.worker_core
        )
        points = [measure_point(server, engines, clients, settings) for clients in settings.clients]
    return ServedRecord(
        model=name,
        machine=describe(*PACKAGES),
        settings=settings_of(settings),
        points=points,
        one_character=one_character,
        workers=measure_scaling(engines, settings),
    )


if __name__ == "__main__":
    main()
