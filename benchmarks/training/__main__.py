"""The trainer beside its matrix products and torch's own loops (`make bench-training`).

For each model, precision and number of threads: the lab's loop (one stream, windows of 50, Adam),
the same loop at our batch with our optimizer, our trainer's whole update, and the matrix products
that such an update needs, alone. The first update of each loop must have our loss and gradients,
before anything is timed. Torch's loops compute in fp32, and profit from what the trainer does
about freed memory (training/model/device.py).
"""

from benchmarks.harness.machine import COMPUTING
from benchmarks.harness.record import save
from benchmarks.harness.settings import check_settings
from benchmarks.harness.tables import console, target_rows, terminal
from benchmarks.training.point import measure
from benchmarks.training.record import (
    TrainingPoint,
    TrainingRecord,
    file_name,
    targets,
    training_rows,
)
from benchmarks.training.settings import TrainingBenchSettings
from training.model.device import keep_freed_memory, resolve_precision
from unroll.cli import run
from unroll.machine import describe, processor
from unroll.record import settings_of


def main() -> None:
    """Run the command line."""
    run(TrainingBenchSettings, report, name="python -m benchmarks.training")


def report(settings: TrainingBenchSettings) -> None:
    """Measure all points, print them and, if asked for, write them down.

    Raises:
        SettingsError: the settings cannot be measured.
        DeviceError: this processor does not multiply bfloat16.
        UnrollError: loss or gradients are not torch's.
    """
    check_settings(settings)
    for precision in settings.precision:
        resolve_precision(precision, "cpu")
    keep_freed_memory()
    screen, machine = console(), describe(*COMPUTING)
    screen.print(processor())
    points: list[TrainingPoint] = []
    for model in settings.model:
        with screen.status(f"measuring {model}"):
            measured = [
                measure(model, precision, threads, settings)
                for precision in settings.precision
                for threads in settings.threads
            ]
        points += measured
        record = TrainingRecord(machine=machine, settings=settings_of(settings), points=measured)
        save(record, settings.json, file_name(model))
    screen.print(terminal(training_rows(points), "Characters a second"))
    screen.print(terminal(target_rows(targets(points)), "Targets"))


if __name__ == "__main__":
    main()
