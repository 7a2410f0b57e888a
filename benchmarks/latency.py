"""Latency per symbol, torch beside ONNX Runtime (`make bench`).

Three ways to write the same text from the same weights and random numbers, checked to be equal
before any is timed, and timed in turn in one process:

* torch: one step a call, softmax, inverse-CDF sampling; the loop that a course would write.
* step: step.onnx, ONNX's recurrent operators, one step a call, sampled in numpy.
* loop: decode.onnx, many steps a call, sampled inside.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnxruntime as ort
import torch
from cyclopts import Parameter
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from export.compiler import export
from serving.bundle import Bundle
from serving.cli import run
from serving.decoder import FREE, DecodeCall, Decoder
from serving.errors import DeviceError, SettingsError, UnrollError
from serving.manifest import STEP
from serving.runtime import Device, open_session
from serving.sampling import uniforms
from serving.vocabulary import Vocabulary
from training.checkpoint import Checkpoint
from training.metrics import Metrics
from training.model import CELLS, CharRNN, ModelSettings
from training.settings import TrainingSettings

Tokens = NDArray[np.int64]
Writer = Callable[[], Tokens]
WAYS = ("torch", "step", "loop")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    """Measure the latency per symbol of torch and of ONNX Runtime."""

    model: tuple[str, ...] = ("gru-512x1", "gru-512x3", "lstm-512x2", "rnn_tanh-512x3")
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    batch: tuple[int, ...] = (1, 4, 16, 64)
    """Batch sizes."""

    vocabulary: int = 66
    """Symbols V."""

    steps: int = 32
    """Symbols a row in one measurement, and in one call of the loop."""

    repeats: int = 7
    """Measurements of each way; the median counts."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where all three compute."""

    threads: int = 1
    """Processor threads of each way."""

    json: Path | None = None
    """Where to write machine, versions and every sample."""

    def validate(self) -> None:
        """Check what would end the measuring halfway.

        Raises:
            SettingsError: a number is below 1, or there is no folder for the file.
        """
        for name in ("batch", "steps", "repeats", "threads"):
            value = getattr(self, name)
            if min(value, default=0) < 1 if isinstance(value, tuple) else value < 1:
                raise SettingsError(f"{name} = {value}: must be at least 1; change --{name}")
        if self.json is not None and not self.json.parent.is_dir():
            raise SettingsError(f"json = {str(self.json)!r}: there is no folder {self.json.parent}")


@dataclass(frozen=True, kw_only=True)
class Point:
    """The samples of one model at one batch size, in microseconds per step."""

    model: str
    batch: int
    microseconds: dict[str, list[float]]

    def median(self, way: str) -> float:
        """Median microseconds per step of one way."""
        return statistics.median(self.microseconds[way])


def main() -> None:
    """Run the command line."""
    run(LatencySettings, _measure, name="python -m benchmarks.latency")


def _measure(settings: LatencySettings) -> None:
    settings.validate()
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("cuda was asked for, but torch finds no CUDA device; ask for cpu")
    torch.set_num_threads(settings.threads)
    console = Console()
    table = Table(title=f"Microseconds per step, {settings.device}, {settings.threads} thread(s)")
    for column in ("model", "batch", *WAYS, "torch / loop", "symbols/s of loop"):
        table.add_column(column, justify="left" if column == "model" else "right")
    points = []
    with torch.inference_mode(), console.status("measuring"):
        for model in settings.model:
            for point in _measure_model(model, settings):
                points.append(point)
                table.add_row(*_row(point))
    console.print(table)
    console.print("All three wrote the same symbols before they were timed.")
    if settings.json is not None:
        record = {"machine": _machine(), "settings": asdict(settings) | {"json": None}}
        samples = [asdict(point) for point in points]
        settings.json.write_text(json.dumps(record | {"points": samples}, indent=1) + "\n")


def _row(point: Point) -> list[str]:
    loop = point.median("loop")
    return [
        point.model,
        str(point.batch),
        *(f"{point.median(way):,.0f}" for way in WAYS),
        f"{point.median('torch') / loop:.2f}",
        f"{point.batch / loop * 1e6:,.0f}",
    ]


