"""`python -m export`: compile a checkpoint into a bundle."""

import time
from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from export.compiler import export
from serving.bundle import Bundle
from serving.cli import run
from training.checkpoint import load_checkpoint


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Compile a checkpoint into a bundle, and prove it against torch."""

    checkpoint: Path
    """A run's folder (its best checkpoint is taken) or a checkpoint file."""

    bundle: Path
    """Folder to write; one that is there is replaced once the new one has proved itself."""


def main() -> None:
    """Run the command line."""
    run(ExportSettings, _export, name="python -m export")


def _export(settings: ExportSettings) -> None:
    console = Console()
    started = time.perf_counter()
    compiled = started

    def on_compiled() -> None:
        nonlocal compiled
        compiled = time.perf_counter()

    checkpoint = load_checkpoint(settings.checkpoint)
    bundle = export(checkpoint, settings.bundle, on_compiled)
    ended = time.perf_counter()
    console.print(_table(bundle))
    console.print(
        f"{settings.bundle}: {bundle.manifest.model.parameters:,} parameters, fingerprint "
        f"{bundle.manifest.fingerprint[:12]}; compiled in {compiled - started:.2f} s, "
        f"proved in {ended - compiled:.2f} s",
        markup=False,
        soft_wrap=True,
    )


def _table(bundle: Bundle) -> Table:
    report, model = bundle.manifest.parity, bundle.manifest.model
    table = Table(
        title=f"Parity with torch {report.torch_version}: {model.cell} {model.hidden_size}"
        f"x{model.layers}, ONNX Runtime {report.onnxruntime_version}"
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
