"""The decode loop beside its limits and its peers (`make bench`, `make bench-full`).

Everything computes on one core. At each point of the grid, the loop and every peer first write the
text that torch writes, from the same weights and random numbers, symbol for symbol; a peer's
setups are tried and the fastest is kept; then all are timed in turn.
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from cyclopts import Parameter
from rich.console import Console

from benchmarks import machine
from benchmarks.decode.peers.registry import PEERS
from benchmarks.decode.point import Plan, PointMeasurer
from benchmarks.decode.record import FORMAT_VERSION, Point, Record, file_name, write
from benchmarks.decode.tables import decode_rows, target_rows, terminal
from benchmarks.models import GRID, check_precision, exported, model_settings, random_checkpoint
from serving.runtime.onnx import Device
from unroll.cli import run
from unroll.errors import DeviceError, SettingsError, nearest

FAR_BEYOND_CACHES = 2**28
WIDTH = 170  # of the table; a terminal may be narrower, a pipe has none


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """Measure the decode loop beside its matrix products and other runtimes."""

    model: tuple[str, ...] = GRID
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    vocabulary: tuple[int, ...] = (66,)
    """Sizes of the vocabulary, 2 or more."""

    batch: tuple[int, ...] = (1, 16, 64)
    """Batch sizes."""

    precision: tuple[str, ...] = ("fp32",)
    """Precisions of the bundle; the peers run beside fp32."""

    peer: tuple[str, ...] = ("torch", "operators")
    """Peers: torch, torch.compile, operators (ONNX Runtime's own), jax, openvino."""

    steps: int = 32
    """Symbols a row in one measurement, and in one call of the loop."""

    repeats: int = 7
    """Measurements of each way; the median counts."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the loop, its products, torch and the operators compute."""

    core: int | None = None
    """Processor core to stay on; by default the last one."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample, a file a model and vocabulary."""

    def validate(self) -> None:
        """Check what would end the measuring halfway.

        Raises:
            SettingsError: a number is too low, a name unknown, or there is no such folder.
        """
        for name, least in (("vocabulary", 2), ("batch", 1), ("steps", 1), ("repeats", 1)):
            value = getattr(self, name)
            if min(value, default=0) < least if isinstance(value, tuple) else value < least:
                raise SettingsError(f"{name} = {value}: must be at least {least}; change --{name}")
        for model in self.model:
            model_settings(model, self.vocabulary[0])
        for precision in self.precision:
            check_precision(precision)
        for peer in self.peer:
            if peer not in PEERS:
                raise SettingsError(f"peer = {peer!r}: unknown; {nearest(peer, PEERS)}")
        if self.json is not None and not self.json.is_dir():
            raise SettingsError(f"json = {str(self.json)!r}: there is no such folder; make it")


def main() -> None:
    """Run the command line."""
    run(DecodeSettings, measure, name="python -m benchmarks.decode")


def measure(settings: DecodeSettings) -> None:
    """Measure the grid, print it and, if asked for, write it down.

    Raises:
        SettingsError: the settings cannot be measured.
        DeviceError: there is no such device.
        UnrollError: something wrote another text than torch.
    """
    settings.validate()
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("cuda was asked for, but torch finds no CUDA device; ask for cpu")
    console = Console()
    console.width = max(console.width, WIDTH)
    core = machine.pin(settings.core)
    console.print(f"{machine.processor()}, core {core}, {settings.device}")
    points = []
    with console.status("measuring") as status:
        for vocabulary in settings.vocabulary:
            for model in settings.model:
                status.update(f"measuring {model}, V = {vocabulary}")
                measured = measure_model(model, vocabulary, settings)
                points += measured
                if settings.json is not None:
                    path = settings.json / file_name(settings.device, model, vocabulary)
                    write(_record(settings, core, measured), path)
    console.print(terminal(decode_rows(points), "Microseconds per step of the whole batch"))
    console.print(terminal(target_rows(points), "Targets"))
    for reason in sorted({f"{peer}: {why}" for p in points for peer, why in p.not_run.items()}):
        console.print(f"not run: {reason}", style="bold red")
    if left_out := [peer for peer in PEERS if peer not in settings.peer]:
        console.print(f"The best peer is that of those measured; without {', '.join(left_out)}.")
    console.print("Everything in a row wrote the same symbols before it was timed.")


def _record(settings: DecodeSettings, core: int, points: list[Point]) -> Record:
    return Record(
        format_version=FORMAT_VERSION,
        device=settings.device,
        machine=machine.describe(settings.device) | {"core": str(core)},
        gigabytes_per_second=machine.Reader(FAR_BEYOND_CACHES).gigabytes_per_second(),
        settings=asdict(settings) | {"json": None},
        points=points,
    )


def measure_model(name: str, vocabulary: int, settings: DecodeSettings) -> list[Point]:
    """Measure one model at every precision and batch size."""
    checkpoint = random_checkpoint(name, vocabulary)
    plan = Plan(
        steps=settings.steps,
        repeats=settings.repeats,
        peers=settings.peer,
        device=Device(settings.device),
    )
    points = []
    with ExitStack() as stack:
        full = stack.enter_context(exported(checkpoint, "fp32", plan.device))
        for precision in settings.precision:
            bundle = full
            if precision != "fp32":
                bundle = stack.enter_context(exported(checkpoint, precision, plan.device))
            for batch in settings.batch:
                measurer = PointMeasurer(checkpoint.model(), bundle, batch, plan, full)
                points.append(measurer.measure(name, precision))
    return points


if __name__ == "__main__":
    main()