def _machine() -> dict[str, str]:
    return {
        "processor": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": ort.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.processor()


def _measure_model(name: str, settings: LatencySettings) -> list[Point]:
    checkpoint = _random_checkpoint(name, settings.vocabulary)
    with TemporaryDirectory() as folder:
        bundle = export(checkpoint, Path(folder) / "bundle")
        return [
            _measure_point(name, checkpoint.model(), bundle, batch, settings)
            for batch in settings.batch
        ]


def _random_checkpoint(name: str, vocabulary_size: int) -> Checkpoint:
    try:
        cell, sizes = name.split("-")
        hidden_size, layers = map(int, sizes.split("x"))
        model = ModelSettings(
            cell=next(known for known in CELLS if known == cell),
            vocabulary_size=vocabulary_size,
            embedding_size=64,
            hidden_size=hidden_size,
            layers=layers,
        )
    except (ValueError, StopIteration) as error:
        raise SettingsError(
            f"model {name!r}: must be CELL-HIDDENxLAYERS, such as gru-512x1, the cell one of "
            f"{', '.join(CELLS)}"
        ) from error
    torch.manual_seed(25)
    weights = CharRNN(model).state_dict()
    weights["decoder.weight"] *= 5  # the text of a flat distribution would hide differences
    symbols = "".join(chr(33 + i) for i in range(vocabulary_size))
    return Checkpoint(
        model_settings=model,
        training_settings=TrainingSettings(),
        vocabulary=Vocabulary(symbols, symbols[0]),
        corpus_name="none: random weights",
        corpus_sha256="0" * 64,
        metrics=Metrics(update=0, epoch=0, training_loss=0.0, validation_loss=None, seconds=0.0),
        weights=weights,
    )


def _measure_point(
    name: str, model: CharRNN, bundle: Bundle, batch: int, settings: LatencySettings
) -> Point:
    uniform = np.stack([uniforms(row, 0, settings.steps) for row in range(batch)], axis=1)
    decoder = Decoder(bundle, Device(settings.device), settings.threads)
    writers = {
        "torch": _torch_writer(model.to(settings.device), uniform),
        "step": _step_writer(bundle, decoder, uniform, settings),
        "loop": _loop_writer(decoder, uniform),
    }
    texts = {way: write() for way, write in writers.items()}
    for way, text in texts.items():
        if not np.array_equal(text, texts["torch"]):
            raise UnrollError(f"{name}, batch {batch}: {way} did not write what torch wrote")
    samples: dict[str, list[float]] = {way: [] for way in writers}
    for _ in range(settings.repeats):
        for way, write in writers.items():
            started = time.perf_counter()
            write()
            seconds = time.perf_counter() - started
            samples[way].append(seconds / settings.steps * 1e6)
    return Point(model=name, batch=batch, microseconds=samples)


def _torch_writer(model: CharRNN, uniform: NDArray[np.float32]) -> Writer:
    T, N = uniform.shape
    device = model.decoder.weight.device
    numbers = torch.from_numpy(uniform).to(device)

    def write() -> Tokens:
        token = torch.zeros(1, N, dtype=torch.int64, device=device)
        state = model.zero_state(N)
        tokens = []
        for t in range(T):
            logits, state = model(token, state)
            cdf = torch.softmax(logits[0], -1).cumsum(-1)  # (N, V)
            token = (cdf <= numbers[t][:, None] * cdf[:, -1:]).sum(-1)[None]
            tokens.append(token)
        return torch.cat(tokens).cpu().numpy()

    return write


def _step_writer(
    bundle: Bundle, decoder: Decoder, uniform: NDArray[np.float32], settings: LatencySettings
) -> Writer:
    T, N = uniform.shape
    session = open_session(bundle.folder / STEP, Device(settings.device), settings.threads)
    tensors = bundle.manifest.state
    outputs = ["logits", *(tensor.output for tensor in tensors)]

    def write() -> Tokens:
        token = np.zeros((1, N), np.int64)
        state = decoder.zero_state(N)
        tokens = []
        for t in range(T):
            logits, *last = session.run(outputs, {"tokens": token, **state})
            state = dict(zip(state, last, strict=True))
            p = np.exp(logits[0] - logits[0].max(-1, keepdims=True))  # (N, V)
            cdf = p.cumsum(-1)
            token = (cdf <= uniform[t][:, None] * cdf[:, -1:]).sum(-1)[None]
            tokens.append(token)
        return np.concatenate(tokens)

    return write


def _loop_writer(decoder: Decoder, uniform: NDArray[np.float32]) -> Writer:
    N = uniform.shape[1]
    call = DecodeCall(
        tokens=np.zeros(N, np.int64),
        forced=np.full(uniform.shape, FREE),
        uniform=uniform,
        steps=np.full(N, len(uniform), np.int64),
        temperature=np.ones(N, np.float32),
        top_k=np.zeros(N, np.int64),
        top_p=np.ones(N, np.float32),
        min_p=np.zeros(N, np.float32),
        state=decoder.zero_state(N),
    )
    return lambda: decoder.run(call).tokens


if __name__ == "__main__":
    main()
