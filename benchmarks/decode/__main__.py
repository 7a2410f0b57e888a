"""The decode loop beside its limits and its peers (`make bench`).

Everything computes on one core. At each point of the grid, the loop and every peer first write the
text that torch writes, from the same weights and random numbers, symbol for symbol; a peer's
setups are tried and the fastest is kept; then all are timed in turn.
"""

from contextlib import ExitStack

import torch

from benchmarks.decode.judge import Judge
from benchmarks.decode.limits import Reader
from benchmarks.decode.peers.registry import PEERS
from benchmarks.decode.point import PointMeasurer
from benchmarks.decode.record import DecodeRecord, Point, file_name
from benchmarks.decode.settings import DecodeSettings
from benchmarks.decode.tables import decode_rows, int8_rows, targets
from benchmarks.harness.machine import COMPUTING, has_amx, pin
from benchmarks.harness.models import exported, random_checkpoint
from benchmarks.harness.record import save
from benchmarks.harness.tables import console, target_rows, terminal
from serving.runtime.onnx import Device
from unroll.cli import run
from unroll.errors import DeviceError
from unroll.machine import describe, processor
from unroll.record import settings_of

FAR_BEYOND_CACHES = 2**28


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
    screen, core = console(), pin(settings.core)
    screen.print(f"{processor()}, core {core}, {settings.device}")
    points = []
    for vocabulary in settings.vocabulary:
        for model in settings.model:
            with screen.status(f"measuring {model}, V = {vocabulary}"):
                measured = measure_model(model, vocabulary, settings)
            points += measured
            if settings.json is not None:
                name = file_name(settings.device, model, vocabulary)
                save(_record(settings, core, measured), settings.json, name)
    screen.print(terminal(decode_rows(points), "Microseconds per step of the whole batch"))
    if any(point.losses for point in points):
        screen.print(terminal(int8_rows(points), "What 8 bits lose, in nats a symbol"))
    screen.print(terminal(target_rows(targets(points, has_amx=has_amx())), "Targets"))
    for reason in sorted({f"{peer}: {why}" for p in points for peer, why in p.not_run.items()}):
        screen.print(f"not run: {reason}", style="bold red")
    if left_out := [peer for peer in PEERS if peer not in settings.peer]:
        screen.print(f"The best peer is that of those measured; without {', '.join(left_out)}.")
    screen.print("In fp32, all wrote the same symbols before they were timed; in int8, others may.")


def _record(settings: DecodeSettings, core: int, points: list[Point]) -> DecodeRecord:
    described = describe(*COMPUTING, "jax", "jaxlib", "openvino")
    if settings.device == "cuda":
        described["gpu"] = torch.cuda.get_device_name()
    return DecodeRecord(
        device=settings.device,
        machine=described | {"core": str(core)},
        gigabytes_per_second=Reader(FAR_BEYOND_CACHES).gigabytes_per_second(),
        settings=settings_of(settings),
        points=points,
        has_amx=has_amx(),
    )


def measure_model(name: str, vocabulary: int, settings: DecodeSettings) -> list[Point]:
    """Measure one model at every precision and batch size."""
    checkpoint = random_checkpoint(name, vocabulary)
    model = checkpoint.model()
    device, judge, points = Device(settings.device), Judge(model), []
    with ExitStack() as stack:
        full = stack.enter_context(exported(checkpoint, "fp32", device))
        for precision in settings.precision:
            bundle = full
            if precision != "fp32":
                bundle = stack.enter_context(exported(checkpoint, precision, device))
            for batch in settings.batch:
                measurer = PointMeasurer(model, bundle, batch, settings, judge, full)
                points.append(measurer.measure(name, precision))
    return points


if __name__ == "__main__":
    main()
