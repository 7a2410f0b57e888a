"""Everything that can be set about the training benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unroll.ranges import Range


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingBenchSettings:
    """Measure the trainer beside its matrix products and torch's own loops."""

    model: tuple[str, ...] = ("gru-512x1", "lstm-512x2", "rnn_relu-512x3", "rnn_tanh-512x1")
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    precision: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    """Precisions of the trainer's products."""

    threads: Annotated[tuple[int, ...], Range(1)] = (1, 2)
    """Numbers of processor threads."""

    vocabulary: Annotated[int, Range(2)] = 66
    """Size of the vocabulary."""

    streams: Annotated[int, Range(1)] = 64
    """Streams N of ours and of torch's loop at the same batch."""

    window: Annotated[int, Range(2)] = 64
    """Window T of the same."""

    repeats: Annotated[int, Range(1)] = 7
    """Measurements of each way; the median counts."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample, a file a model."""
