"""The trainer beside its matrix products and torch's own loops (`make bench-training`).

For each model, precision and number of threads: the lab's loop (one stream, windows of 50, Adam),
the same loop at our batch with our optimizer, our trainer's whole update, and the matrix products
that such an update needs, alone. The first update of each loop must have our loss and gradients,
before anything is timed. Torch's loops compute in fp32, and profit from what the trainer does
about freed memory (training/model/device.py).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from cyclopts import Parameter
from rich.console import Console

from benchmarks import machine
from benchmarks.decode.tables import terminal
from benchmarks.models import model_settings
from benchmarks.training.point import Plan, measure
from benchmarks.training.record import (
    FORMAT_VERSION,
    TrainingPoint,
    TrainingRecord,
    file_name,
    write,
)
from benchmarks.training.tables import target_rows, training_rows
from training.model.device import Precision, keep_freed_memory, resolve_precision
from unroll.cli import run
from unroll.errors import SettingsError

PRECISIONS: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16"}
WIDTH = 170  # of the table; a terminal may be narrower, a pipe has none


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingBenchSettings:
    """Measure the trainer beside its matrix products and torch's own loops."""

    model: tuple[str, ...] = ("gru-512x1", "lstm-512x2", "rnn_relu-512x3", "rnn_tanh-512x1")
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    precision: tuple[str, ...] = ("fp32", "bf16")
    """Precisions of the trainer's products: fp32, bf16."""

    threads: tuple[int, ...] = (1, 2)
    """Numbers of processor threads."""

    vocabulary: int = 66
    """Size of the vocabulary, 2 or more."""

    streams: int = 64
    """Streams N of ours and of torch's loop at the same batch."""

    window: int = 64
    """Window T of the same."""

    repeats: int = 7
    """Measurements of each way; the median counts."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample, a file a model."""

    def validate(self) -> None:
        """Check what would end the measuring halfway.

        Raises:
            SettingsError: a number is too low, a name unknown, or there is no such folder.
            DeviceError: this processor does not multiply bfloat16.
        """
        limits = (("vocabulary", 2), ("streams", 1), ("window", 2), ("repeats", 1), ("threads", 1))
        for name, least in limits:
            value = getattr(self, name)
            if min(value, default=0) < least if isinstance(value, tuple) else value < least:
                raise SettingsError(f"{name} = {value}: must be at least {least}; change --{name}")
        for name in ("model", "precision"):
            if not getattr(self, name):
                raise SettingsError(f"{name} = (): name at least one with --{name}")
        for model in self.model:
            model_settings(model, self.vocabulary)
        for precision in self.precision:
            if precision not in PRECISIONS:
                allowed = ", ".join(PRECISIONS)
                raise SettingsError(f"precision = {precision!r}: must be one of {allowed}")
            resolve_precision(PRECISIONS[precision], "cpu")
        if self.json is not None and not self.json.is_dir():
            raise SettingsError(f"json = {str(self.json)!r}: there is no such folder; make it")


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
    settings.validate()
    keep_freed_memory()
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(machine.processor())
    points: list[TrainingPoint] = []
    with console.status("measuring") as status:
        for model in settings.model:
            status.update(f"measuring {model}")
            measured = measure_model(model, settings)
            points += measured
            if settings.json is not None:
                write(_record(settings, measured), settings.json / file_name(model))
    console.print(terminal(training_rows(points), "Characters a second"))
    console.print(terminal(target_rows(points), "Targets"))


def measure_model(model: str, settings: TrainingBenchSettings) -> list[TrainingPoint]:
    """Measure one model in every precision with every number of threads."""
    plan = Plan(
        vocabulary=settings.vocabulary,
        streams=settings.streams,
        window=settings.window,
        repeats=settings.repeats,
    )
    return [
        measure(model, PRECISIONS[precision], threads, plan)
        for precision in settings.precision
        for threads in settings.threads
    ]


def _record(settings: TrainingBenchSettings, points: list[TrainingPoint]) -> TrainingRecord:
    return TrainingRecord(
        format_version=FORMAT_VERSION,
        machine=machine.describe("cpu"),
        settings=asdict(settings) | {"json": None},
        points=points,
    )


if __name__ == "__main__":
    main()
