"""The command `unroll export`: compile a checkpoint into a bundle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from export.compiler import export
from export.graph.arithmetic import Precision
from export.proof.quality import load_texts
from serving.runtime.onnx import Device
from training.run.checkpoint import load_checkpoint
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import architecture
from unroll.cli import run


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Compile a checkpoint into a bundle, and prove it against torch."""

    checkpoint: Path
    """Run folder (its best checkpoint is used) or checkpoint file."""

    bundle: Path
    """Folder to write. An existing bundle is replaced once the new one has passed all checks."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device to serve on. `cuda` adds graphs of fixed lengths."""

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Precision of the compiled loop: int8 for the CPU, fp16 for cuda. Both are refused if they
    cost more than 0.005 nats per symbol on the training's validation text."""

    corpus: str | None = None
    """For int8 and fp16: name or path of the text of the training. Default: where the training
    found it."""


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run(ExportSettings, _export, name="unroll export", tokens=tokens)


def _export(settings: ExportSettings) -> None:
    console = Console()
    started = time.perf_counter()
    compiled = started

    def on_compiled() -> None:
        nonlocal compiled
        compiled = time.perf_counter()

    checkpoint = load_checkpoint(settings.checkpoint)
    precision = Precision(settings.precision)
    needs_texts = precision is not Precision.FP32
    bundle = export(
        checkpoint,
        settings.bundle,
        on_compiled,
        device=Device(settings.device),
        precision=precision,
        texts=load_texts(checkpoint, settings.corpus) if needs_texts else None,
    )
    ended = time.perf_counter()
    console.print(_table(bundle))
    console.print(
        f"{settings.bundle}: {bundle.manifest.model.parameters:,} parameters, fingerprint "
        f"{bundle.manifest.fingerprint[:12]}; compiled in {compiled - started:.2f} s, "
        f"proved in {ended - compiled:.2f} s",
        markup=False,
        soft_wrap=True,
    )
    if checkpoint.doubt is not None:
        console.print(f"warning: {checkpoint.doubt}", markup=False, soft_wrap=True)


def _table(bundle: Bundle) -> Table:
    report, model = bundle.manifest.parity, bundle.manifest.model
    sizes = model.cell, model.hidden_size, model.layers, model.members
    table = Table(
        title=f"Parity with torch {report.torch_version}: {architecture(*sizes)} in "
        f"{model.precision}, ONNX Runtime {report.onnxruntime_version}"
    )
    table.add_column("rung")
    table.add_column("difference", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("compared")
    for rung in report.rungs:
        table.add_row(rung.name, f"{rung.difference:.2g}", f"{rung.limit:g}", rung.compared)
    return table


if __name__ == "__main__":
    main()
