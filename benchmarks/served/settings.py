"""Everything that can be set about the served benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from serving.runtime.kernels import Kernels
from unroll.ranges import Range


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

    kernels: Kernels = Kernels.ONNX
    """What computes, also for the engine alone."""

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
